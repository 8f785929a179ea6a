//! The filters: whose forks enter the ring.

use aya_ebpf::{helpers::bpf_get_current_ancestor_cgroup_id, macros::map, maps::HashMap};
use forkwatch_ebpf::filter;

use crate::{
    settings::{ANCESTORS_ARE_TOLD, FILTER, FILTER_CGROUP, FILTER_CGROUP_LEVEL, FILTER_UID, OWN_TGID},
    task::{self, Task},
};

#[map]
static WANTED: HashMap<u32, u8> = HashMap::with_max_entries(16384, 0);

/// Whether the current task, which `task` is, passes every filter; forkwatch itself does, for its self-test's sake.
#[inline(always)]
pub(crate) fn is_wanted(task: Task) -> bool {
    task.tgid() == OWN_TGID.load() || passes_filters(task)
}

/// Whether the current task, which `task` is, passes every filter.
#[inline(always)]
pub(crate) fn passes_filters(task: Task) -> bool {
    has_wanted_ancestor(task.tgid()) && passes_others(task)
}

/// Whether the current task, which `task` is, passes every filter but that of tasks.
#[inline(always)]
pub(crate) fn passes_others(task: Task) -> bool {
    is_wanted_user(task::current_uid) && is_in_wanted_cgroup(|| task.is_within(FILTER_CGROUP.load()))
}

/// Whether the current task, of this process and user, passes every filter, where its `task_struct` is not at hand:
/// before Linux 5.15 none has to be of cgroups.
#[inline(always)]
pub(crate) fn is_wanted_caller(tgid: u32, uid: u32) -> bool {
    has_wanted_ancestor(tgid) && is_wanted_user(|| uid) && is_in_wanted_cgroup(|| false)
}

#[inline(always)]
fn has_wanted_ancestor(tgid: u32) -> bool {
    FILTER.load() & filter::TASKS == 0 || WANTED.get_ptr(&tgid).is_some()
}

#[inline(always)]
fn is_wanted_user(uid: impl FnOnce() -> u32) -> bool {
    FILTER.load() & filter::UID == 0 || uid() == FILTER_UID.load()
}

/// `walk` finds it out where the kernel does not tell a program of this type.
#[inline(always)]
fn is_in_wanted_cgroup(walk: impl FnOnce() -> bool) -> bool {
    if FILTER.load() & filter::CGROUP == 0 {
        return true;
    }
    if ANCESTORS_ARE_TOLD.load() == 0 {
        return walk();
    }
    // SAFETY: a helper that takes a number; it returns 0 for a level the task's cgroup does not have.
    let ancestor = unsafe { bpf_get_current_ancestor_cgroup_id(FILTER_CGROUP_LEVEL.load() as i32) };
    ancestor == FILTER_CGROUP.load()
}

/// The first filter that refuses the current task, of this process and user, where one does.
#[cfg(feature = "kernel-log")]
#[inline(always)]
pub(crate) fn refusal(tgid: u32, uid: u32) -> u32 {
    if !has_wanted_ancestor(tgid) {
        filter::TASKS
    } else if !is_wanted_user(|| uid) {
        filter::UID
    } else {
        filter::CGROUP
    }
}

/// A wanted process has a child, which is wanted too.
#[inline(always)]
pub(crate) fn adopt(parent_tgid: u32, child: Task) {
    if FILTER.load() & filter::TASKS != 0 && WANTED.get_ptr(&parent_tgid).is_some() {
        if WANTED.insert(&child.tgid(), &1, 0).is_err() {
            say!(FORK, warn, "process {}: no room in the table of processes asked for", tgid = child.tgid());
        }
    }
}

/// A process has ended, and its tgid may be another's soon. Tells whether it passed the filter of tasks.
#[inline(always)]
pub(crate) fn forget(tgid: u32) -> bool {
    FILTER.load() & filter::TASKS == 0 || WANTED.remove(&tgid).is_ok()
}
