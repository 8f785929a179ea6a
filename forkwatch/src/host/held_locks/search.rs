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
        let quick = self.lost.quick();
        let may_name = |found: bool, word: &[u8; 8]| found | quick.admits(u64::from_ne_bytes(*word));
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
