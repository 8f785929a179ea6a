//! What must hold on every kernel.

use anyhow::{Result, ensure};
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::{
    bpf::programs,
    counts::Counts,
    expect::until,
    runner::Test,
    watch::{Watch, forkwatch, needs_command},
    work::{STORM, THREAD_NAME, Work},
};

/// All of them.
pub(crate) const ALL: &[Test] = &[
    ("it loads and its self-test passes", it_loads),
    ("a fork beside a thread is found", a_fork_beside_a_thread_is_found),
    ("a pending signal is found", a_pending_signal_is_found),
    ("kinds and outcomes are told apart", kinds_and_outcomes_are_told_apart),
    ("counts equal the kernel's own", counts_equal_the_kernels_own),
    ("clone calls are counted exactly", clone_calls_are_counted_exactly),
    ("a refused fork names its limit", a_refused_fork_names_its_limit),
    ("doctor agrees", doctor_agrees),
    ("nothing stays after SIGKILL", nothing_stays_after_sigkill),
];

fn it_loads() -> Result<()> {
    let output = forkwatch(&["--duration", "1ms"])?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.code() == Some(0), "ended with {}: {said}", output.status);
    ensure!(said.contains("ready"), "said {said}");
    Ok(())
}

/// The finding of a hazard by a process.
fn finding(watch: &Watch, hazard: &str, parent: u32) -> Result<Value> {
    watch.wait_for(&format!("the finding {hazard}"), |event| {
        event["forkwatch"]["finding"]["hazard"] == hazard && event["process"]["parent"]["pid"] == parent
    })
}

fn a_fork_beside_a_thread_is_found() -> Result<()> {
    let watch = Watch::start(&["-o", "json"])?;
    let work = Work::start("threads")?;
    let found = finding(&watch, "multithreaded-fork", work.pid())?;
    let threads = &found["forkwatch"]["finding"]["evidence"]["threads"];
    let names: Vec<_> = threads.as_array().into_iter().flatten().map(|thread| &thread["name"]).collect();
    ensure!(names == [THREAD_NAME], "the evidence is {threads}");
    work.end()?;
    drop(watch.stop()?);
    Ok(())
}

fn a_pending_signal_is_found() -> Result<()> {
    let watch = Watch::start(&["-o", "json"])?;
    let work = Work::start("pending")?;
    let found = finding(&watch, "pending-signals", work.pid())?;
    let signals = &found["forkwatch"]["finding"]["evidence"]["signals"];
    ensure!(signals == &serde_json::json!(["SIGUSR1"]), "the evidence is {signals}");
    work.end()?;
    drop(watch.stop()?);
    Ok(())
}

fn kinds_and_outcomes_are_told_apart() -> Result<()> {
    let watch = Watch::start(&["-o", "json"])?;
    let work = Work::start("kinds")?;
    let parent = work.pid();
    work.end()?;
    let of_parent = |event: &Value| event["process"]["parent"]["pid"] == parent;
    // Records come in order, so all others are there with the last one.
    watch.wait_for("the last exec", |event| {
        of_parent(event) && event["forkwatch"]["exec"]["fork_kind"] == "vfork"
    })?;
    let seen: Vec<String> = watch.stop()?.iter().filter(|event| of_parent(event)).map(word).collect();
    let wanted = [
        "fork copying",
        "exec copying",
        "fork copying",
        "exit code 7",
        "fork copying",
        "exit \"SIGKILL\"",
        "fork vfork",
        "exec vfork",
    ];
    ensure!(seen == wanted, "seen were {seen:?}");
    Ok(())
}

/// An event in two words.
fn word(event: &Value) -> String {
    let own = &event["forkwatch"];
    let text = |value: &Value| value.as_str().unwrap_or("?").to_owned();
    match event["event"]["action"].as_str() {
        Some("fork") => format!("fork {}", text(&own["fork"]["kind"])),
        Some("exec") => format!("exec {}", text(&own["exec"]["fork_kind"])),
        Some("exit") if own["exit"]["signal"].is_string() => format!("exit {}", own["exit"]["signal"]),
        Some("exit") => format!("exit code {}", event["process"]["exit_code"]),
        _ => event["event"]["action"].to_string(),
    }
}

fn counts_equal_the_kernels_own() -> Result<()> {
    needs_command("daemon")?;
    let watch = Watch::start(&["daemon"])?;
    let before = Counts::take()?;
    Work::start("storm")?.end()?;
    let after = Counts::take()?;
    let kernel = after.kernel - before.kernel;
    let counted = after.growth(&before, "forkwatch_forks_total", "");
    ensure!(counted.total_cmp(&kernel).is_eq(), "the kernel counts {kernel} new tasks, forkwatch {counted}");
    #[expect(clippy::cast_precision_loss, reason = "a small constant")]
    let storm = STORM as f64;
    for kind in ["copying", "thread", "vfork"] {
        let counted = after.growth(&before, "forkwatch_forks_total", &format!("kind=\"{kind}\""));
        ensure!(counted >= storm, "{counted} of {storm} counted as {kind}");
    }
    let shed = after.metrics.sum("forkwatch_events_shed_total", "");
    ensure!(shed.total_cmp(&0.0).is_eq(), "{shed} records were shed");
    drop(watch.stop()?);
    Ok(())
}

fn clone_calls_are_counted_exactly() -> Result<()> {
    needs_command("daemon")?;
    let watch = Watch::start(&["daemon", "--clone-calls"])?;
    let said = watch.stderr()?;
    ensure!(said.contains("fexit on kernel_clone"), "not watched by fentry and fexit: {said}");
    let before = Counts::take()?;
    Work::start("storm")?.end()?;
    let after = Counts::take()?;
    for (call, kinds) in [
        ("copying", ["copying", "copying"]),
        ("thread", ["thread", "thread"]),
        ("sharing", ["vfork", "shared-memory"]),
    ] {
        let calls = after.growth(&before, "forkwatch_clone_call_seconds_count", &format!("kind=\"{call}\""));
        let mut kinds = kinds.to_vec();
        kinds.dedup();
        let forks: f64 = kinds
            .iter()
            .map(|kind| after.growth(&before, "forkwatch_forks_total", &format!("kind=\"{kind}\"")))
            .sum();
        ensure!(calls.total_cmp(&forks).is_eq(), "{calls} calls counted as {call}, but {forks} made");
    }
    drop(watch.stop()?);
    Ok(())
}

fn a_refused_fork_names_its_limit() -> Result<()> {
    let watch = Watch::start(&["--clone-calls", "-o", "json"])?;
    let work = Work::start("limit")?;
    let failure = watch.wait_for("the failed call", |event| {
        event["event"]["action"] == "clone_failure" && event["process"]["pid"] == work.pid()
    })?;
    ensure!(failure["error"]["code"] == "EAGAIN", "the error is {}", failure["error"]);
    let cause = &failure["forkwatch"]["clone_failure"]["cause"];
    ensure!(cause == "rlimit-nproc", "the cause is {cause}");
    work.end()?;
    drop(watch.stop()?);
    Ok(())
}

fn doctor_agrees() -> Result<()> {
    needs_command("doctor")?;
    let output = forkwatch(&["doctor"])?;
    let said = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.code() == Some(0), "ended with {}: {said}", output.status);
    Ok(())
}

fn nothing_stays_after_sigkill() -> Result<()> {
    // Nothing else loads programs here.
    until("the programs of earlier tests to be gone", || Ok(programs()?.is_empty().then_some(())))?;
    let mut watch = Watch::start(&["--clone-calls"])?;
    let loaded = programs()?.len();
    ensure!(loaded >= 6, "{loaded} programs while it watches");
    watch.end(Signal::SIGKILL)?;
    until("the programs to be gone", || Ok(programs()?.is_empty().then_some(())))
}
