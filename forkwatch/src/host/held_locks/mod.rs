//! Which locks a forked child carries that are held by threads it does not have: the finding before the hang.
//!
//! Its memory is the record of what was held at the fork. Searched are the pages that are its own and in memory; nothing
//! is copied or fetched for it. What is found is a lock by its structure, which a thread holds that the forker had and
//! the child lacks. Of locks that note no owner it is told whether they are held, in the child and in the parent.

mod living;
mod lost;
mod order;
mod plain;
mod python;
mod search;
mod streams;
#[cfg(test)]
mod tests;

use std::{io, rc::Rc};

use nix::time::{ClockId, clock_gettime};

pub use self::living::held_now;
use self::{
    lost::Lost,
    plain::PlainType,
    python::Python,
    search::{Found, FoundPlain, Search},
};
use super::{
    absence, budget,
    budget::Limits,
    clock,
    locks::{self, Fork, Parent, Threads},
    maps::Maps,
    memory::{self, OwnPages},
    stack,
    stat::Stat,
    task,
};
use crate::model::{
    held_lock::{HeldLock, HeldLocks, HeldLocksSeen, LockKind, MAX_HELD, MAX_PLAIN, Places, PlainLock},
    lock::LocksSeen,
    process::ProcessKey,
    time::BootTime,
};

/// Half of it is for the search, whatever remains for the names of what was found. Bytes are bounded by the time.
pub(super) const BUDGET: Limits =
    Limits { bytes: 16 << 30, steps: 4_000_000, time: std::time::Duration::from_millis(600) };

/// See [`crate::model::evidence::Request::HeldLocks`].
pub(super) struct Question {
    /// The process to look at.
    pub(super) child: ProcessKey,
    /// The process that forked it.
    pub(super) parent: ProcessKey,
    /// The thread of the parent that called fork.
    pub(super) forking_tid: u32,
    /// When, on the clock that counts from the boot.
    pub(super) forked_at: BootTime,
    /// Where to look; absent for everywhere.
    pub(super) places: Option<Places>,
}

/// Looks.
pub(super) fn held_locks(question: &Question) -> HeldLocksSeen {
    look(question).unwrap_or_else(|error| {
        let why = absence::reason(question.child.tgid, "pagemap", &error);
        why.map_or(HeldLocksSeen::Gone, HeldLocksSeen::Unreadable)
    })
}

fn look(question: &Question) -> io::Result<HeldLocksSeen> {
    let (at, began) = (clock::now(), thread_time());
    let stat = match locks::unexeced(question.child)? {
        Ok(stat) => stat,
        Err(other) => return Ok(become_of(&other)),
    };
    let threads = Threads::new(&stat, task::user_threads(stat.id)?)?;
    let fork = Fork {
        child: question.child,
        parent: Some(question.parent),
        forked_at: Some(question.forked_at),
        forking_tid: Some(question.forking_tid),
    };
    let parent = Parent::of(&stat, &fork);
    let mut lost = Lost::of(question, &stat, &threads, parent.as_ref());
    let maps = Rc::new(Maps::of_process(stat.id)?);
    let pages = OwnPages::of_process(stat.id)?;
    let memory = memory::of_process(stat.id, Rc::clone(&maps))?;
    let python = Python::new(&memory);
    let mut outcome = None;
    // Whatever was found until the budget was used up is there.
    let _ = budget::part(|| {
        lost.find_descriptors(&pages, &maps);
        let mut search = Search::new(&lost, &python);
        if locks::runs_python(stat.id, &maps)
            && let Some(class) = PlainType::find(stat.id, &memory, &pages, &maps)
        {
            search = search.with_plain(class, &memory);
        }
        let (searched, skipped) = match &question.places {
            Some(places) => {
                places.owned.iter().take(MAX_HELD).for_each(|place| search.look_at(&memory, *place));
                places.plain.iter().take(MAX_PLAIN).for_each(|place| search.look_at_plain(&memory, *place));
                (0, 0)
            }
            None => order::go_through(&pages, &maps, &lost, &mut search),
        };
        outcome = Some((search.plain(), search.found(), searched, skipped));
    });
    let (plain, (found, count), searched, skipped) = outcome.unwrap_or_default();
    let plain = plain.iter().map(|found| plain_lock(found, parent.as_ref())).collect();
    let locks = found
        .into_iter()
        .filter_map(|found| describe(&found, &stat, &maps, &pages, &lost, &python))
        .collect::<Vec<_>>();
    if let Err(other) = locks::unexeced(question.child)? {
        return Ok(become_of(&other));
    }
    Ok(HeldLocksSeen::Alive(Box::new(HeldLocks {
        at,
        whole: question.places.is_none(),
        count,
        locks,
        plain,
        searched,
        skipped,
        took: thread_time().saturating_sub(began),
    })))
}

/// A lock without an owner, with what the parent's copy of the same object says.
fn plain_lock(found: &FoundPlain, parent: Option<&Parent>) -> PlainLock {
    let address = found.address();
    let parent = parent.filter(|parent| found.lock.held && parent.comparable).map(|parent| parent.key.tgid);
    let held_in_parent = parent.and_then(|parent| {
        let pointer_at = found.object.wrapping_add(found.lock.within);
        if let Some(semaphore) = found.lock.semaphore {
            let there = memory::there::<8>(parent, pointer_at).map(u64::from_ne_bytes);
            let value = memory::there::<4>(parent, semaphore).map(u32::from_ne_bytes);
            value.filter(|value| there == Some(semaphore) && *value <= 1).map(|value| value == 0)
        } else {
            memory::there::<1>(parent, pointer_at).map(|[byte]| byte & 1 != 0)
        }
    });
    PlainLock { object: found.object, address, held: found.lock.held, held_in_parent }
}

fn become_of(seen: &LocksSeen) -> HeldLocksSeen {
    match seen {
        LocksSeen::Execed => HeldLocksSeen::Execed,
        _ => HeldLocksSeen::Gone,
    }
}

fn describe(
    found: &Found,
    stat: &Stat,
    maps: &Maps,
    pages: &OwnPages,
    lost: &Lost,
    python: &Python<'_>,
) -> Option<HeldLock> {
    let region = maps.find(found.object)?;
    let mapping = locks::mapping(stat, maps, found.object, region);
    let is_of_file = mapping.name.starts_with('/');
    let name = match found.kind {
        LockKind::Mutex | LockKind::ReadWrite if is_of_file => stack::symbol(stat.key(), found.object),
        LockKind::Mutex | LockKind::ReadWrite => None,
        LockKind::Buffer | LockKind::Recursive | LockKind::Stream => python.name(found.kind, found.object),
    };
    let untouched = pages.is_untouched(found.object);
    let owner = lost.owner(found.owner);
    Some(HeldLock {
        object: found.object,
        address: found.address,
        kind: found.kind,
        from_before: lost.is_from_before(found.owner),
        owner,
        name,
        mapping,
        untouched,
    })
}

/// How long this thread has run, in nanoseconds.
fn thread_time() -> u64 {
    let time = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map(std::time::Duration::from);
    time.map_or(0, crate::model::time::nanoseconds)
}

/// How many locks are kept.
const fn is_full(count: usize) -> bool {
    count >= MAX_HELD
}
