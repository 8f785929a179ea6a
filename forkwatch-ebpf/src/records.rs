//! What goes through the ring.

use core::mem::{align_of, offset_of, size_of};

use crate::COMM_LEN;

/// Starts every record.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Which record follows ([`record`](crate::record)).
    pub record: u8,
    /// [`flag`](crate::flag) bits.
    pub flags: u8,
    /// Length of the whole record in bytes.
    pub length: u16,
    /// The CPU that wrote it.
    pub cpu: u32,
    /// Counts the records of that CPU from 0, also those that were dropped: a gap is a loss.
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
    /// [`kind`](crate::kind) of the clone.
    pub kind: u8,
    /// [`hazard`](crate::hazard) bits.
    pub hazards: u8,
    /// Zero.
    pub reserved: [u8; 2],
    /// Comm of the forking thread.
    pub comm: [u8; COMM_LEN],
}

/// A process replaced its program. Sent for the children of streamed forks, and for any exec that carries
/// [`hazard::BLOCKED`](crate::hazard::BLOCKED).
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExecRecord {
    /// Common header.
    pub header: Header,
    /// Start of the process.
    pub start: u64,
    /// Nanoseconds since its fork; 0 where this is not its first exec since then.
    pub since_fork: u64,
    /// Signals blocked in the new program from its start.
    pub blocked: u64,
    /// Signals that the forking thread blocked at the fork; 0 where nothing had to be remembered of it.
    pub blocked_at_fork: u64,
    /// Cgroup (version 2) id.
    pub cgroup: u64,
    /// The process.
    pub tgid: u32,
    /// The thread that called exec: another than `tgid` if it was not the main thread.
    pub from_tid: u32,
    /// The process that forked it, or its present parent where nothing had to be remembered.
    pub parent_tgid: u32,
    /// Real uid.
    pub uid: u32,
    /// [`kind`](crate::kind) of its fork; only meaningful where `since_fork` is not 0.
    pub kind: u8,
    /// [`hazard`](crate::hazard) bits, those of the fork included.
    pub hazards: u8,
    /// Zero.
    pub reserved: [u8; 6],
    /// The new comm.
    pub comm: [u8; COMM_LEN],
}

/// A forked process ended without ever having exec'd. Sent for streamed and followed children, and for a copying
/// fork's child that a signal killed or that exited with a code other than 0.
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
    /// The process that forked it, or its present parent where nothing had to be remembered.
    pub parent_tgid: u32,
    /// Wait status as wait(2) gives it: signal in bits 0 to 6, core dump in bit 7, exit code in bits 8 to 15.
    pub status: u32,
    /// [`kind`](crate::kind) of its fork.
    pub kind: u8,
    /// [`hazard`](crate::hazard) bits of its fork.
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

/// A signal was sent to a process that is watched for it, and will be delivered.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SignalRecord {
    /// Common header.
    pub header: Header,
    /// Start of the process that it was sent to.
    pub target_start: u64,
    /// That process.
    pub target_tgid: u32,
    /// The signal's number.
    pub number: u32,
    /// The process that sent it; 0 where the kernel did.
    pub sender_tgid: u32,
    /// Zero.
    pub reserved: u32,
    /// Comm of the sending thread; zero where the kernel sent it.
    pub comm: [u8; COMM_LEN],
}

/// A watched socket was used by one of the processes that share it.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SocketRecord {
    /// Common header.
    pub header: Header,
    /// The socket's inode number.
    pub inode: u64,
    /// Start of the process.
    pub start: u64,
    /// Bytes sent or received; 0 of a shutdown.
    pub bytes: u64,
    /// The process.
    pub tgid: u32,
    /// The calling thread.
    pub tid: u32,
    /// The process's parent when it became known as one that shares.
    pub parent_tgid: u32,
    /// What it did ([`act`](crate::act)).
    pub act: u8,
    /// 1 where it was forked and has not exec'd since.
    pub unexeced: u8,
    /// Zero.
    pub reserved: [u8; 2],
    /// Comm of the calling thread.
    pub comm: [u8; COMM_LEN],
}

/// Most connections of a child that are told.
pub const MOST_INHERITED: usize = 16;

/// A child was born with connections of its parent's, or one that was ends. Shorter than the others allow: connections
/// beyond `count` are zero.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeirRecord {
    /// Common header.
    pub header: Header,
    /// Start of the parent's process.
    pub parent_start: u64,
    /// Start of the child.
    pub child_start: u64,
    /// Parent process.
    pub parent_tgid: u32,
    /// Child process.
    pub child_tgid: u32,
    /// How many connections follow.
    pub count: u32,
    /// 1 where it has more, or more descriptors than were looked at.
    pub more: u32,
    /// Comm of the calling thread.
    pub comm: [u8; COMM_LEN],
    /// The connections, those at the lowest descriptors first.
    pub sockets: [InheritedSocket; MOST_INHERITED],
}

/// A connected stream socket at a descriptor above 2.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InheritedSocket {
    /// Its inode number.
    pub inode: u64,
    /// The descriptor, which parent and child have alike.
    pub descriptor: u32,
    /// `AF_UNIX`, `AF_INET` or `AF_INET6`: Unix sockets do not count their bytes.
    pub family: u32,
    /// Bytes that were ever sent, modulo 2^32; at the end those since the birth.
    pub sent: u32,
    /// Bytes that were ever taken out, likewise.
    pub received: u32,
}

/// A process that shares sockets has ended or exec'd.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SharerEndRecord {
    /// Common header.
    pub header: Header,
    /// Start of the process.
    pub start: u64,
    /// The process.
    pub tgid: u32,
    /// 1 where it has exec'd.
    pub execed: u32,
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

    assert!(size_of::<SignalRecord>() == 64 && align_of::<SignalRecord>() == 8);
    assert!(offset_of!(SignalRecord, target_tgid) == 32 && offset_of!(SignalRecord, comm) == 48);

    assert!(size_of::<SocketRecord>() == 80 && align_of::<SocketRecord>() == 8);
    assert!(offset_of!(SocketRecord, tgid) == 48 && offset_of!(SocketRecord, act) == 60);
    assert!(offset_of!(SocketRecord, comm) == 64);

    assert!(size_of::<InheritedSocket>() == 24 && offset_of!(InheritedSocket, sent) == 16);
    assert!(size_of::<HeirRecord>() == 456 && align_of::<HeirRecord>() == 8);
    assert!(offset_of!(HeirRecord, parent_tgid) == 40 && offset_of!(HeirRecord, comm) == 56);
    assert!(offset_of!(HeirRecord, sockets) == 72);

    assert!(size_of::<SharerEndRecord>() == 40 && offset_of!(SharerEndRecord, tgid) == 32);
};
