//! What is due when.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap, VecDeque},
};

use crate::model::{process::ProcessKey, time::BootTime};

/// Timers that no longer count are thrown away when there are this many more than could count.
const IDLE: usize = 1 << 16;

/// Who set a timer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Setter {
    /// The core, to look whether a child lives on. Its entry says which timer counts.
    Child,
    /// The core, to look at the process that forked a child. The child's entry says which timer counts.
    Forker,
    /// The detector with this place in the list.
    Detector(usize),
}

/// Something to do about a process at a time. Nothing is ever cancelled: a timer that no longer counts is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Timer {
    pub(super) due: BootTime,
    pub(super) process: ProcessKey,
    pub(super) setter: Setter,
    /// What of several things it is about, as the detector numbers them.
    pub(super) topic: u64,
}

/// Timers by time. Nearly all are set for the same delay, so they come in order and a queue serves them for next to
/// nothing; the rest goes into a heap.
#[derive(Default)]
pub(super) struct Scheduler {
    in_order: VecDeque<Timer>,
    others: BinaryHeap<Reverse<Timer>>,
    /// When a detector is to be called for a process and a topic: the timer that was set last.
    last: HashMap<(Setter, ProcessKey, u64), BootTime>,
}

impl Scheduler {
    /// Sets a timer. One that the same detector has set for the same process and topic counts no more.
    pub(super) fn set(&mut self, timer: Timer) {
        if matches!(timer.setter, Setter::Detector(_)) {
            self.last.insert((timer.setter, timer.process, timer.topic), timer.due);
        }
        if self.in_order.back().is_none_or(|last| last.due <= timer.due) {
            self.in_order.push_back(timer);
        } else {
            self.others.push(Reverse(timer));
        }
    }

    /// Whether a detector's timer is the last that it set for this.
    pub(super) fn counts(&self, timer: &Timer) -> bool {
        self.last.get(&(timer.setter, timer.process, timer.topic)) == Some(&timer.due)
    }

    /// When the detector with this place is called next about a process.
    #[cfg(test)]
    pub(super) fn due(&self, place: usize, process: ProcessKey) -> Option<BootTime> {
        self.last.get(&(Setter::Detector(place), process, 0)).copied()
    }

    /// Has no timer count any more that a detector has set for a process and a topic.
    pub(super) fn cancel(&mut self, setter: Setter, process: ProcessKey, topic: u64) {
        self.last.remove(&(setter, process, topic));
    }

    /// Whether a detector waits for anything.
    pub(super) fn waits(&self, setter: Setter) -> bool {
        self.last.keys().any(|(by, ..)| *by == setter)
    }

    /// Takes out all that a detector waits for, by time.
    pub(super) fn take_all(&mut self, setter: Setter) -> Vec<Timer> {
        let taken = self.last.extract_if(|(by, ..), _| *by == setter);
        let mut timers: Vec<Timer> =
            taken.map(|((setter, process, topic), due)| Timer { due, process, setter, topic }).collect();
        timers.sort_unstable();
        timers
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

    /// Whether there are many more timers than can count, where so many of the core's own can.
    pub(super) fn is_crowded(&self, of_core: usize) -> bool {
        self.in_order.len() + self.others.len() > IDLE + of_core + self.last.len()
    }

    /// Throws away what no longer counts; of the core's own timers that is for `of_core` to say.
    pub(super) fn tidy(&mut self, of_core: impl Fn(&Timer) -> bool) {
        let Self { in_order, others, last } = self;
        let counts = |timer: &Timer| match timer.setter {
            Setter::Child | Setter::Forker => of_core(timer),
            Setter::Detector(_) => last.get(&(timer.setter, timer.process, timer.topic)) == Some(&timer.due),
        };
        in_order.retain(counts);
        others.retain(|Reverse(timer)| counts(timer));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn timer(due: u64) -> Timer {
        let process = ProcessKey { tgid: 1, start: BootTime(0) };
        Timer { due: BootTime(due), process, setter: Setter::Detector(0), topic: 0 }
    }

    proptest! {
        #[test]
        fn timers_come_out_by_time_whatever_the_order_they_were_set_in(dues in prop::collection::vec(0..100_u64, 0..60)) {
            let mut scheduler = Scheduler::default();
            for due in &dues {
                scheduler.set(timer(*due));
            }
            let mut out = Vec::new();
            while let Some(due) = scheduler.deadline() {
                prop_assert!(due.0 == 0 || scheduler.take(BootTime(due.0 - 1)).is_none());
                out.push(scheduler.take(due).unwrap().due.0);
            }
            let mut sorted = dues;
            sorted.sort_unstable();
            prop_assert_eq!(out, sorted);
        }
    }

    #[test]
    fn the_end_of_time_is_never_due() {
        let mut scheduler = Scheduler::default();
        scheduler.set(timer(u64::MAX));
        assert_eq!(scheduler.deadline(), None);
        assert_eq!(scheduler.take(BootTime(u64::MAX)), None);
    }

    #[test]
    fn of_several_timers_for_the_same_the_last_counts() {
        let mut scheduler = Scheduler::default();
        scheduler.set(timer(5));
        scheduler.set(timer(3));
        let first = scheduler.take(BootTime(9)).unwrap();
        assert!(first.due == BootTime(3) && scheduler.counts(&first));
        scheduler.cancel(first.setter, first.process, first.topic);
        let second = scheduler.take(BootTime(9)).unwrap();
        assert!(!scheduler.counts(&second));
    }

    #[test]
    fn what_is_cancelled_counts_no_more() {
        let mut scheduler = Scheduler::default();
        scheduler.set(timer(5));
        scheduler.set(Timer { topic: 1, ..timer(6) });
        scheduler.cancel(Setter::Detector(0), timer(0).process, 0);
        let first = scheduler.take(BootTime(9)).unwrap();
        let second = scheduler.take(BootTime(9)).unwrap();
        let counts = [first, second].map(|timer| scheduler.counts(&timer));
        assert_eq!(counts, [false, true]);
    }

    #[test]
    fn what_no_longer_counts_is_thrown_away() {
        let mut scheduler = Scheduler::default();
        for due in 0..200_000 {
            scheduler.set(timer(due));
            if scheduler.is_crowded(0) {
                scheduler.tidy(|_| false);
                assert_eq!((scheduler.in_order.len(), scheduler.others.len()), (1, 0));
            }
        }
        assert!(scheduler.in_order.len() <= IDLE + 1);
        let mut left = std::iter::from_fn(|| scheduler.take(BootTime(u64::MAX - 1))).collect::<Vec<_>>();
        left.retain(|timer| scheduler.counts(timer));
        assert_eq!(left.iter().map(|timer| timer.due.0).collect::<Vec<_>>(), [199_999]);
    }
}
