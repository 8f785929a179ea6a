//! The threads of a process, to be found by the tids that its locks hold.

use super::super::{
    stat::Stat,
    status::Sleep,
    task::{self, MAX_TASKS},
};

/// Live threads of one process that run user code.
pub(super) struct Threads {
    /// From the oldest.
    pub(super) all: Vec<Stat>,
    process: u32,
    /// Whether the process has tids of its own.
    pub(super) namespaced: bool,
    /// Whether there may be more.
    pub(super) cut: bool,
}

impl Threads {
    /// Those of the process; absent where it has ended.
    pub(super) fn of_process(process: &Stat) -> Option<Self> {
        let all = if process.threads > 1 { task::user_threads(process.id).ok()? } else { vec![*process] };
        let namespaced = Sleep::of_thread(process.id, process.id).ok()?.namespaced;
        let cut = usize::try_from(process.threads).is_ok_and(|threads| threads > MAX_TASKS);
        Some(Self { all, process: process.id, namespaced, cut })
    }

    /// The one that calls itself by that tid.
    pub(super) fn named(&self, own_tid: u32) -> Option<&Stat> {
        self.all.iter().find(|thread| {
            if self.namespaced {
                Sleep::of_thread(self.process, thread.id).is_ok_and(|sleep| sleep.own_tid == own_tid)
            } else {
                thread.id == own_tid
            }
        })
    }
}
