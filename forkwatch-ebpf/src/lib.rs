//! The wire format between forkwatch's kernel side and its user side.
//!
//! Only integers and byte arrays cross the border, in fixed layouts that are asserted at compile time on both
//! sides. Times are nanoseconds of `CLOCK_BOOTTIME` unless a field says otherwise; a `start` is the task's
//! `start_boottime`, which together with its tgid names a process for as long as the host is up.
#![cfg_attr(target_arch = "bpf", no_std)]

pub mod log;
mod records;
mod tables;

pub use records::{
    CloneCallRecord, ExecRecord, ExitRecord, ForkRecord, Header, HeirRecord, InheritedSocket, MOST_INHERITED,
    SharerEndRecord, SignalRecord, SocketRecord, ThreadRecord,
};
pub use tables::{
    CLONE_ERRORS, CgroupCounts, CloneCalls, Counters, Durations, Family, Forker, Heir, HeldSocket,
    LATENCY_BOUNDS, SHARER_MARKS, Sharer, Signalled, Sleeper, Socket, SocketUser, THREAD_BOUNDS, Wake,
    mark_of,
};

/// Bumped whenever a layout here changes; stands in recordings.
pub const ABI_VERSION: u32 = 4;

/// Length of a task's `comm`, NUL included (`TASK_COMM_LEN`, include/linux/sched.h).
pub const COMM_LEN: usize = 16;

/// What a ring record tells ([`Header::record`]).
pub mod record {
    /// A [`ForkRecord`](crate::ForkRecord): a process was created.
    pub const FORK: u8 = 1;
    /// An [`ExecRecord`](crate::ExecRecord): a process replaced its program.
    pub const EXEC: u8 = 2;
    /// An [`ExitRecord`](crate::ExitRecord): the last thread of a forked and never exec'd process ended.
    pub const EXIT: u8 = 3;
    /// A [`ThreadRecord`](crate::ThreadRecord): a thread was created.
    pub const THREAD: u8 = 4;
    /// A [`CloneCallRecord`](crate::CloneCallRecord): a system call of the clone family failed.
    pub const CLONE_CALL: u8 = 5;
    /// A [`SignalRecord`](crate::SignalRecord): a signal was sent to a process that is watched for it.
    pub const SIGNAL: u8 = 6;
    /// A [`SocketRecord`](crate::SocketRecord): a watched socket was used.
    pub const SOCKET: u8 = 7;
    /// A [`HeirRecord`](crate::HeirRecord): a child was born with connections of its parent's.
    pub const HEIR: u8 = 8;
    /// A [`HeirRecord`](crate::HeirRecord): such a child ends, and bytes have moved on these since its birth.
    pub const MOVED: u8 = 9;
    /// A [`SharerEndRecord`](crate::SharerEndRecord): a process that shares sockets has ended or exec'd.
    pub const SHARER_END: u8 = 10;
}

/// How a task came to be ([`ForkRecord::kind`]; also the first index of [`Counters::events`]).
pub mod kind {
    /// Its own copy of the address space: fork(2). The only kind that inherits hazards.
    pub const COPYING: u8 = 0;
    /// A process that shares its parent's memory for good (`CLONE_VM` without `CLONE_VFORK`).
    pub const SHARED_MEMORY: u8 = 1;
    /// Shares memory until it execs, with the parent suspended: vfork(2), `posix_spawn(3)`.
    pub const VFORK: u8 = 2;
    /// A thread of an existing process.
    pub const THREAD: u8 = 3;
    /// A kernel thread, or a user-mode helper that the kernel is about to exec.
    pub const KERNEL: u8 = 4;
    /// A kernel worker inside a user process (`PF_IO_WORKER`, `PF_USER_WORKER`): it runs no user code.
    pub const WORKER: u8 = 5;
    /// How many kinds there are.
    pub const COUNT: usize = 6;
}

/// The classes of event that are counted ([`Counters::events`]): the kinds of clone, then these.
pub mod class {
    use crate::kind;

    /// An exec, of any process.
    pub const EXEC: usize = kind::COUNT;
    /// The end of a process that was forked and never exec'd.
    pub const EXIT: usize = kind::COUNT + 1;
    /// A failed system call of the clone family.
    pub const CLONE_CALL: usize = kind::COUNT + 2;
    /// A signal to a process that is watched for it.
    pub const SIGNAL: usize = kind::COUNT + 3;
    /// A use of a watched socket, a birth with connections, or an end of one that has them.
    pub const SOCKET: usize = kind::COUNT + 4;
    /// How many classes there are.
    pub const COUNT: usize = kind::COUNT + 5;
}

/// What a system call of the clone family created ([`CloneCalls::durations`]).
pub mod call {
    /// A process with its own copy of the address space.
    pub const COPYING: usize = 0;
    /// A process that shares memory; of a vfork the call lasts until the child has exec'd or ended.
    pub const SHARING: usize = 1;
    /// A thread.
    pub const THREAD: usize = 2;
    /// How many there are.
    pub const COUNT: usize = 3;
}

/// What somebody did with a watched socket ([`SocketRecord::act`]).
pub mod act {
    /// Sent bytes.
    pub const SENT: u8 = 0;
    /// Received bytes.
    pub const RECEIVED: u8 = 1;
    /// Shut it down for everyone.
    pub const SHUT_DOWN: u8 = 2;
    /// How many there are.
    pub const COUNT: usize = 3;
}

/// What became of an event ([`Counters::events`], second index). Every event meets exactly one fate.
pub mod fate {
    /// Nobody asked for it: outside the filters, or of a class that is counted and not streamed.
    pub const FILTERED: usize = 0;
    /// Its record went into the ring.
    pub const SUBMITTED: usize = 1;
    /// The ring had no room left at all.
    pub const DROPPED_FULL: usize = 2;
    /// A plain event, dropped because the rest of the ring is kept for hazardous ones.
    pub const DROPPED_PLAIN: usize = 3;
    /// How many fates there are.
    pub const COUNT: usize = 4;
}

/// How a copying fork ended ([`Counters::outcomes`]). Every child ends in exactly one.
pub mod outcome {
    /// It exec'd within the grace.
    pub const EXEC: usize = 0;
    /// It exec'd, but later than the grace.
    pub const LATE_EXEC: usize = 1;
    /// It exited within the grace, without exec.
    pub const EXIT: usize = 2;
    /// It exited without exec, having lived on past the grace.
    pub const LATE_EXIT: usize = 3;
    /// A signal killed it before any exec.
    pub const KILLED: usize = 4;
    /// How many outcomes there are.
    pub const COUNT: usize = 5;
}

/// Bits of [`ForkRecord::hazards`], [`ExecRecord::hazards`] and [`Family::hazards`].
pub mod hazard {
    /// The parent had other live threads.
    pub const THREADS: u8 = 1;
    /// Signals were pending and blocked at the fork.
    pub const PENDING: u8 = 2;
    /// At exec: a signal that asks a program to end or reports its children is blocked.
    pub const BLOCKED: u8 = 4;
}

/// Bits of [`Family::flags`] and of the records' `flags`.
pub mod flag {
    /// The fork's record went into the ring, or its outcome was asked for later: its outcome is sent.
    pub const STREAMED: u8 = 1;
    /// The family map had no room: the kernel will not report this child's outcome.
    pub const UNTRACKED: u8 = 2;
    /// User space waits for this child's outcome: its record does not give way to others. Goes with
    /// [`STREAMED`].
    pub const FOLLOWED: u8 = 4;
}

/// Bits of the `STREAM` setting: which plain events enter the ring. Hazardous ones always do.
pub mod stream {
    /// Copying forks without a hazard, and their outcomes.
    pub const PLAIN: u32 = 1;
    /// vfork and shared-memory clones, and their outcomes.
    pub const SHARING: u32 = 2;
    /// Threads.
    pub const THREADS: u32 = 4;
}

/// Bits of the `FILTER` setting: which tests a forking process must all pass.
pub mod filter {
    /// Its tgid is in the `WANTED` map, which descendants enter by themselves.
    pub const TASKS: u32 = 1;
    /// Its real uid is `FILTER_UID`.
    pub const UID: u32 = 2;
    /// Its cgroup (version 2) is `FILTER_CGROUP` or below it.
    pub const CGROUP: u32 = 4;
}

/// What the reader can ask to be woken by: indices of [`map::WAKE`].
pub mod wake {
    /// The next record.
    pub const BY_RECORD: u32 = 0;
    /// The creation of the next process, whether or not a record tells of it.
    pub const BY_FORK: u32 = 1;
    /// How many there are.
    pub const COUNT: u32 = 2;
}

/// Value of an offset setting whose field this kernel does not have.
pub const ABSENT: u32 = u32::MAX;

/// Names of the maps in the object.
pub mod map {
    /// Ring buffer of records.
    pub const RECORDS: &str = "RECORDS";
    /// Per-CPU array with one [`Counters`](crate::Counters).
    pub const COUNTERS: &str = "COUNTERS";
    /// Hash: tgid of an un-exec'd child to its [`Family`](crate::Family), where that holds more than its task tells.
    pub const FAMILY: &str = "FAMILY";
    /// Per-CPU hash: cgroup id to [`CgroupCounts`](crate::CgroupCounts).
    pub const CGROUPS: &str = "CGROUPS";
    /// Hash: tgid to the number of its kernel workers.
    pub const WORKERS: &str = "WORKERS";
    /// Array with a [`Wake`](crate::Wake) for each of [`wake`](crate::wake).
    pub const WAKE: &str = "WAKE";
    /// Hash: tgids whose forks are wanted ([`filter::TASKS`](crate::filter::TASKS)).
    pub const WANTED: &str = "WANTED";
    /// Hash: tgids that are watched for signals, each to its [`Signalled`](crate::Signalled).
    pub const SIGNALLED: &str = "SIGNALLED";
    /// Hash: tgids of processes of whose children every end is told.
    pub const PARENTS: &str = "PARENTS";
    /// Hash: tgid to the [`Sharer`](crate::Sharer) that holds a watched socket.
    pub const SHARERS: &str = "SHARERS";
    /// Array: [`mark_of`](crate::mark_of) a tgid to 1 where a sharer may have it.
    pub const SHARER_MARKED: &str = "SHARER_MARKED";
    /// Hash: inode number to the watched [`Socket`](crate::Socket).
    pub const SOCKETS: &str = "SOCKETS";
    /// Hash, of which the oldest make way: [`SocketUser`](crate::SocketUser)s that have been told.
    pub const SOCKET_USERS: &str = "SOCKET_USERS";
    /// Hash, of which the oldest make way: tgid to the [`Heir`](crate::Heir) that was born with connections.
    pub const HEIRS: &str = "HEIRS";
    /// Hash, of which the oldest make way: tgid to the [`Forker`](crate::Forker) of such children.
    pub const FORKERS: &str = "FORKERS";
    /// Ring buffer of aya-log, in the object that logs.
    pub const LOG: &str = "AYA_LOGS";
    /// Per-CPU array with the number of lines that were to be logged, in the object that logs.
    pub const LOGGED: &str = "LOGGED";
}
