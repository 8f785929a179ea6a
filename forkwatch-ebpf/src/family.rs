//! Children between their fork and their exec or exit: those of which more must be known than their own task tells.
//! That a process was forked and never exec'd, when, and how often it has exec'd since, stands in its `task_struct`;
//! so a plain fork by an exec'd program, which nobody streams, needs no entry, and entering it would cost more than
//! all the rest.

use aya_ebpf::{
    macros::map,
    maps::{HashMap, LruHashMap},
};
use forkwatch_ebpf::{Family, flag, kind};

use crate::{counters::nonzero, task::Task};

/// A plain hash, not an LRU one: an LRU would forget the longest-lived children, which are the interesting ones,
/// without a word. Here a full table is counted, and the child's record says that it is not followed.
#[map]
static FAMILY: HashMap<u32, Family> = HashMap::with_max_entries(16384, 0);

/// `/proc` shows starts in ticks of 10 ms, and so does an entry from there.
pub(crate) const TICK: u64 = 10_000_000;

/// The entry of the process of this main thread. One that a process of the same tgid left behind is none.
#[inline(always)]
pub(crate) fn get(leader: Task) -> Option<Family> {
    let entry = FAMILY.get_ptr(&leader.tgid())?;
    // SAFETY: a value of the map, read at once; it changes only when its own process execs or exits.
    let family = unsafe { *entry };
    if leader.start().wrapping_sub(family.start) < TICK { Some(family) } else { None }
}

/// Forks since the last exec on the way to the process of this main thread; 0 where it has exec'd itself.
#[inline(always)]
pub(crate) fn generation(leader: Task) -> u32 {
    if !leader.is_unexeced() {
        return 0;
    }
    match get(leader) {
        Some(family) => family.generation,
        // What has an exec'd forker and nothing else to remember is not entered.
        None => 1,
    }
}

/// Enters a child. Returns 1 where there is no room, else 0.
#[inline(always)]
pub(crate) fn enter(tgid: u32, family: &Family) -> u8 {
    match FAMILY.insert(&tgid, family, 0) {
        Ok(()) => 0,
        Err(error) => nonzero(error as u64),
    }
}

/// What would have been entered of a copying fork's child that nobody streams.
#[inline(always)]
pub(crate) fn plain(leader: Task, parent_tgid: u32) -> Family {
    Family {
        start: leader.start(),
        blocked: 0,
        parent_tgid,
        generation: 1,
        kind: kind::COPYING,
        hazards: 0,
        flags: 0,
        reserved: [0; 5],
    }
}

/// Has the outcome of a copying fork's child reported, though its fork was not streamed.
#[inline(always)]
pub(crate) fn stream(child: Task, parent_tgid: u32) {
    let tgid = child.tgid();
    if let Some(entry) = FAMILY.get_ptr_mut(&tgid) {
        // SAFETY: a value of the map, of a child that has not run yet.
        unsafe { (*entry).flags |= flag::STREAMED };
    } else {
        enter(tgid, &Family { flags: flag::STREAMED, ..plain(child, parent_tgid) });
    }
}

/// Processes of several threads that have ended, by tgid and start. The oldest make way: it is about the instants in
/// which the last threads of one process exit.
#[map]
static ENDED: LruHashMap<[u64; 2], u8> = LruHashMap::with_max_entries(1024, 0);

/// Whether the caller is the first thread to tell of the end of this main thread's process.
#[inline(always)]
pub(crate) fn claim_end(leader: Task) -> bool {
    // BPF_NOEXIST: whoever comes second is refused.
    ENDED.insert(&[u64::from(leader.tgid()), leader.start()], &1, 1).is_ok()
}

/// Takes a child out; only one caller gets it.
#[inline(always)]
pub(crate) fn take(leader: Task) -> Option<Family> {
    let family = get(leader)?;
    FAMILY.remove(&leader.tgid()).ok().map(|()| family)
}
