//! Which locks the threads of a running process hold at a moment: a fork by another of them would copy them locked.
//!
//! The same search as in a forked child, with other owners: all threads that there are.

use std::{io, rc::Rc};

use super::{
    BUDGET, describe,
    lost::Lost,
    order,
    python::Python,
    search::Search,
    streams::{self, Stream},
    thread_time,
};
use crate::{
    host::{
        absence, budget, clock,
        locks::{self, Threads},
        maps::Maps,
        memory::{self, OwnPages},
        stat::Stat,
        task,
    },
    model::{
        held_lock::{HeldLock, LockKind, MAX_HELD, Places},
        held_now::{HeldNow, HeldNowSeen, LockNow},
        process::ProcessKey,
    },
};

/// Looks everywhere, or at these places alone.
pub fn held_now(process: ProcessKey, places: Option<&Places>) -> HeldNowSeen {
    budget::question(BUDGET, || {
        look(process, places).unwrap_or_else(|error| {
            let why = absence::reason(process.tgid, "pagemap", &error);
            why.map_or(HeldNowSeen::Gone, HeldNowSeen::Unreadable)
        })
    })
}

fn look(process: ProcessKey, places: Option<&Places>) -> io::Result<HeldNowSeen> {
    let (at, began) = (clock::now(), thread_time());
    let Some(stat) = Stat::of(process).filter(|stat| !stat.process_has_ended()) else {
        return Ok(HeldNowSeen::Gone);
    };
    let threads = Threads::new(&stat, task::user_threads(stat.id)?)?;
    let owners = Lost::living(&threads);
    let maps = Rc::new(Maps::of_process(stat.id)?);
    let pages = OwnPages::of_process(stat.id)?;
    let memory = memory::of_process(stat.id, Rc::clone(&maps))?;
    let python = Python::new(&memory);
    let mut outcome = None;
    // Whatever was found until the budget was used up is there.
    let _ = budget::part(|| {
        let mut search = Search::new(&owners, &python);
        let (searched, skipped) = match places {
            Some(places) => {
                places.owned.iter().take(MAX_HELD).for_each(|place| search.look_at(&memory, *place));
                (0, 0)
            }
            None => order::go_through(&pages, &maps, &owners, &mut search),
        };
        outcome = Some((search.found(), searched, skipped));
    });
    let ((found, mut count), searched, skipped) = outcome.unwrap_or_default();
    let mut held = Vec::new();
    for found in found {
        let Some(thread) = owners.thread(found.owner) else { continue };
        let lock = describe(&found, &stat, &maps, &pages, &owners, &python);
        held.extend(lock.map(|lock| LockNow { lock, thread }));
    }
    // They are in no list of places: there are few, and always the same.
    for Stream { lock: address, owner, name } in streams::held(&memory, &maps) {
        let Some((thread, region)) = owners.thread(owner).zip(maps.find(address)) else { continue };
        count = count.saturating_add(1);
        let lock = HeldLock {
            object: address,
            address,
            kind: LockKind::Stream,
            owner: owners.owner(owner),
            name: Some(name),
            mapping: locks::mapping(&stat, &maps, address, region),
            from_before: false,
            untouched: false,
        };
        held.push(LockNow { lock, thread });
    }
    if !Stat::lives(process) {
        return Ok(HeldNowSeen::Gone);
    }
    Ok(HeldNowSeen::Alive(Box::new(HeldNow {
        at,
        whole: places.is_none(),
        threads: u32::try_from(threads.all.len()).unwrap_or(u32::MAX),
        count,
        locks: held,
        searched,
        skipped,
        took: thread_time().saturating_sub(began),
    })))
}
