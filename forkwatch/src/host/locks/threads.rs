//! The threads of a process, to be found by the tids that its locks hold.

use std::io;

use super::super::{stat::Stat, status::Status, task::MAX_TASKS};

/// Live threads of one process that run user code.
pub(in crate::host) struct Threads {
    /// From the oldest.
    pub(in crate::host) all: Vec<Stat>,
    pub(in crate::host) process: u32,
    /// The id of the process as it sees it itself.
    pub(in crate::host) own_id: u32,
    /// Whether the process has tids of its own.
    pub(in crate::host) namespaced: bool,
    /// Whether there may be more.
    pub(in crate::host) cut: bool,
}

impl Threads {
    /// These threads of that process.
    pub(in crate::host) fn new(process: &Stat, all: Vec<Stat>) -> io::Result<Self> {
        let Status { own_id, namespaced, .. } = Status::of_thread(process.id, process.id)?;
        let cut = usize::try_from(process.threads).is_ok_and(|threads| threads > MAX_TASKS);
        Ok(Self { all, process: process.id, own_id, namespaced, cut })
    }

    /// The one that calls itself by that tid.
    pub(in crate::host) fn named(&self, own_tid: u32) -> Option<&Stat> {
        self.all.iter().find(|thread| {
            if self.namespaced {
                Status::of_thread(self.process, thread.id).is_ok_and(|status| status.own_id == own_tid)
            } else {
                thread.id == own_tid
            }
        })
    }
}
