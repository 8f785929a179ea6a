//! How forks are judged, repeats counted and findings accepted, and what else is told of a process.

use std::{fs, process::Command};

use anyhow::{Context, Result, ensure};
use forkwatch_tests::{
    binary, daemon::Daemon, event::Event, expectation::SILENCE, fixture, host::needs_root, program::Program,
    runner::Tests, tests, wait::until, watched::Watched,
};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

pub(crate) fn tests() -> Tests {
    Tests::side_by_side(tests![
        repeats_are_counted_and_summed_up,
        accepted_findings_are_counted_and_silent,
        a_rule_without_reason_is_refused,
        a_configuration_of_the_first_edition_is_understood,
        an_exec_from_another_thread_is_told,
        ends_are_told_as_wait_tells_them,
        the_first_of_a_pid_namespace_is_one_there,
    ])
}

fn number(told: &Value, name: &str) -> Result<i64> {
    told.get(name).and_then(Value::as_i64).with_context(|| format!("the fixture told no {name}: {told}"))
}

/// The event of this action about this process.
fn event<'a>(events: &'a [Event], action: &str, pid: i64) -> Result<&'a Event> {
    let found = events.iter().find(|event| event.action() == action && event.pid() == Some(pid));
    found.with_context(|| format!("no {action} of {pid} in {events:#?}"))
}

/// Has a sentinel fork unsafely.
fn fork(sentinel: &mut Program) -> Result<i64> {
    sentinel.step()?;
    number(&sentinel.next_json()?, "child")
}

fn repeats_are_counted_and_summed_up() -> Result<()> {
    const NAME: &str = "fw-repeats";
    const FORKS: u64 = 7;
    let configuration = "[judge]\ngrace = \"300ms\"\nsummary_interval = \"1s\"\n";
    let mut daemon = Daemon::start(configuration, &["--events", "stdout"])?;
    let mut program = fixture::hold_as("sentinel", NAME, &[])?;
    program.release()?;
    for _ in 0..FORKS {
        fork(&mut program)?;
    }
    let findings = |events: &[Event]| -> Vec<Event> {
        let of_it = |event: &&Event| event.finding().is_some_and(|finding| finding.program() == NAME);
        events.iter().filter(of_it).cloned().collect()
    };
    let forks = |events: &[Event]| -> u64 {
        let unresolved =
            |event: &&Event| event.finding().is_some_and(|finding| finding.state() != "resolved");
        let findings = findings(events);
        let first = u64::from(findings.iter().any(|event| unresolved(&event)));
        let repeats = findings.iter().filter(unresolved).filter_map(|event| Some(event.finding()?.repeats()));
        first + repeats.sum::<u64>()
    };
    daemon.forkwatch.wait_until("the sum of the repeats", |events| forks(events) >= FORKS)?;
    let findings = findings(&daemon.forkwatch.events());
    let repeats: Vec<_> = findings.iter().filter_map(|event| Some(event.finding()?.repeats())).collect();
    ensure!(repeats.first() == Some(&0), "the first is no repeat: {repeats:?}");
    ensure!(repeats.iter().skip(1).all(|repeats| *repeats > 0), "a repeat was told as a first: {repeats:?}");
    ensure!(repeats.len() < 7, "every repeat was told: {repeats:?}");
    let label = format!("program=\"{NAME}\"");
    until("all to be counted", || {
        let counted = daemon.metric("forkwatch_unsafe_forks_total", &label)?;
        ensure!(counted < 7.5, "{counted} of 7 unsafe forks counted");
        Ok((counted > 6.5).then_some(()))
    })?;
    daemon.stop()
}

fn accepted_findings_are_counted_and_silent() -> Result<()> {
    let rules = r#"
        [judge]
        grace = "300ms"
        [[suppress]]
        comm = "fw-accepted"
        reason = "accepted by name"
        [[suppress]]
        comm = "fw-threads"
        thread = "metrics-push"
        reason = "accepted by thread"
        [[suppress]]
        comm = "fw-threads"
        thread = "log-*"
        reason = "accepted by thread"
        [[suppress]]
        comm = "fw-signals"
        hazard = "pending-signals"
        reason = "accepted by hazard"
    "#;
    let mut daemon = Daemon::start(rules, &["--events", "stdout"])?;
    let accepted = |daemon: &Daemon, hazard: &str| {
        daemon.metric("forkwatch_findings_suppressed_total", &format!("hazard=\"{hazard}\""))
    };
    let mut named = fixture::hold_as("sentinel", "fw-accepted", &[])?;
    let mut threads = fixture::hold_as("mt_fork", "fw-threads", &[])?;
    let mut signals = fixture::hold_as("pending_signals", "fw-signals", &[])?;
    // Like the second, but its thread is of another name.
    let mut refused = fixture::hold_as("sentinel", "fw-refused", &[])?;
    for program in [&mut named, &mut threads, &mut signals, &mut refused] {
        program.release()?;
    }
    let silent =
        [fork(&mut named)?, number(&threads.next_json()?, "child")?, number(&signals.next_json()?, "child")?];
    until("three accepted findings", || {
        let (threads, signals) =
            (accepted(&daemon, "multithreaded-fork")?, accepted(&daemon, "pending-signals")?);
        ensure!(threads < 2.5 && signals < 1.5, "{threads} and {signals} findings accepted");
        Ok((threads > 1.5 && signals > 0.5).then_some(()))
    })?;
    let is_about = |pid: i64| move |event: &Event| event.finding().is_some() && event.pid() == Some(pid);
    let found = fork(&mut refused)?;
    daemon.forkwatch.wait_for("the finding that no rule accepts", is_about(found))?;
    let events = daemon.forkwatch.events();
    for pid in silent {
        ensure!(!events.iter().any(is_about(pid)), "an accepted finding was told: {events:#?}");
    }
    ensure!(
        daemon.metric("forkwatch_unsafe_forks_total", "program=\"fw-accepted\"")? < 0.5,
        "an accepted fork counts as unsafe"
    );

    // Without its rule the next is found.
    daemon.configure("[judge]\ngrace = \"300ms\"\n")?;
    daemon.forkwatch.signal(Signal::SIGHUP)?;
    until("the rules to be gone", || Ok(daemon.forkwatch.stderr().contains("was reloaded").then_some(())))?;
    let found = fork(&mut named)?;
    daemon.forkwatch.wait_for("the finding that is accepted no more", is_about(found))?;
    daemon.stop()
}

fn a_rule_without_reason_is_refused() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("forkwatch.toml");
    fs::write(&file, "[judge]\ngrace = \"1s\"\n\n[[suppress]]\ncomm = \"gunicorn\"\n")?;
    let path = file.display().to_string();
    for arguments in [vec!["check-config", "--config", &path], vec!["daemon", "--config", &path]] {
        let output = Command::new(binary::forkwatch()?).args(&arguments).output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.code() == Some(2), "{arguments:?} ended with {}: {said}", output.status);
        ensure!(said.contains("needs a `reason`") && said.contains("line 4"), "{arguments:?} said {said}");
    }
    Ok(())
}

/// The one that the package brought, with rules: whoever upgrades keeps it, and the service must run.
fn a_configuration_of_the_first_edition_is_understood() -> Result<()> {
    const FIRST: &str = concat!(
        include_str!("../fixtures/first-edition.toml"),
        include_str!("../fixtures/first-edition-rules.toml")
    );
    const SAYS: &str = "`[[allow]]` is called `[[suppress]]` now";
    let daemon = Daemon::start(FIRST, &[])?;
    until("the new name", || Ok(daemon.forkwatch.stderr().contains(SAYS).then_some(())))?;
    daemon.stop()?;

    let folder = tempfile::tempdir()?;
    let file = folder.path().join("forkwatch.toml");
    fs::write(&file, FIRST)?;
    let output = Command::new(binary::forkwatch()?).arg("check-config").arg(&file).output()?;
    let (shown, said) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.success() && said.contains(SAYS), "{said}");
    ensure!(shown.contains("[[suppress]]") && !shown.contains("[[allow]]"), "{shown}");
    Ok(())
}

/// Runs a fixture that is safe; gives back what it told, `lines` times, and the events about it.
fn safe(name: &str, lines: usize) -> Result<(Vec<Value>, Vec<Event>)> {
    let mut watched = Watched::fixture(name, &[])?;
    let told = (0..lines).map(|_| watched.program.next_json()).collect::<Result<_>>()?;
    watched.expect(SILENCE)?;
    Ok((told, watched.stop()?))
}

fn an_exec_from_another_thread_is_told() -> Result<()> {
    let (told, events) = safe("exec_from_thread", 1)?;
    let told = told.first().context("it told nothing")?;
    let exec = event(&events, "exec", number(told, "child")?)?;
    ensure!(exec.from_thread() == Some(number(told, "thread")?), "wrong thread: {told}, {exec:#?}");
    ensure!(exec.name() == "cat", "wrong program: {exec:#?}");
    Ok(())
}

fn ends_are_told_as_wait_tells_them() -> Result<()> {
    let (told, events) = safe("ends", 4)?;
    for told in told {
        let exit = event(&events, "exit", number(&told, "child")?)?;
        let field = |name: &str| exit.exit().get(name).cloned();
        let wanted = |name: &str| told.get(name).cloned();
        ensure!(exit.exit_code() == wanted("code").and_then(|code| code.as_i64()), "{told}, {exit:#?}");
        ensure!(field("signal") == wanted("signal"), "{told}, {exit:#?}");
        ensure!(field("core_dumped") == wanted("core_dumped"), "{told}, {exit:#?}");
        ensure!(field("fork_kind") == Some(json!("copying")), "{told}, {exit:#?}");
        ensure!(field("lifetime_ns").and_then(|time| time.as_u64()) > Some(0), "{told}, {exit:#?}");
    }
    Ok(())
}

fn the_first_of_a_pid_namespace_is_one_there() -> Result<()> {
    needs_root()?;
    let (told, events) = safe("pid_namespace", 1)?;
    let child = number(told.first().context("it told nothing")?, "child")?;
    let fork = event(&events, "fork", child)?;
    ensure!(fork.namespace_pid() == Some(1), "wrong pid in there: {fork:#?}");
    Ok(())
}
