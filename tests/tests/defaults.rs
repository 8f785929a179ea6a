//! forkwatch as a server runs it, with no setting shortened: most other tests make it impatient.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use forkwatch_tests::{
    event::{Event, Finding},
    fixture,
    forkwatch::Forkwatch,
    program::Program,
    runner::Tests,
    tests,
};
use serde_json::Value;

pub(crate) fn tests() -> Tests {
    Tests::side_by_side(tests![findings_of_each_patience_come_in_their_time_and_no_sooner])
}

/// A fixture of a name of its own, the finding about its child, and how long the child must have been at it.
struct Case {
    fixture: &'static str,
    alias: &'static str,
    is_it: fn(Finding<'_>) -> bool,
    patience: Duration,
}

/// The grace, and `judge.stuck_after` once, two and a half times and thirty times.
const CASES: [Case; 4] = [
    Case {
        fixture: "mt_fork",
        alias: "fw-usual-grace",
        is_it: |finding| finding.hazard() == "multithreaded-fork",
        patience: Duration::from_secs(1),
    },
    Case {
        fixture: "orphan_mutex",
        alias: "fw-usual-owner",
        is_it: |finding| is_lock(finding, "owner"),
        patience: Duration::from_secs(2),
    },
    Case {
        fixture: "orphan_semaphore",
        alias: "fw-usual-sem",
        is_it: |finding| is_lock(finding, "no-catcher"),
        patience: Duration::from_secs(5),
    },
    Case {
        fixture: "queue_lll",
        alias: "fw-usual-queue",
        is_it: |finding| is_lock(finding, "queue"),
        patience: Duration::from_secs(60),
    },
];

fn is_lock(finding: Finding<'_>, proof: &str) -> bool {
    finding.hazard() == "orphaned-lock" && finding.lock().get("proof").is_some_and(|told| told == proof)
}

fn findings_of_each_patience_come_in_their_time_and_no_sooner() -> Result<()> {
    /// What a loaded machine may add.
    const LATE: Duration = Duration::from_secs(60);
    let hold = |case: &Case| fixture::hold_as(case.fixture, case.alias, &[]);
    let mut programs = CASES.iter().map(hold).collect::<Result<Vec<_>>>()?;
    let pids: Vec<i32> = programs.iter().map(Program::pid).collect();
    let mut forkwatch = Forkwatch::tail_pids(&pids)?;
    let mut forked = Vec::new();
    for program in &mut programs {
        let begun = Instant::now();
        program.release()?;
        let child = program.next_json()?.get("child").and_then(Value::as_i64).context("no child")?;
        forked.push((begun, child));
    }
    for (case, (begun, child)) in CASES.iter().zip(forked) {
        let is_it = |event: &Event| {
            event.pid() == Some(child) && event.finding().is_some_and(|finding| (case.is_it)(finding))
        };
        forkwatch.wait_longer_for(case.patience + LATE, case.alias, is_it)?;
        ensure!(begun.elapsed() >= case.patience, "{} was found after {:?}", case.alias, begun.elapsed());
    }
    forkwatch.stop().map(drop)
}
