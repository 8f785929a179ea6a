//! `sched_process_fork`: a task was created, and has not run yet.

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};
use forkwatch_ebpf::{
    Counters, Family, ForkRecord, THREAD_BOUNDS, ThreadRecord, call, fate, flag, hazard, kind, record, stream,
};

use crate::{
    clone_calls,
    counters::{add, count_for_cgroup, counters, observe},
    family,
    ring::{self, Label, ring_record},
    settings::{LIFE_SIGNALS, STREAM},
    sharing,
    task::{self, Signal, Task},
    wanted, worker,
};

/// The bounds in the width that `observe` compares in.
const BOUNDS: [u64; THREAD_BOUNDS.len()] = {
    let mut bounds = [0; THREAD_BOUNDS.len()];
    let mut index = 0;
    while index < bounds.len() {
        bounds[index] = THREAD_BOUNDS[index] as u64;
        index += 1;
    }
    bounds
};

ring_record!(ForkRecord, FORK);
ring_record!(ThreadRecord, FORK);

/// `TP_PROTO(struct task_struct *parent, struct task_struct *child)`, include/trace/events/sched.h. The parent
/// is the current task.
#[btf_tracepoint(function = "sched_process_fork")]
fn sched_process_fork(context: BtfTracePointContext) -> i32 {
    let (parent, child) = (Task::new(context.arg(0)), Task::new(context.arg(1)));
    let Some(counters) = counters() else { return 0 };
    let signal = parent.signal();
    if child.tgid() == parent.tgid() {
        clone_calls::made(call::THREAD);
        thread_created(counters, parent, child, signal);
    } else {
        process_created(counters, parent, child, signal);
        ring::process_created(counters);
    }
    0
}

#[inline(always)]
fn thread_created(counters: &Counters, parent: Task, child: Task, signal: Signal) {
    const CLASS: usize = kind::THREAD as usize;
    let tgid = parent.tgid();
    // forkwatch's own threads are nothing of its self-test.
    if STREAM.load() & stream::THREADS == 0 || !wanted::passes_filters(parent) {
        #[cfg(feature = "kernel-log")]
        if STREAM.load() & stream::THREADS == 0 {
            say!(
                FORK,
                trace,
                "process {}: thread {} not told, threads are not asked for",
                tgid = tgid,
                tid = child.tid()
            );
        } else {
            say_unwanted!(FORK, tgid, task::current_uid());
        }
        return add(&counters.events[CLASS][fate::FILTERED], 1);
    }
    let label = Label { record: record::THREAD, flags: 0, time: child.start(), hazardous: false };
    let Some(room) = ring::reserve(counters, CLASS, label) else { return };
    let record = ThreadRecord {
        header: room.header,
        tgid,
        parent_tid: parent.tid(),
        tid: child.tid(),
        threads: signal.live(),
        comm: parent.comm(),
    };
    room.submit(counters, record);
}

#[inline(always)]
fn process_created(counters: &Counters, parent: Task, child: Task, signal: Signal) {
    let forker = Forker::read(parent, signal);
    let (memory, parents_memory) = (child.memory(), parent.memory());
    if memory.is_null() {
        clone_calls::is_no_call();
        say!(FORK, debug, "task {}: counted alone, it is the kernel's own", tgid = child.tgid());
        return add(&counters.events[kind::KERNEL as usize][fate::FILTERED], 1);
    }
    let sharing = memory == parents_memory;
    clone_calls::made(if sharing { call::SHARING } else { call::COPYING });
    count_for_cgroup(counters, forker.cgroup, !sharing);
    wanted::adopt(forker.tgid, child);
    let process = if sharing { sharing_created(child) } else { copy_created(counters, child, &forker) };

    let streamed = process.asked && wanted::is_wanted(parent);
    let flags = if streamed { flag::STREAMED } else { 0 };
    let mut untracked = 0;
    if streamed || process.has_history {
        untracked = family::enter(
            child.tgid(),
            &Family {
                start: child.start(),
                blocked: forker.blocked,
                parent_tgid: forker.tgid,
                generation: forker.generation + 1,
                kind: process.kind,
                hazards: process.hazards,
                flags,
                reserved: [0; 5],
            },
        ) * flag::UNTRACKED;
        if untracked != 0 && process.kind == kind::COPYING {
            add(&counters.untracked, 1);
        }
        if untracked != 0 {
            say!(
                FORK,
                warn,
                "process {}: no room in the family, its end will not be told",
                child = child.tgid()
            );
        } else {
            say!(
                FORK,
                debug,
                "process {}: entered into the family, generation {}",
                child = child.tgid(),
                generation = forker.generation + 1
            );
        }
    }
    // The kinds of process are the first three: the mask is what the verifier sees of that.
    let class = process.kind as usize & 3;
    if !streamed {
        if process.asked {
            say_unwanted!(FORK, forker.tgid, forker.uid);
        } else {
            say!(
                FORK,
                debug,
                "process {}: fork of {} not told, such forks are not asked for",
                tgid = forker.tgid,
                child = child.tgid()
            );
        }
        return add(&counters.events[class][fate::FILTERED], 1);
    }
    let (flags, time) = (flags | untracked, child.start());
    let label = Label { record: record::FORK, flags, time, hazardous: process.hazards != 0 };
    let Some(room) = ring::reserve(counters, class, label) else { return };
    let record = ForkRecord {
        header: room.header,
        parent_start: forker.start,
        child_start: time,
        cgroup: forker.cgroup,
        pending_thread: forker.pending_thread,
        pending_shared: forker.pending_shared,
        blocked: forker.blocked,
        parent_tgid: forker.tgid,
        parent_tid: parent.tid(),
        uid: forker.uid,
        threads: forker.threads,
        child_tgid: child.tgid(),
        child_namespace_pid: child.namespace_pid(),
        generation: forker.generation + 1,
        kind: process.kind,
        hazards: process.hazards,
        reserved: [0; 2],
        comm: parent.comm(),
    };
    room.submit(counters, record);
    say!(
        FORK,
        debug,
        "process {}: fork of {} told, hazards {}",
        tgid = forker.tgid,
        child = child.tgid(),
        hazards = process.hazards
    );
}

/// What a fork needs of its parent.
struct Forker {
    tgid: u32,
    start: u64,
    uid: u32,
    cgroup: u64,
    threads: u32,
    generation: u32,
    blocked: u64,
    pending_thread: u64,
    pending_shared: u64,
}

impl Forker {
    #[inline(always)]
    fn read(parent: Task, signal: Signal) -> Self {
        let (tgid, leader, blocked) = (parent.tgid(), parent.leader(), parent.blocked());
        Self {
            tgid,
            start: leader.start(),
            uid: task::current_uid(),
            cgroup: task::current_cgroup(),
            threads: worker::user_threads(tgid, signal),
            generation: family::generation(leader),
            blocked,
            pending_thread: parent.pending() & blocked,
            pending_shared: signal.pending() & blocked,
        }
    }
}

/// What is decided of a new process.
struct Process {
    kind: u8,
    hazards: u8,
    /// Whether the ring is for such ones.
    asked: bool,
    /// Whether something must be remembered of it that its own task will not tell.
    has_history: bool,
}

/// A process that shares memory, until it execs (vfork) or for good. It inherits no hazard.
#[inline(always)]
fn sharing_created(child: Task) -> Process {
    let kind = sharing::kind_of(child);
    Process {
        kind,
        hazards: 0,
        // Who shares a child's memory may release its locks: that there is such a one must always be known.
        asked: kind == kind::SHARED_MEMORY || STREAM.load() & stream::SHARING != 0,
        has_history: true,
    }
}

/// A process with its own copy of the memory: the kind that inherits hazards.
#[inline(always)]
fn copy_created(counters: &Counters, child: Task, forker: &Forker) -> Process {
    let mut hazards = 0;
    if forker.threads > 1 {
        hazards |= hazard::THREADS;
        observe(&counters.parent_threads, &BOUNDS, u64::from(forker.threads));
        add(&counters.parent_threads_sum, u64::from(forker.threads));
        add(&counters.multithreaded, 1);
    }
    if forker.pending_thread | forker.pending_shared != 0 {
        hazards |= hazard::PENDING;
        add(&counters.pending, 1);
    }
    Process {
        kind: kind::COPYING,
        hazards,
        asked: hazards != 0 || STREAM.load() & stream::PLAIN != 0,
        // Its forker was a child itself, signals are blocked that matter at exec, or it is not its forker's child
        // (CLONE_PARENT).
        has_history: forker.generation > 0
            || forker.blocked & LIFE_SIGNALS != 0
            || child.execs_since_fork() != 0,
    }
}
