//! What the maps hold.

use core::mem::{offset_of, size_of};

use crate::{MOST_INHERITED, act, call, class, fate, outcome};

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
    /// Events by [`class`](crate::class) (or [`kind`](crate::kind)) and [`fate`](crate::fate): the sum of a row is what happened, exactly.
    pub events: [[u64; fate::COUNT]; class::COUNT],
    /// Ended copying forks by [`outcome`](crate::outcome).
    pub outcomes: [u64; outcome::COUNT],
    /// Copying forks whose parent had other live threads.
    pub multithreaded: u64,
    /// Copying forks with signals pending and blocked.
    pub pending: u64,
    /// Children that the family map had no room for. No record tells how they end, and one that shares memory then
    /// counts as a copying fork when it execs or ends.
    pub untracked: u64,
    /// Process creations that [`map::CGROUPS`](crate::map::CGROUPS) had no room for.
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
    /// Successful calls by what they created ([`call`](crate::call)) and how long they took.
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
    /// [`kind`](crate::kind) of the clone.
    pub kind: u8,
    /// [`hazard`](crate::hazard) bits.
    pub hazards: u8,
    /// [`flag`](crate::flag) bits.
    pub flags: u8,
    /// Zero.
    pub reserved: [u8; 5],
}

/// A process that is watched for signals.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signalled {
    /// Its start.
    pub start: u64,
    /// Since when the signals below have been told.
    pub since: u64,
    /// Signals that have been told of that sender since then: signal `n` is bit `n - 1`.
    pub told: u64,
    /// Who sent the last that was told; 0 where the kernel did.
    pub sender: u32,
    /// Zero.
    pub reserved: u32,
}

/// A process that holds a watched socket.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sharer {
    /// Its start.
    pub start: u64,
    /// Its parent when it became known.
    pub parent_tgid: u32,
    /// 1 where it was forked and has not exec'd since.
    pub unexeced: u32,
}

/// Places of [`map::SHARER_MARKED`](crate::map::SHARER_MARKED).
pub const SHARER_MARKS: u32 = 1024;

/// The place of a tgid there.
pub const fn mark_of(tgid: u32) -> u32 {
    tgid % SHARER_MARKS
}

/// A watched socket.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Socket {
    /// The process that did each [`act`](crate::act) last; 0 where none has yet.
    pub last: [u32; act::COUNT],
    /// Records made of it.
    pub told: u32,
}

/// A process's first act of a kind on a watched socket.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SocketUser {
    /// The socket's inode number.
    pub inode: u64,
    /// The process.
    pub tgid: u32,
    /// What it did ([`act`](crate::act)).
    pub act: u32,
}

/// A process that was born with connections of its parent's.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heir {
    /// Its start.
    pub start: u64,
    /// Start of its parent's process.
    pub parent_start: u64,
    /// That process.
    pub parent_tgid: u32,
    /// How many connections follow.
    pub count: u32,
    /// Those that count their bytes; zero where one does not.
    pub sockets: [HeldSocket; MOST_INHERITED],
}

/// A TCP connection, as it was at the fork.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeldSocket {
    /// The kernel's structure: by now it may be another's, which the inode number shows.
    pub sock: u64,
    /// Its inode number.
    pub inode: u64,
    /// Bytes that had been sent, modulo 2^32.
    pub sent: u32,
    /// Bytes that had been taken out, likewise.
    pub received: u32,
}

/// A process that has forked children with its connections.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forker {
    /// Its start.
    pub start: u64,
    /// Until when its children are not told.
    pub quiet_until: u64,
    /// 1 where all are told: it has left such a connection to a child before.
    pub covered: u32,
    /// Zero.
    pub reserved: u32,
}

/// A sleeping thread of an un-exec'd child, as a pass over all tasks finds it: no table holds it.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sleeper {
    /// Its process's start.
    pub start: u64,
    /// How often it has given up the CPU, by itself and otherwise.
    pub switches: u64,
    /// Its process.
    pub tgid: u32,
    /// The thread.
    pub tid: u32,
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

/// Whether the reader must be woken by something; one for all CPUs.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wake {
    /// 1 where the reader sleeps until it is woken: it sets this, and whoever wakes it clears it. 0 where it will look
    /// by itself before long.
    pub asleep: u64,
    /// When it was last woken because the ring was filling.
    pub filling: u64,
}

/// Maps hold these without holes too; counters are u64 alone, so that a sum of CPUs is a sum of words.
const _: () = {
    assert!(size_of::<Family>() == 32 && offset_of!(Family, kind) == 24);
    assert!(size_of::<CgroupCounts>() == 16 && size_of::<Wake>() == 16);
    assert!(size_of::<Signalled>() == 32 && offset_of!(Signalled, sender) == 24);
    assert!(size_of::<Sleeper>() == 24 && offset_of!(Sleeper, tgid) == 16);
    assert!(size_of::<HeldSocket>() == 24 && size_of::<Heir>() == 24 + 24 * MOST_INHERITED);
    assert!(size_of::<Forker>() == 24 && offset_of!(Forker, covered) == 16);
    assert!(size_of::<Sharer>() == 16 && size_of::<Socket>() == 16 && size_of::<SocketUser>() == 16);
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
