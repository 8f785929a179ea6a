//! Processes of whose children every end is told, also a good one: attached while it is asked whether children that die
//! are all that a process forks.

use aya_ebpf::{
    helpers::bpf_get_current_pid_tgid,
    macros::{btf_tracepoint, map},
    maps::HashMap,
    programs::BtfTracePointContext,
};

use crate::{family, task::Task};

/// Tgids.
#[map]
static PARENTS: HashMap<u32, u8> = HashMap::with_max_entries(256, 0);

/// On `sched_process_fork`, behind the program that is always attached. A child that shares memory has no life of its
/// own before its exec.
#[btf_tracepoint(function = "sched_process_fork")]
fn parent_forks(context: BtfTracePointContext) -> i32 {
    let parent_tgid = (bpf_get_current_pid_tgid() >> 32) as u32;
    if PARENTS.get_ptr(&parent_tgid).is_none() {
        return 0;
    }
    let (parent, child) = (Task::new(context.arg(0)), Task::new(context.arg(1)));
    if child.memory() != parent.memory() {
        family::stream(child, parent_tgid);
        say!(
            PARENTS,
            debug,
            "process {}: fork of {}, whose end will be told",
            tgid = parent_tgid,
            child = child.tgid()
        );
    }
    0
}
