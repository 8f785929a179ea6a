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
        tasks_that_pile_up_for_a_lost_pool_are_found,
        what_is_taken_in_time_is_silent,
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

/// The script forks, what its child hands to a thread of the parent piles up, and this is said of it.
fn piles_up(script: &'static str, taker: &str, advice: &str) -> Result<()> {
    let mut watched = watch(script, &["lost"])?;
    let told = watched.program.next_json()?;
    let is_it = |event: &Event| event.finding().is_some_and(|finding| finding.hazard() == "lost-threads");
    let event = watched.forkwatch.wait_for("lost-threads", is_it)?;
    let finding = event.finding().context("it is a finding")?;
    ensure!(finding.pid() == Some(number(&told, "child")?), "the wrong one: {event:#?}");
    ensure!((finding.certainty(), finding.state()) == ("strong", "suspected"), "{event:#?}");
    for part in [taker, "piles up in the child", "nobody has taken one"] {
        ensure!(finding.summary().contains(part), "{part}: {}", finding.summary());
    }
    ensure!(finding.remedy().contains(advice), "{}", finding.remedy());
    watched.stop().map(drop)
}

/// A `QueueHandler` puts records into a queue, and nothing fails when nobody takes them.
fn records_that_pile_up_for_a_lost_listener_are_found() -> Result<()> {
    piles_up("lost_listener.py", "_monitor (handlers.py:", "Start the QueueListener in each child")
}

/// A pool that has had idle threads starts no others in the child, and nobody waits for the tasks.
fn tasks_that_pile_up_for_a_lost_pool_are_found() -> Result<()> {
    piles_up("lost_executor.py", "_worker (thread.py:", "Make the ThreadPoolExecutor in each child")
}

fn what_is_taken_in_time_is_silent() -> Result<()> {
    let ways: [(_, &'static [&'static str]); 3] = [
        ("lost_listener.py", &["restarted"]),
        ("lost_listener.py", &["parents"]),
        ("lost_executor.py", &["own"]),
    ];
    // One whose records pile up is told of when the others would have been.
    let mut alike = Vec::new();
    for (script, way) in ways {
        alike.push((script, watch(script, way)?));
    }
    records_that_pile_up_for_a_lost_listener_are_found()?;
    for (script, watched) in &mut alike {
        watched.expect(&[multithreaded(script, &[])])?;
    }
    alike.into_iter().try_for_each(|(_, watched)| watched.stop().map(drop))
}
