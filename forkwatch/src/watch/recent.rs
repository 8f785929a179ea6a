//! A bounded memory of processes.

use std::collections::{HashMap, VecDeque};

use crate::model::{process::ProcessKey, time::BootTime};

/// What is known of the processes that were entered last; the longest untouched is forgotten when it is full.
pub(super) struct Recent<V> {
    capacity: usize,
    slots: HashMap<u32, Slot<V>>,
    /// Touches, oldest first; one that is not its slot's last counts no more.
    touched: VecDeque<(u64, u32)>,
    touches: u64,
}

struct Slot<V> {
    start: BootTime,
    touch: u64,
    value: V,
}

impl<V> Recent<V> {
    pub(super) fn new(capacity: usize) -> Self {
        Self { capacity, slots: HashMap::new(), touched: VecDeque::new(), touches: 0 }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether the process was entered, and not forgotten since.
    pub(super) fn contains(&self, process: ProcessKey) -> bool {
        self.get(process).is_some()
    }

    /// What is known of a process, which does not count as touched.
    pub(super) fn get(&self, process: ProcessKey) -> Option<&V> {
        let slot = self.slots.get(&process.tgid)?;
        (slot.start.ticks() == process.start.ticks()).then_some(&slot.value)
    }

    /// Enters a process; an earlier one with the same tgid has ended and is forgotten.
    pub(super) fn insert(&mut self, process: ProcessKey, value: V) {
        let touch = self.touch(process.tgid);
        self.slots.insert(process.tgid, Slot { start: process.start, touch, value });
        while self.slots.len() > self.capacity {
            let Some((touch, tgid)) = self.touched.pop_front() else { break };
            if self.slots.get(&tgid).is_some_and(|slot| slot.touch == touch) {
                self.slots.remove(&tgid);
            }
        }
    }

    /// The process with this tgid, which counts as touched.
    pub(super) fn touch_tgid(&mut self, tgid: u32) -> Option<(BootTime, &V)> {
        if !self.slots.contains_key(&tgid) {
            return None;
        }
        let touch = self.touch(tgid);
        let slot = self.slots.get_mut(&tgid)?;
        slot.touch = touch;
        Some((slot.start, &slot.value))
    }

    pub(super) fn remove(&mut self, process: ProcessKey) -> Option<V> {
        self.slots.get(&process.tgid).filter(|slot| slot.start.ticks() == process.start.ticks())?;
        self.slots.remove(&process.tgid).map(|slot| slot.value)
    }

    /// Forgets a process whose tgid belongs to another by now.
    pub(super) fn reused(&mut self, process: ProcessKey) {
        if self.slots.get(&process.tgid).is_some_and(|slot| slot.start != process.start) {
            self.slots.remove(&process.tgid);
        }
    }

    fn touch(&mut self, tgid: u32) -> u64 {
        if self.touched.len() > 2 * self.capacity {
            let slots = &self.slots;
            self.touched.retain(|(touch, tgid)| slots.get(tgid).is_some_and(|slot| slot.touch == *touch));
        }
        self.touches += 1;
        self.touched.push_back((self.touches, tgid));
        self.touches
    }

    #[cfg(test)]
    pub(super) fn within_bounds(&self) -> bool {
        self.slots.len() <= self.capacity && self.touched.len() <= 2 * self.capacity + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(tgid: u32, start: u64) -> ProcessKey {
        ProcessKey { tgid, start: BootTime::from_ticks(start) }
    }

    #[test]
    fn the_longest_untouched_is_forgotten_first() {
        let mut recent = Recent::new(2);
        recent.insert(process(1, 1), 'a');
        recent.insert(process(2, 1), 'b');
        assert_eq!(recent.touch_tgid(1), Some((BootTime::from_ticks(1), &'a')));
        recent.insert(process(3, 1), 'c');
        assert_eq!(recent.touch_tgid(2), None);
        assert!(recent.touch_tgid(1).is_some() && recent.touch_tgid(3).is_some());
    }

    #[test]
    fn a_reused_tgid_is_another_process() {
        let mut recent = Recent::new(2);
        recent.insert(process(1, 1), 'a');
        recent.reused(process(1, 1));
        assert_eq!(recent.remove(process(1, 2)), None);
        assert!(!recent.is_empty());
        recent.reused(process(1, 2));
        assert!(recent.is_empty());
    }

    #[test]
    fn touching_without_end_takes_no_memory() {
        let mut recent = Recent::new(4);
        for round in 0..1000 {
            recent.insert(process(round % 3, 1), round);
            recent.touch_tgid(round % 3);
            assert!(recent.touched.len() <= 10, "{}", recent.touched.len());
        }
    }
}
