//! What concerns the whole host: counts that are the kernel's own, storms, and nothing left behind.

use anyhow::{Result, ensure};
use forkwatch_tests::{
    bpf, fixture,
    forkwatch::Forkwatch,
    metrics::{Scrape, both, free_address},
    runner::Tests,
    tests,
    wait::until,
};
use nix::sys::signal::Signal;

pub(crate) fn tests() -> Tests {
    Tests::alone(tests![
        counts_are_the_kernels_own_in_a_storm,
        a_child_of_many_threads_ends_once,
        a_killed_forkwatch_leaves_nothing_attached,
    ])
}

fn counts_are_the_kernels_own_in_a_storm() -> Result<()> {
    let address = free_address()?;
    let daemon = Forkwatch::daemon([format!("--web.listen-address={address}")])?;
    let (first, kernel_first) = both(address)?;
    let mut storms =
        [fixture::hold("fork_storm", &["4", "2000"])?, fixture::hold("thread_storm", &["5000"])?];
    for storm in &mut storms {
        storm.release()?;
    }
    for storm in &mut storms {
        storm.next_json()?;
    }
    let (last, kernel_last) = both(address)?;
    let (ours, kernels) = (last.tasks() - first.tasks(), kernel_last - kernel_first);
    ensure!(kernels >= 13_000.0, "the storm was none: {kernels}");
    ensure!((ours - kernels).abs() < 0.5, "forkwatch counted {ours} tasks, the kernel {kernels}");
    daemon.stop().map(drop)
}

fn a_child_of_many_threads_ends_once() -> Result<()> {
    const CHILDREN: f64 = 1000.0;
    let address = free_address()?;
    let daemon = Forkwatch::daemon([format!("--web.listen-address={address}")])?;
    let killed = || -> Result<f64> {
        Ok(Scrape::of(address)?.sum("forkwatch_fork_outcomes_total", "outcome=\"killed\""))
    };
    let before = killed()?;
    let mut program = fixture::hold("killed_children", &["1000"])?;
    program.release()?;
    program.next_json()?;
    let ended = killed()? - before;
    ensure!((ended - CHILDREN).abs() < 0.5, "{CHILDREN} children were killed, {ended} are counted");
    daemon.stop().map(drop)
}

fn a_killed_forkwatch_leaves_nothing_attached() -> Result<()> {
    let before = bpf::programs()?;
    let mut forkwatch = Forkwatch::tail(["--comm", "no such comm"])?;
    let mut loaded = bpf::programs()?;
    loaded.retain(|id| !before.contains(id));
    ensure!(!loaded.is_empty(), "its programs are not among the kernel's");
    forkwatch.signal(Signal::SIGKILL)?;
    forkwatch.ended()?;
    // The kernel frees a program some time after its last reference is gone.
    until("its programs to go", || {
        let now = bpf::programs()?;
        Ok((!now.iter().any(|id| loaded.contains(id))).then_some(()))
    })
}
