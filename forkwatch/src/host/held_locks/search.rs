//! The search for locks in memory. Every word is compared with the few that name a lost thread; what stands around such a
//! word decides.

use super::{is_full, lost::Lost, lost::Owner, python::Python};
use crate::{
    host::bytes::Bytes,
    model::{
        glibc::{MUTEX_OWNER, RWLOCK_WORDS, RWLOCK_WRITER, mutex_owner, rwlock_writer},
        held_lock::LockKind,
    },
};

/// A lock that a lost thread holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// Where the object begins.
    pub(super) object: u64,
    /// Where the lock begins.
    pub(super) address: u64,
    pub(super) kind: LockKind,
    pub(super) owner: Owner,
}

/// What was found so far.
pub(super) struct Search<'a> {
    lost: &'a Lost,
    python: &'a Python<'a>,
    found: Vec<Found>,
    count: u32,
    /// The last lock that was counted: pieces of memory overlap.
    last: Option<u64>,
}

impl<'a> Search<'a> {
    pub(super) const fn new(lost: &'a Lost, python: &'a Python<'a>) -> Self {
        Self { lost, python, found: Vec::new(), count: 0, last: None }
    }

    /// The first locks that were found, and how many there are.
    pub(super) fn found(self) -> (Vec<Found>, u32) {
        (self.found, self.count)
    }

    /// Looks through memory that begins at an address.
    pub(super) fn piece(&mut self, at: u64, bytes: &[u8]) {
        for (index, word) in bytes.as_chunks::<8>().0.iter().enumerate() {
            let word = u64::from_ne_bytes(*word);
            #[expect(clippy::cast_possible_truncation, reason = "the lower half is a number of its own")]
            if self.lost.may_be_tid(word as u32) {
                self.tid(at, bytes, index * 8, word as u32);
            }
            if self.lost.may_be_descriptor(word) && self.lost.has_descriptor(word) {
                self.descriptor(at, bytes, index * 8, word);
            }
        }
    }

    /// Looks at one object of which a search has told before.
    pub(super) fn look_at(&mut self, memory: &Bytes, object: u64) {
        const LONGEST: usize = 256;
        let bytes = memory.take_up_to(object, LONGEST);
        let mut one = Search::new(self.lost, self.python);
        one.piece(object, &bytes);
        one.found.into_iter().filter(|found| found.object == object).for_each(|found| self.add(found));
    }

    /// A word at an offset of the piece is the tid of a lost thread.
    fn tid(&mut self, at: u64, bytes: &[u8], offset: usize, tid: u32) {
        if !self.lost.has_tid(tid) {
            return;
        }
        let kinds = [
            (LockKind::Mutex, MUTEX_OWNER, mutex_owner as fn(&[u32]) -> Option<u32>),
            (LockKind::ReadWrite, RWLOCK_WRITER, rwlock_writer),
        ];
        for (kind, before, owner) in kinds {
            let start = usize::try_from(before).ok().and_then(|before| offset.checked_sub(before));
            let Some(start) = start else { continue };
            let words: Vec<u32> = bytes
                .get(start..)
                .map(|rest| {
                    rest.as_chunks::<4>().0.iter().take(RWLOCK_WORDS).map(|word| u32::from_ne_bytes(*word))
                })
                .into_iter()
                .flatten()
                .collect();
            if owner(&words) == Some(tid) {
                let object = at.wrapping_add(start as u64);
                self.add(Found { object, address: object, kind, owner: Owner::Tid(tid) });
            }
        }
    }

    /// A word at an offset of the piece is the descriptor of a lost thread.
    fn descriptor(&mut self, at: u64, bytes: &[u8], offset: usize, descriptor: u64) {
        if let Some((start, address, kind)) = self.python.object_around(bytes, offset) {
            let object = at.wrapping_add(start as u64);
            let address = address.unwrap_or(object);
            self.add(Found { object, address, kind, owner: Owner::Descriptor(descriptor) });
        }
    }

    fn add(&mut self, found: Found) {
        if self.last == Some(found.object) || self.found.iter().any(|known| known.object == found.object) {
            return;
        }
        self.last = Some(found.object);
        self.count = self.count.saturating_add(1);
        if !is_full(self.found.len()) {
            self.found.push(found);
        }
    }
}
