//! Bits of `task_struct.flags`, the ninth field of `/proc/PID/stat` (include/linux/sched.h).

use std::sync::OnceLock;

use crate::release::Release;

/// It is ending.
pub(super) const EXITING: u32 = 0x4;
/// Forked, and has not exec'd since.
pub(super) const FORKNOEXEC: u32 = 0x40;
/// A kernel thread.
pub(super) const KTHREAD: u32 = 0x20_0000;

/// The bits that mark a kernel worker among the threads of a process.
pub(super) fn worker() -> u32 {
    static WORKER: OnceLock<u32> = OnceLock::new();
    *WORKER.get_or_init(|| Release::running().worker_flags())
}
