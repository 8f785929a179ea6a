//! The demo shows what it promises, and leaves nothing behind.

use std::{
    fs,
    io::{self, BufRead, BufReader},
    process::Output,
};

use nix::{sys::signal::Signal, unistd::Pid};

use super::world::{Running, assert_has, can_run, eventually, forkwatch, output};
use anyhow::Result;
use forkwatch_tests::{runner::Tests, tests};

pub(super) fn tests() -> Tests {
    Tests::side_by_side(tests![
        the_demo_shows_its_findings_and_proves_that_the_child_hangs,
        the_demo_leaves_no_process_behind_however_it_ends,
    ])
}

fn the_demo_shows_its_findings_and_proves_that_the_child_hangs() -> Result<()> {
    can_run()?;
    let Output { status, stdout, .. } = output(&[forkwatch(), "demo"]);
    let text = String::from_utf8(stdout).unwrap();
    assert!(status.success(), "{text}");
    // Wherever the lines are broken.
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert_has(
        &text,
        &[
            "WARNING held-locks",
            "log-writer (",
            "pending-signals",
            "SIGUSR1",
            "CRITICAL orphaned-lock",
            "proof: owner",
            "metrics-flush (thread",
            "What to do next",
        ],
    );
    Ok(())
}

fn the_demo_leaves_no_process_behind_however_it_ends() -> Result<()> {
    can_run()?;
    for (signal, code) in [(Signal::SIGINT, Some(0)), (Signal::SIGTERM, Some(0)), (Signal::SIGKILL, None)] {
        let mut demo = Running::start(&["demo", "-o", "json"]);
        let mut first = String::new();
        BufReader::new(demo.0.stdout.as_mut().unwrap()).read_line(&mut first).unwrap();
        let fork: serde_json::Value = serde_json::from_str(&first).unwrap();
        assert_eq!(fork["event"]["action"], "fork");
        let pids = [&fork["process"]["pid"], &fork["process"]["parent"]["pid"]]
            .map(|pid| Pid::from_raw(pid.as_i64().unwrap().try_into().unwrap()));
        demo.signal(signal);
        assert_eq!(demo.end().code(), code);
        eventually("gone", || pids.iter().all(|pid| has_ended(*pid)));
    }
    Ok(())
}

/// Whether a process is gone, or only waits to be reaped by whoever took it over.
fn has_ended(pid: Pid) -> bool {
    match fs::read_to_string(format!("/proc/{pid}/stat")) {
        Ok(stat) => stat.rsplit_once(") ").unwrap().1.starts_with(['Z', 'X']),
        Err(error) => error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(libc::ESRCH),
    }
}
