//! Processes that share their parent's memory: which of them suspend the parent until exec.
//!
//! `kernel_clone` (kernel/fork.c) sets `vfork_done` only after `sched_process_fork`; the flags are shown by
//! `task_newtask` alone, a moment before it. So that tracepoint enters the child into the family, and the other one
//! completes the entry.

use forkwatch_ebpf::{Family, kind};

use crate::{
    counters::{add, counters},
    family,
    task::Task,
};

const CLONE_VM: u64 = 0x100;
const CLONE_VFORK: u64 = 0x4000;
const CLONE_THREAD: u64 = 0x10000;

/// Whether these flags (include/uapi/linux/sched.h) make a process that shares memory. Kernel threads do too, and have
/// none.
#[inline(always)]
pub(crate) fn is_made_by(flags: u64) -> bool {
    flags & (CLONE_VM | CLONE_THREAD) == CLONE_VM
}

/// Enters the child with its kind alone.
#[inline(always)]
pub(crate) fn enter(child: Task, clone_flags: u64) {
    let kind = if clone_flags & CLONE_VFORK != 0 { kind::VFORK } else { kind::SHARED_MEMORY };
    let entry = Family {
        start: child.start(),
        blocked: 0,
        parent_tgid: 0,
        generation: 0,
        kind,
        hazards: 0,
        flags: 0,
        reserved: [0; 5],
    };
    if family::enter(child.tgid(), &entry) != 0 {
        say!(
            NEWTASK,
            warn,
            "process {}: no room in the family, its end will not be told",
            child = child.tgid()
        );
        if let Some(counters) = counters() {
            add(&counters.untracked, 1);
        }
    } else {
        say!(
            NEWTASK,
            debug,
            "process {}: entered into the family, it shares memory (kind {})",
            child = child.tgid(),
            kind = kind
        );
    }
}

/// The kind of a child that was just entered.
#[inline(always)]
pub(crate) fn kind_of(child: Task) -> u8 {
    match family::get(child) {
        Some(entry) => entry.kind,
        None => kind::SHARED_MEMORY,
    }
}
