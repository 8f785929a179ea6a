//! Children that are born with connections of their parent's: which, and with how many bytes sent and taken out; and
//! what has moved on them when such a child ends.
//!
//! The child's table of descriptors is walked before the child runs, so that what is found is what the fork left it. That
//! needs copies from the kernel's memory, because the verifier follows no pointer out of an array: where
//! `lockdown=confidentiality` forbids them, user space looks a second later. Nothing here follows a pointer that a process
//! could choose, and a copy from where nothing is gives zero.

use aya_ebpf::{
    Global,
    helpers::{
        bpf_get_current_comm, bpf_get_current_pid_tgid, bpf_probe_read_kernel, bpf_probe_read_kernel_buf,
        generated::bpf_ktime_get_boot_ns,
    },
    macros::{btf_tracepoint, map},
    maps::{Array, LruHashMap, PerCpuArray},
    programs::BtfTracePointContext,
};
use forkwatch_ebpf::{
    Forker, Heir, HeirRecord, HeldSocket, InheritedSocket, MOST_INHERITED, Sharer, class, record,
};

use crate::{
    counters::counters,
    family::{self, TICK},
    ring::{self, Label, ring_record},
    settings::*,
    sharers, sockets,
    task::Task,
    wanted,
};

/// Descriptors that are looked at, from the lowest.
const MOST_DESCRIPTORS: usize = 256;
/// Descriptors that are copied at a time: tables are as long as a multiple of these (`alloc_fdtable`, fs/file.c).
const BLOCK: usize = 64;
/// Standard input, output and error: a connection there was given on purpose.
const STANDARD: usize = 2;

/// A forker of which nothing is known yet is told of this often, nanoseconds.
const UNKNOWN_FORKER: u64 = 1_000_000_000;

/// `SOCK_STREAM` (include/linux/net.h), `TCP_ESTABLISHED`, which Unix streams use too (include/net/tcp_states.h), and
/// `IPPROTO_TCP`.
const STREAM_SOCKET: u16 = 1;
const ESTABLISHED: u8 = 1;
const TCP: u16 = 6;
/// include/linux/socket.h.
const AF_UNIX: u16 = 1;
const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;
/// The kind of file in an inode's mode, and that of a socket (include/uapi/linux/stat.h).
const KIND_OF_FILE: u16 = 0o170_000;
const SOCKET_FILE: u16 = 0o140_000;

/// How the paths of sockets begin that every process may keep from its start to its end, and that nobody mixes up: those
/// of systemd (the journal, notifications), of D-Bus, and the log.
const EVERYBODYS: [u64; 3] =
    [u64::from_le_bytes(*b"/run/sys"), u64::from_le_bytes(*b"/run/dbu"), u64::from_le_bytes(*b"/dev/log")];

/// By tgid.
#[map]
static HEIRS: LruHashMap<u32, Heir> = LruHashMap::with_max_entries(1024, 0);

/// By tgid.
#[map]
static FORKERS: LruHashMap<u32, Forker> = LruHashMap::with_max_entries(4096, 0);

/// What is too large for the stack: one for the births, one for the ends. A program that interrupts itself is not run
/// (`bpf_prog_active`, kernel/bpf/trampoline.c; before that, tracepoints were not preempted).
#[map]
static ROOM: PerCpuArray<Room> = PerCpuArray::with_max_entries(2, 0);
const OF_BIRTHS: u32 = 0;
const OF_ENDS: u32 = 1;

/// The address of the kernel's `socket_file_ops`, once a socket has shown it.
#[map]
static SOCKET_OPERATIONS: Array<u64> = Array::with_max_entries(1, 0);

#[repr(C)]
struct Room {
    record: HeirRecord,
    heir: Heir,
    files: [u64; BLOCK],
    /// Open files that may be connections, with their descriptors: the last of them, if there are more than have room.
    candidates: [(u64, u64); MOST_INHERITED],
    /// How many there were.
    found: u64,
}

ring_record!(HeirRecord, HEIRS);

/// Copies the field at an offset that user space took from the kernel's BTF; zero where nothing can be read.
#[inline(always)]
fn copy<T: Copy + Default>(structure: u64, offset: &Global<u32>) -> T {
    let field = structure.wrapping_add(u64::from(offset.load())) as *const T;
    // SAFETY: the helper copies from any address, and fails where nothing can be read.
    unsafe { bpf_probe_read_kernel(field) }.unwrap_or_default()
}

/// `sched_process_fork`: the child has its descriptors, and has not run yet.
#[btf_tracepoint(function = "sched_process_fork")]
fn heir_is_born(context: BtfTracePointContext) -> i32 {
    let (parent, child) = (Task::new(context.arg(0)), Task::new(context.arg(1)));
    let parent_tgid = parent.tgid();
    if child.tgid() == parent_tgid || parent.tgid() == 0 {
        return 0;
    }
    let (parent_address, child_address): (u64, u64) = (context.arg(0), context.arg(1));
    let files: u64 = copy(child_address, &OFFSET_TASK_FILES);
    let memory: u64 = copy(child_address, &OFFSET_TASK_MM);
    // With one table for both there is one owner; with one memory the child execs, or is a thread in all but name.
    if files == copy(parent_address, &OFFSET_TASK_FILES) || memory == copy(parent_address, &OFFSET_TASK_MM) {
        return 0;
    }
    let leader: u64 = copy(parent_address, &OFFSET_TASK_LEADER);
    let parent_start: u64 = copy(leader, &OFFSET_TASK_START);
    // SAFETY: a helper without arguments.
    let now = unsafe { bpf_ktime_get_boot_ns() };
    let covered = match forker(parent_tgid, parent_start) {
        Some(forker) if forker.covered != 0 => true,
        Some(forker) if now < forker.quiet_until => return 0,
        _ => false,
    };
    let Some(room) = ROOM.get_ptr_mut(OF_BIRTHS) else { return 0 };
    // SAFETY: a value of this CPU's map.
    let room = unsafe { &mut *room };
    room.record.count = 0;
    room.record.more = 0;
    find(room, copy(files, &OFFSET_FILES_TABLE));
    if room.record.count == 0 || !wanted::is_wanted(parent) {
        return 0;
    }
    let Some(counters) = counters() else { return 0 };
    room.record.parent_start = parent_start;
    room.record.child_start = child.start();
    room.record.parent_tgid = parent_tgid;
    room.record.child_tgid = child.tgid();
    room.record.comm = bpf_get_current_comm().unwrap_or_default();
    room.heir.start = child.start();
    room.heir.parent_start = parent_start;
    room.heir.parent_tgid = parent_tgid;
    room.heir.count = room.record.count;
    let label = Label { record: record::HEIR, flags: 0, time: child.start(), hazardous: !covered };
    // Who is not covered has nobody attached to see what the child does.
    if !ring::submit_copy(counters, class::SOCKET, label, &mut room.record, !covered) {
        return 0;
    }
    if !covered {
        let quiet_until = now.wrapping_add(UNKNOWN_FORKER);
        let forker = Forker { start: parent_start, quiet_until, covered: 0, reserved: 0 };
        let _ = FORKERS.insert(&parent_tgid, &forker, 0);
    }
    let _ = HEIRS.insert(&child.tgid(), &room.heir, 0);
    let mut at = 0;
    while at < MOST_INHERITED {
        if at as u32 >= room.record.count {
            break;
        }
        sockets::inherit(room.record.sockets[at].inode);
        at += 1;
    }
    // User space takes them out again.
    sharers::enter(parent_tgid, &Sharer { start: parent_start, parent_tgid: 0, unexeced: 0 }, 1);
    sharers::enter(child.tgid(), &Sharer { start: child.start(), parent_tgid, unexeced: 1 }, 0);
    family::stream(child, parent_tgid);
    say!(
        HEIRS,
        debug,
        "process {}: born with {} connections of {}",
        child = child.tgid(),
        connections = room.record.count,
        tgid = parent_tgid
    );
    0
}

#[inline(always)]
fn forker(tgid: u32, start: u64) -> Option<Forker> {
    let forker = FORKERS.get_ptr(&tgid)?;
    // SAFETY: a value of the map, read at once.
    let forker = unsafe { *forker };
    if start.wrapping_sub(forker.start) < TICK { Some(forker) } else { None }
}

/// Finds the connections in a table of descriptors. In two passes, because the verifier walks the body of a loop as often
/// as that can run: the first over all descriptors only compares an address, the second looks closely at a few.
#[inline(always)]
fn find(room: &mut Room, table: u64) {
    let size: u32 = copy(table, &OFFSET_TABLE_SIZE);
    let files: u64 = copy(table, &OFFSET_TABLE_FILES);
    let Some(known) = SOCKET_OPERATIONS.get_ptr(0) else { return };
    // SAFETY: a value of the map; whoever writes it writes the same.
    let known = unsafe { core::ptr::read_volatile(known) };
    if size as usize > MOST_DESCRIPTORS {
        room.record.more = 1;
    }
    room.found = 0;
    let mut first = 0;
    while first < MOST_DESCRIPTORS {
        if first >= size as usize {
            break;
        }
        let block = files.wrapping_add(first as u64 * 8) as *const u8;
        // SAFETY: eight bytes for each pointer of the block.
        let bytes =
            unsafe { core::slice::from_raw_parts_mut(room.files.as_mut_ptr().cast::<u8>(), BLOCK * 8) };
        // SAFETY: the helper copies from any address, and fails where nothing can be read.
        if unsafe { bpf_probe_read_kernel_buf(block, bytes) }.is_err() {
            room.record.more = 1;
            break;
        }
        let mut at = 0;
        while at < BLOCK {
            let file = room.files[at];
            if file != 0 && first + at > STANDARD && may_be_socket(file, known) {
                let place = room.found as usize & (MOST_INHERITED - 1);
                room.candidates[place] = (file, (first + at) as u64);
                room.found += 1;
            }
            at += 1;
        }
        first += BLOCK;
    }
    if room.found > MOST_INHERITED as u64 && known != 0 {
        room.record.more = 1;
    }
    let mut at = 0;
    while at < MOST_INHERITED {
        if at as u64 >= room.found {
            break;
        }
        let (file, descriptor) = room.candidates[at];
        take(room, file, descriptor as u32);
        at += 1;
    }
}

/// Whether an open file has the operations of sockets; any may be one as long as these are not known.
#[inline(always)]
fn may_be_socket(file: u64, known: u64) -> bool {
    known == 0 || copy::<u64>(file, &OFFSET_FILE_OPERATIONS) == known
}

/// Enters an open file, if it is a connection.
#[inline(always)]
fn take(room: &mut Room, file: u64, descriptor: u32) {
    if !is_socket(file) {
        return;
    }
    let socket: u64 = copy(file, &OFFSET_FILE_PRIVATE);
    if copy::<u16>(socket, &OFFSET_SOCKET_TYPE) != STREAM_SOCKET {
        return;
    }
    let sock: u64 = copy(socket, &OFFSET_SOCKET_SOCK);
    // Not by the state of the socket: `SS_CONNECTING` stays where connect(2) did not wait (`__inet_stream_connect`).
    let (family, state): (u16, u8) = (copy(sock, &OFFSET_SOCK_FAMILY), copy(sock, &OFFSET_SOCK_STATE));
    if state != ESTABLISHED {
        return;
    }
    let (mut counted, mut sent, mut received) = (0, 0, 0);
    if family == AF_UNIX {
        if !is_with_a_name(sock) {
            return;
        }
    } else if family == AF_INET || family == AF_INET6 {
        if copy::<u16>(sock, &OFFSET_SOCK_PROTOCOL) != TCP {
            return;
        }
        counted = sock;
        sent = copy(sock, &OFFSET_TCP_WRITTEN);
        received = copy(sock, &OFFSET_TCP_TAKEN);
    } else {
        return;
    }
    let at = room.record.count as usize;
    if at >= MOST_INHERITED {
        room.record.more = 1;
        return;
    }
    let inode: u64 = copy(copy(file, &OFFSET_FILE_INODE), &OFFSET_INODE_NUMBER);
    room.record.sockets[at] =
        InheritedSocket { inode, descriptor, family: u32::from(family), sent, received };
    room.heir.sockets[at] = HeldSocket { sock: counted, inode, sent, received };
    room.record.count = at as u32 + 1;
}

/// Whether an open file is a socket, which its operations tell: all sockets have the same, and the first shows which.
#[inline(always)]
fn is_socket(file: u64) -> bool {
    let Some(known) = SOCKET_OPERATIONS.get_ptr_mut(0) else { return false };
    let operations: u64 = copy(file, &OFFSET_FILE_OPERATIONS);
    // SAFETY: a value of the map; whoever writes it writes the same.
    let known_operations = unsafe { core::ptr::read_volatile(known) };
    if known_operations != 0 {
        return operations == known_operations;
    }
    let mode: u16 = copy(copy(file, &OFFSET_FILE_INODE), &OFFSET_INODE_MODE);
    let socket: u64 = copy(file, &OFFSET_FILE_PRIVATE);
    // What opened a socket's path with O_PATH has such an inode too, and no socket.
    if mode & KIND_OF_FILE != SOCKET_FILE || socket == 0 || copy::<u64>(socket, &OFFSET_SOCKET_FILE) != file {
        return false;
    }
    // SAFETY: as above.
    unsafe { core::ptr::write_volatile(known, operations) };
    true
}

/// Whether the peer of a connected Unix stream has a name, and one of those that matter.
#[inline(always)]
fn is_with_a_name(sock: u64) -> bool {
    let peer: u64 = copy(sock, &OFFSET_UNIX_PEER);
    let address: u64 = copy(peer, &OFFSET_UNIX_ADDRESS);
    if peer == 0 || address == 0 {
        return false;
    }
    // `struct sockaddr_un`: two bytes of family, then the path.
    let path: u64 = copy(address.wrapping_add(2), &OFFSET_ADDRESS_NAME);
    path != EVERYBODYS[0] && path != EVERYBODYS[1] && path != EVERYBODYS[2]
}

/// `sched_process_exit`: the descriptors of the process are still open (`do_exit`, kernel/exit.c).
#[btf_tracepoint(function = "sched_process_exit")]
fn heir_ends(context: BtfTracePointContext) -> i32 {
    let tgid = (bpf_get_current_pid_tgid() >> 32) as u32;
    let Some(heir) = HEIRS.get_ptr(&tgid) else { return 0 };
    let task = Task::new(context.arg(0));
    if task.signal().live() != 0 {
        return 0;
    }
    let leader = task.leader();
    // SAFETY: a value of the map, of a process that has no other thread left.
    let heir = unsafe { &*heir };
    let is_it = leader.is_unexeced() && leader.start().wrapping_sub(heir.start) < TICK;
    let Some(room) = ROOM.get_ptr_mut(OF_ENDS) else { return 0 };
    // SAFETY: a value of this CPU's map.
    let room = unsafe { &mut *room };
    room.record.count = 0;
    if is_it {
        let mut at = 0;
        while at < MOST_INHERITED {
            if at as u32 >= heir.count {
                break;
            }
            moved(&mut room.record, &heir.sockets[at]);
            at += 1;
        }
        room.record.more = 0;
        room.record.parent_start = heir.parent_start;
        room.record.parent_tgid = heir.parent_tgid;
        room.record.child_start = heir.start;
        room.record.child_tgid = tgid;
        room.record.comm = bpf_get_current_comm().unwrap_or_default();
    }
    let _ = HEIRS.remove(&tgid);
    if room.record.count == 0 {
        return 0;
    }
    let Some(counters) = counters() else { return 0 };
    // SAFETY: a helper without arguments.
    let time = unsafe { bpf_ktime_get_boot_ns() };
    let label = Label { record: record::MOVED, flags: 0, time, hazardous: true };
    ring::submit_copy(counters, class::SOCKET, label, &mut room.record, false);
    0
}

/// Enters a connection on which bytes have moved since the fork.
#[inline(always)]
fn moved(record: &mut HeirRecord, held: &HeldSocket) {
    if held.sock == 0 {
        return;
    }
    let socket: u64 = copy(held.sock, &OFFSET_SOCK_SOCKET);
    let file: u64 = copy(socket, &OFFSET_SOCKET_FILE);
    // Closed by all, and perhaps another's by now.
    if copy::<u64>(copy(file, &OFFSET_FILE_INODE), &OFFSET_INODE_NUMBER) != held.inode {
        return;
    }
    let sent = copy::<u32>(held.sock, &OFFSET_TCP_WRITTEN).wrapping_sub(held.sent);
    let received = copy::<u32>(held.sock, &OFFSET_TCP_TAKEN).wrapping_sub(held.received);
    let at = record.count as usize;
    if sent | received == 0 || at >= MOST_INHERITED {
        return;
    }
    record.sockets[at] =
        InheritedSocket { inode: held.inode, descriptor: 0, family: u32::from(AF_INET), sent, received };
    record.count = at as u32 + 1;
}
