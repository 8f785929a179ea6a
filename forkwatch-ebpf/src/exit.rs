//! `sched_process_exit`: a task ends. It has left its process's count of live threads already (`do_exit`,
//! kernel/exit.c), so a count of zero means that the process ends with it.

use aya_ebpf::{
    helpers::generated::bpf_ktime_get_boot_ns, macros::btf_tracepoint, programs::BtfTracePointContext,
};
use forkwatch_ebpf::{ExitRecord, class, fate, flag, kind, outcome, record};

use crate::{
    counters::{add, counters},
    family,
    ring::{self, Label, ring_record},
    settings::GRACE,
    task::Task,
    wanted, worker,
};

ring_record!(ExitRecord, EXIT);

/// `TP_PROTO(struct task_struct *p)`, with a second argument since 6.16; include/trace/events/sched.h.
#[btf_tracepoint(function = "sched_process_exit")]
fn sched_process_exit(context: BtfTracePointContext) -> i32 {
    let task = Task::new(context.arg(0));
    let (signal, leader) = (task.signal(), task.leader());
    if task.is_worker() {
        worker::ended(task);
    }
    if signal.live() != 0 {
        return 0;
    }
    let tgid = task.tgid();
    let is_child = leader.is_unexeced() && !leader.is_kernel();
    // Workers are threads: where no other is left, each has been counted out by itself.
    let several = signal.unreaped() > 1;
    if several {
        worker::forget(tgid);
        // The last threads of a process may all find none alive, if they exit at once; one of them counts.
        if is_child && !family::claim_end(leader) {
            say!(EXIT, debug, "process {}: its end is told by another of its threads", tgid = tgid);
            return 0;
        }
    }
    let wanted = wanted::forget(tgid);
    if !is_child {
        return 0;
    }
    let parent = leader.real_parent();
    let family = match family::take(leader) {
        Some(family) => family,
        // A helper of the kernel that found nothing to exec is nobody's fork.
        None if parent.is_kernel() => return 0,
        None => family::plain(leader, parent.tgid()),
    };
    let Some(counters) = counters() else { return 0 };
    // SAFETY: a helper without arguments.
    let now = unsafe { bpf_ktime_get_boot_ns() };
    // The task's own, to the nanosecond: an entry that user space made may have it by the tick.
    let start = leader.start();
    let lifetime = now.saturating_sub(start);
    let status = signal.wait_status(leader);
    let mut streamed = family.flags & flag::STREAMED != 0;
    if family.kind == kind::COPYING {
        let outcome = if status & 0x7f != 0 {
            outcome::KILLED
        } else if lifetime > GRACE.load() {
            outcome::LATE_EXIT
        } else {
            outcome::EXIT
        };
        add(&counters.outcomes[outcome], 1);
        // An end like that may be the work of what the child inherited, so it is told though nobody streams the fork.
        if !streamed && status != 0 {
            streamed = wanted && wanted::passes_others(task);
        }
    }
    if !streamed {
        if status == 0 {
            say!(
                EXIT,
                debug,
                "process {}: end not told, neither was its fork, and it ended well",
                tgid = tgid
            );
        } else if family.kind != kind::COPYING {
            say!(
                EXIT,
                debug,
                "process {}: end not told, neither was its fork, which shared memory",
                tgid = tgid
            );
        } else {
            say!(EXIT, debug, "process {}: end not told, a filter keeps it out", tgid = tgid);
        }
        add(&counters.events[class::EXIT][fate::FILTERED], 1);
        return 0;
    }
    let hazardous = family.hazards != 0 || family.flags & flag::FOLLOWED != 0;
    let label = Label { record: record::EXIT, flags: 0, time: now, hazardous };
    let Some(room) = ring::reserve(counters, class::EXIT, label) else { return 0 };
    let record = ExitRecord {
        header: room.header,
        start,
        lifetime,
        tgid,
        parent_tgid: family.parent_tgid,
        status,
        kind: family.kind,
        hazards: family.hazards,
        reserved: [0; 2],
        comm: task.comm(),
    };
    room.submit(counters, record);
    say!(EXIT, debug, "process {}: end told, status {}", tgid = tgid, status = status);
    0
}
