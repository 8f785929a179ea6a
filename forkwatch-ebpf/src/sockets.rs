//! Who uses a watched socket: the two tracepoints that every send and receive passes (Linux 6.3 and later), or the
//! exits of the functions behind them; and who shuts it down.
//!
//! One that sends all the time is told once. What is told is a process's first use of each kind, and the beginning of
//! each turn: that somebody else did the same last.

use aya_ebpf::{
    helpers::{bpf_get_current_comm, bpf_get_current_pid_tgid, generated::bpf_ktime_get_boot_ns},
    macros::{btf_tracepoint, fentry, fexit, map},
    maps::{HashMap, LruHashMap},
    programs::{BtfTracePointContext, FEntryContext, FExitContext},
};
use forkwatch_ebpf::{ABSENT, Socket, SocketRecord, SocketUser, act, class, fate, record};

use crate::{
    counters::{add, counters},
    kernel::Kernel,
    ring::{self, Label, ring_record},
    settings::*,
    sharers,
};

/// By inode number.
#[map]
static SOCKETS: HashMap<u64, Socket> = HashMap::with_max_entries(1024, 0);

/// Who has been told of which; user space removes those of a socket that it no longer watches. The oldest make way: a
/// process that stays, and forks one child after the other, has a socket watched for ever.
#[map]
static SOCKET_USERS: LruHashMap<SocketUser, u8> = LruHashMap::with_max_entries(8192, 0);

ring_record!(SocketRecord, SOCKETS);

/// Most records of one socket before only first uses are told, and before none are.
const MOST_TURNS: u32 = 64;
const MOST_RECORDS: u32 = 128;

/// A look that takes nothing (include/linux/socket.h).
const MSG_PEEK: i32 = 2;

/// States of TCP (include/net/tcp_states.h).
const ESTABLISHED: i32 = 1;
const FIN_WAIT1: i32 = 4;
const CLOSE_WAIT: i32 = 8;
const LAST_ACK: i32 = 9;

/// `TP_PROTO(struct sock *sk, int ret, int flags)`, include/trace/events/sock.h.
#[btf_tracepoint(function = "sock_send_length")]
fn sock_send_length(context: BtfTracePointContext) -> i32 {
    used(|| of_sock(context.arg(0)), act::SENT, context.arg(1));
    0
}

/// Likewise.
#[btf_tracepoint(function = "sock_recv_length")]
fn sock_recv_length(context: BtfTracePointContext) -> i32 {
    received(|| of_sock(context.arg(0)), context.arg(1), context.arg(2));
    0
}

/// `int tcp_sendmsg(struct sock *sk, struct msghdr *msg, size_t size)`, net/ipv4/tcp.c; behind it the result.
#[fexit(function = "tcp_sendmsg")]
fn tcp_sends(context: FExitContext) -> i32 {
    used(|| of_sock(context.arg(0)), act::SENT, context.arg(3));
    0
}

/// `int tcp_recvmsg(struct sock *sk, struct msghdr *msg, size_t len, int flags, int *addr_len)`, net/ipv4/tcp.c, since
/// Linux 5.19.
#[fexit(function = "tcp_recvmsg")]
fn tcp_receives(context: FExitContext) -> i32 {
    received(|| of_sock(context.arg(0)), context.arg(5), context.arg(3));
    0
}

/// Before that with `int nonblock` before `flags`. A program of its own, because of two places in one context the
/// compiler would make a variable one, which the verifier refuses.
#[fexit(function = "tcp_recvmsg")]
fn tcp_receives_5_18(context: FExitContext) -> i32 {
    received(|| of_sock(context.arg(0)), context.arg(6), context.arg(4));
    0
}

/// `int unix_stream_sendmsg(struct socket *sock, struct msghdr *msg, size_t len)`, net/unix/af_unix.c.
#[fexit(function = "unix_stream_sendmsg")]
fn unix_sends(context: FExitContext) -> i32 {
    used(|| of_socket(context.arg(0)), act::SENT, context.arg(3));
    0
}

/// `int unix_stream_recvmsg(struct socket *sock, struct msghdr *msg, size_t size, int flags)`, net/unix/af_unix.c.
#[fexit(function = "unix_stream_recvmsg")]
fn unix_receives(context: FExitContext) -> i32 {
    received(|| of_socket(context.arg(0)), context.arg(4), context.arg(3));
    0
}

/// `TP_PROTO(const struct sock *sk, const int oldstate, const int newstate)`, include/trace/events/sock.h. It fires in
/// interrupts too, but not for what only shutdown(2) and the last close do.
#[btf_tracepoint(function = "inet_sock_set_state")]
fn inet_sock_set_state(context: BtfTracePointContext) -> i32 {
    let (from, to): (i32, i32) = (context.arg(1), context.arg(2));
    if (from, to) == (ESTABLISHED, FIN_WAIT1) || (from, to) == (CLOSE_WAIT, LAST_ACK) {
        let file = || Kernel::new(context.arg(0)).pointer(&OFFSET_SOCK_SOCKET).pointer(&OFFSET_SOCKET_FILE);
        // After the last close nobody is left who could miss it.
        used(|| open_inode(file()), act::SHUT_DOWN, 1);
    }
    0
}

/// `int unix_shutdown(struct socket *sock, int mode)`, net/unix/af_unix.c.
#[fentry(function = "unix_shutdown")]
fn unix_shutdown(context: FEntryContext) -> i32 {
    used(|| of_socket(context.arg(0)), act::SHUT_DOWN, 1);
    0
}

/// The inode number of a `struct sock`.
#[inline(always)]
fn of_sock(sock: *const u8) -> u64 {
    inode(Kernel::new(sock).pointer(&OFFSET_SOCK_SOCKET).pointer(&OFFSET_SOCKET_FILE))
}

/// The inode number of a `struct socket`.
#[inline(always)]
fn of_socket(socket: *const u8) -> u64 {
    inode(Kernel::new(socket).pointer(&OFFSET_SOCKET_FILE))
}

/// The inode number of a `struct file`; 0 where there is none.
#[inline(always)]
fn inode(file: Kernel) -> u64 {
    file.pointer(&OFFSET_FILE_INODE).field(&OFFSET_INODE_NUMBER)
}

/// Likewise; 0 too where its last reference is gone, which a count says by 0, and a `file_ref_t` (Linux 6.13,
/// include/linux/file_ref.h) by its sign.
#[inline(always)]
fn open_inode(file: Kernel) -> u64 {
    let inode = inode(file);
    let is_open = if OFFSET_FILE_COUNT.load() == ABSENT {
        file.field::<i64>(&OFFSET_FILE_REF) >= 0
    } else {
        file.field::<i64>(&OFFSET_FILE_COUNT) != 0
    };
    if is_open { inode } else { 0 }
}

#[inline(always)]
fn received(inode: impl FnOnce() -> u64, result: i32, flags: i32) {
    if flags & MSG_PEEK == 0 {
        used(inode, act::RECEIVED, result);
    }
}

/// The current process has used a socket, if `result` is positive. Nearly always it is one that nobody watches, which
/// the look-up of the process tells before any load.
#[inline(always)]
fn used(inode: impl FnOnce() -> u64, act: u8, result: i32) {
    if result <= 0 {
        return;
    }
    let Some((tgid, sharer)) = sharers::current() else { return };
    let inode = inode();
    let Some(socket) = SOCKETS.get_ptr_mut(&inode) else { return };
    let Some(counters) = counters() else { return };
    if !is_told(socket, inode, tgid, act) {
        say!(
            SOCKETS,
            debug,
            "process {}: use of socket {} not told, it is no turn or there were too many",
            tgid = tgid,
            inode = inode
        );
        return add(&counters.events[class::SOCKET][fate::FILTERED], 1);
    }
    // SAFETY: a helper without arguments.
    let time = unsafe { bpf_ktime_get_boot_ns() };
    let label = Label { record: record::SOCKET, flags: 0, time, hazardous: true };
    let Some(room) = ring::reserve(counters, class::SOCKET, label) else { return };
    let record = SocketRecord {
        header: room.header,
        inode,
        start: sharer.start,
        bytes: if act == act::SHUT_DOWN { 0 } else { result as u64 },
        tgid,
        tid: bpf_get_current_pid_tgid() as u32,
        parent_tgid: sharer.parent_tgid,
        act,
        unexeced: sharer.unexeced as u8,
        reserved: [0; 2],
        comm: bpf_get_current_comm().unwrap_or_default(),
    };
    room.submit(counters, record);
    say!(SOCKETS, debug, "process {}: use of socket {} told, act {}", tgid = tgid, inode = inode, act = act);
}

/// Watches a socket that a child was just born with. What was told of it before is told again: who used it last did so
/// before this child was there.
#[inline(always)]
pub(crate) fn inherit(inode: u64) {
    // Where there is no room, user space says so when it comes to the same.
    let _ = SOCKETS.insert(&inode, &Socket { last: [0; act::COUNT], told: 0 }, 0);
}

/// Whether this use is told. CPUs that ask at once may tell one turn more, or one less.
#[inline(always)]
fn is_told(socket: *mut Socket, inode: u64, tgid: u32, act: u8) -> bool {
    // SAFETY: a value of the map, read at once.
    let Socket { last, told } = unsafe { *socket };
    if last[act as usize] == tgid {
        return false;
    }
    // SAFETY: a value of the map.
    unsafe { (*socket).last[act as usize] = tgid };
    let user = SocketUser { inode, tgid, act: u32::from(act) };
    // BPF_NOEXIST: whoever is there already is refused.
    if told >= MOST_RECORDS || (SOCKET_USERS.insert(&user, &1, 1).is_err() && told >= MOST_TURNS) {
        return false;
    }
    // SAFETY: a value of the map.
    unsafe { (*socket).told = told + 1 };
    true
}
