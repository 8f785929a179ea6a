//! `sched_process_exec`: a process has replaced its program. Its comm is the new one already, its threads are
//! gone, and its main thread is the one that called exec, whichever that was (`de_thread`, fs/exec.c).

use aya_ebpf::{
    helpers::generated::bpf_ktime_get_boot_ns, macros::btf_tracepoint, programs::BtfTracePointContext,
};
use forkwatch_ebpf::{ExecRecord, LATENCY_BOUNDS, class, fate, flag, hazard, kind, outcome, record};

use crate::{
    counters::{add, counters, observe},
    family,
    ring::{self, Label, ring_record},
    settings::{GRACE, LIFE_SIGNALS},
    task::{self, Task},
    wanted,
};

ring_record!(ExecRecord, EXEC);

/// `TP_PROTO(struct task_struct *p, pid_t old_pid, struct linux_binprm *bprm)`, include/trace/events/sched.h.
#[btf_tracepoint(function = "sched_process_exec")]
fn sched_process_exec(context: BtfTracePointContext) -> i32 {
    let task = Task::new(context.arg(0));
    let Some(counters) = counters() else { return 0 };
    let (tgid, parent, uid, cgroup) =
        (task.tgid(), task.real_parent(), task::current_uid(), task::current_cgroup());
    let entry = family::take(task);
    // SAFETY: a helper without arguments.
    let now = unsafe { bpf_ktime_get_boot_ns() };

    // What was not entered is known by its own task; a helper of the kernel (`call_usermodehelper`) is nobody's fork.
    let forked = match entry {
        Some(entry) => Some(entry.kind),
        None if task.execs_since_fork() == 1 && !parent.is_kernel() => Some(kind::COPYING),
        None => None,
    };
    // Set from here on, whichever way it came: the compiler may load before a condition what only one side of it has
    // stored, and verifiers before 6.3 (commit 6715df8d5d24) refuse to load what may never have been stored.
    let family = match entry {
        Some(entry) => entry,
        None => family::plain(task, parent.tgid()),
    };
    // The task's own, to the nanosecond: an entry that user space made may have it by the tick.
    let start = task.start();
    let mut since_fork = 0;
    if let Some(kind) = forked {
        since_fork = now.saturating_sub(start);
        if kind == kind::COPYING {
            observe(&counters.exec_latency.buckets, &LATENCY_BOUNDS, since_fork);
            add(&counters.exec_latency.sum, since_fork);
            let late = since_fork > GRACE.load();
            add(&counters.outcomes[if late { outcome::LATE_EXEC } else { outcome::EXEC }], 1);
        }
    }
    let mut hazards = family.hazards;
    let (mut streamed, followed) = (family.flags & flag::STREAMED != 0, family.flags & flag::FOLLOWED != 0);
    let blocked = task.blocked();
    if blocked & LIFE_SIGNALS != 0 {
        hazards |= hazard::BLOCKED;
        streamed = streamed || wanted::is_wanted(task);
    }
    if !streamed {
        if hazards & hazard::BLOCKED != 0 {
            say_unwanted!(EXEC, tgid, uid);
        } else {
            say!(
                EXEC,
                debug,
                "process {}: exec not told, neither was its fork, and no signal is blocked",
                tgid = tgid
            );
        }
        add(&counters.events[class::EXEC][fate::FILTERED], 1);
        return 0;
    }
    let label = Label { record: record::EXEC, flags: 0, time: now, hazardous: hazards != 0 || followed };
    let Some(room) = ring::reserve(counters, class::EXEC, label) else { return 0 };
    let record = ExecRecord {
        header: room.header,
        start,
        since_fork,
        blocked,
        blocked_at_fork: family.blocked,
        cgroup,
        tgid,
        from_tid: context.arg(1),
        parent_tgid: family.parent_tgid,
        uid,
        kind: forked.unwrap_or(0),
        hazards,
        reserved: [0; 6],
        comm: task.comm(),
    };
    room.submit(counters, record);
    say!(EXEC, debug, "process {}: exec told, hazards {}", tgid = tgid, hazards = hazards);
    0
}
