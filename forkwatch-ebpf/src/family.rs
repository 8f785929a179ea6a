//! Every child between its fork and its exec or exit.

use aya_ebpf::{macros::map, maps::HashMap};
use forkwatch_ebpf::Family;

use crate::counters::nonzero;

/// A plain hash, not an LRU one: an LRU would forget the longest-lived children, which are the interesting ones,
/// without a word. Here a full table is counted, and the child's record says that it is not followed.
#[map]
static FAMILY: HashMap<u32, Family> = HashMap::with_max_entries(16384, 0);

#[inline(always)]
pub(crate) fn get(tgid: u32) -> Option<Family> {
    // SAFETY: read at once; an entry changes only when its own process execs or exits.
    FAMILY.get_ptr(&tgid).map(|family| unsafe { *family })
}

/// Forks since the last exec on the way to this process; 0 where it is none's unexec'd child.
#[inline(always)]
pub(crate) fn generation(tgid: u32) -> u32 {
    // SAFETY: a value of the map.
    FAMILY.get_ptr(&tgid).map_or(0, |family| unsafe { (*family).generation })
}

/// Enters a child. Returns 1 where there is no room, else 0.
#[inline(always)]
pub(crate) fn enter(tgid: u32, family: &Family) -> u8 {
    match FAMILY.insert(&tgid, family, 0) {
        Ok(()) => 0,
        Err(error) => nonzero(error as u64),
    }
}

/// Takes a child out. Only one caller gets it, also where the last two threads of a process end at once.
#[inline(always)]
pub(crate) fn take(tgid: u32) -> Option<Family> {
    let family = get(tgid)?;
    FAMILY.remove(&tgid).ok().map(|()| family)
}
