//! `task_newtask`: what `sched_process_fork`, which follows at once, cannot know of a new task.

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};

use crate::{sharing, task::Task, worker};

/// `TP_PROTO(struct task_struct *task, u64 clone_flags)`, include/trace/events/task.h.
#[btf_tracepoint(function = "task_newtask")]
fn task_newtask(context: BtfTracePointContext) -> i32 {
    let task = Task::new(context.arg(0));
    let flags: u64 = context.arg(1);
    if task.is_worker() {
        worker::created(task);
    } else if sharing::is_made_by(flags) && !task.memory().is_null() {
        sharing::enter(task, flags);
    }
    0
}
