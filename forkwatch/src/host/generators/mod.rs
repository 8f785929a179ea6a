//! Generators of pseudo-random numbers that a fork has copied: which of a forked process's are ahead of its forker's.
//!
//! The forker's memory is searched once; a child's copies lie at the same addresses. A child whose state follows from
//! the forker's present one has drawn the numbers between the two since: the forker had not come so far when it forked.

mod layout;
mod search;
mod twister;

use std::{io, rc::Rc};

use self::{
    layout::{Layout, layouts},
    search::Search,
    twister::{BYTES, Twister},
};
use super::{
    absence::is_gone,
    budget::{self, Limits},
    bytes::Bytes,
    clock,
    maps::Maps,
    memory::{self, OwnPages},
    program,
    stat::Stat,
    status::Status,
};
use crate::model::{
    generator::{Ahead, GeneratorPlaces, Generators, GeneratorsSeen, Maker},
    process::ProcessKey,
};

/// Half of it is for the search. Bytes are bounded by the time.
pub(super) const BUDGET: Limits =
    Limits { bytes: 16 << 30, steps: 4_000_000, time: std::time::Duration::from_millis(600) };
/// No name of a type is looked at further.
const MAX_NAME: usize = 64;
/// Where `tp_name` stands in a type, of the usual builds of CPython and of those without a GIL.
const NAMES: [u64; 2] = [24, 40];

/// See [`crate::model::evidence::Request::Generators`].
pub(super) fn generators(
    child: ProcessKey,
    parent: ProcessKey,
    places: Option<GeneratorPlaces>,
) -> GeneratorsSeen {
    look(child, parent, places).unwrap_or_else(|error| {
        match (is_gone(&error), Stat::lives(child), Stat::lives(parent)) {
            (true, false, _) => GeneratorsSeen::Gone,
            (true, true, false) => GeneratorsSeen::Left,
            _ => GeneratorsSeen::Unreadable(error.to_string()),
        }
    })
}

fn look(
    child: ProcessKey,
    parent: ProcessKey,
    places: Option<GeneratorPlaces>,
) -> io::Result<GeneratorsSeen> {
    let living = |process| Stat::of(process).filter(|stat| !stat.process_has_ended());
    let Some(own) = living(child).filter(Stat::is_unexeced) else { return Ok(GeneratorsSeen::Gone) };
    let Some(forker) = living(parent) else { return Ok(GeneratorsSeen::Left) };
    // A program that was started since the fork has another stack, and nothing of the old one's memory.
    if own.stack == 0 || own.stack != forker.stack {
        return Ok(GeneratorsSeen::Left);
    }
    let maps = Rc::new(Maps::of_process(parent.tgid)?);
    let layouts = layouts(parent.tgid, &maps);
    if layouts.is_empty() {
        return Ok(GeneratorsSeen::Unknown);
    }
    let (places, skipped) = match places {
        Some(places) => (places, 0),
        None => find(parent.tgid, &maps, &layouts)?,
    };
    let mut ahead = Vec::new();
    if !places.is_empty() {
        let theirs = memory::of_process(parent.tgid, Rc::clone(&maps))?;
        let ours = memory::of_process(child.tgid, Rc::new(Maps::of_process(child.tgid)?))?;
        ahead = places.iter().filter_map(|place| compare(&ours, &theirs, place, &layouts)).collect();
    }
    let uid = Status::of_process(child.tgid).ok().map(|status| status.uid);
    let program = program::read(parent.tgid, &forker);
    if living(child).is_none_or(|stat| !stat.is_unexeced()) {
        return Ok(GeneratorsSeen::Gone);
    }
    if living(parent).is_none_or(|now| now.stack != forker.stack) {
        return Ok(GeneratorsSeen::Left);
    }
    let at = clock::now();
    let generators = Generators { at, comm: own.comm, uid, program, places, ahead, skipped };
    Ok(GeneratorsSeen::Compared(Box::new(generators)))
}

/// Searches the memory that is a process's own. Gives how much of it was left out, too.
fn find(tgid: u32, maps: &Maps, layouts: &[Layout]) -> io::Result<(GeneratorPlaces, u64)> {
    let pages = OwnPages::of_process(tgid)?;
    let mut search = Search::new(layouts);
    let mut skipped = 0;
    let mut regions: Vec<_> = maps.iter().filter(|mapping| pages.admits(mapping)).collect();
    // Objects lie in the heaps, which are small before they are large.
    regions.sort_by_key(|mapping| mapping.end - mapping.start);
    // Whatever was found until the budget was used up is there.
    let _ = budget::part(|| {
        let mut is_over = false;
        for mapping in regions {
            is_over = is_over
                || search.is_full()
                || pages.go_through(mapping, mapping.start, |at, bytes| search.piece(at, bytes)).is_err();
            if is_over {
                skipped += mapping.end - mapping.start;
            }
        }
    });
    Ok((GeneratorPlaces::of(&search.found()), skipped))
}

/// How the generator at a place in one process stands to that in another; absent where it is not ahead of it.
fn compare(ours: &Bytes, theirs: &Bytes, place: u64, layouts: &[Layout]) -> Option<Ahead> {
    let (their_maker, their_state) = read(theirs, place, layouts)?;
    let (maker, state) = read(ours, place, layouts)?;
    let numbers = state.beyond(&their_state).filter(|numbers| *numbers > 0)?;
    (maker == their_maker).then(|| Ahead { place, maker, state: their_state.fingerprint(), numbers })
}

/// The generator whose state begins at a place. By other layouts than its own a state may look new, where nothing stands.
fn read(memory: &Bytes, place: u64, layouts: &[Layout]) -> Option<(Maker, Twister)> {
    let bytes = memory.take(place, BYTES)?;
    let found = layouts.iter().filter_map(|layout| {
        let said = memory.word(place.checked_add_signed(i64::try_from(layout.offset(place)).ok()?)?)?;
        let twister = Twister::of(&bytes, layout.next(place, said)?)?;
        (layout.maker != Maker::Python || has_type(memory, place)).then_some((layout.maker, twister))
    });
    found.min_by_key(|(_, twister)| twister.is_new())
}

/// Whether a state is that of an object of CPython's: its type stands before the place in the state, and has a name
/// (`RandomObject`, Modules/_randommodule.c; `PyTypeObject`, Include/cpython/object.h).
fn has_type(memory: &Bytes, place: u64) -> bool {
    let Some(class) = place.checked_sub(12).and_then(|at| memory.word(at)) else { return false };
    NAMES.iter().any(|offset| {
        let name = class.checked_add(*offset).and_then(|at| memory.word(at));
        let name = name.map(|name| memory.text(name, MAX_NAME)).unwrap_or_default();
        let is_of_name = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.');
        !name.is_empty() && name.len() < MAX_NAME && name.iter().all(is_of_name)
    })
}

#[cfg(test)]
mod tests;
