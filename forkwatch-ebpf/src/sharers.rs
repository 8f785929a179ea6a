//! Processes that hold a watched socket. Those that user space names, and the children that they fork while these
//! programs are attached, which is as long as a socket is watched.

use aya_ebpf::{
    helpers::{bpf_get_current_pid_tgid, generated::bpf_ktime_get_boot_ns},
    macros::{btf_tracepoint, map},
    maps::HashMap,
    programs::BtfTracePointContext,
};
use forkwatch_ebpf::{Sharer, SharerEndRecord, class, kind, record};

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

/// Enters a process; `flags` are those of the table (include/uapi/linux/bpf.h). Where there is no room, its use of the
/// socket is not seen.
#[inline(always)]
pub(crate) fn enter(tgid: u32, sharer: &Sharer, flags: u64) {
    let _ = SHARERS.insert(&tgid, sharer, flags);
}

/// The current process, if it is one.
#[inline(always)]
pub(crate) fn current() -> Option<(u32, Sharer)> {
    let tgid = (bpf_get_current_pid_tgid() >> 32) as u32;
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
    // Where there is no room, its use of the socket is not seen.
    if SHARERS.insert(&child.tgid(), &sharer, 0).is_ok() {
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
