//! Processes that hold a watched socket. Those that user space names, and the children that they fork while these
//! programs are attached, which is as long as a socket is watched.

use aya_ebpf::{
    helpers::{bpf_get_current_pid_tgid, generated::bpf_ktime_get_boot_ns},
    macros::{btf_tracepoint, map},
    maps::{Array, HashMap},
    programs::BtfTracePointContext,
};
use forkwatch_ebpf::{SHARER_MARKS, Sharer, SharerEndRecord, class, kind, mark_of, record};

use crate::{
    counters::counters,
    family,
    ring::{self, Label, ring_record},
    task::Task,
};

ring_record!(SharerEndRecord, SHARERS);

/// By tgid.
#[map]
static SHARERS: HashMap<u32, Sharer> = HashMap::with_max_entries(4096, 0);

/// Where a mark stands for the tgid of every sharer there has been since the programs were attached, and so for others of the
/// same remainder. Nearly everybody who uses a socket is no sharer: a look here costs a load, one into the table calls
/// a function and hashes.
#[map]
static SHARER_MARKED: Array<u64> = Array::with_max_entries(SHARER_MARKS, 0);

/// Enters a process; `flags` are those of the table (include/uapi/linux/bpf.h). Where there is no room, its use of the
/// socket is not seen. Tells whether there was room.
#[inline(always)]
pub(crate) fn enter(tgid: u32, sharer: &Sharer, flags: u64) -> bool {
    let is_there = SHARERS.insert(&tgid, sharer, flags).is_ok();
    // After it: user space takes marks away, and then marks all of the table again.
    if let Some(mark) = SHARER_MARKED.get_ptr_mut(mark_of(tgid)) {
        // SAFETY: a value of the map; whoever writes there writes the same, or user space 0.
        unsafe { core::ptr::write_volatile(mark, 1) };
    }
    is_there
}

/// The current process, if it is one.
#[inline(always)]
pub(crate) fn current() -> Option<(u32, Sharer)> {
    let tgid = (bpf_get_current_pid_tgid() >> 32) as u32;
    let mark = SHARER_MARKED.get_ptr(mark_of(tgid))?;
    // SAFETY: a value of the map.
    if unsafe { core::ptr::read_volatile(mark) } == 0 {
        return None;
    }
    let sharer = SHARERS.get_ptr(&tgid)?;
    // SAFETY: a value of the map, read at once.
    Some((tgid, unsafe { *sharer }))
}

/// On `sched_process_fork`, behind the program that is always attached: the child holds what its parent holds, and
/// user space must hear how it ends. One that shares memory has no life of its own before its exec: that program has
/// entered it into the family as such, where there was room, and a look there is not as dear at load time as pointers.
#[btf_tracepoint(function = "sched_process_fork")]
fn sharer_forks(context: BtfTracePointContext) -> i32 {
    let Some((parent_tgid, _)) = current() else { return 0 };
    let child = Task::new(context.arg(1));
    if child.tgid() == parent_tgid || family::get(child).is_some_and(|entry| entry.kind != kind::COPYING) {
        return 0;
    }
    let sharer = Sharer { start: child.start(), parent_tgid, unexeced: 1 };
    if enter(child.tgid(), &sharer, 0) {
        family::stream(child, parent_tgid);
        say!(
            SHARERS,
            debug,
            "process {}: fork of {}, which shares its sockets",
            tgid = parent_tgid,
            child = child.tgid()
        );
    } else {
        say!(
            SHARERS,
            warn,
            "process {}: no room in the table of those that share sockets",
            tgid = child.tgid()
        );
    }
    0
}

/// On `sched_process_exec`: it may hold the socket still, but as a program that was told of it.
#[btf_tracepoint(function = "sched_process_exec")]
fn sharer_execs(_context: BtfTracePointContext) -> i32 {
    let tgid = (bpf_get_current_pid_tgid() >> 32) as u32;
    if let Some(sharer) = SHARERS.get_ptr_mut(&tgid) {
        // SAFETY: a value of the map, and the current process's own.
        let start = unsafe { (*sharer).start };
        // SAFETY: likewise.
        unsafe { (*sharer).unexeced = 0 };
        is_over(tgid, start, 1);
    }
    0
}

/// On `sched_process_exit`: its tgid may be another's soon.
#[btf_tracepoint(function = "sched_process_exit")]
fn sharer_ends(context: BtfTracePointContext) -> i32 {
    let Some((tgid, sharer)) = current() else { return 0 };
    if Task::new(context.arg(0)).signal().live() == 0 && SHARERS.remove(&tgid).is_ok() {
        is_over(tgid, sharer.start, 0);
    }
    0
}

/// Tells that a process shares nothing any more: of a forker that has exec'd once, no other record tells its end.
#[inline(always)]
fn is_over(tgid: u32, start: u64, execed: u32) {
    let Some(counters) = counters() else { return };
    // SAFETY: a helper without arguments.
    let time = unsafe { bpf_ktime_get_boot_ns() };
    let label = Label { record: record::SHARER_END, flags: 0, time, hazardous: true };
    let Some(room) = ring::reserve(counters, class::SOCKET, label) else { return };
    let record = SharerEndRecord { header: room.header, start, tgid, execed };
    room.submit(counters, record);
}
