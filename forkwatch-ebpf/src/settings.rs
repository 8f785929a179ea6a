//! What user space decides before the load.
//!
//! All of it stands in `.rodata`, which is frozen before the verifier runs: it sees constants, prunes what they
//! make dead, and refuses a load past the end of a kernel structure.

use aya_ebpf::Global;
use forkwatch_ebpf::ABSENT;

macro_rules! settings {
    ($($(#[$doc:meta])* $name:ident: $type:ty = $default:expr;)*) => {
        $($(#[$doc])* #[unsafe(no_mangle)] pub(crate) static $name: Global<$type> = Global::new($default);)*
    };
}

settings! {
    /// [`forkwatch_ebpf::stream`] bits.
    STREAM: u32 = 0;
    /// [`forkwatch_ebpf::filter`] bits.
    FILTER: u32 = 0;
    /// The process whose forks pass every filter: forkwatch itself, for its self-test.
    OWN_TGID: u32 = 0;
    /// The wanted real uid.
    FILTER_UID: u32 = 0;
    /// Depth of the wanted cgroup.
    FILTER_CGROUP_LEVEL: u32 = 0;
    /// Whether tracing programs may ask for a cgroup's ancestors: since Linux 5.15.
    ANCESTORS_ARE_TOLD: u32 = 0;
    /// Whether tracing programs may ask for the current task: since Linux 5.11.
    CURRENT_TASK_IS_TOLD: u32 = 0;
    /// Id of the wanted cgroup.
    FILTER_CGROUP: u64 = 0;
    /// How long a child may take to exec or exit before it counts as living on, nanoseconds.
    GRACE: u64 = 1_000_000_000;
    /// Size of the ring in bytes.
    RING_SIZE: u64 = 1 << 20;
    /// `PF_IO_WORKER` and, where the kernel has it, `PF_USER_WORKER` (include/linux/sched.h).
    WORKER_FLAGS: u32 = 0;
    /// Deepest pid namespace whose pids a typed load can reach: 0 where `pid.numbers` is declared with one
    /// element (before 5.19), because the verifier takes that bound at its word.
    PID_LEVELS: u32 = 0;
    /// Whether the programs of `clone_calls` are attached.
    CLONE_CALLS: u32 = 0;
}

#[cfg(feature = "kernel-log")]
settings! {
    /// [`forkwatch_ebpf::log`] bits: whose decisions are logged.
    KERNEL_LOG: u32 = 0;
}

settings! {
    OFFSET_TASK_FLAGS: u32 = ABSENT;
    OFFSET_TASK_MM: u32 = ABSENT;
    OFFSET_TASK_EXIT_CODE: u32 = ABSENT;
    OFFSET_TASK_PID: u32 = ABSENT;
    OFFSET_TASK_TGID: u32 = ABSENT;
    OFFSET_TASK_LEADER: u32 = ABSENT;
    OFFSET_TASK_REAL_PARENT: u32 = ABSENT;
    OFFSET_TASK_THREAD_PID: u32 = ABSENT;
    OFFSET_TASK_START: u32 = ABSENT;
    OFFSET_TASK_COMM: u32 = ABSENT;
    OFFSET_TASK_SELF_EXEC_ID: u32 = ABSENT;
    OFFSET_TASK_PARENT_EXEC_ID: u32 = ABSENT;
    OFFSET_TASK_SIGNAL: u32 = ABSENT;
    OFFSET_TASK_BLOCKED: u32 = ABSENT;
    OFFSET_TASK_PENDING: u32 = ABSENT;
    OFFSET_TASK_CGROUPS: u32 = ABSENT;
    OFFSET_TASK_STATE: u32 = ABSENT;
    OFFSET_TASK_LONG_STATE: u32 = ABSENT;
    OFFSET_TASK_SWITCHES: u32 = ABSENT;
    OFFSET_TASK_FORCED_SWITCHES: u32 = ABSENT;
    OFFSET_ITERATION_OUTPUT: u32 = ABSENT;
    OFFSET_SIGNAL_LIVE: u32 = ABSENT;
    OFFSET_SIGNAL_NR_THREADS: u32 = ABSENT;
    OFFSET_SIGNAL_SHARED_PENDING: u32 = ABSENT;
    OFFSET_SIGNAL_FLAGS: u32 = ABSENT;
    OFFSET_SIGNAL_GROUP_EXIT_CODE: u32 = ABSENT;
    OFFSET_CSS_SET_DFL_CGRP: u32 = ABSENT;
    OFFSET_CGROUP_KN: u32 = ABSENT;
    OFFSET_KERNFS_ID: u32 = ABSENT;
    OFFSET_KERNFS_PARENT: u32 = ABSENT;
    OFFSET_PID_LEVEL: u32 = ABSENT;
    OFFSET_PID_NUMBERS: u32 = ABSENT;
    OFFSET_UPID_NR: u32 = ABSENT;
    SIZE_UPID: u32 = ABSENT;
    OFFSET_SIGINFO_CODE: u32 = ABSENT;
    OFFSET_SOCK_SOCKET: u32 = ABSENT;
    OFFSET_SOCKET_FILE: u32 = ABSENT;
    OFFSET_FILE_INODE: u32 = ABSENT;
    OFFSET_FILE_COUNT: u32 = ABSENT;
    OFFSET_FILE_REF: u32 = ABSENT;
    OFFSET_INODE_NUMBER: u32 = ABSENT;
    OFFSET_INODE_MODE: u32 = ABSENT;
    OFFSET_TASK_FILES: u32 = ABSENT;
    OFFSET_FILES_TABLE: u32 = ABSENT;
    OFFSET_TABLE_SIZE: u32 = ABSENT;
    OFFSET_TABLE_FILES: u32 = ABSENT;
    OFFSET_FILE_OPERATIONS: u32 = ABSENT;
    OFFSET_FILE_PRIVATE: u32 = ABSENT;
    OFFSET_SOCKET_TYPE: u32 = ABSENT;
    OFFSET_SOCKET_SOCK: u32 = ABSENT;
    OFFSET_SOCK_FAMILY: u32 = ABSENT;
    OFFSET_SOCK_STATE: u32 = ABSENT;
    OFFSET_SOCK_PROTOCOL: u32 = ABSENT;
    OFFSET_TCP_WRITTEN: u32 = ABSENT;
    OFFSET_TCP_TAKEN: u32 = ABSENT;
    OFFSET_UNIX_PEER: u32 = ABSENT;
    OFFSET_UNIX_ADDRESS: u32 = ABSENT;
    OFFSET_ADDRESS_NAME: u32 = ABSENT;
}

/// Signals that ask a program to end, or tell it that a child has: hangup, interrupt, quit, terminate, child.
pub(crate) const LIFE_SIGNALS: u64 = 1 << 0 | 1 << 1 | 1 << 2 | 1 << 14 | 1 << 16;
