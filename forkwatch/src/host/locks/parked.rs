//! The lock that a thread of CPython's wants since 3.13, where it sleeps on a semaphore of its own.
//!
//! `_PyParkingLot_Park` (`Python/parking_lot.c`) puts a `struct wait_entry` on the thread's stack: an argument, the address
//! of the lock, and the semaphore, whose first word is the futex.

use super::{
    super::{
        futex::EndlessWait,
        maps::{Mapping as Region, Maps},
        memory,
        stat::Stat,
    },
    mapping,
    parent::Parent,
};
use crate::model::lock::{Parked, Words};

/// A `PyMutex` that is held and that somebody waits for: `_Py_LOCKED` and `_Py_HAS_PARKED` (`Include/cpython/lock.h`).
/// Nothing else that threads are parked at has this value while they wait.
const WANTED: u8 = 3;

/// The lock; absent where the thread is not parked at one.
pub(super) fn parked(
    wait: &EndlessWait,
    words: &Words,
    process: &Stat,
    thread: u32,
    maps: &Maps,
    parent: Option<&Parent>,
) -> Option<Box<Parked>> {
    let address = address(wait, words)?;
    let region = maps.find(address)?;
    let aligned = address & !3;
    let parked = Parked {
        address,
        words: memory::words(process.id, thread, aligned, maps)?,
        parent_words: parent.and_then(|parent| in_parent(parent, aligned, region)),
        mapping: mapping(process, maps, address, region),
    };
    (parked.byte(&parked.words) == WANTED).then(|| Box::new(parked))
}

/// What lies at the same place in the parent, where that has the same memory there.
pub(super) fn in_parent(parent: &Parent, address: u64, ours: &Region) -> Option<Words> {
    let maps = parent.maps.as_ref().filter(|_| parent.comparable)?;
    let theirs = maps.find(address)?;
    if !ours.is_same(theirs) {
        return None;
    }
    memory::words(parent.key.tgid, parent.key.tgid, address, maps)
}

/// The address that stands before a semaphore at which somebody waits.
fn address(wait: &EndlessWait, words: &Words) -> Option<u64> {
    let is_semaphore = wait.is_for_semaphore() && words.at(0) == Some(0);
    let half = |offset| words.at(offset).map(u64::from);
    let address = half(-8)? | half(-4)? << 32;
    is_semaphore.then_some(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lock_stands_before_the_semaphore() {
        let words = Words::from([0, 0, 0x1234_5670, 0x7f00, 0, 1, 0, 0, 0, 0, 0, 0]);
        let wait = EndlessWait { address: 0x1000, operation: 393, value: 0 };
        assert_eq!(address(&wait, &words), Some(0x7f00_1234_5670));
        // A mutex, and a semaphore that somebody has posted meanwhile.
        assert_eq!(address(&EndlessWait { operation: 128, value: 2, ..wait }, &words), None);
        let mut posted = words;
        posted.0[4] = Some(1);
        assert_eq!(address(&wait, &posted), None);
    }
}
