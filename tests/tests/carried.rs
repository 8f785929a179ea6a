//! Locks that a child carries of threads that it does not have are told before anybody hangs.

use anyhow::{Context, Result, ensure};
use forkwatch_tests::{
    event::Event,
    expectation::{Expected, multithreaded},
    program::Program,
    python::Python,
    runner::Tests,
    tests,
    watched::Watched,
};
use serde_json::Value;

pub(crate) fn tests() -> Tests {
    Tests::side_by_side(tests![
        a_mutex_is_told_with_its_name_and_its_owner,
        a_read_write_lock_is_told,
        what_is_made_anew_or_free_is_not_told,
        the_hang_that_comes_of_it_is_told_with_it,
        objects_of_python_are_told_by_what_they_are,
        python_programs_whose_threads_hold_nothing_are_not_told,
    ])
}

const FIXTURE: &str = "carried_locks";

const fn held(program: &'static str) -> Expected {
    Expected {
        hazard: "held-locks",
        severity: "warning",
        program: Some(program),
        threads: &["metrics-push"],
        signals: &[],
    }
}

fn carried(event: &Event) -> Result<&Vec<Value>> {
    let locks = event.0.pointer("/forkwatch/finding/evidence/held").and_then(Value::as_array);
    locks.with_context(|| format!("no locks: {event:#?}"))
}

fn text<'a>(value: &'a Value, path: &str) -> &'a str {
    value.pointer(path).and_then(Value::as_str).unwrap_or_default()
}

fn number(value: &Value, path: &str) -> Option<i64> {
    value.pointer(path).and_then(Value::as_i64)
}

/// What is told of a lock of the fixture's, which is all there is to tell.
fn one_lock(arguments: &[&str], check: impl Fn(&Value, &Event) -> Result<()>) -> Result<()> {
    let expected = held(FIXTURE);
    let mut watched = Watched::fixture(FIXTURE, arguments)?;
    let told = watched.program.next_json()?;
    let event = watched.finding(&expected)?;
    let finding = event.finding().context("it is a finding")?;
    ensure!(finding.pid() == number(&told, "/child"), "wrong child: {event:#?}");
    ensure!((finding.state(), finding.certainty()) == ("suspected", "strong"), "{event:#?}");
    let [lock] = &carried(&event)?[..] else { anyhow::bail!("not one lock: {event:#?}") };
    ensure!(text(lock, "/address") == text(&told, "/lock"), "{told}: {event:#?}");
    ensure!(text(lock, "/owner/name") == "metrics-push", "{event:#?}");
    ensure!(number(lock, "/owner/id") == number(&told, "/holder"), "{told}: {event:#?}");
    check(lock, &event)?;
    // One finding, and not another about the threads.
    watched.expect(&[expected])?;
    watched.stop().map(drop)
}

fn a_mutex_is_told_with_its_name_and_its_owner() -> Result<()> {
    one_lock(&[], |lock, event| {
        ensure!((text(lock, "/kind"), text(lock, "/name")) == ("mutex", "registry"), "{event:#?}");
        let summary = event.finding().context("it is a finding")?.summary();
        ensure!(summary.contains("(`registry` in carried_locks: thread metrics-push ("), "{summary}");
        Ok(())
    })
}

fn a_read_write_lock_is_told() -> Result<()> {
    one_lock(&["write"], |lock, event| {
        ensure!(text(lock, "/kind") == "read-write" && text(lock, "/mapping/name") == "[heap]", "{event:#?}");
        Ok(())
    })
}

fn what_is_made_anew_or_free_is_not_told() -> Result<()> {
    for mode in ["anew", "free"] {
        let expected = [multithreaded(FIXTURE, &["metrics-push"])];
        let mut watched = Watched::fixture(FIXTURE, &[mode])?;
        let told = watched.program.next_json()?;
        watched.expect(&expected)?;
        ensure!(number(&told, "/child").is_some(), "{told}");
        not_told(&watched.stop()?)?;
    }
    Ok(())
}

fn not_told(events: &[Event]) -> Result<()> {
    let wrong =
        events.iter().find(|event| event.finding().is_some_and(|finding| finding.hazard() == "held-locks"));
    ensure!(wrong.is_none(), "did not expect {wrong:#?}");
    Ok(())
}

fn the_hang_that_comes_of_it_is_told_with_it() -> Result<()> {
    let expected = held(FIXTURE);
    let mut watched = Watched::fixture(FIXTURE, &[])?;
    let told = watched.program.next_json()?;
    watched.finding(&expected)?;
    watched.program.step()?;
    let child = number(&told, "/child");
    let is = |event: &Event, hazard: &str| {
        let finding = event.finding();
        finding.is_some_and(|finding| {
            finding.hazard() == hazard && finding.pid() == child && finding.state() == "confirmed"
        })
    };
    watched.forkwatch.wait_for("the hang", |event| is(event, "orphaned-lock"))?;
    let later =
        watched.forkwatch.wait_for("the locks to be told to do harm", |event| is(event, "held-locks"))?;
    let summary = later.finding().context("it is a finding")?.summary();
    ensure!(summary.ends_with("hangs by now: see its `orphaned-lock`"), "{summary}");
    watched.stop().map(drop)
}

fn watch(program: Program) -> Result<(Watched, Option<i64>)> {
    let mut watched = Watched::start(program)?;
    let child = number(&watched.program.next_json()?, "/child");
    Ok((watched, child))
}

fn objects_of_python_are_told_by_what_they_are() -> Result<()> {
    for python in Python::all()?.into_iter().filter(|python| python.version >= (3, 6)) {
        let handlers = python.version < (3, 9);
        let cases = [
            ("buffer", Some(("buffer", "standard output's buffer"))),
            ("recursive", Some(("recursive", ""))),
            ("stdout", None),
            ("handler", handlers.then_some(("recursive", ""))),
        ];
        for (case, lock) in cases {
            let (name, program) = python.hold_script("carried.py", case)?;
            let (mut watched, child) = watch(program)?;
            let is_it = |event: &Event| event.finding().is_some_and(|finding| finding.pid() == child);
            let event = watched.forkwatch.wait_for(&format!("a finding about {name}"), is_it)?;
            let finding = event.finding().context("it is a finding")?;
            let Some((kind, what)) = lock else {
                ensure!(finding.hazard() == "multithreaded-fork", "{name}: {event:#?}");
                watched.stop()?;
                continue;
            };
            ensure!(
                (finding.hazard(), finding.certainty()) == ("held-locks", "strong"),
                "{name}: {event:#?}"
            );
            let locks = carried(&event)?;
            let is_it = |lock: &&Value| (text(lock, "/kind"), text(lock, "/name")) == (kind, what);
            ensure!(locks.len() == 1 && locks.iter().any(|lock| is_it(&lock)), "{name}: {event:#?}");
            watched.stop()?;
        }
    }
    Ok(())
}

fn python_programs_whose_threads_hold_nothing_are_not_told() -> Result<()> {
    for python in Python::all()?.into_iter().filter(|python| python.version >= (3, 6)) {
        let (name, program) = python.hold_script("carried.py", "lookalike")?;
        let (mut watched, child) = watch(program)?;
        watched.judged()?;
        let is_it = |event: &Event| event.finding().is_some_and(|finding| finding.pid() == child);
        let event = watched.forkwatch.wait_for(&format!("a finding about {name}"), is_it)?;
        let hazard = event.finding().map(|finding| finding.hazard().to_owned());
        ensure!(hazard.as_deref() == Some("multithreaded-fork"), "{name}: {event:#?}");
        not_told(&watched.stop()?)?;
    }
    Ok(())
}
