//! The filters: whose forks enter the ring.

use aya_ebpf::{helpers::bpf_get_current_ancestor_cgroup_id, macros::map, maps::HashMap};
use forkwatch_ebpf::filter;

use crate::{
    settings::{FILTER, FILTER_CGROUP, FILTER_CGROUP_LEVEL, FILTER_UID, OWN_TGID},
    task::Task,
};

#[map]
static WANTED: HashMap<u32, u8> = HashMap::with_max_entries(16384, 0);

/// Whether the current task, which `task` is, passes every filter; forkwatch itself does, for its self-test's sake.
#[inline(always)]
pub(crate) fn is_wanted(task: Task) -> bool {
    task.tgid() == OWN_TGID.load() || passes_filters(task.tgid(), || task.uid())
}

/// Whether the current task, of this process and user, passes every filter.
#[inline(always)]
pub(crate) fn passes_filters(tgid: u32, uid: impl FnOnce() -> u32) -> bool {
    if FILTER.load() & filter::TASKS != 0 && WANTED.get_ptr(&tgid).is_none() {
        return false;
    }
    passes_others(uid)
}

/// Whether the current task, of this user, passes every filter but that of tasks.
#[inline(always)]
pub(crate) fn passes_others(uid: impl FnOnce() -> u32) -> bool {
    let filters = FILTER.load();
    if filters & filter::UID != 0 && uid() != FILTER_UID.load() {
        return false;
    }
    if filters & filter::CGROUP != 0 {
        // SAFETY: a helper that takes a number; it returns 0 for a level the task's cgroup does not have.
        let ancestor = unsafe { bpf_get_current_ancestor_cgroup_id(FILTER_CGROUP_LEVEL.load() as i32) };
        return ancestor == FILTER_CGROUP.load();
    }
    true
}

/// A wanted process has a child, which is wanted too.
#[inline(always)]
pub(crate) fn adopt(parent_tgid: u32, child: Task) {
    if FILTER.load() & filter::TASKS != 0 && WANTED.get_ptr(&parent_tgid).is_some() {
        let _ = WANTED.insert(&child.tgid(), &1, 0);
    }
}

/// A process has ended, and its tgid may be another's soon. Tells whether it passed the filter of tasks.
#[inline(always)]
pub(crate) fn forget(tgid: u32) -> bool {
    FILTER.load() & filter::TASKS == 0 || WANTED.remove(&tgid).is_ok()
}
