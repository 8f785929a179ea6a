//! That what went wrong is proven here too, and that what cannot be is told.

use anyhow::{Context as _, Result, bail, ensure};
use forkwatch_tests::{
    event::{Event, Finding},
    forkwatch::Forkwatch,
    host::skip,
    wait::until,
};
use serde_json::Value;

use crate::{
    command::{document, list, text},
    doctor::is_on,
    runner::Test,
    server,
    tests::finding,
    work::{THREAD_NAME, Work},
};

pub(crate) const ALL: &[Test] = &[
    ("an orphaned lock is proven with its owner", an_orphaned_lock_is_proven),
    ("a killing by the parent is told", a_killing_is_told),
    ("scan finds a stuck child", scan_finds_a_stuck_child),
    ("a shared TCP connection is proven", || a_connection_is_proven("tcp")),
    ("a shared Unix stream is proven", || a_connection_is_proven("unix")),
    ("check warns of a thread", check_warns_of_a_thread),
];

/// Has one lose its patience soon.
pub(crate) const SOON: [&str; 4] = ["--grace", "100ms", "--stuck-after", "500ms"];

/// One that soon loses its patience, and a program that it watches from its begin.
fn watched(mut work: Work, arguments: &[&str]) -> Result<(Forkwatch, Work)> {
    let pid = work.pid().to_string();
    let forkwatch = Forkwatch::tail(["--pid", &pid].iter().chain(&SOON).chain(arguments))?;
    work.begin()?;
    Ok((forkwatch, work))
}

/// A mutex of the C library names its owner.
pub(crate) fn check_owner(found: Finding<'_>) -> Result<()> {
    check_owner_as("certain", found)
}

/// The same, as sure as that.
pub(crate) fn check_owner_as(certainty: &str, found: Finding<'_>) -> Result<()> {
    let lock = found.lock();
    ensure!(
        (found.certainty(), text(lock, "/proof"), text(lock, "/owner/name"))
            == (certainty, "owner", THREAD_NAME)
            && found.thread_names() == [THREAD_NAME]
            && found.summary().contains(THREAD_NAME),
        "{found:#?}"
    );
    Ok(())
}

fn an_orphaned_lock_is_proven() -> Result<()> {
    let (mut forkwatch, work) = watched(Work::hold("hang")?, &[])?;
    let event = finding(&mut forkwatch, "orphaned-lock", &work)?;
    check_owner(event.finding().context("it is a finding")?)?;
    work.end()?;
    forkwatch.stop().map(drop)
}

fn a_killing_is_told() -> Result<()> {
    const KILLED: &str = "worker-killed-while-stuck";
    let (mut forkwatch, work) = watched(Work::hold("hang")?, &[])?;
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
    let is_on = is_on(KILLED)?;
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

/// Where the server of a kind of connection listens.
fn serve(kind: &str) -> Result<String> {
    match kind {
        "tcp" => server::tcp().map(|()| server::TCP.to_string()),
        _ => server::unix().map(|()| server::UNIX.to_owned()),
    }
}

fn a_connection_is_proven(kind: &str) -> Result<()> {
    if !is_on("shared-connection")? {
        return skip("this kernel has nothing by which connections could be watched, and doctor says so");
    }
    let peer = serve(kind)?;
    let (mut forkwatch, work) = watched(Work::hold(kind)?, &[])?;
    let event = finding(&mut forkwatch, "shared-connection", &work)?;
    let found = event.finding().context("it is a finding")?;
    let connection =
        event.0.pointer("/forkwatch/finding/evidence/connection").context("it tells of no connection")?;
    // Certain only where one was seen to use it between the question and the answer of the other.
    ensure!(matches!(found.certainty(), "certain" | "strong") && found.state() == "confirmed", "{event:#?}");
    ensure!(text(connection, &format!("/peer/{kind}")) == peer, "another peer: {connection:#}");
    for pid in [Some(work.pid().into()), event.pid()] {
        let sent =
            |turn: &Value| turn.get("pid").and_then(Value::as_i64) == pid && text(turn, "/act") == "sent";
        ensure!(list(connection, "/turns").any(sent), "{pid:?} has no turn: {connection:#}");
    }
    work.end()?;
    forkwatch.stop().map(drop)
}

/// A forkwatch that watches clone calls, signals and a connection: all that it can attach here.
pub(crate) fn with_all_attached() -> Result<(Forkwatch, Work)> {
    serve("unix")?;
    let options: &[&str] = if is_on("clone-calls")? { &["--clone-calls"] } else { &[] };
    let connections = is_on("shared-connection")?;
    let (mut forkwatch, work) = watched(Work::hold("unix")?, options)?;
    if connections {
        finding(&mut forkwatch, "shared-connection", &work)?;
    }
    Ok((forkwatch, work))
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
