//! `sched_process_exec`: a process has replaced its program. Its comm is the new one already, its threads are
//! gone, and its main thread is the one that called exec, whichever that was (`de_thread`, fs/exec.c).

use aya_ebpf::{
    helpers::generated::bpf_ktime_get_boot_ns, macros::btf_tracepoint, programs::BtfTracePointContext,
};
use forkwatch_ebpf::{ExecRecord, LATENCY_BOUNDS, class, fate, flag, hazard, kind, outcome, record};

use crate::{
    counters::{add, counters, observe},
    family,
    ring::{self, Label, Record},
    settings::GRACE,
    task::Task,
    wanted,
};

// SAFETY: `repr(C)` without padding, and starts with a header (asserted beside it).
unsafe impl Record for ExecRecord {}

/// Signals that ask a program to end, or tell it that a child has: hangup, interrupt, quit, terminate, child.
const LIFE_SIGNALS: u64 = 1 << 0 | 1 << 1 | 1 << 2 | 1 << 14 | 1 << 16;

/// `TP_PROTO(struct task_struct *p, pid_t old_pid, struct linux_binprm *bprm)`, include/trace/events/sched.h.
#[btf_tracepoint(function = "sched_process_exec")]
fn sched_process_exec(context: BtfTracePointContext) -> i32 {
    let task = Task::new(context.arg(0));
    let Some(counters) = counters() else { return 0 };
    let tgid = task.tgid();
    let family = family::take(tgid);
    // SAFETY: a helper without arguments.
    let now = unsafe { bpf_ktime_get_boot_ns() };

    let mut since_fork = 0;
    let mut hazards = 0;
    let mut streamed = false;
    if let Some(family) = family {
        since_fork = now.saturating_sub(family.start);
        hazards = family.hazards;
        streamed = family.flags & flag::STREAMED != 0;
        if family.kind == kind::COPYING {
            observe(&counters.exec_latency.buckets, &LATENCY_BOUNDS, since_fork);
            add(&counters.exec_latency.sum, since_fork);
            let late = since_fork > GRACE.load();
            add(&counters.outcomes[if late { outcome::LATE_EXEC } else { outcome::EXEC }], 1);
        }
    }
    let blocked = task.blocked();
    if blocked & LIFE_SIGNALS != 0 {
        hazards |= hazard::BLOCKED;
        streamed = streamed || wanted::is_wanted(task);
    }
    if !streamed {
        add(&counters.events[class::EXEC][fate::FILTERED], 1);
        return 0;
    }
    let label = Label { record: record::EXEC, flags: 0, time: now, hazardous: hazards != 0 };
    let Some(room) = ring::reserve(counters, class::EXEC, label) else { return 0 };
    let record = ExecRecord {
        header: room.header,
        start: task.start(),
        since_fork,
        blocked,
        blocked_at_fork: family.map_or(0, |family| family.blocked),
        cgroup: task.cgroup(),
        tgid,
        from_tid: context.arg(1),
        parent_tgid: match family {
            Some(family) => family.parent_tgid,
            None => task.real_parent().tgid(),
        },
        uid: task.uid(),
        kind: family.map_or(0, |family| family.kind),
        hazards,
        reserved: [0; 6],
        comm: task.comm(),
    };
    room.submit(counters, record);
    0
}
