//! A bounded memory of processes.

use std::collections::{HashMap, VecDeque};

use crate::model::process::ProcessKey;

/// What is known of the processes that were entered last; the longest untouched is forgotten when it is full.
pub struct Recent<V> {
    capacity: usize,
    slots: HashMap<u32, Slot<V>>,
    /// Touches, oldest first; one that is not its slot's last counts no more.
    touched: VecDeque<(u64, u32)>,
    touches: u64,
}

struct Slot<V> {
    process: ProcessKey,
    touch: u64,
    value: V,
}

impl<V> Recent<V> {
    /// Remembers nobody yet, and so many at most.
    pub fn new(capacity: usize) -> Self {
        Self { capacity, slots: HashMap::new(), touched: VecDeque::new(), touches: 0 }
    }

    /// Whether nobody is remembered.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// How many are remembered.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether the process was entered, and not forgotten since.
    pub fn contains(&self, process: ProcessKey) -> bool {
        self.get(process).is_some()
    }

    /// What is known of a process, which does not count as touched.
    pub fn get(&self, process: ProcessKey) -> Option<&V> {
        let slot = self.slots.get(&process.tgid)?;
        (slot.process == process).then_some(&slot.value)
    }

    /// All that are remembered, in no order. None of them counts as touched.
    pub fn iter(&self) -> impl Iterator<Item = (ProcessKey, &V)> {
        self.slots.values().map(|slot| (slot.process, &slot.value))
    }

    /// The same, to be changed; it counts as touched.
    pub fn get_mut(&mut self, process: ProcessKey) -> Option<&mut V> {
        if !self.contains(process) {
            return None;
        }
        let touch = self.touch(process.tgid);
        let slot = self.slots.get_mut(&process.tgid)?;
        slot.touch = touch;
        Some(&mut slot.value)
    }

    /// Enters a process; an earlier one with the same tgid has ended and is forgotten.
    pub fn insert(&mut self, process: ProcessKey, value: V) {
        let touch = self.touch(process.tgid);
        self.slots.insert(process.tgid, Slot { process, touch, value });
        while self.slots.len() > self.capacity {
            let Some((touch, tgid)) = self.touched.pop_front() else { break };
            if self.slots.get(&tgid).is_some_and(|slot| slot.touch == touch) {
                self.slots.remove(&tgid);
            }
        }
    }

    /// The process with this tgid, which counts as touched.
    pub fn touch_tgid(&mut self, tgid: u32) -> Option<(ProcessKey, &V)> {
        if !self.slots.contains_key(&tgid) {
            return None;
        }
        let touch = self.touch(tgid);
        let slot = self.slots.get_mut(&tgid)?;
        slot.touch = touch;
        Some((slot.process, &slot.value))
    }

    /// Forgets a process, and gives what was known of it.
    pub fn remove(&mut self, process: ProcessKey) -> Option<V> {
        self.get(process)?;
        self.slots.remove(&process.tgid).map(|slot| slot.value)
    }

    /// Forgets a process whose tgid belongs to another by now.
    pub fn reused(&mut self, process: ProcessKey) {
        if self.slots.get(&process.tgid).is_some_and(|slot| slot.process != process) {
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

    /// Whether it takes no more memory than it may.
    #[cfg(test)]
    pub fn within_bounds(&self) -> bool {
        self.slots.len() <= self.capacity && self.touched.len() <= 2 * self.capacity + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::time::BootTime;

    fn process(tgid: u32, start: u64) -> ProcessKey {
        ProcessKey { tgid, start: BootTime::from_ticks(start) }
    }

    #[test]
    fn the_longest_untouched_is_forgotten_first() {
        let mut recent = Recent::new(2);
        recent.insert(process(1, 1), 'a');
        recent.insert(process(2, 1), 'b');
        assert_eq!(recent.touch_tgid(1), Some((process(1, 1), &'a')));
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
