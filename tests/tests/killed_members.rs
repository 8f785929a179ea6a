//! What a killed child leaves the rest of its family waiting for is told, and what the rest can do without is not.

use anyhow::{Context, Result, ensure};
use forkwatch_tests::{
    event::{Event, Finding},
    expectation::{Expected, SILENCE},
    fixture,
    forkwatch::Forkwatch,
    host::workspace,
    process,
    program::{Launch, Program},
    provided::provided,
    runner::Tests,
    scenario, tests,
    watched::Watched,
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;

pub(crate) fn tests() -> Tests {
    Tests::side_by_side(tests![
        a_pool_that_waits_for_a_killed_worker_is_told,
        a_queue_that_a_killed_worker_has_left_locked_is_told,
        a_mutex_of_a_killed_child_is_told,
        what_a_killed_child_does_not_keep_from_anybody_is_silent,
        a_worker_of_uwsgi_without_a_master_is_missed,
    ])
}

const HAZARDS: [&str; 3] = ["abandoned-semaphore", "lost-result", "worker-not-replaced"];

const fn critical(hazard: &'static str, program: &'static str) -> Expected {
    Expected { hazard, severity: "critical", program: Some(program), threads: &[], signals: &[] }
}

/// `killed_pool.py`, held.
fn pool(how: &'static str) -> Result<Program> {
    Program::hold(|_| {
        let python = Launch::new(provided("python")?.join("bin/python"));
        let script = workspace().join("tests/fixtures/python/killed_pool.py").into_os_string();
        Ok(python.args([script, how.into()]).env("PYTHONDONTWRITEBYTECODE", "1"))
    })
}

fn number(told: &Value, path: &str) -> Result<i64> {
    told.pointer(path).and_then(Value::as_i64).with_context(|| format!("no {path} in {told}"))
}

fn finding(event: &Event) -> Result<Finding<'_>> {
    event.finding().context("it is a finding")
}

/// What is told of a pool, once it is known that its workers live on, and one has been killed.
fn told_of_pool(how: &'static str, hazard: &'static str) -> Result<Event> {
    let mut watched = Watched::start(pool(how)?)?;
    let told = watched.program.next_json()?;
    watched.judged()?;
    watched.program.step()?;
    let event = watched.finding(&critical(hazard, "killed_pool.py"))?;
    let found = finding(&event)?;
    ensure!(found.certainty() == "strong", "{event:#?}");
    ensure!(found.parent_pid() == Some(number(&told, "/parent")?), "wrong parent: {event:#?}");
    ensure!(found.remedy().contains("ProcessPoolExecutor"), "{}", found.remedy());
    ensure!(found.summary().contains("was killed by SIGKILL"), "{}", found.summary());
    // Nobody wakes what waits there.
    drop(watched);
    Ok(event)
}

fn a_pool_that_waits_for_a_killed_worker_is_told() -> Result<()> {
    let event = told_of_pool("job", "lost-result")?;
    let found = finding(&event)?;
    ensure!(
        found.summary().contains("waits in vain for a result of its multiprocessing pool"),
        "{}",
        found.summary()
    );
    ensure!(found.notes().iter().any(|note| note.contains("main (killed_pool.py:")), "{:?}", found.notes());
    Ok(())
}

fn a_queue_that_a_killed_worker_has_left_locked_is_told() -> Result<()> {
    let event = told_of_pool("lock", "abandoned-semaphore")?;
    let found = finding(&event)?;
    ensure!(found.summary().contains("the lock of a multiprocessing queue"), "{}", found.summary());
    Ok(())
}

fn a_mutex_of_a_killed_child_is_told() -> Result<()> {
    let mut watched = Watched::fixture("abandoned_mutex", &[])?;
    let told = watched.program.next_json()?;
    watched.expect(SILENCE)?;
    watched.program.step()?;
    let event = watched.finding(&critical("abandoned-semaphore", "abandoned_mutex"))?;
    let found = finding(&event)?;
    ensure!(found.pid() == Some(number(&told, "/first")?), "wrong child: {event:#?}");
    ensure!(
        found.summary().starts_with("2 processes wait in the family of abandoned_mutex"),
        "{}",
        found.summary()
    );
    watched.stop().map(drop)
}

/// Waits until all that were forked before are known to live on: until a fork made now has been found unsafe.
fn judged(sentinel: &mut Program, forkwatch: &mut Forkwatch) -> Result<()> {
    sentinel.release()?;
    sentinel.step()?;
    let child = number(&sentinel.next_json()?, "/child")?;
    let is_it = |event: &Event| event.finding().is_some_and(|found| found.pid() == Some(child));
    forkwatch.wait_for("the finding about the sentinel", is_it).map(drop)
}

fn what_a_killed_child_does_not_keep_from_anybody_is_silent() -> Result<()> {
    let mut programs: Vec<Program> = ["robust", "free", "semaphore"]
        .into_iter()
        .map(|how| fixture::hold("abandoned_mutex", &[how]))
        .chain(["door", "timeout", "executor"].into_iter().map(pool))
        .collect::<Result<_>>()?;
    // Its child is killed later than all others, and is told of only when they have been looked at twice.
    let mut left = fixture::hold("abandoned_mutex", &[])?;
    let mut sentinel = fixture::hold("sentinel", &[])?;
    let pids: Vec<i32> = programs.iter().chain([&left, &sentinel]).map(Program::pid).collect();
    let mut forkwatch = Forkwatch::tail_pids(&pids)?;
    for program in programs.iter_mut().chain([&mut left]) {
        program.release()?;
        program.next_json()?;
    }
    judged(&mut sentinel, &mut forkwatch)?;
    for program in &mut programs {
        program.step()?;
    }
    left.step()?;
    let parent = i64::from(left.pid());
    let is_left = |event: &Event| event.finding().is_some_and(|found| found.parent_pid() == Some(parent));
    forkwatch.wait_for("the finding about the mutex", is_left)?;
    let (events, _) = forkwatch.stop()?;
    let wrong: Vec<&Event> = events
        .iter()
        .filter(|event| {
            event.finding().is_some_and(|found| HAZARDS.contains(&found.hazard())) && !is_left(event)
        })
        .collect();
    ensure!(wrong.is_empty(), "{wrong:#?}");
    Ok(())
}

fn a_worker_of_uwsgi_without_a_master_is_missed() -> Result<()> {
    let hold = |master: bool| Program::hold(|folder| scenario::plain_uwsgi(folder, master));
    let (mut without, mut with) = (hold(false)?, hold(true)?);
    let mut sentinel = fixture::hold("sentinel", &[])?;
    let mut forkwatch = Forkwatch::tail_pids(&[with.pid(), without.pid(), sentinel.pid()])?;
    for (program, children) in [(&mut with, 2), (&mut without, 1)] {
        program.release()?;
        program
            .wait_for("its workers", |program| Ok(process::descendants(program.pid()).len() == children))?;
    }
    judged(&mut sentinel, &mut forkwatch)?;
    for program in [&with, &without] {
        let worker = process::descendants(program.pid());
        let worker = worker.first().context("it has no worker")?;
        kill(Pid::from_raw(worker.pid), Signal::SIGKILL)?;
    }
    let is_it = |event: &Event| event.finding().is_some_and(|found| found.hazard() == "worker-not-replaced");
    let event = forkwatch.wait_for("the finding about the worker", is_it)?;
    let found = finding(&event)?;
    ensure!(found.parent_pid() == Some(i64::from(without.pid())), "the master replaces it: {event:#?}");
    ensure!(found.remedy().contains("master = true"), "{}", found.remedy());
    let (events, _) = forkwatch.stop()?;
    ensure!(events.iter().filter(|event| is_it(event)).count() == 1, "{events:#?}");
    Ok(())
}
