//! `task_newtask`: what `sched_process_fork`, which follows at once, cannot know of a new task.

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};

use crate::{task::Task, vfork, worker};

/// `TP_PROTO(struct task_struct *task, u64 clone_flags)`, include/trace/events/task.h.
#[btf_tracepoint(function = "task_newtask")]
fn task_newtask(context: BtfTracePointContext) -> i32 {
    let task = Task::new(context.arg(0));
    if task.is_worker() {
        worker::created(task);
    } else if vfork::is_vfork(context.arg(1)) {
        vfork::mark(task);
    }
    0
}
