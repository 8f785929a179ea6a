//! That what went wrong is proven here too, and that what cannot be is told.

use anyhow::{Context as _, Result, bail, ensure};
use forkwatch::release::Release;
use forkwatch_tests::{
    event::{Event, Finding},
    forkwatch::Forkwatch,
    guest::runner::Test,
    host::{is_confidential, skip},
    wait::until,
};
use serde_json::Value;

use crate::{
    server,
    tests::{finding, run},
    work::{THREAD_NAME, Work},
};

/// All of them.
pub(crate) const ALL: &[Test] = &[
    ("doctor tells what this kernel has", doctor_tells_what_this_kernel_has),
    ("an orphaned lock is proven with its owner", an_orphaned_lock_is_proven),
    ("a killing by the parent is told", a_killing_is_told),
    ("scan finds a stuck child", scan_finds_a_stuck_child),
    ("a shared TCP connection is proven", || a_connection_is_proven("tcp")),
    ("a shared Unix stream is proven", || a_connection_is_proven("unix")),
    ("check warns of a thread", check_warns_of_a_thread),
];

/// Runs forkwatch to its end; gives its exit code and the document that it printed.
fn document(arguments: &[&str]) -> Result<(Option<i32>, Value)> {
    let output = run(arguments)?;
    let document = serde_json::from_slice(&output.stdout).with_context(|| {
        format!("{arguments:?} printed no document, but said {}", String::from_utf8_lossy(&output.stderr))
    })?;
    Ok((output.status.code(), document))
}

fn list<'a>(value: &'a Value, pointer: &str) -> impl Iterator<Item = &'a Value> {
    value.pointer(pointer).and_then(Value::as_array).into_iter().flatten()
}

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// What doctor says of the detectors, by name.
fn detectors() -> Result<Vec<(String, String)>> {
    let (code, document) = document(&["doctor", "-o", "json"])?;
    ensure!(code == Some(0) && document.pointer("/can_watch") == Some(&Value::Bool(true)), "{document:#}");
    let detectors = list(&document, "/detectors");
    Ok(detectors
        .map(|detector| (text(detector, "/name").to_owned(), text(detector, "/state").to_owned()))
        .collect())
}

/// Where `lockdown=confidentiality` forbids to copy what the kernel says of a signal, it must be read in place, which
/// Linux 6.13 has forbidden too (commit 838a10bd2ebf), and 6.12 in its stable releases.
fn are_senders_told() -> bool {
    !is_confidential() || Release::running() < Release(6, 12)
}

fn doctor_tells_what_this_kernel_has() -> Result<()> {
    let killed = if are_senders_told() { "on" } else { "off" };
    // With them, the shutdown of a Unix stream is not looked for; without them, functions are watched, and that is one.
    let by_tracepoints = Release::running() >= Release(6, 3);
    let closed = if by_tracepoints { "limited" } else { "on" };
    let detectors = detectors()?;
    ensure!(detectors.len() > 10, "{detectors:?}");
    for (name, state) in &detectors {
        let expected = match name.as_str() {
            "worker-killed-while-stuck" => killed,
            "shared-connection-closed" => closed,
            _ => "on",
        };
        ensure!(state == expected, "{name} is not {expected}: {detectors:?}");
    }
    Ok(())
}

/// One that soon loses its patience, and a program that it watches from its begin.
fn watched(name: &str) -> Result<(Forkwatch, Work)> {
    let mut work = Work::hold(name)?;
    let pid = work.pid().to_string();
    let forkwatch = Forkwatch::tail(["--pid", &pid, "--grace", "100ms", "--stuck-after", "500ms"])?;
    work.begin()?;
    Ok((forkwatch, work))
}

/// A mutex of the C library names its owner.
fn check_owner(found: Finding<'_>) -> Result<()> {
    let lock = found.lock();
    ensure!(
        (found.certainty(), text(lock, "/proof"), text(lock, "/owner/name"))
            == ("certain", "owner", THREAD_NAME)
            && found.thread_names() == [THREAD_NAME]
            && found.summary().contains(THREAD_NAME),
        "{found:#?}"
    );
    Ok(())
}

fn an_orphaned_lock_is_proven() -> Result<()> {
    let (mut forkwatch, work) = watched("hang")?;
    let event = finding(&mut forkwatch, "orphaned-lock", &work)?;
    check_owner(event.finding().context("it is a finding")?)?;
    work.end()?;
    forkwatch.stop().map(drop)
}

fn a_killing_is_told() -> Result<()> {
    const KILLED: &str = "worker-killed-while-stuck";
    let (mut forkwatch, work) = watched("hang")?;
    let stuck = finding(&mut forkwatch, "orphaned-lock", &work)?;
    let (child, parent) = (stuck.pid(), work.pid());
    work.end()?;
    let of_child = |event: &Event, hazard: &str| {
        event.pid() == child && event.finding().is_some_and(|found| found.hazard() == hazard)
    };
    let resolution = forkwatch.wait_for("the end of the hang", |event| {
        of_child(event, "orphaned-lock") && event.finding().is_some_and(|found| found.state() == "resolved")
    })?;
    let (events, _) = forkwatch.stop()?;
    let killed = events.iter().find(|event| of_child(event, KILLED)).and_then(Event::finding);
    let how = resolution.finding().map(Finding::resolution).unwrap_or_default();
    let is_on = detectors()?.contains(&(KILLED.to_owned(), "on".to_owned()));
    match (is_on, how, killed) {
        (true, "killed-by-parent", Some(killed)) => {
            let told = format!("(pid {parent}) killed {} by SIGKILL", child.unwrap_or_default());
            ensure!(killed.summary().contains(&told) && killed.certainty() == "certain", "{killed:#?}");
            Ok(())
        }
        // It came by a signal, and nothing is claimed of whose.
        (false, "killed", None) => skip("this kernel does not tell who sends a signal, and doctor says so"),
        _ => bail!("doctor has it on: {is_on}; resolved as {how}; found: {killed:#?}"),
    }
}

fn scan_finds_a_stuck_child() -> Result<()> {
    let scan = || document(&["scan", "-o", "json", "--stuck-after", "500ms"]);
    let clean = scan()?;
    ensure!(clean.0 == Some(0) && list(&clean.1, "/findings").count() == 0, "before: {clean:#?}");
    let work = Work::start("hang")?;
    let (event, code) = until("the scan to find it", || {
        let (code, document) = scan()?;
        let stuck = |event: &Event| {
            event.parent_pid() == Some(work.pid().into())
                && event.finding().is_some_and(|found| found.hazard() == "orphaned-lock")
        };
        Ok(list(&document, "/findings").cloned().map(Event).find(stuck).map(|event| (event, code)))
    })?;
    ensure!(code == Some(10), "its exit code is {code:?}");
    check_owner(event.finding().context("it is a finding")?)?;
    work.end()?;
    let clean = scan()?;
    ensure!(clean.0 == Some(0) && list(&clean.1, "/findings").count() == 0, "after: {clean:#?}");
    Ok(())
}

fn a_connection_is_proven(kind: &str) -> Result<()> {
    let peer = match kind {
        "tcp" => server::tcp().map(|()| server::TCP.to_string()),
        _ => server::unix().map(|()| server::UNIX.to_owned()),
    }?;
    let (mut forkwatch, work) = watched(kind)?;
    let event = finding(&mut forkwatch, "shared-connection", &work)?;
    let found = event.finding().context("it is a finding")?;
    let connection =
        event.0.pointer("/forkwatch/finding/evidence/connection").context("it tells of no connection")?;
    ensure!((found.certainty(), found.state()) == ("certain", "confirmed"), "{event:#?}");
    ensure!(text(connection, &format!("/peer/{kind}")) == peer, "another peer: {connection:#}");
    for pid in [Some(work.pid().into()), event.pid()] {
        let sent =
            |turn: &Value| turn.get("pid").and_then(Value::as_i64) == pid && text(turn, "/act") == "sent";
        ensure!(list(connection, "/turns").any(sent), "{pid:?} has no turn: {connection:#}");
    }
    work.end()?;
    forkwatch.stop().map(drop)
}

fn check_warns_of_a_thread() -> Result<()> {
    let work = Work::start("threads")?;
    let (code, document) = document(&["check", "-o", "json", &work.pid().to_string()])?;
    let names_it = list(&document, "/reasons")
        .any(|reason| text(reason, "/id") == "threads" && text(reason, "/what").contains(THREAD_NAME));
    ensure!(
        code == Some(10) && text(&document, "/verdict") == "unsafe" && names_it,
        "{code:?}: {document:#}"
    );
    work.end()
}
