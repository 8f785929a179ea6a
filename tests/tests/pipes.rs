//! Pipes whose ends a fork has left in the wrong hands are found by a watch while their readers rest, and those that are
//! held on purpose are not.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use forkwatch_tests::{
    event::{Event, Finding},
    expectation::Expected,
    fixture,
    forkwatch::Forkwatch,
    host::workspace,
    program::{Launch, Program},
    provided::provided,
    runner::Tests,
    tests,
    watched::Watched,
};
use serde_json::Value;

pub(crate) fn tests() -> Tests {
    Tests::side_by_side(tests![
        a_reader_that_kept_the_write_end_is_found_by_a_watch,
        a_parent_that_closes_its_end_at_last_is_noticed,
        workers_of_a_killed_supervisor_are_found,
        workers_of_a_killed_executor_are_suspected,
        a_pipe_that_an_idle_child_keeps_open_is_suspected,
        a_pipe_of_which_an_idle_child_has_both_ends_is_suspected,
        a_pipe_to_a_program_whose_end_is_awaited_is_suspected,
        pipes_that_are_held_on_purpose_are_silent,
    ])
    .and(Tests::long(tests![a_daemon_whose_acceptor_stayed_behind_is_found]))
}

const HAZARD: &str = "leaked-pipe";
/// Listening sockets are searched for twice, half a minute apart.
const PATIENCE: Duration = Duration::from_secs(240);

const fn leaked(program: &'static str) -> Expected {
    Expected { hazard: HAZARD, severity: "critical", program: Some(program), threads: &[], signals: &[] }
}

/// `pipe_eof.py`, held.
fn supervisor(how: &'static str) -> Result<Program> {
    Program::hold(|_| {
        let python = Launch::new(provided("python")?.join("bin/python"));
        let script = workspace().join("tests/fixtures/python/pipe_eof.py").into_os_string();
        Ok(python.args([script, how.into()]).env("PYTHONDONTWRITEBYTECODE", "1"))
    })
}

fn number(told: &Value, path: &str) -> Result<i64> {
    told.pointer(path).and_then(Value::as_i64).with_context(|| format!("no {path} in {told}"))
}

fn finding(event: &Event) -> Result<Finding<'_>> {
    event.finding().context("it is a finding")
}

fn a_reader_that_kept_the_write_end_is_found_by_a_watch() -> Result<()> {
    let mut watched = Watched::fixture("leaked_pipe", &[])?;
    let told = watched.program.next_json()?;
    let event = watched.finding(&leaked("leaked_pipe"))?;
    let found = finding(&event)?;
    ensure!(found.pid() == Some(number(&told, "/child")?), "wrong child: {event:#?}");
    ensure!(found.parent_pid() == Some(number(&told, "/parent")?), "wrong parent: {event:#?}");
    watched.stop().map(drop)
}

fn a_parent_that_closes_its_end_at_last_is_noticed() -> Result<()> {
    let mut watched = Watched::fixture("pool_pipe", &[])?;
    let told = watched.program.next_json()?;
    // By now it has been judged that the child lives on, and its parent could still write.
    watched.expect(&[])?;
    watched.program.step()?;
    let event = watched.finding(&leaked("pool_pipe"))?;
    ensure!(finding(&event)?.pid() == Some(number(&told, "/child")?), "wrong child: {event:#?}");
    watched.stop().map(drop)
}

fn workers_of_a_killed_supervisor_are_found() -> Result<()> {
    let mut watched = Watched::start(supervisor("kept")?)?;
    let told = watched.program.next_json()?;
    watched.expect(&[])?;
    watched.program.step()?;
    // The last has its own write end alone; the first waits for an end that both hold.
    let last = number(&told, "/workers/1")?;
    let is_last = |event: &Event| {
        event.finding().is_some_and(|found| found.hazard() == HAZARD && found.pid() == Some(last))
    };
    let event = watched.forkwatch.wait_for("the finding about the last worker", is_last)?;
    let found = finding(&event)?;
    ensure!(found.parent_pid() == Some(number(&told, "/supervisor")?), "wrong parent: {event:#?}");
    watched.stop().map(drop)
}

fn workers_of_a_killed_executor_are_suspected() -> Result<()> {
    let mut watched = Watched::start(supervisor("pool")?)?;
    let told = watched.program.next_json()?;
    watched.program.step()?;
    let is_it = |event: &Event| event.finding().is_some_and(|found| found.hazard() == HAZARD);
    let event = watched.forkwatch.wait_for("the finding about a worker", is_it)?;
    let found = finding(&event)?;
    let pid = found.pid();
    ensure!(
        [number(&told, "/workers/0")?, number(&told, "/workers/1")?].map(Some).contains(&pid),
        "{event:#?}"
    );
    ensure!((found.state(), found.certainty()) == ("suspected", "heuristic"), "{event:#?}");
    watched.stop().map(drop)
}

fn a_pipe_that_an_idle_child_keeps_open_is_suspected() -> Result<()> {
    is_kept(&[])
}

fn a_pipe_of_which_an_idle_child_has_both_ends_is_suspected() -> Result<()> {
    is_kept(&["both"])
}

fn is_kept(how: &[&str]) -> Result<()> {
    let mut watched = Watched::fixture("kept_pipe", how)?;
    let told = watched.program.next_json()?;
    // Once it has been told that it forks beside a thread, its children are known to live on, and soon to be at rest.
    let first = watched.forkwatch.wait_for("what the second child was forked beside", |event| {
        event.finding().is_some_and(|found| found.hazard() == "multithreaded-fork")
    })?;
    ensure!(finding(&first)?.pid() == Some(number(&told, "/second")?), "{first:#?}");
    looked_at()?;
    watched.program.step()?;
    let expected = Expected { severity: "warning", ..leaked("kept_pipe") };
    let event = watched.finding(&expected)?;
    let found = finding(&event)?;
    ensure!(found.pid() == Some(number(&told, "/second")?), "wrong child: {event:#?}");
    ensure!((found.state(), found.certainty()) == ("suspected", "heuristic"), "{event:#?}");
    watched.stop().map(drop)
}

fn a_pipe_to_a_program_whose_end_is_awaited_is_suspected() -> Result<()> {
    let mut watched = Watched::fixture("popen_leak", &[])?;
    let told = watched.program.next_json()?;
    let event = watched.finding(&Expected { severity: "warning", ..leaked("popen_leak") })?;
    let found = finding(&event)?;
    ensure!(found.pid() == Some(number(&told, "/child")?), "wrong child: {event:#?}");
    ensure!((found.state(), found.certainty()) == ("suspected", "strong"), "{event:#?}");
    ensure!(found.summary().contains("waits until cat (pid"), "{event:#?}");
    watched.stop().map(drop)
}

/// Waits until a child that rests now has been looked at: until a watch that begins now has found a leaked pipe.
fn looked_at() -> Result<()> {
    let mut watched = Watched::fixture("leaked_pipe", &[])?;
    watched.program.next_json()?;
    watched.finding(&leaked("leaked_pipe"))?;
    watched.stop().map(drop)
}

fn pipes_that_are_held_on_purpose_are_silent() -> Result<()> {
    let ways = ["pipeline", "kept", "closed", "shared", "opened"];
    let mut programs: Vec<Program> =
        ways.iter().map(|way| fixture::hold("pipes_on_purpose", &[way])).collect::<Result<_>>()?;
    programs.push(supervisor("closed")?);
    programs.push(fixture::hold("popen_leak", &["unwaited"])?);
    // Forked later than all of them, it is found only when they have been looked at.
    let mut leaking = fixture::hold("leaked_pipe", &[])?;
    let pids: Vec<i32> = programs.iter().chain([&leaking]).map(Program::pid).collect();
    let mut forkwatch = Forkwatch::tail_pids(&pids)?;
    for program in &mut programs {
        program.release()?;
        program.next_json()?;
    }
    leaking.release()?;
    let child = number(&leaking.next_json()?, "/child")?;
    let is_it = |event: &Event| {
        event.finding().is_some_and(|found| found.hazard() == HAZARD && found.pid() == Some(child))
    };
    forkwatch.wait_for("the finding about the leaked pipe", is_it)?;
    let of_pipes = |event: &Event| event.finding().is_some_and(|found| found.hazard() == HAZARD);
    let (events, _) = forkwatch.stop()?;
    let found: Vec<&Event> = events.iter().filter(|event| of_pipes(event) && !is_it(event)).collect();
    ensure!(found.is_empty(), "{found:#?}");
    Ok(())
}

fn a_daemon_whose_acceptor_stayed_behind_is_found() -> Result<()> {
    // The first is told of its fork at once, the others as its repeats.
    let ways = ["", "restarted", "alone"];
    let mut daemons: Vec<Program> =
        ways.iter().map(|way| fixture::hold("lost_acceptor", &[way])).collect::<Result<_>>()?;
    let pids: Vec<i32> = daemons.iter().map(Program::pid).collect();
    let mut forkwatch = Forkwatch::tail_pids(&pids)?;
    let mut children = Vec::new();
    for daemon in &mut daemons {
        daemon.release()?;
        children.push(number(&daemon.next_json()?, "/child")?);
    }
    // It is told of the fork once its child is known to live on.
    let lost = children.first().copied();
    let of_lost = |event: &Event, hazard: &str| {
        event.finding().is_some_and(|found| found.hazard() == hazard && found.pid() == lost)
    };
    forkwatch.wait_for("the finding about the fork", |event| of_lost(event, "multithreaded-fork"))?;
    for daemon in &mut daemons {
        daemon.step()?;
    }
    let is_it = |event: &Event| of_lost(event, "nobody-accepts");
    let event = forkwatch.wait_longer_for(PATIENCE, "the finding about the daemon", is_it)?;
    let found = finding(&event)?;
    ensure!(found.summary().contains("a connection waits there"), "{}", found.summary());
    let (events, _) = forkwatch.stop()?;
    let of_others = |event: &&Event| {
        event.finding().is_some_and(|found| {
            ["nobody-accepts", "pinned-listener"].contains(&found.hazard()) && found.pid() != lost
        })
    };
    let wrong: Vec<&Event> = events.iter().filter(of_others).collect();
    ensure!(wrong.is_empty(), "{wrong:#?}");
    Ok(())
}
