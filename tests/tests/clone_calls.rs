//! `--clone-calls`: which calls of the clone family fail and why, and how long the others take.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use forkwatch_tests::{
    fixture,
    forkwatch::{Forkwatch, or_skip_without_clone_calls},
    host::{needs_root, skip},
    metrics::{both, free_address},
    program::Program,
    recording::replay,
    runner::Tests,
    tests,
    wait::until,
};

pub(crate) fn tests() -> Tests {
    Tests::alone(tests![
        a_fork_beyond_pids_max_names_the_cgroup_above,
        a_fork_beyond_rlimit_nproc_names_it,
        a_fork_into_an_ended_pid_namespace_names_it,
        durations_are_counted_by_kind,
    ])
}

/// How often a fixture forks in vain.
const FORKS: usize = 3;

fn hold(limit: &str) -> Result<Program> {
    needs_root()?;
    fixture::hold("fork_refused", &[limit, &FORKS.to_string()])
}

/// Lets it fork in vain, and checks that every failure bears this error and this limit, also in a replay.
fn fails_with(mut program: Program, code: &str, cause: &str, cgroup: &str) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let recording = folder.path().join("recording");
    let arguments = ["--clone-calls", "--pid", &program.pid().to_string(), "--record"].map(str::to_owned);
    let arguments = arguments.into_iter().chain([recording.display().to_string()]);
    let forkwatch = or_skip_without_clone_calls(Forkwatch::tail(arguments))?;
    program.release()?;
    let said = program.next_json()?;
    ensure!(said.get("refused").and_then(serde_json::Value::as_u64) == Some(FORKS as u64), "forked: {said}");
    let failures = until("all failures", || {
        let mut events = forkwatch.events();
        events.retain(|event| event.action() == "clone_failure");
        Ok((events.len() >= FORKS).then_some(events))
    })?;
    ensure!(failures.len() == FORKS, "{} failures of {FORKS}", failures.len());
    for event in &failures {
        let own = |part: &str| event.text(&format!("/forkwatch/clone_failure/{part}"));
        let found = (event.text("/error/code"), own("cause"), own("cgroup"));
        ensure!(found == (code, cause, cgroup), "found {found:?}");
        ensure!(event.pid() == Some(program.pid().into()), "blamed {:?}", event.pid());
    }
    program.end(None)?;
    forkwatch.stop()?;
    let mut replayed = replay(&recording)?.events;
    replayed.retain(|event| event.action() == "clone_failure");
    ensure!(replayed == failures, "live {failures:#?}, replayed {replayed:#?}");
    Ok(())
}

/// A cgroup with a limit, and one in it.
struct Limited {
    directory: PathBuf,
    name: String,
}

impl Limited {
    /// With `pids.max` 1 on the outer one; skips the test where the host has no such controller.
    fn new() -> Result<Self> {
        let unified = fs::read_to_string("/sys/fs/cgroup/cgroup.subtree_control").unwrap_or_default();
        let root = if unified.split_whitespace().any(|controller| controller == "pids") {
            Path::new("/sys/fs/cgroup")
        } else if Path::new("/sys/fs/cgroup/pids/cgroup.procs").exists() {
            Path::new("/sys/fs/cgroup/pids")
        } else {
            return skip("no pids controller at /sys/fs/cgroup");
        };
        let name = format!("forkwatch-test-{}", std::process::id());
        let limited = Self { directory: root.join(&name), name };
        fs::create_dir_all(limited.directory.join("inner")).context("cannot make a cgroup")?;
        fs::write(limited.directory.join("pids.max"), "1").context("cannot limit a cgroup")?;
        Ok(limited)
    }

    /// Moves a process into the inner one.
    fn take(&self, pid: i32) -> Result<()> {
        let file = self.directory.join("inner/cgroup.procs");
        fs::write(file, pid.to_string()).context("cannot move a process into a cgroup")
    }
}

impl Drop for Limited {
    fn drop(&mut self) {
        for directory in [self.directory.join("inner"), self.directory.clone()] {
            // It is empty by now, unless the test has failed.
            let _ = fs::remove_dir(directory);
        }
    }
}

fn a_fork_beyond_pids_max_names_the_cgroup_above() -> Result<()> {
    let program = hold("outside")?;
    let limited = Limited::new()?;
    limited.take(program.pid())?;
    fails_with(program, "EAGAIN", "pids.max", &format!("/{}", limited.name))
}

fn a_fork_beyond_rlimit_nproc_names_it() -> Result<()> {
    fails_with(hold("nproc")?, "EAGAIN", "rlimit-nproc", "")
}

fn a_fork_into_an_ended_pid_namespace_names_it() -> Result<()> {
    fails_with(hold("namespace")?, "ENOMEM", "namespace", "")
}

fn durations_are_counted_by_kind() -> Result<()> {
    let address = free_address()?;
    let daemon = or_skip_without_clone_calls(Forkwatch::daemon([
        "--clone-calls",
        &format!("--web.listen-address={address}"),
    ]))?;
    let (first, _) = both(address)?;
    let mut storms = [fixture::hold("fork_storm", &["2", "500"])?, fixture::hold("thread_storm", &["1000"])?];
    for storm in &mut storms {
        storm.release()?;
        storm.next_json()?;
    }
    let (last, _) = both(address)?;
    let grown = |metric: &str, kind: &str| {
        let label = format!("kind=\"{kind}\"");
        last.sum(metric, &label) - first.sum(metric, &label)
    };
    for (call, kinds) in
        [("fork", &["fork"][..]), ("thread", &["thread"]), ("sharing", &["vfork", "shared-memory"])]
    {
        let calls = grown("forkwatch_clone_call_duration_seconds_count", call);
        let made: f64 = kinds.iter().map(|kind| grown("forkwatch_forks_total", kind)).sum();
        ensure!((calls - made).abs() < 0.5, "{calls} calls counted as {call}, but {made} made");
        ensure!(call == "sharing" || made >= 1000.0, "only {made} made as {call}");
    }
    daemon.stop().map(drop)
}
