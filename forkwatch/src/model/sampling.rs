//! How often the locks of a running process were seen held.

use serde::{Deserialize, Serialize};

use super::{
    held_lock::{HeldLock, LockKind, MAX_HELD, Places},
    held_now::HeldNow,
    thread::SeenThread,
    time::BootTime,
};

/// Threads that are told as holders of one lock.
const MAX_HOLDERS: usize = 16;

/// What many looks at one process have seen.
///
/// A search finds what happens to be held, so that what it finds says nothing of how often that is. Only looks at locks
/// that had been found before count.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sampling {
    /// When the first look was made, and the last.
    pub from: BootTime,
    /// See above.
    pub until: BootTime,
    /// How often the known locks were looked at.
    pub looks: u32,
    /// In how many of these looks one was held that a child would get locked.
    pub held: u32,
    /// How often the memory was searched for more of them.
    pub searches: u32,
    /// Nanoseconds of a CPU that all of it took.
    pub took: u64,
    /// The locks that were found, at most [`MAX_HELD`].
    pub locks: Vec<Sampled>,
    /// Why it ended early, where it did.
    pub ended: Option<String>,
}

/// A lock that was looked at again and again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sampled {
    /// The lock, as it was found.
    pub lock: HeldLock,
    /// How often it was looked at since.
    pub looks: u32,
    /// How often it was held then.
    pub held: u32,
    /// Who held it how often, whoever did so when it was found first.
    pub by: Vec<(SeenThread, u32)>,
}

impl Sampling {
    /// Takes in one look.
    pub fn take_in(&mut self, seen: &HeldNow) {
        if self.from == BootTime(0) {
            self.from = seen.at;
        }
        self.until = seen.at;
        self.took = self.took.saturating_add(seen.took);
        if seen.whole {
            self.searches += 1;
        } else {
            self.looks += 1;
            let mut any = false;
            for known in &mut self.locks {
                known.looks += 1;
                let found = seen.locks.iter().find(|now| now.lock.object == known.lock.object);
                if let Some(now) = found {
                    known.held += 1;
                    any |= known.lock.kind != LockKind::Stream;
                    known.count(now.thread);
                }
            }
            self.held += u32::from(any);
        }
        for now in &seen.locks {
            let is_known = self.locks.iter().any(|known| known.lock.object == now.lock.object);
            if !is_known && self.locks.len() < MAX_HELD {
                let by = vec![(now.thread, 0)];
                self.locks.push(Sampled { lock: now.lock.clone(), looks: 0, held: 0, by });
            }
        }
    }

    /// Where to look next. Streams are found without a list.
    pub fn places(&self) -> Places {
        let searched = self.locks.iter().filter(|known| known.lock.kind != LockKind::Stream);
        Places { owned: searched.map(|known| known.lock.object).collect(), plain: Vec::new() }
    }
}

impl Sampled {
    fn count(&mut self, thread: SeenThread) {
        let is_full = self.by.len() >= MAX_HOLDERS;
        match self.by.iter_mut().find(|(known, _)| known.tid == thread.tid) {
            Some((_, count)) => *count += 1,
            None if is_full => {}
            None => self.by.push((thread, 1)),
        }
    }

    /// The thread that held it most often.
    pub fn holder(&self) -> Option<SeenThread> {
        self.by.iter().max_by_key(|(_, count)| *count).map(|(thread, _)| *thread)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{held_lock::LostOwner, held_now::LockNow, lock::Mapping};

    fn thread(tid: u32) -> SeenThread {
        SeenThread { tid, comm: "worker".into() }
    }

    fn now(object: u64, kind: LockKind, thread: SeenThread) -> LockNow {
        let lock = HeldLock {
            object,
            address: object,
            kind,
            owner: LostOwner { id: Some(thread.tid), name: None },
            name: None,
            mapping: Mapping { name: "[heap]".to_owned(), offset: 0, shared: false },
            from_before: false,
            untouched: false,
        };
        LockNow { lock, thread }
    }

    fn look(whole: bool, locks: Vec<LockNow>) -> HeldNow {
        let count = u32::try_from(locks.len()).unwrap();
        HeldNow { at: BootTime(5), whole, threads: 3, count, locks, searched: 0, skipped: 0, took: 10 }
    }

    #[test]
    fn only_looks_after_it_was_found_tell_how_often_a_lock_is_held() {
        let mut sampling = Sampling::default();
        let mutex = |thread| now(0x1000, LockKind::Mutex, thread);
        sampling.take_in(&look(true, vec![mutex(thread(7))]));
        sampling.take_in(&look(false, vec![]));
        sampling.take_in(&look(false, vec![mutex(thread(8))]));
        sampling.take_in(&look(false, vec![mutex(thread(8)), now(0x2000, LockKind::Stream, thread(7))]));
        sampling.take_in(&look(true, vec![mutex(thread(7))]));
        sampling.take_in(&look(false, vec![now(0x2000, LockKind::Stream, thread(7))]));
        let [mutex, stream] = &sampling.locks[..] else { panic!("{sampling:?}") };
        assert_eq!((mutex.looks, mutex.held, mutex.holder()), (4, 2, Some(thread(8))));
        assert_eq!((stream.looks, stream.held), (1, 1));
        // A stream's lock is made anew in the child.
        assert_eq!((sampling.looks, sampling.held, sampling.searches), (4, 2, 2));
        assert_eq!(sampling.took, 60);
        assert_eq!(sampling.places().owned, [0x1000]);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut sampling = Sampling::default();
        for object in 1..100 {
            sampling.take_in(&look(true, vec![now(object, LockKind::Mutex, thread(7))]));
        }
        assert_eq!(sampling.locks.len(), MAX_HELD);
        for tid in 1..100 {
            sampling.take_in(&look(false, vec![now(1, LockKind::Mutex, thread(tid))]));
        }
        assert_eq!((sampling.locks[0].held, sampling.locks[0].by.len()), (99, MAX_HOLDERS));
    }
}
