//! Faults of locks and threads as public reports describe them, each as a program of our own or with the real server:
//! what is said of each, and with which advice.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context, Result, ensure};
use forkwatch_tests::{
    crowd::Crowd,
    event::Event,
    fixture,
    forkwatch::Forkwatch,
    program::Program,
    runner::Tests,
    scenario::{celery_with_a_task_that_waits, send_task},
    tests,
};
use serde_json::Value;

pub(crate) fn tests() -> Tests {
    let quick = Tests::side_by_side(tests![
        what_hangs_is_named_with_the_advice_for_it,
        a_client_that_waits_in_short_waits_for_lost_threads_is_found,
    ]);
    quick.and(Tests::long(tests![a_task_that_waits_for_a_lost_pool_is_told_of_before_its_time_limit]))
}

/// A program, and what is to be said of its child.
struct Case {
    /// The report that it follows.
    follows: &'static str,
    fixture: &'static str,
    arguments: &'static [&'static str],
    hazard: &'static str,
    certainty: &'static str,
    state: &'static str,
    /// Parts of the sentence.
    says: &'static [&'static str],
    /// Part of the advice.
    advice: &'static str,
}

const LOCK: &str = "orphaned-lock";
const AWAITS: &str = "waits-for-lost-thread";
const LOST: &str = "lost-threads";

const CASES: [Case; 4] = [
    Case {
        follows: "yabeda-rb/yabeda-puma-plugin#13",
        fixture: "daemon_lock",
        arguments: &[],
        hazard: LOCK,
        certainty: "strong",
        state: "confirmed",
        says: &["the lock `registry`", "held it at the fork, and does not exist in the child"],
        advice: "A daemon forks before it starts threads",
    },
    Case {
        follows: "yabeda-rb/yabeda-puma-plugin#13, by two forks",
        fixture: "daemon_lock",
        arguments: &["twice"],
        hazard: LOCK,
        certainty: "strong",
        state: "confirmed",
        says: &["the lock `registry`", "held it at the fork, and does not exist in the child"],
        advice: "A daemon forks before it starts threads",
    },
    Case {
        follows: "openSUSE/libzypp#757",
        fixture: "condition_waiter",
        arguments: &["exit"],
        hazard: AWAITS,
        certainty: "strong",
        state: "confirmed",
        says: &["the waiters of a condition variable", "such as journal ("],
        advice: "Leave the child by _exit(2)",
    },
    Case {
        follows: "perl5-dbi/DBD-Oracle#169",
        fixture: "condition_waiter",
        arguments: &[],
        hazard: AWAITS,
        certainty: "strong",
        state: "confirmed",
        says: &["the waiters of a condition variable", "such as journal ("],
        advice: "Fork before any thread starts",
    },
];

impl Case {
    fn hold(&self) -> Result<(String, Program)> {
        let name = format!("{:.10}{:.5}", self.fixture, self.arguments.concat());
        let program = fixture::hold_as(self.fixture, &name, self.arguments)?;
        Ok((name, program))
    }

    fn check(&self, event: &Event) -> Result<()> {
        let finding = event.finding().context("it is a finding")?;
        let is = (finding.hazard(), finding.certainty(), finding.state());
        ensure!(is == (self.hazard, self.certainty, self.state), "{}: {is:?}: {event:#?}", self.follows);
        let unsaid = self.says.iter().find(|part| !finding.summary().contains(*part));
        ensure!(unsaid.is_none(), "{}: {unsaid:?} is not in {}", self.follows, finding.summary());
        ensure!(finding.remedy().contains(self.advice), "{}: {}", self.follows, finding.remedy());
        Ok(())
    }
}

fn what_hangs_is_named_with_the_advice_for_it() -> Result<()> {
    let mut crowd = Crowd::start(CASES.iter().map(Case::hold).collect::<Result<_>>()?)?;
    for (index, case) in CASES.iter().enumerate() {
        case.check(&crowd.stuck_of(index)?)?;
    }
    crowd.forkwatch.stop().map(drop)
}

fn is_of(event: &Event, hazard: &str) -> bool {
    event.finding().is_some_and(|finding| finding.hazard() == hazard)
}

/// After confluentinc/confluent-kafka-python#172: `flush()` never returns in the child, in waits of a second each.
fn a_client_that_waits_in_short_waits_for_lost_threads_is_found() -> Result<()> {
    let mut own = fixture::hold_as("lost_client", "fw-own-client", &["own"])?;
    let mut lost = fixture::hold_as("lost_client", "fw-lost-client", &[])?;
    let mut forkwatch = Forkwatch::tail_pids(&[own.pid(), lost.pid()])?;
    let child = |program: &mut Program| {
        program.release()?;
        program.next_json()?.get("child").and_then(Value::as_i64).context("it told of no child")
    };
    let children = BTreeMap::from([("own", child(&mut own)?), ("lost", child(&mut lost)?)]);
    let found =
        forkwatch.wait_longer_for(Duration::from_secs(120), "the lost client", |event| is_of(event, LOST))?;
    let finding = found.finding().context("it is a finding")?;
    ensure!(found.pid() == children.get("lost").copied(), "the wrong child: {found:#?}");
    let is = (finding.certainty(), finding.severity(), finding.state());
    ensure!(is == ("strong", "warning", "confirmed"), "{found:#?}");
    ensure!(finding.thread_names() == ["rdk:main", "rdk:broker1"], "{found:#?}");
    for part in
        ["waits for the background threads that librdkafka had", "it is in rd_kafka_flush, called by main"]
    {
        ensure!(finding.summary().contains(part), "{part}: {}", finding.summary());
    }
    ensure!(finding.remedy().contains("after the fork, in each worker"), "{found:#?}");
    own.end(None)?;
    lost.end(None)?;
    let (events, _) = forkwatch.stop()?;
    let wrong = events.iter().find(|event| event.pid() == children.get("own").copied() && is_of(event, LOST));
    ensure!(wrong.is_none(), "a client of its own has its threads: {wrong:#?}");
    Ok(())
}

/// After dpkp/kafka-python#1098: a task waits for a pool that was made while its module was imported.
fn a_task_that_waits_for_a_lost_pool_is_told_of_before_its_time_limit() -> Result<()> {
    let mut program = celery_with_a_task_that_waits(40)?;
    let mut forkwatch = Forkwatch::tail_pids(&[program.pid()])?;
    program.release()?;
    send_task(&mut program)?;
    let patience = Duration::from_secs(90);
    let stuck = forkwatch.wait_longer_for(patience, "the task that waits", |event| is_of(event, AWAITS))?;
    let finding = stuck.finding().context("it is a finding")?;
    ensure!(finding.certainty() == "strong" && finding.state() == "confirmed", "{stuck:#?}");
    ensure!(finding.summary().contains("Future.result"), "{}", finding.summary());
    let (worker, number) = (stuck.pid(), finding.number().context("no number")?);
    let killed = forkwatch.wait_longer_for(patience, "Celery's time limit", |event| {
        event.pid() == worker && is_of(event, "worker-killed-while-stuck")
    })?;
    let summary = killed.finding().context("it is a finding")?.summary();
    ensure!(summary.contains(&format!("finding #{number} ")), "{summary}");
    program.end(Some(nix::sys::signal::Signal::SIGKILL))?;
    forkwatch.stop().map(drop)
}
