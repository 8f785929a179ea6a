//! Kernel workers (io_uring, vhost): they are created without `sched_process_fork`, live in a user process, and
//! run none of its code. They count as tasks in `/proc/stat` and must not count as threads.

use aya_ebpf::{macros::map, maps::HashMap};
use forkwatch_ebpf::{fate, kind};

use crate::{
    counters::{add, counters},
    task::{Signal, Task},
};

#[map]
static WORKERS: HashMap<u32, u64> = HashMap::with_max_entries(4096, 0);

/// A worker was created.
#[inline(always)]
pub(crate) fn created(worker: Task) {
    if let Some(counters) = counters() {
        add(&counters.events[kind::WORKER as usize][fate::FILTERED], 1);
    }
    let tgid = worker.tgid();
    // BPF_NOEXIST: its count must stay where it has one.
    let _ = WORKERS.insert(&tgid, &0, 1);
    if let Some(workers) = WORKERS.get_ptr(&tgid) {
        // SAFETY: a value of the map.
        add(unsafe { &*workers }, 1);
        say!(
            NEWTASK,
            debug,
            "process {}: kernel worker {} is no thread of its own",
            tgid = tgid,
            tid = worker.tid()
        );
    } else {
        say!(NEWTASK, warn, "process {}: no room in the table of kernel workers", tgid = tgid);
    }
}

/// A worker has ended.
#[inline(always)]
pub(crate) fn ended(worker: Task) {
    let tgid = worker.tgid();
    if let Some(workers) = WORKERS.get_ptr(&tgid) {
        // SAFETY: a value of the map.
        let workers = unsafe { &*workers };
        add(workers, u64::MAX);
        if *workers == 0 {
            let _ = WORKERS.remove(&tgid);
        }
    }
}

/// A process has ended, and its tgid may be another's soon.
#[inline(always)]
pub(crate) fn forget(tgid: u32) {
    let _ = WORKERS.remove(&tgid);
}

/// Live threads of a process, without kernel workers.
#[inline(always)]
pub(crate) fn user_threads(tgid: u32, signal: Signal) -> u32 {
    let live = signal.live();
    if live <= 1 {
        return live;
    }
    match WORKERS.get_ptr(&tgid) {
        // SAFETY: a value of the map.
        Some(workers) => live.saturating_sub(unsafe { *workers } as u32),
        None => live,
    }
}
