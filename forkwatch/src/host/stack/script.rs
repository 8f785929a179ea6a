//! What the interpreters of scripts have in common.

use crate::model::stack::Frame;

/// `tid` within what `pthread_self` returns: the C library keeps it right in a forked child, which an interpreter's own
/// note of it is not before the child has run its handlers. Of glibc (nptl/descr.h) and of musl (`pthread_impl.h`).
#[cfg(target_arch = "x86_64")]
pub(super) const THREAD_IDS: [u64; 2] = [0x2d0, 0x30];
#[cfg(target_arch = "aarch64")]
pub(super) const THREAD_IDS: [u64; 2] = [0xd0, 0x20];

/// A thread as its script has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::host) struct Script {
    /// The tid that it has itself.
    pub(in crate::host) own_id: u32,
    /// The name that its script gave it, safe for a terminal; absent where its comm has that.
    pub(in crate::host) name: Option<String>,
    /// The innermost call that is the script's own; the innermost of all where none is.
    pub(in crate::host) at: Option<Frame>,
    /// The queue at which it waits for what it takes: the address of the object.
    pub(in crate::host) queue: Option<u64>,
}

/// Whether it may be a thread's id: `pid_max` is at most so much (`PID_MAX_LIMIT`, include/linux/threads.h).
pub(super) const fn is_id(id: u32) -> bool {
    id > 0 && id <= 1 << 22
}
