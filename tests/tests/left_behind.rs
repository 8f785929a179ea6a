//! What a fork leaves behind and nothing waits for, or somebody else does: locks on files in programs that were started since,
//! and queues that nobody empties.

use anyhow::{Context as _, Result, ensure};
use forkwatch_tests::{
    event::Event,
    expectation::{Expected, multithreaded},
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
        a_lock_that_a_job_in_the_background_keeps_is_found_among_its_look_alikes,
        records_that_pile_up_for_a_lost_listener_are_found,
        records_that_a_listener_takes_are_silent,
    ])
}

fn watch(script: &'static str, ways: &'static [&'static str]) -> Result<Watched> {
    Watched::start(Program::hold(|_| {
        let python = Launch::new(provided("python")?.join("bin/python"));
        let script = workspace().join("tests/fixtures/python").join(script).into_os_string();
        let arguments = [script].into_iter().chain(ways.iter().map(Into::into));
        Ok(python.args(arguments).env("PYTHONDONTWRITEBYTECODE", "1"))
    })?)
}

fn number(told: &Value, name: &str) -> Result<i64> {
    told.get(name).and_then(Value::as_i64).with_context(|| format!("the fixture told no {name}: {told}"))
}

/// After MagnaCapax/PMSS#663 and many a cron job.
fn a_lock_that_a_job_in_the_background_keeps_is_found_among_its_look_alikes() -> Result<()> {
    const ALIKE: usize = 3;
    for (ways, severity) in [
        (&["shell", "command", "later", "job"], "warning"),
        (&["shell", "command", "later", "daemon"], "info"),
    ] {
        let expected = [Expected {
            hazard: "lock-left-behind",
            severity,
            program: Some("sleep"),
            threads: &[],
            signals: &[],
        }];
        let mut watched = watch("kept_lock.py", ways)?;
        for _ in 0..ALIKE {
            watched.program.next_json()?;
        }
        let told = watched.program.next_json()?;
        let event = watched.finding(&expected[0])?;
        let finding = event.finding().context("it is a finding")?;
        ensure!(finding.pid() == Some(number(&told, "keeper")?), "the wrong one: {event:#?}");
        ensure!((finding.certainty(), finding.state()) == ("heuristic", "suspected"), "{event:#?}");
        let waits = format!("flock (pid {}) waits for it", number(&told, "waiter")?);
        ensure!(finding.summary().contains(&waits), "{}", finding.summary());
        ensure!(finding.remedy().contains("9>&-"), "{}", finding.remedy());
        watched.expect(&expected)?;
        watched.stop()?;
    }
    Ok(())
}

/// A `QueueHandler` puts records into a queue, and nothing fails when nobody takes them.
fn records_that_pile_up_for_a_lost_listener_are_found() -> Result<()> {
    let mut watched = watch("lost_listener.py", &["lost"])?;
    let told = watched.program.next_json()?;
    let is_it = |event: &Event| event.finding().is_some_and(|finding| finding.hazard() == "lost-threads");
    let event = watched.forkwatch.wait_for("lost-threads", is_it)?;
    let finding = event.finding().context("it is a finding")?;
    ensure!(finding.pid() == Some(number(&told, "child")?), "the wrong one: {event:#?}");
    ensure!((finding.certainty(), finding.state()) == ("strong", "suspected"), "{event:#?}");
    for part in ["_monitor (handlers.py:", "piles up in the child", "nobody has taken one"] {
        ensure!(finding.summary().contains(part), "{part}: {}", finding.summary());
    }
    ensure!(finding.remedy().contains("Start the QueueListener in each child"), "{}", finding.remedy());
    watched.stop().map(drop)
}

fn records_that_a_listener_takes_are_silent() -> Result<()> {
    let ways: [&'static [&'static str]; 2] = [&["restarted"], &["parents"]];
    // One whose records pile up is told of when the others would have been.
    let mut alike: Vec<Watched> =
        ways.into_iter().map(|way| watch("lost_listener.py", way)).collect::<Result<_>>()?;
    records_that_pile_up_for_a_lost_listener_are_found()?;
    for watched in &mut alike {
        watched.expect(&[multithreaded("lost_listener.py", &[])])?;
    }
    alike.into_iter().try_for_each(|watched| watched.stop().map(drop))
}
