//! `sched_process_fork`: a task was created, and has not run yet.

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};
use forkwatch_ebpf::{
    Counters, Family, ForkRecord, THREAD_BOUNDS, ThreadRecord, call, fate, flag, hazard, kind, record, stream,
};

use crate::{
    clone_calls,
    counters::{add, count_for_cgroup, counters, nonzero, observe},
    family,
    ring::{self, Label, Record},
    settings::STREAM,
    task::Task,
    vfork, wanted, worker,
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

// SAFETY: both are `repr(C)` without padding and start with a header (asserted beside them).
unsafe impl Record for ForkRecord {}
// SAFETY: likewise.
unsafe impl Record for ThreadRecord {}

/// `TP_PROTO(struct task_struct *parent, struct task_struct *child)`, include/trace/events/sched.h. The parent
/// is the current task.
#[btf_tracepoint(function = "sched_process_fork")]
fn sched_process_fork(context: BtfTracePointContext) -> i32 {
    let (parent, child) = (Task::new(context.arg(0)), Task::new(context.arg(1)));
    let Some(counters) = counters() else { return 0 };
    if child.same_process(parent) {
        clone_calls::made(call::THREAD);
        thread_created(counters, parent, child);
    } else if !child.has_memory() {
        add(&counters.events[kind::KERNEL as usize][fate::FILTERED], 1);
    } else if child.same_memory(parent) {
        clone_calls::made(call::SHARING);
        sharing_created(counters, parent, child);
    } else {
        clone_calls::made(call::COPYING);
        copy_created(counters, parent, child);
    }
    0
}

#[inline(always)]
fn thread_created(counters: &Counters, parent: Task, child: Task) {
    const CLASS: usize = kind::THREAD as usize;
    if STREAM.load() & stream::THREADS == 0 || !wanted::passes_filters(parent.tgid(), || parent.uid()) {
        return add(&counters.events[CLASS][fate::FILTERED], 1);
    }
    let label = Label { record: record::THREAD, flags: 0, time: child.start(), hazardous: false };
    let Some(room) = ring::reserve(counters, CLASS, label) else { return };
    let record = ThreadRecord {
        header: room.header,
        tgid: parent.tgid(),
        parent_tid: parent.tid(),
        tid: child.tid(),
        threads: parent.live(),
        comm: parent.comm(),
    };
    room.submit(counters, record);
}

/// A process that shares memory, until it execs (vfork) or for good.
#[inline(always)]
fn sharing_created(counters: &Counters, parent: Task, child: Task) {
    let kind = vfork::kind_of(child);
    let fates = if kind == kind::VFORK { kind::VFORK } else { kind::SHARED_MEMORY } as usize;
    let process = Process::new(parent, child, kind, worker::user_threads(parent));
    count_for_cgroup(counters, process.cgroup, false);
    wanted::adopt(parent, child);
    if STREAM.load() & stream::SHARING == 0 || !wanted::is_wanted(parent) {
        return add(&counters.events[fates][fate::FILTERED], 1);
    }
    let untracked = process.enter(flag::STREAMED);
    process.write(counters, fates, flag::STREAMED | untracked);
}

/// A process with its own copy of the memory: the kind that inherits hazards.
#[inline(always)]
fn copy_created(counters: &Counters, parent: Task, child: Task) {
    let threads = worker::user_threads(parent);
    let process = Process::new(parent, child, kind::COPYING, threads);
    count_for_cgroup(counters, process.cgroup, true);
    wanted::adopt(parent, child);
    if threads > 1 {
        observe(&counters.parent_threads, &BOUNDS, u64::from(threads));
        add(&counters.parent_threads_sum, u64::from(threads));
        add(&counters.multithreaded, 1);
    }
    if process.hazards & hazard::PENDING != 0 {
        add(&counters.pending, 1);
    }

    let asked = process.hazards != 0 || STREAM.load() & stream::PLAIN != 0;
    let streamed = asked && wanted::is_wanted(parent);
    let flags = if streamed { flag::STREAMED } else { 0 };
    let untracked = process.enter(flags);
    if untracked != 0 {
        add(&counters.untracked, 1);
    }
    if !streamed {
        return add(&counters.events[kind::COPYING as usize][fate::FILTERED], 1);
    }
    process.write(counters, kind::COPYING as usize, flags | untracked);
}

/// What is known of a new process.
struct Process {
    parent: Task,
    child: Task,
    kind: u8,
    threads: u32,
    hazards: u8,
    cgroup: u64,
    blocked: u64,
    pending_thread: u64,
    pending_shared: u64,
    generation: u32,
}

impl Process {
    #[inline(always)]
    fn new(parent: Task, child: Task, kind: u8, threads: u32) -> Self {
        let blocked = parent.blocked();
        let (pending_thread, pending_shared) =
            (parent.pending() & blocked, parent.pending_shared() & blocked);
        Self {
            parent,
            child,
            kind,
            threads,
            hazards: nonzero(u64::from(threads.saturating_sub(1))) * hazard::THREADS
                | nonzero(pending_thread | pending_shared) * hazard::PENDING,
            cgroup: parent.cgroup(),
            blocked,
            pending_thread,
            pending_shared,
            generation: if parent.leader().is_unexeced() { family::generation(parent.tgid()) + 1 } else { 1 },
        }
    }

    /// Enters the child into the family. Returns [`flag::UNTRACKED`] where there is no room, else 0.
    #[inline(always)]
    fn enter(&self, flags: u8) -> u8 {
        let entry = Family {
            start: self.child.start(),
            blocked: self.blocked,
            parent_tgid: self.parent.tgid(),
            generation: self.generation,
            kind: self.kind,
            hazards: self.hazards,
            flags,
            reserved: [0; 5],
        };
        family::enter(self.child.tgid(), &entry) * flag::UNTRACKED
    }

    #[inline(always)]
    fn write(&self, counters: &Counters, class: usize, flags: u8) {
        let Self { parent, child, .. } = *self;
        let start = child.start();
        let label = Label { record: record::FORK, flags, time: start, hazardous: self.hazards != 0 };
        let Some(room) = ring::reserve(counters, class, label) else { return };
        let record = ForkRecord {
            header: room.header,
            parent_start: parent.leader().start(),
            child_start: start,
            cgroup: self.cgroup,
            pending_thread: self.pending_thread,
            pending_shared: self.pending_shared,
            blocked: self.blocked,
            parent_tgid: parent.tgid(),
            parent_tid: parent.tid(),
            uid: parent.uid(),
            threads: self.threads,
            child_tgid: child.tgid(),
            child_namespace_pid: child.namespace_pid(),
            generation: self.generation,
            kind: self.kind,
            hazards: self.hazards,
            reserved: [0; 2],
            comm: parent.comm(),
        };
        room.submit(counters, record);
    }
}
