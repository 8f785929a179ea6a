//! ufork: what it finds out of its workers, and what forkwatch says of them before.

use anyhow::{Context, Result, ensure};
use forkwatch_tests::{
    event::Event,
    forkwatch::Forkwatch,
    host::{needs_root, workspace},
    program::{Launch, Program},
    provided::provided,
    runner::Tests,
    tests,
};
use serde_json::json;

pub(crate) fn tests() -> Tests {
    Tests::side_by_side(tests![a_worker_that_ufork_gives_up_was_named_before])
}

fn is(event: &Event, hazard: &str) -> bool {
    event.finding().is_some_and(|finding| finding.hazard() == hazard && finding.state() == "confirmed")
}

/// ufork kills a worker that gave no sign of life for 10 s, and says that it "timed out".
fn a_worker_that_ufork_gives_up_was_named_before() -> Result<()> {
    needs_root()?;
    let python = provided("python")?.join("bin/python");
    let mut program = Program::hold(|_| {
        Ok(Launch::new(python)
            .args([workspace().join("tests/fixtures/python/ufork_wedged.py")])
            .env("PYTHONDONTWRITEBYTECODE", "1"))
    })?;
    // With the usual patience: it is what has to do.
    let mut watch = Forkwatch::tail_pids(&[program.pid()])?;
    program.release()?;
    let stuck = watch.wait_for("a stuck worker", |event| is(event, "orphaned-lock"))?;
    let finding = stuck.finding().context("it is a finding")?;
    let script = finding.lock().pointer("/script/frames/0/function");
    ensure!(script == Some(&json!("wedge")), "the line is not named: {stuck:#?}");
    let killed = watch.wait_for("ufork's time limit", |event| {
        event.pid() == stuck.pid() && is(event, "worker-killed-while-stuck")
    })?;
    ensure!(killed.finding().context("it is a finding")?.parent_pid() == Some(program.pid().into()));
    let beside = watch.wait_for("the threads of the arbiter", |event| {
        event.finding().is_some_and(|finding| {
            finding.hazard() == "multithreaded-fork" || finding.hazard() == "held-locks"
        })
    })?;
    let summary = beside.finding().context("it is a finding")?.summary();
    ensure!(summary.contains("log_children"), "{summary}");
    watch.stop().map(drop)
}
