//! What is due when.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, VecDeque},
};

use crate::model::{process::ProcessKey, time::BootTime};

/// What is to be done about a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Task {
    /// Look whether the child lives on.
    Child,
    /// Look which threads of the parent live still.
    Parent,
    /// Look at a program that started with signals blocked.
    Program,
    /// Look at a child that lives on.
    Living,
    /// Judge the use of the connection with this inode number.
    Connection(u64),
    /// Look whether children of a process still die one after the other.
    Loop,
    /// Look whether the good ends of a process's children still matter.
    Family,
    /// Look which threads a child has.
    Threads,
    /// Look whether a child that lives on holds what was left behind.
    Leaks,
}

/// A task that is due at a time. Nothing is ever cancelled: whoever takes a timer out checks that it still counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Timer {
    pub(super) due: BootTime,
    pub(super) process: ProcessKey,
    pub(super) task: Task,
}

/// Timers by time. Nearly all are set for the same delay, so they come in order and a queue serves them for next to
/// nothing; the rest goes into a heap.
#[derive(Default)]
pub(super) struct Timers {
    in_order: VecDeque<Timer>,
    others: BinaryHeap<Reverse<Timer>>,
}

impl Timers {
    pub(super) fn set(&mut self, timer: Timer) {
        if self.in_order.back().is_none_or(|last| last.due <= timer.due) {
            self.in_order.push_back(timer);
        } else {
            self.others.push(Reverse(timer));
        }
    }

    /// When the next is due. The end of time never comes.
    pub(super) fn deadline(&self) -> Option<BootTime> {
        let queued = self.in_order.front().map(|timer| timer.due);
        let other = self.others.peek().map(|Reverse(timer)| timer.due);
        queued.into_iter().chain(other).min().filter(|due| due.0 != u64::MAX)
    }

    /// Takes out the next that is due by now.
    pub(super) fn take(&mut self, now: BootTime) -> Option<Timer> {
        let due = self.deadline().filter(|due| *due <= now)?;
        if self.in_order.front().is_some_and(|timer| timer.due == due) {
            self.in_order.pop_front()
        } else {
            self.others.pop().map(|Reverse(timer)| timer)
        }
    }

    pub(super) fn len(&self) -> usize {
        self.in_order.len() + self.others.len()
    }

    /// Throws away what no longer counts.
    pub(super) fn retain(&mut self, counts: impl Fn(&Timer) -> bool) {
        self.in_order.retain(&counts);
        self.others.retain(|Reverse(timer)| counts(timer));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn timer(due: u64) -> Timer {
        let process = ProcessKey { tgid: 1, start: BootTime(0) };
        Timer { due: BootTime(due), process, task: Task::Child }
    }

    proptest! {
        #[test]
        fn timers_come_out_by_time_whatever_the_order_they_were_set_in(dues in prop::collection::vec(0..100_u64, 0..60)) {
            let mut timers = Timers::default();
            for due in &dues {
                timers.set(timer(*due));
            }
            let mut out = Vec::new();
            while let Some(due) = timers.deadline() {
                prop_assert!(due.0 == 0 || timers.take(BootTime(due.0 - 1)).is_none());
                out.push(timers.take(due).unwrap().due.0);
            }
            let mut sorted = dues;
            sorted.sort_unstable();
            prop_assert_eq!(out, sorted);
        }
    }

    #[test]
    fn the_end_of_time_is_never_due() {
        let mut timers = Timers::default();
        timers.set(timer(u64::MAX));
        assert_eq!(timers.deadline(), None);
        assert_eq!(timers.take(BootTime(u64::MAX)), None);
    }
}
