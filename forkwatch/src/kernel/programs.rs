//! Loads all programs, several at a time.

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
    probes,
    ways::Probes,
};

/// The one whose verification takes as long as that of the others that are always attached.
const LARGEST: &str = "sched_process_fork";

/// Loads all programs but those that are only attached where they are asked for.
///
/// What takes the time is the verifier: since Linux 6.2 it looks through all of the kernel's types several times for
/// each pointer that a program follows (`btf_nested_type_is_trusted` in kernel/bpf/btf.c). Several verifications can run
/// at once, so the largest has a thread of its own, and so have the programs on demand, both with the capabilities of
/// this one. They are gone when this returns: what follows counts threads, and drops the capabilities of this one alone.
pub(super) fn load_programs(ebpf: &mut Ebpf, found: &mut Probes, ids: &AyaBtf) -> Result<(), KernelError> {
    let (mut largest, others) = Programs::all(ebpf).split(|name| name == LARGEST);
    let is_always = |name: &str| probes::always().any(|program| program.name == name);
    let (mut others, mut demanded) = others.split(is_always);
    let mut load_largest = || {
        let mut wanted = probes::always().filter(|program| program.name == LARGEST);
        wanted.try_for_each(|program| attach::load_program(&mut largest, program, ids))
    };
    let mut load_demanded = || -> Result<(), KernelError> {
        found.load(&mut demanded, ids);
        Ok(())
    };
    let (loaded, first, second) = thread::scope(|scope| {
        let (first, second) = (beside(scope, &mut load_largest), beside(scope, &mut load_demanded));
        let loaded = probes::always()
            .filter(|program| program.name != LARGEST)
            .try_for_each(|program| attach::load_program(&mut others, program, ids));
        (loaded, first.map(end), second.map(end))
    });
    // Where no thread could be had, this one does it all.
    let first = first.unwrap_or_else(load_largest);
    let second = second.unwrap_or_else(load_demanded);
    loaded.and(first).and(second)
}

/// A thread that loads, and what came of it.
type Beside<'scope> = thread::ScopedJoinHandle<'scope, (Pid, Result<(), KernelError>)>;

/// Has a thread beside this one load, where one can be had.
fn beside<'scope>(
    scope: &'scope thread::Scope<'scope, '_>,
    load: &'scope mut (impl FnMut() -> Result<(), KernelError> + Send),
) -> Option<Beside<'scope>> {
    thread::Builder::new().spawn_scoped(scope, || (gettid(), load())).ok()
}

/// What came of it. The thread is gone then, which it is only microseconds after it was joined.
fn end(beside: Beside<'_>) -> Result<(), KernelError> {
    const DEADLINE: Duration = Duration::from_secs(1);
    let (thread, loaded) = beside.join().unwrap_or_else(|panic| resume_unwind(panic));
    let end = Instant::now() + DEADLINE;
    let entry = format!("/proc/self/task/{thread}");
    while fs::exists(&entry).unwrap_or(false) && Instant::now() < end {
        thread::yield_now();
    }
    loaded
}
