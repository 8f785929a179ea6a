//! From the bytes of a ring record to what it reports: a function for each record, which its probe names.

use forkwatch_ebpf::{
    CloneCallRecord, ExecRecord, ExitRecord, ForkRecord, Header, HeirRecord, InheritedSocket,
    SharerEndRecord, SignalRecord, SocketRecord, ThreadRecord, act, flag, kind,
};

use crate::model::{
    connection::{Act, Inherited, User},
    event::{CloneFailure, CloneKind, Event, Exec, Exit, ExitStatus, Fork, ForkOfExec, Origin, Thread},
    observation::{Heir, Observation, SharerEnd, Signal, SocketUse},
    process::{Comm, ProcessKey},
    reported::Reported,
    signals::SignalSet,
    time::BootTime,
};

/// A record of the wire format: integers and byte arrays only, so that any bytes of its size are a value of it.
///
/// # Safety
/// The type has no padding and no invalid bit pattern.
unsafe trait Record: Copy {}

// SAFETY: integers alone; the sizes are asserted where the types stand.
unsafe impl Record for Header {}
// SAFETY: likewise.
unsafe impl Record for ForkRecord {}
// SAFETY: likewise.
unsafe impl Record for ExecRecord {}
// SAFETY: likewise.
unsafe impl Record for ExitRecord {}
// SAFETY: likewise.
unsafe impl Record for ThreadRecord {}
// SAFETY: likewise.
unsafe impl Record for CloneCallRecord {}
// SAFETY: likewise.
unsafe impl Record for SignalRecord {}
// SAFETY: likewise.
unsafe impl Record for SocketRecord {}
// SAFETY: likewise.
unsafe impl Record for HeirRecord {}
// SAFETY: likewise.
unsafe impl Record for SharerEndRecord {}

/// Which record it is ([`record`](forkwatch_ebpf::record)), where its head is one and tells the length that it has.
pub(super) fn number(bytes: &[u8]) -> Option<u8> {
    let header: Header = read(bytes.get(..size_of::<Header>())?)?;
    (usize::from(header.length) == bytes.len()).then_some(header.record)
}

/// Reads a record of exactly the bytes' length.
fn read<R: Record>(bytes: &[u8]) -> Option<R> {
    if bytes.len() != size_of::<R>() {
        return None;
    }
    // SAFETY: the length is right, any bytes are a value of a `Record`, and the read may be unaligned.
    Some(unsafe { bytes.as_ptr().cast::<R>().read_unaligned() })
}

const fn origin(header: &Header) -> Origin {
    Origin { cpu: header.cpu, sequence: header.sequence }
}

const fn clone_kind(number: u8) -> Option<CloneKind> {
    Some(match number {
        kind::COPYING => CloneKind::Copying,
        kind::SHARED_MEMORY => CloneKind::SharedMemory,
        kind::VFORK => CloneKind::Vfork,
        kind::KERNEL => CloneKind::Kernel,
        _ => return None,
    })
}

pub(super) fn fork(bytes: &[u8]) -> Option<Reported> {
    let record: ForkRecord = read(bytes)?;
    Some(
        Event::Fork(Fork {
            origin: origin(&record.header),
            at: BootTime(record.header.time),
            kind: clone_kind(record.kind)?,
            parent: ProcessKey { tgid: record.parent_tgid, start: BootTime(record.parent_start) },
            parent_tid: record.parent_tid,
            comm: Comm::new(&record.comm),
            uid: record.uid,
            cgroup: record.cgroup,
            threads: record.threads,
            pending_thread: SignalSet(record.pending_thread),
            pending_shared: SignalSet(record.pending_shared),
            blocked: SignalSet(record.blocked),
            child: ProcessKey { tgid: record.child_tgid, start: BootTime(record.child_start) },
            child_namespace_pid: record.child_namespace_pid,
            generation: record.generation,
            tracked: record.header.flags & flag::UNTRACKED == 0,
        })
        .into(),
    )
}

pub(super) fn exec(bytes: &[u8]) -> Option<Reported> {
    let record: ExecRecord = read(bytes)?;
    let fork = if record.since_fork == 0 {
        None
    } else {
        Some(ForkOfExec {
            kind: clone_kind(record.kind)?,
            since: record.since_fork,
            blocked: SignalSet(record.blocked_at_fork),
        })
    };
    Some(
        Event::Exec(Exec {
            origin: origin(&record.header),
            at: BootTime(record.header.time),
            process: ProcessKey { tgid: record.tgid, start: BootTime(record.start) },
            from_tid: record.from_tid,
            comm: Comm::new(&record.comm),
            uid: record.uid,
            cgroup: record.cgroup,
            parent_tgid: record.parent_tgid,
            blocked: SignalSet(record.blocked),
            fork,
        })
        .into(),
    )
}

pub(super) fn exit(bytes: &[u8]) -> Option<Reported> {
    let record: ExitRecord = read(bytes)?;
    Some(
        Event::Exit(Exit {
            origin: origin(&record.header),
            at: BootTime(record.header.time),
            process: ProcessKey { tgid: record.tgid, start: BootTime(record.start) },
            parent_tgid: record.parent_tgid,
            kind: clone_kind(record.kind)?,
            comm: Comm::new(&record.comm),
            status: ExitStatus::from_wait(record.status),
            lifetime: record.lifetime,
        })
        .into(),
    )
}

pub(super) fn thread(bytes: &[u8]) -> Option<Reported> {
    let record: ThreadRecord = read(bytes)?;
    Some(
        Event::Thread(Thread {
            origin: origin(&record.header),
            at: BootTime(record.header.time),
            tgid: record.tgid,
            parent_tid: record.parent_tid,
            comm: Comm::new(&record.comm),
            tid: record.tid,
            threads: record.threads,
        })
        .into(),
    )
}

pub(super) fn clone_failure(bytes: &[u8]) -> Option<Reported> {
    let record: CloneCallRecord = read(bytes)?;
    Some(
        Event::CloneFailure(CloneFailure {
            origin: origin(&record.header),
            at: BootTime(record.header.time),
            tgid: record.tgid,
            tid: record.tid,
            comm: Comm::new(&record.comm),
            uid: record.uid,
            cgroup: record.cgroup,
            errno: record.errno,
            duration: record.duration,
        })
        .into(),
    )
}

pub(super) fn signal(bytes: &[u8]) -> Option<Reported> {
    let record: SignalRecord = read(bytes)?;
    Some(
        Observation::Signal(Signal {
            origin: origin(&record.header),
            at: BootTime(record.header.time),
            number: record.number,
            target: ProcessKey { tgid: record.target_tgid, start: BootTime(record.target_start) },
            sender_tgid: record.sender_tgid,
            comm: Comm::new(&record.comm),
        })
        .into(),
    )
}

pub(super) fn socket_use(bytes: &[u8]) -> Option<Reported> {
    let record: SocketRecord = read(bytes)?;
    Some(
        Observation::SocketUse(SocketUse {
            origin: origin(&record.header),
            at: BootTime(record.header.time),
            inode: record.inode,
            user: User {
                process: ProcessKey { tgid: record.tgid, start: BootTime(record.start) },
                parent_tgid: record.parent_tgid,
                unexeced: record.unexeced != 0,
            },
            tid: record.tid,
            comm: Comm::new(&record.comm),
            act: match record.act {
                act::SENT => Act::Sent,
                act::RECEIVED => Act::Received,
                act::SHUT_DOWN => Act::ShutDown,
                _ => return None,
            },
            bytes: record.bytes,
        })
        .into(),
    )
}

pub(super) fn heir(bytes: &[u8]) -> Option<Reported> {
    Some(Observation::Heir(connections(bytes)?).into())
}

pub(super) fn moved(bytes: &[u8]) -> Option<Reported> {
    Some(Observation::Moved(connections(bytes)?).into())
}

fn connections(bytes: &[u8]) -> Option<Heir> {
    let record: HeirRecord = read(bytes)?;
    let sockets = record.sockets.iter().take(usize::try_from(record.count).ok()?);
    let inherited = |socket: &InheritedSocket| {
        let counts = i32::try_from(socket.family) != Ok(libc::AF_UNIX);
        Inherited {
            inode: socket.inode,
            descriptor: socket.descriptor,
            bytes: counts.then_some((socket.sent, socket.received)),
        }
    };
    Some(Heir {
        origin: origin(&record.header),
        at: BootTime(record.header.time),
        parent: ProcessKey { tgid: record.parent_tgid, start: BootTime(record.parent_start) },
        child: ProcessKey { tgid: record.child_tgid, start: BootTime(record.child_start) },
        comm: Comm::new(&record.comm),
        sockets: sockets.map(inherited).collect(),
        more: record.more != 0,
    })
}

pub(super) fn sharer_end(bytes: &[u8]) -> Option<Reported> {
    let record: SharerEndRecord = read(bytes)?;
    Some(
        Observation::SharerEnd(SharerEnd {
            origin: origin(&record.header),
            at: BootTime(record.header.time),
            process: ProcessKey { tgid: record.tgid, start: BootTime(record.start) },
            execed: record.execed != 0,
        })
        .into(),
    )
}

#[cfg(test)]
mod tests {
    use forkwatch_ebpf::record;
    use proptest::prelude::*;

    use super::{super::probes::decode, *};

    /// A fork record as the kernel side of a little-endian machine lays it out.
    fn fork_record() -> Vec<u8> {
        let mut bytes = vec![record::FORK, flag::UNTRACKED, 120, 0, 3, 0, 0, 0];
        for number in [7_u64, 1_000, 400, 900, 55, 1 << 9, 1 << 11, 0xfff] {
            bytes.extend(number.to_le_bytes());
        }
        for number in [10_u32, 11, 1000, 4, 20, 2, 1] {
            bytes.extend(number.to_le_bytes());
        }
        bytes.extend([kind::COPYING, 3, 0, 0]);
        bytes.extend(b"gunicorn\0\0\0\0\0\0\0\0");
        bytes
    }

    #[test]
    fn a_fork_record_is_read_field_by_field() {
        let Some(Reported::Event(Event::Fork(fork))) = decode(&fork_record()) else { panic!("not a fork") };
        assert_eq!(fork.origin, Origin { cpu: 3, sequence: 7 });
        assert_eq!(fork.at, BootTime(1_000));
        assert_eq!(fork.parent, ProcessKey { tgid: 10, start: BootTime(400) });
        assert_eq!(fork.child, ProcessKey { tgid: 20, start: BootTime(900) });
        assert_eq!((fork.parent_tid, fork.uid, fork.cgroup, fork.threads), (11, 1000, 55, 4));
        assert_eq!(fork.pending(), SignalSet::of(&[10, 12]));
        assert_eq!(fork.blocked, SignalSet(0xfff));
        assert_eq!((fork.child_namespace_pid, fork.generation, fork.tracked), (2, 1, false));
        assert_eq!(fork.comm, Comm::from("gunicorn"));
    }

    #[test]
    fn a_signal_is_read_field_by_field() {
        let mut bytes = vec![record::SIGNAL, 0, 64, 0, 1, 0, 0, 0];
        bytes.extend([5_u64, 2_000, 900].iter().flat_map(|number| number.to_le_bytes()));
        bytes.extend([20_u32, 15, 10, 0].iter().flat_map(|number| number.to_le_bytes()));
        bytes.extend(b"arbiter\0\0\0\0\0\0\0\0\0");
        let expected = Signal {
            origin: Origin { cpu: 1, sequence: 5 },
            at: BootTime(2_000),
            number: 15,
            target: ProcessKey { tgid: 20, start: BootTime(900) },
            sender_tgid: 10,
            comm: Comm::from("arbiter"),
        };
        assert_eq!(decode(&bytes), Some(Observation::Signal(expected).into()));
    }

    #[test]
    fn a_socket_s_use_is_read_field_by_field() {
        let mut bytes = vec![record::SOCKET, 0, 80, 0, 1, 0, 0, 0];
        bytes.extend([6_u64, 3_000, 777, 900, 44].iter().flat_map(|number| number.to_le_bytes()));
        bytes.extend([20_u32, 21, 10].iter().flat_map(|number| number.to_le_bytes()));
        bytes.extend([act::RECEIVED, 1, 0, 0]);
        bytes.extend(b"worker\0\0\0\0\0\0\0\0\0\0");
        let expected = SocketUse {
            origin: Origin { cpu: 1, sequence: 6 },
            at: BootTime(3_000),
            inode: 777,
            user: User {
                process: ProcessKey { tgid: 20, start: BootTime(900) },
                parent_tgid: 10,
                unexeced: true,
            },
            tid: 21,
            comm: Comm::from("worker"),
            act: Act::Received,
            bytes: 44,
        };
        assert_eq!(decode(&bytes), Some(Observation::SocketUse(expected).into()));
        bytes[60] = 9;
        assert_eq!(decode(&bytes), None, "an act of no meaning");
    }

    /// Of a child that was born with two connections, one of them a Unix socket.
    fn heir_record(number: u8) -> Vec<u8> {
        let mut bytes = vec![number, 0, 200, 1, 1, 0, 0, 0];
        bytes.extend([6_u64, 3_000, 400, 900].iter().flat_map(|number| number.to_le_bytes()));
        bytes.extend([10_u32, 20, 2, 1].iter().flat_map(|number| number.to_le_bytes()));
        bytes.extend(b"worker\0\0\0\0\0\0\0\0\0\0");
        for (inode, numbers) in [(777_u64, [7_u32, 2, 100, 200]), (778, [9, 1, 0, 0])] {
            bytes.extend(inode.to_le_bytes());
            bytes.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
        }
        bytes.resize(456, 0);
        bytes
    }

    #[test]
    fn an_heir_is_read_field_by_field() {
        let expected = Heir {
            origin: Origin { cpu: 1, sequence: 6 },
            at: BootTime(3_000),
            parent: ProcessKey { tgid: 10, start: BootTime(400) },
            child: ProcessKey { tgid: 20, start: BootTime(900) },
            comm: Comm::from("worker"),
            sockets: vec![
                Inherited { inode: 777, descriptor: 7, bytes: Some((100, 200)) },
                Inherited { inode: 778, descriptor: 9, bytes: None },
            ],
            more: true,
        };
        assert_eq!(decode(&heir_record(record::HEIR)), Some(Observation::Heir(expected.clone()).into()));
        assert_eq!(decode(&heir_record(record::MOVED)), Some(Observation::Moved(expected).into()));
    }

    #[test]
    fn the_end_of_a_sharer_is_read_field_by_field() {
        let mut bytes = vec![record::SHARER_END, 0, 40, 0, 1, 0, 0, 0];
        bytes.extend([6_u64, 3_000, 400].iter().flat_map(|number| number.to_le_bytes()));
        bytes.extend([10_u32, 1].iter().flat_map(|number| number.to_le_bytes()));
        let process = ProcessKey { tgid: 10, start: BootTime(400) };
        let origin = Origin { cpu: 1, sequence: 6 };
        let expected = SharerEnd { origin, at: BootTime(3_000), process, execed: true };
        assert_eq!(decode(&bytes), Some(Observation::SharerEnd(expected).into()));
    }

    #[test]
    fn what_is_not_a_record_is_refused() {
        let record = fork_record();
        for length in 0..record.len() {
            assert_eq!(decode(&record[..length]), None, "cut to {length} bytes");
        }
        let mut unknown = record.clone();
        unknown[0] = 99;
        assert_eq!(decode(&unknown), None);
        let mut kind = record;
        kind[100] = 200;
        assert_eq!(decode(&kind), None);
    }

    proptest! {
        #[test]
        fn no_bytes_can_break_the_decoder(mut bytes in prop::collection::vec(any::<u8>(), 0..160), tag in 0_u8..12) {
            // Half of the cases get past the header, so that the records themselves are reached too.
            if tag > 0 && bytes.len() >= 4 {
                bytes[0] = tag;
                bytes[2] = u8::try_from(bytes.len()).unwrap();
                bytes[3] = 0;
            }
            if let Some(event) = decode(&bytes) {
                let time = u64::from_le_bytes(bytes[16..24].try_into().unwrap());
                prop_assert_eq!(event.at(), BootTime(time));
                prop_assert!([40, 56, 64, 72, 80, 104, 120].contains(&bytes.len()));
            }
        }
    }
}
