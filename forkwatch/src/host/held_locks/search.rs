//! The search for locks in memory. Every word is compared with the few that name a lost thread; what stands around such a
//! word decides. Locks without an owner are known by the word that names their type.

use super::{
    is_full,
    lost::{Lost, Owner},
    plain::{Plain, PlainType},
    python::Python,
};
use crate::{
    host::bytes::Bytes,
    model::{
        glibc::{MUTEX_OWNER, RWLOCK_WORDS, RWLOCK_WRITER, mutex_owner, rwlock_writer},
        held_lock::{LockKind, MAX_PLAIN},
    },
};

/// Bytes that are looked at together, and word by word only if one of them may name a thread.
const BLOCK: usize = 128;

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

/// A lock that notes no owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FoundPlain {
    /// Where the object begins.
    pub(super) object: u64,
    pub(super) lock: Plain,
}

impl FoundPlain {
    /// Where the lock itself is.
    pub(super) fn address(&self) -> u64 {
        self.lock.semaphore.unwrap_or_else(|| self.object.wrapping_add(self.lock.within))
    }
}

/// What was found so far.
pub(super) struct Search<'a> {
    lost: &'a Lost,
    python: &'a Python<'a>,
    /// The type of locks without an owner, with the memory that they lie in; absent where there are none.
    plain_type: Option<(PlainType, &'a Bytes)>,
    found: Vec<Found>,
    count: u32,
    /// The last lock that was counted: pieces of memory overlap.
    last: Option<u64>,
    /// Locks without an owner that are held, and that are free.
    plain: [Vec<FoundPlain>; 2],
}

impl<'a> Search<'a> {
    pub(super) const fn new(lost: &'a Lost, python: &'a Python<'a>) -> Self {
        let plain = [Vec::new(), Vec::new()];
        Self { lost, python, plain_type: None, found: Vec::new(), count: 0, last: None, plain }
    }

    /// The same, which finds locks without an owner too.
    pub(super) fn with_plain(self, class: PlainType, memory: &'a Bytes) -> Self {
        Self { plain_type: Some((class, memory)), ..self }
    }

    /// Locks without an owner: first those that are held.
    pub(super) fn plain(&mut self) -> Vec<FoundPlain> {
        let [held, free] = &mut self.plain;
        held.append(free);
        std::mem::take(held)
    }

    /// The first locks that were found, and how many there are.
    pub(super) fn found(self) -> (Vec<Found>, u32) {
        (self.found, self.count)
    }

    /// Looks through memory that begins at an address.
    pub(super) fn piece(&mut self, at: u64, bytes: &[u8]) {
        let quick = self.lost.quick();
        let class = self.class();
        let may_name = |found: bool, word: &[u8; 8]| {
            let word = u64::from_ne_bytes(*word);
            found || quick.admits(word) || word == class
        };
        let (blocks, rest) = bytes.as_chunks::<BLOCK>();
        for (index, block) in blocks.iter().enumerate() {
            if block.as_chunks::<8>().0.iter().fold(false, may_name) {
                self.words(at, bytes, index * BLOCK, block);
            }
        }
        self.words(at, bytes, blocks.len() * BLOCK, rest);
    }

    /// Looks at every word of a part of the piece.
    fn words(&mut self, at: u64, bytes: &[u8], offset: usize, part: &[u8]) {
        for (index, word) in part.as_chunks::<8>().0.iter().enumerate() {
            self.word(at, bytes, offset + index * 8, u64::from_ne_bytes(*word));
        }
    }

    fn word(&mut self, at: u64, bytes: &[u8], offset: usize, word: u64) {
        #[expect(clippy::cast_possible_truncation, reason = "the lower half is a number of its own")]
        let tid = word as u32;
        if self.lost.may_be_tid(tid) {
            self.tid(at, bytes, offset, tid);
        }
        if self.lost.has_descriptor(word) {
            self.descriptor(at, bytes, offset, word);
        }
        if word == self.class() {
            self.plain_object(at, bytes, offset);
        }
    }

    /// The word that locks without an owner are known by. Nothing lies at the highest address.
    fn class(&self) -> u64 {
        self.plain_type.map_or(u64::MAX, |(class, _)| class.class)
    }

    /// A word at an offset of the piece is the type of locks without an owner.
    fn plain_object(&mut self, at: u64, bytes: &[u8], offset: usize) {
        let object = self.plain_type.and_then(|(class, memory)| class.object_at(memory, bytes, offset));
        if let Some((start, lock)) = object {
            self.add_plain(FoundPlain { object: at.wrapping_add(start as u64), lock });
        }
    }

    fn add_plain(&mut self, found: FoundPlain) {
        /// More of them do not lie where pieces overlap.
        const IN_OVERLAP: usize = 16;
        let [held, free] = &mut self.plain;
        let same = if found.lock.held { held } else { free };
        let is_known = same.iter().rev().take(IN_OVERLAP).any(|known| known.object == found.object);
        if !is_known && same.len() < MAX_PLAIN / 2 {
            same.push(found);
        }
    }

    /// Looks at one object of which a search has told that it is a lock without an owner.
    pub(super) fn look_at_plain(&mut self, memory: &Bytes, object: u64) {
        const LONGEST: usize = 64;
        let bytes = memory.take_up_to(object, LONGEST);
        // The type stands in the last word of the head.
        for offset in [8, 24] {
            self.plain_object(object, &bytes, offset);
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::host::bytes::Slice;

    const TID: u32 = 4711;
    const DESCRIPTOR: u64 = 0x7f00_1234_5600;
    const START: u64 = 0x10_0000;
    /// Where a type and its name are, and an object of it.
    const CLASS: u64 = 0x400;
    const NAME: u64 = 0x480;

    fn search(bytes: &[u8]) -> Vec<Found> {
        let memory = Bytes::of(Slice { start: START, bytes: bytes.to_vec() });
        let lost = Lost::made_up(&[TID], &[DESCRIPTOR, DESCRIPTOR + 0x80_0000]);
        let python = Python::new(&memory);
        let mut search = Search::new(&lost, &python);
        search.piece(START, bytes);
        search.found().0
    }

    fn put(bytes: &mut [u8], at: u64, word: u64) {
        let at = usize::try_from(at).unwrap();
        bytes[at..at + 8].copy_from_slice(&word.to_ne_bytes());
    }

    /// An object of a type of this name at 0x100, with an owner there.
    fn object(name: &[u8], head: u64, owner: u64) -> Vec<u8> {
        let mut bytes = vec![0; 4096];
        if head == 16 {
            put(&mut bytes, 0x100, 1);
        } else {
            put(&mut bytes, 0x108, 1 << 32);
        }
        put(&mut bytes, 0x100 + head - 8, START + CLASS);
        put(&mut bytes, CLASS + head + 8, START + NAME);
        put(&mut bytes, CLASS + head + 16, 160);
        bytes[0x480..0x480 + name.len()].copy_from_slice(name);
        put(&mut bytes, owner, DESCRIPTOR);
        bytes
    }

    #[test]
    fn an_object_is_known_by_the_name_of_its_type() {
        for (name, head, owner, kind) in [
            (&b"_thread.RLock"[..], 16, 0x118, Some(LockKind::Recursive)),
            (b"_thread.RLock", 32, 0x128, Some(LockKind::Recursive)),
            (b"_io.BufferedWriter", 16, 0x170, Some(LockKind::Buffer)),
            (b"_io.BufferedReader", 32, 0x180, Some(LockKind::Buffer)),
            // Of the same size, with the same word.
            (b"_io.StringIO", 16, 0x170, None),
            // Not where an RLock has its owner; and behind the end of the object.
            (b"_thread.RLock", 16, 0x120, None),
            (b"_io.BufferedWriter", 16, 0x1a0, None),
        ] {
            let bytes = object(name, head, owner);
            let found: Vec<_> = search(&bytes).into_iter().map(|found| (found.object, found.kind)).collect();
            let expected: Vec<_> = kind.into_iter().map(|kind| (START + 0x100, kind)).collect();
            assert_eq!(found, expected, "{} {head} {owner:#x}", String::from_utf8_lossy(name));
        }
    }

    #[test]
    fn an_object_that_was_freed_holds_nothing() {
        let mut bytes = object(b"_thread.RLock", 16, 0x118);
        assert_eq!(search(&bytes).len(), 1);
        // Nobody refers to it; or the allocator has put its own pointer there.
        for first in [0, 0x7f12_3456_7890] {
            put(&mut bytes, 0x100, first);
            assert_eq!(search(&bytes), []);
        }
    }

    proptest! {
        #[test]
        fn a_mutex_is_found_wherever_it_lies(at in 0_u64..500) {
            let mut bytes = vec![0; 4096];
            put(&mut bytes, at * 8, 1);
            put(&mut bytes, at * 8 + 8, u64::from(TID) | 1 << 32);
            let found: Vec<_> = search(&bytes).into_iter().map(|found| found.object).collect();
            prop_assert_eq!(found, [START + at * 8]);
        }

        #[test]
        fn no_memory_makes_it_panic(words in proptest::collection::vec(
            prop_oneof![any::<u64>(), Just(DESCRIPTOR), Just(u64::from(TID) | 1 << 32), 0_u64..4, START..START + 4096],
            0..512,
        )) {
            let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
            let _ = search(&bytes);
        }
    }
}
