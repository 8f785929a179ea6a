//! The programs that every start loads, and loading them all.

use std::{
    fs,
    panic::resume_unwind,
    thread,
    time::{Duration, Instant},
};

use aya::{Btf as AyaBtf, Ebpf};
use nix::unistd::{Pid, gettid};

use super::{
    attach::{self, Programs},
    error::KernelError,
    hooks::Hooks,
};

/// The programs that are always attached, in this order: what is seen forked must be seen ending.
pub(super) const PROGRAMS: [&str; 4] = ["sched_process_exit", "sched_process_exec", "task_newtask", LARGEST];
/// The one whose verification takes as long as that of all others.
const LARGEST: &str = "sched_process_fork";

/// Loads all programs but those for the clone family's calls.
///
/// What takes the time is the verifier: since Linux 6.2 it looks through all of the kernel's types several times for
/// each pointer that a program follows (`btf_nested_type_is_trusted` in kernel/bpf/btf.c). Several verifications can run
/// at once, so the largest has a thread of its own, with the capabilities of this one. It is gone when this returns:
/// what follows counts threads, and drops the capabilities of this one alone.
pub(super) fn load_programs(ebpf: &mut Ebpf, on_demand: &mut Hooks, ids: &AyaBtf) -> Result<(), KernelError> {
    let (mut largest, mut others) = Programs::split(ebpf, LARGEST);
    let beside = thread::scope(|scope| {
        let load = || (gettid(), attach::load_tracepoint(&mut largest, LARGEST, ids));
        let beside = thread::Builder::new().spawn_scoped(scope, load).ok();
        let loaded = PROGRAMS
            .into_iter()
            .filter(|name| *name != LARGEST)
            .try_for_each(|name| attach::load_tracepoint(&mut others, name, ids));
        if loaded.is_ok() {
            on_demand.load(&mut others, ids);
        }
        let beside = beside.map(|beside| beside.join().unwrap_or_else(|panic| resume_unwind(panic)));
        loaded.map(|()| beside)
    })?;
    match beside {
        Some((thread, loaded)) => {
            await_end(thread);
            loaded
        }
        // No thread could be had.
        None => attach::load_tracepoint(&mut largest, LARGEST, ids),
    }
}

/// Waits until a thread that was joined is gone, which it is microseconds later.
fn await_end(thread: Pid) {
    const DEADLINE: Duration = Duration::from_secs(1);
    let end = Instant::now() + DEADLINE;
    let entry = format!("/proc/self/task/{thread}");
    while fs::exists(&entry).unwrap_or(false) && Instant::now() < end {
        thread::yield_now();
    }
}
