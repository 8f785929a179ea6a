//! The system calls of the clone family themselves, where they are asked for: how long they take, and which fail.
//!
//! Two pairs of programs do the same: `fentry` and `fexit` on `kernel_clone`, which cost nothing else on the
//! host, and the system call tracepoints, which put every system call on the slow path.

use aya_ebpf::{
    EbpfContext,
    helpers::{
        bpf_get_current_comm, bpf_get_current_pid_tgid, bpf_get_current_uid_gid,
        generated::{bpf_get_current_cgroup_id, bpf_ktime_get_boot_ns},
    },
    macros::{fentry, fexit, map, tracepoint},
    maps::LruHashMap,
    programs::{FEntryContext, FExitContext, TracePointContext},
};
use forkwatch_ebpf::{CLONE_ERRORS, CloneCallRecord, Counters, LATENCY_BOUNDS, call, class, fate, record};

use crate::{
    counters::{add, counters, observe},
    ring::{self, Label, ring_record},
    settings::CLONE_CALLS,
    wanted,
};

/// A call under way.
#[derive(Clone, Copy)]
#[repr(C)]
struct Call {
    start: u64,
    /// [`call`]: what it has created so far.
    made: u64,
}

/// By `pid_tgid`. Least recently used goes first: a call whose end was missed must not stay for ever.
#[map]
static CALLS: LruHashMap<u64, Call> = LruHashMap::with_max_entries(16384, 0);

ring_record!(CloneCallRecord, CLONE_CALLS);

/// `ERESTARTNOINTR`: a signal came first, and the call is made again.
const RESTART: i64 = -513;

#[fentry(function = "kernel_clone")]
fn clone_entry(_context: FEntryContext) -> i32 {
    begin();
    0
}

/// `pid_t kernel_clone(struct kernel_clone_args *args)`, kernel/fork.c: behind its one argument stands the result.
#[fexit(function = "kernel_clone")]
fn clone_exit(context: FExitContext) -> i32 {
    end(i64::from(context.arg::<i32>(1)));
    0
}

/// On `syscalls:sys_enter_{clone,clone3,fork,vfork}`.
#[tracepoint]
fn clone_sys_enter(_context: TracePointContext) -> i32 {
    begin();
    0
}

/// On `syscalls:sys_exit_{clone,clone3,fork,vfork}`: behind 8 common bytes and the call's number stands the result
/// (`struct syscall_trace_exit`, kernel/trace/trace.h). The new task passes here too, and has no call under way.
#[tracepoint]
fn clone_sys_exit(context: TracePointContext) -> i32 {
    // SAFETY: within the context of this kind of program, which the verifier checks.
    end(unsafe { *context.as_ptr().cast::<i64>().add(2) });
    0
}

#[inline(always)]
fn begin() {
    // SAFETY: a helper without arguments.
    let start = unsafe { bpf_ktime_get_boot_ns() };
    let _ = CALLS.insert(&bpf_get_current_pid_tgid(), &Call { start, made: call::THREAD as u64 }, 0);
}

/// The call under way in the current thread has created a task.
#[inline(always)]
pub(crate) fn made(what: usize) {
    if CLONE_CALLS.load() == 0 {
        return;
    }
    if let Some(call) = CALLS.get_ptr_mut(&bpf_get_current_pid_tgid()) {
        // SAFETY: a value of the map, and the current thread's own.
        unsafe { (*call).made = what as u64 };
    }
}

/// What is under way in the current thread is the kernel's own doing: kernel threads come from `kernel_clone` too,
/// and from no system call.
#[inline(always)]
pub(crate) fn is_no_call() {
    if CLONE_CALLS.load() != 0 {
        let _ = CALLS.remove(&bpf_get_current_pid_tgid());
    }
}

#[inline(always)]
fn end(result: i64) {
    let key = bpf_get_current_pid_tgid();
    let Some(under_way) = CALLS.get_ptr(&key) else { return };
    // SAFETY: a value of the map, read at once.
    let Call { start, made } = unsafe { *under_way };
    let _ = CALLS.remove(&key);
    let Some(counters) = counters() else { return };
    // SAFETY: a helper without arguments.
    let now = unsafe { bpf_ktime_get_boot_ns() };
    let duration = now.saturating_sub(start);
    if result >= 0 {
        let Some(durations) = counters.clone_calls.durations.get(made as usize) else { return };
        observe(&durations.buckets, &LATENCY_BOUNDS, duration);
        add(&durations.sum, duration);
    } else if result != RESTART {
        failed(counters, now, duration, result.unsigned_abs() as u32);
    }
}

#[inline(always)]
fn failed(counters: &Counters, now: u64, duration: u64, errno: u32) {
    let mut slot = 0;
    while slot < CLONE_ERRORS.len() && CLONE_ERRORS[slot] != errno {
        slot += 1;
    }
    add(&counters.clone_calls.failures[slot], 1);
    let pid_tgid = bpf_get_current_pid_tgid();
    let (tgid, uid) = ((pid_tgid >> 32) as u32, bpf_get_current_uid_gid() as u32);
    if !wanted::is_wanted_caller(tgid, uid) {
        say_unwanted!(CLONE_CALLS, tgid, uid);
        return add(&counters.events[class::CLONE_CALL][fate::FILTERED], 1);
    }
    let label = Label { record: record::CLONE_CALL, flags: 0, time: now, hazardous: false };
    let Some(room) = ring::reserve(counters, class::CLONE_CALL, label) else { return };
    let record = CloneCallRecord {
        header: room.header,
        duration,
        // SAFETY: a helper without arguments.
        cgroup: unsafe { bpf_get_current_cgroup_id() },
        tgid,
        tid: pid_tgid as u32,
        uid,
        errno,
        comm: bpf_get_current_comm().unwrap_or_default(),
    };
    room.submit(counters, record);
    say!(CLONE_CALLS, debug, "process {}: failed call told, error {}", tgid = tgid, errno = errno);
}
