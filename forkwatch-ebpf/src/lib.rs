//! The wire format between forkwatch's kernel side and its user side.
//!
//! Only integers and byte arrays cross the border, in fixed layouts that are asserted at compile time on both
//! sides. Times are nanoseconds of `CLOCK_BOOTTIME` unless a field says otherwise; a `start` is the task's
//! `start_boottime`, which together with its tgid names a process for as long as the host is up.
#![cfg_attr(target_arch = "bpf", no_std)]

use core::mem::{align_of, offset_of, size_of};

/// Bumped whenever a layout here changes; stands in recordings.
pub const ABI_VERSION: u32 = 1;

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
    /// The end of a process that the family map knew: forked and never exec'd.
    pub const EXIT: usize = kind::COUNT + 1;
    /// A failed system call of the clone family.
    pub const CLONE_CALL: usize = kind::COUNT + 2;
    /// How many classes there are.
    pub const COUNT: usize = kind::COUNT + 3;
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

/// What became of an event ([`Counters::events`], second index). Every event meets exactly one fate.
pub mod fate {
    /// Nobody asked for it: outside the filters, or of a class that is counted and not streamed.
    pub const FILTERED: usize = 0;
    /// Its record went into the ring.
    pub const SUBMITTED: usize = 1;
    /// The ring had no room left at all.
    pub const SHED_FULL: usize = 2;
    /// A plain event, shed because the rest of the ring is kept for hazardous ones.
    pub const SHED_PLAIN: usize = 3;
    /// How many fates there are.
    pub const COUNT: usize = 4;
}

/// How a copying fork ended ([`Counters::outcomes`]). Every tracked child ends in exactly one.
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
    /// The fork's record went into the ring, so its outcome is sent too.
    pub const STREAMED: u8 = 1;
    /// The family map had no room: the kernel will not report this child's outcome.
    pub const UNTRACKED: u8 = 2;
    /// Entered from `/proc` by user space: it was forked before the watch began.
    pub const SEEDED: u8 = 4;
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
    /// Array with one [`Wake`](crate::Wake).
    pub const WAKE: &str = "WAKE";
    /// Hash: tgids whose forks are wanted ([`filter::TASKS`](crate::filter::TASKS)).
    pub const WANTED: &str = "WANTED";
}

/// Starts every record.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Which record follows ([`record`]).
    pub record: u8,
    /// [`flag`] bits.
    pub flags: u8,
    /// Length of the whole record in bytes.
    pub length: u16,
    /// The CPU that wrote it.
    pub cpu: u32,
    /// Counts the records of that CPU from 0, also those that were shed: a gap is a loss.
    pub sequence: u64,
    /// When it happened.
    pub time: u64,
}

/// A process was created. Everything but the child's own identity describes the forking thread at that moment.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ForkRecord {
    /// Common header.
    pub header: Header,
    /// Start of the parent's process.
    pub parent_start: u64,
    /// Start of the child.
    pub child_start: u64,
    /// Cgroup (version 2) id of the parent.
    pub cgroup: u64,
    /// Signals pending for the forking thread and blocked by it.
    pub pending_thread: u64,
    /// Signals pending for the whole parent process and blocked by the forking thread.
    pub pending_shared: u64,
    /// Signals that the forking thread blocks.
    pub blocked: u64,
    /// Parent process.
    pub parent_tgid: u32,
    /// Forking thread.
    pub parent_tid: u32,
    /// Real uid of the parent.
    pub uid: u32,
    /// Live threads of the parent, the forking one included, kernel workers excluded.
    pub threads: u32,
    /// Child process.
    pub child_tgid: u32,
    /// The child's pid in its innermost pid namespace.
    pub child_namespace_pid: u32,
    /// Forks since the last exec on the way to this child: 1 for the child of an exec'd program.
    pub generation: u32,
    /// [`kind`] of the clone.
    pub kind: u8,
    /// [`hazard`] bits.
    pub hazards: u8,
    /// Zero.
    pub reserved: [u8; 2],
    /// Comm of the forking thread.
    pub comm: [u8; COMM_LEN],
}

/// A process replaced its program. Sent for the children of streamed forks, and for any exec that carries
/// [`hazard::BLOCKED`].
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExecRecord {
    /// Common header.
    pub header: Header,
    /// Start of the process.
    pub start: u64,
    /// Nanoseconds since its fork; 0 where the fork was not tracked.
    pub since_fork: u64,
    /// Signals blocked in the new program from its start.
    pub blocked: u64,
    /// Signals that the forking thread blocked at the fork; 0 where the fork was not tracked.
    pub blocked_at_fork: u64,
    /// Cgroup (version 2) id.
    pub cgroup: u64,
    /// The process.
    pub tgid: u32,
    /// The thread that called exec: another than `tgid` if it was not the main thread.
    pub from_tid: u32,
    /// The process that forked it, or its present parent where the fork was not tracked.
    pub parent_tgid: u32,
    /// Real uid.
    pub uid: u32,
    /// [`kind`] of its fork; only meaningful where `since_fork` is not 0.
    pub kind: u8,
    /// [`hazard`] bits, those of the fork included.
    pub hazards: u8,
    /// Zero.
    pub reserved: [u8; 6],
    /// The new comm.
    pub comm: [u8; COMM_LEN],
}

/// A streamed child ended without ever having exec'd.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExitRecord {
    /// Common header.
    pub header: Header,
    /// Start of the process.
    pub start: u64,
    /// Nanoseconds from its fork to its end.
    pub lifetime: u64,
    /// The process.
    pub tgid: u32,
    /// The process that forked it.
    pub parent_tgid: u32,
    /// Wait status as wait(2) gives it: signal in bits 0 to 6, core dump in bit 7, exit code in bits 8 to 15.
    pub status: u32,
    /// [`kind`] of its fork.
    pub kind: u8,
    /// [`hazard`] bits of its fork.
    pub hazards: u8,
    /// Zero.
    pub reserved: [u8; 2],
    /// Comm at the end.
    pub comm: [u8; COMM_LEN],
}

/// A thread was created.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ThreadRecord {
    /// Common header.
    pub header: Header,
    /// The process.
    pub tgid: u32,
    /// The thread that created it.
    pub parent_tid: u32,
    /// The new thread.
    pub tid: u32,
    /// Live threads of the process afterwards, kernel workers included.
    pub threads: u32,
    /// Comm of the creating thread.
    pub comm: [u8; COMM_LEN],
}

/// A system call of the clone family failed (only where `clone-calls` is on).
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CloneCallRecord {
    /// Common header.
    pub header: Header,
    /// Nanoseconds spent in the call.
    pub duration: u64,
    /// Cgroup (version 2) id of the caller.
    pub cgroup: u64,
    /// The calling process.
    pub tgid: u32,
    /// The calling thread.
    pub tid: u32,
    /// Real uid of the caller.
    pub uid: u32,
    /// The error number, positive.
    pub errno: u32,
    /// Comm of the calling thread.
    pub comm: [u8; COMM_LEN],
}

/// Upper bounds of [`Counters::parent_threads`]'s buckets, in threads; one more bucket follows for the rest.
pub const THREAD_BOUNDS: [u32; 9] = [1, 2, 4, 8, 16, 32, 64, 128, 256];
/// Upper bounds of [`Durations::buckets`], in nanoseconds; one more bucket follows for the rest.
pub const LATENCY_BOUNDS: [u64; 12] = [
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    50_000_000,
    100_000_000,
    500_000_000,
    1_000_000_000,
    5_000_000_000,
];

/// One CPU's counters; user space adds up all CPUs'.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counters {
    /// Events by [`class`] (or [`kind`]) and [`fate`]: the sum of a row is what happened, exactly.
    pub events: [[u64; fate::COUNT]; class::COUNT],
    /// Ended copying forks by [`outcome`].
    pub outcomes: [u64; outcome::COUNT],
    /// Copying forks whose parent had other live threads.
    pub multithreaded: u64,
    /// Copying forks with signals pending and blocked.
    pub pending: u64,
    /// Copying forks whose child the family map had no room for: how they end is counted, but no record tells it.
    pub untracked: u64,
    /// Process creations that [`map::CGROUPS`] had no room for.
    pub cgroups_overflow: u64,
    /// Times the reader was woken.
    pub wakeups: u64,
    /// Sequence number of this CPU's next record.
    pub sequence: u64,
    /// Copying forks by the parent's live threads ([`THREAD_BOUNDS`]), of parents with several: user space adds the
    /// others, which are all copying forks but these.
    pub parent_threads: [u64; THREAD_BOUNDS.len() + 1],
    /// Sum of those threads, likewise.
    pub parent_threads_sum: u64,
    /// First execs of copying forks by the time since the fork.
    pub exec_latency: Durations,
    /// Clone-family system calls, where they are watched.
    pub clone_calls: CloneCalls,
}

/// Errors of the clone family that are told apart: the last slot is for all others.
pub const CLONE_ERRORS: [u32; 4] = [11, 12, 22, 28];

/// A histogram of times.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Durations {
    /// By [`LATENCY_BOUNDS`].
    pub buckets: [u64; LATENCY_BOUNDS.len() + 1],
    /// Sum, nanoseconds.
    pub sum: u64,
}

/// Clone-family system calls of one CPU.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CloneCalls {
    /// Successful calls by what they created ([`call`]) and how long they took.
    pub durations: [Durations; call::COUNT],
    /// Failed calls by error: [`CLONE_ERRORS`], then all others.
    pub failures: [u64; CLONE_ERRORS.len() + 1],
}

/// What the kernel remembers of a child until it execs or exits.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Family {
    /// When it was forked: its start.
    pub start: u64,
    /// Signals that the forking thread blocked.
    pub blocked: u64,
    /// The process that forked it.
    pub parent_tgid: u32,
    /// Forks since the last exec.
    pub generation: u32,
    /// [`kind`] of the clone.
    pub kind: u8,
    /// [`hazard`] bits.
    pub hazards: u8,
    /// [`flag`] bits.
    pub flags: u8,
    /// Zero.
    pub reserved: [u8; 5],
}

/// Process creations by one cgroup on one CPU.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CgroupCounts {
    /// Copying forks.
    pub copying: u64,
    /// vfork and shared-memory clones.
    pub sharing: u64,
}

/// Whether the reader must be woken; one for all CPUs.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wake {
    /// 1 where the reader sleeps until it is woken: it sets this, and whoever wakes it clears it. 0 where it will look
    /// by itself before long.
    pub asleep: u64,
    /// When it was last woken because the ring was filling.
    pub filling: u64,
}

/// Every record is a multiple of 8 bytes without holes, so that no stale kernel memory can leak through padding.
const _: () = {
    assert!(size_of::<Header>() == 24 && align_of::<Header>() == 8);
    assert!(
        offset_of!(Header, cpu) == 4 && offset_of!(Header, sequence) == 8 && offset_of!(Header, time) == 16
    );

    assert!(size_of::<ForkRecord>() == 120 && align_of::<ForkRecord>() == 8);
    assert!(offset_of!(ForkRecord, parent_start) == 24 && offset_of!(ForkRecord, parent_tgid) == 72);
    assert!(offset_of!(ForkRecord, kind) == 100 && offset_of!(ForkRecord, comm) == 104);

    assert!(size_of::<ExecRecord>() == 104 && align_of::<ExecRecord>() == 8);
    assert!(offset_of!(ExecRecord, tgid) == 64 && offset_of!(ExecRecord, kind) == 80);
    assert!(offset_of!(ExecRecord, comm) == 88);

    assert!(size_of::<ExitRecord>() == 72 && align_of::<ExitRecord>() == 8);
    assert!(offset_of!(ExitRecord, tgid) == 40 && offset_of!(ExitRecord, kind) == 52);
    assert!(offset_of!(ExitRecord, comm) == 56);

    assert!(size_of::<ThreadRecord>() == 56 && align_of::<ThreadRecord>() == 8);
    assert!(offset_of!(ThreadRecord, tgid) == 24 && offset_of!(ThreadRecord, comm) == 40);

    assert!(size_of::<CloneCallRecord>() == 72 && align_of::<CloneCallRecord>() == 8);
    assert!(offset_of!(CloneCallRecord, tgid) == 40 && offset_of!(CloneCallRecord, comm) == 56);

    assert!(size_of::<Family>() == 32 && offset_of!(Family, kind) == 24);
    assert!(size_of::<CgroupCounts>() == 16 && size_of::<Wake>() == 16);
    assert!(
        size_of::<Counters>()
            == 8 * (class::COUNT * fate::COUNT
                + outcome::COUNT
                + 6
                + (THREAD_BOUNDS.len() + 2)
                + (1 + call::COUNT) * (LATENCY_BOUNDS.len() + 2)
                + (CLONE_ERRORS.len() + 1))
    );
};
