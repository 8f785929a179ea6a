//! The locks of CPython since 3.13.1: a `PyMutex` of one byte (`Include/cpython/lock.h`), for which threads sleep on a
//! semaphore of their own, entered in a table of all that wait (`Python/parking_lot.c`).
//!
//! Were that semaphore posted, the thread would go on and stay in the table. But a wait that ends with EINTR takes it out
//! (`_PyParkingLot_Park`), and then the thread looks at the byte again (`_PyMutex_LockTimed`).

use super::{CLOCK_REALTIME, Kind, NoRelease, Release, WAIT_BITSET_PRIVATE, Word};
use crate::{host::asleep::Wait, model::glibc};

/// `_Py_LOCKED` and `_Py_HAS_PARKED`, both of which a lock has that a thread waits for.
const LOCKED: u8 = 1;
const WANTED: u8 = 3;
/// Bytes from the type of an object to its name (`tp_name`), with a GIL and without (`PyVarObject`).
const NAME: [u64; 2] = [24, 40];
/// The names as they stand in memory.
const LOCK: &[u8] = b"_thread.lock\0";
const RLOCK: &[u8] = b"_thread.RLock\0";
/// Of a `_PyRecursiveMutex`, from the byte on: the thread that has it, and how often beyond the first time.
const THREAD: u64 = 8;
const LEVEL: u64 = 16;

/// How to release the lock with that byte, for which a thread waits so. `read` gives so many words of 32 bits from an
/// address on.
pub fn release(
    wait: Wait,
    lock: u64,
    read: impl Fn(u64, usize) -> Option<Vec<u32>>,
) -> Result<Release, NoRelease> {
    let memory = Memory { read: &read };
    let unknown = NoRelease::Unknown;
    if wait.is_shared() || (wait.operation & !CLOCK_REALTIME, wait.value) != (WAIT_BITSET_PRIVATE, 0) {
        return Err(unknown);
    }
    let semaphore: [u32; glibc::SEMAPHORE_WORDS] = memory.words(wait.address)?;
    let waits = matches!(semaphore, [0, 1..=u32::MAX, 0, _]);
    // The entry in the table has the address of the lock before the semaphore.
    let entered = memory.pointer(wait.address.wrapping_sub(8))? == lock;
    if !waits || !entered || !lock.is_multiple_of(8) {
        return Err(unknown);
    }
    let [before] = memory.words(lock)?;
    let [byte, second, third, fourth] = before.to_ne_bytes();
    if byte != WANTED {
        return Err(unknown);
    }
    let after = u32::from_ne_bytes([byte & !LOCKED, second, third, fourth]);
    // The type of an object stands before what it holds, with a GIL and without.
    let of = memory.pointer(lock.wrapping_sub(8))?;
    let is_named = |name: &[u8]| NAME.iter().any(|offset| memory.is_text(of.wrapping_add(*offset), name));
    let mut words = Vec::new();
    if is_named(RLOCK) {
        for (name, offset) in [("level", LEVEL), ("thread", THREAD)] {
            let halves: [u32; 2] = memory.words(lock + offset)?;
            for (address, before) in [lock + offset, lock + offset + 4].into_iter().zip(halves) {
                words.push(Word { name, address, before, after: 0 });
            }
        }
    } else if !is_named(LOCK) {
        return Err(unknown);
    }
    words.push(Word { name: "lock", address: lock, before, after });
    Ok(Release { kind: Kind::PyMutex, words, ends_call: true })
}

/// The memory of the child.
struct Memory<'a> {
    read: &'a dyn Fn(u64, usize) -> Option<Vec<u32>>,
}

impl Memory<'_> {
    fn words<const N: usize>(&self, address: u64) -> Result<[u32; N], NoRelease> {
        (self.read)(address, N).and_then(|words| words.try_into().ok()).ok_or(NoRelease::Unknown)
    }

    fn pointer(&self, address: u64) -> Result<u64, NoRelease> {
        let [low, high] = self.words(address)?;
        Ok(u64::from(low) | u64::from(high) << 32)
    }

    /// Whether the text that a pointer points to is this.
    fn is_text(&self, pointer: u64, text: &[u8]) -> bool {
        let words: Result<[u32; 4], _> = self.pointer(pointer).and_then(|text| self.words(text));
        words.is_ok_and(|words| words.map(u32::to_ne_bytes).as_flattened().starts_with(text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEMAPHORE: u64 = 0x1010;
    const OBJECT: u64 = 0x2000;
    const BYTE: u64 = OBJECT + 16;

    /// A lock of this type in a CPython with a GIL, or without, and a thread that waits for it.
    fn memory(name: &[u8], byte: u32, is_free_threaded: bool) -> impl Fn(u64, usize) -> Option<Vec<u32>> {
        let mut text = name.to_vec();
        text.resize(16, 0);
        let text: Vec<u32> =
            text.chunks(4).map(|chunk| u32::from_ne_bytes(chunk.try_into().unwrap())).collect();
        let name_at = if is_free_threaded { 40 } else { 24 };
        let parts: Vec<(u64, Vec<u32>)> = vec![
            (SEMAPHORE - 8, vec![0x2010, 0, 0, 1, 0, 0]),
            // Its type, the byte with others beside it, padding, the thread, the level.
            (OBJECT + 8, vec![0x3000, 0, 0xab_cd00 | byte, 0, 0x7f00, 1, 2, 0]),
            (0x3000 + name_at, vec![0x4000, 0]),
            (0x4000, text),
        ];
        move |address, count| {
            parts.iter().find_map(|(start, words)| {
                let first = usize::try_from(address.checked_sub(*start)?).ok()? / 4;
                words.get(first..first + count).map(<[u32]>::to_vec)
            })
        }
    }

    fn released(
        memory: impl Fn(u64, usize) -> Option<Vec<u32>>,
    ) -> Result<Vec<(&'static str, u64, u32)>, NoRelease> {
        let wait = Wait { address: SEMAPHORE, operation: 0x189, value: 0 };
        let Release { kind, words, ends_call } = release(wait, BYTE, memory)?;
        assert_eq!((kind, ends_call), (Kind::PyMutex, true));
        Ok(words.into_iter().map(|word| (word.name, word.address - BYTE, word.after)).collect())
    }

    #[test]
    fn the_byte_is_free_and_says_still_that_others_wait() {
        for free_threaded in [false, true] {
            let lock = released(memory(b"_thread.lock\0", 3, free_threaded));
            assert_eq!(lock, Ok(vec![("lock", 0, 0xab_cd02)]), "free-threaded: {free_threaded}");
        }
    }

    #[test]
    fn a_recursive_one_has_neither_owner_nor_level() {
        let expected = vec![
            ("level", 16, 0),
            ("level", 20, 0),
            ("thread", 8, 0),
            ("thread", 12, 0),
            ("lock", 0, 0xab_cd02),
        ];
        assert_eq!(released(memory(b"_thread.RLock\0", 3, false)), Ok(expected));
    }

    #[test]
    fn what_else_threads_park_at_is_left_alone() {
        for other in [&b"_io.BufferedWriter\0"[..], b"_thread.lock2\0", b""] {
            assert_eq!(released(memory(other, 3, false)), Err(NoRelease::Unknown));
        }
        // Free by now, or nobody is entered; and a thread that is entered for another lock.
        for byte in [0, 1, 2, 7] {
            assert_eq!(released(memory(b"_thread.lock\0", byte, false)), Err(NoRelease::Unknown));
        }
        let wait = Wait { address: SEMAPHORE, operation: 0x189, value: 0 };
        let of = |wait, lock| release(wait, lock, memory(b"_thread.lock\0", 3, false));
        assert!(of(wait, BYTE).is_ok());
        assert_eq!(of(wait, BYTE + 8), Err(NoRelease::Unknown));
        assert_eq!(of(Wait { value: 2, ..wait }, BYTE), Err(NoRelease::Unknown));
        assert_eq!(of(Wait { operation: 0x109, ..wait }, BYTE), Err(NoRelease::Unknown));
    }
}
