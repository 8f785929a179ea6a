//! Which clones suspend their parent until exec. `kernel_clone` (kernel/fork.c) sets `vfork_done` only after
//! `sched_process_fork`; the flags are shown by `task_newtask` alone, a moment before it.

use aya_ebpf::{macros::map, maps::HashMap};
use forkwatch_ebpf::kind;

use crate::task::Task;

/// Tids between the two tracepoints: at most one for each CPU, or a few where tracepoints can be preempted.
#[map]
static VFORKS: HashMap<u32, u8> = HashMap::with_max_entries(1024, 0);

/// Shares memory, suspends its parent, and is a process: include/uapi/linux/sched.h.
#[inline(always)]
pub(crate) fn is_vfork(flags: u64) -> bool {
    const CLONE_VM: u64 = 0x100;
    const CLONE_VFORK: u64 = 0x4000;
    const CLONE_THREAD: u64 = 0x10000;
    flags & (CLONE_VM | CLONE_VFORK | CLONE_THREAD) == CLONE_VM | CLONE_VFORK
}

#[inline(always)]
pub(crate) fn mark(child: Task) {
    let _ = VFORKS.insert(&child.tid(), &1, 0);
}

/// The kind of a clone that shares memory: each mark is good for one look.
#[inline(always)]
pub(crate) fn kind_of(child: Task) -> u8 {
    match VFORKS.remove(&child.tid()) {
        Ok(()) => kind::VFORK,
        Err(_) => kind::SHARED_MEMORY,
    }
}
