//! The case against a child, put together from what is known of it.

use super::{hazard, suspect::Suspect};
use crate::{
    core::Process,
    model::{
        finding::Finding,
        lock::{Locks, Place},
        process::Program,
        program_name::called,
        time::BootTime,
    },
};

/// The finding about a stuck child; none where it is parked on purpose.
pub(super) fn finding(
    followed: &Process,
    suspect: &Suspect,
    locks: &Locks,
    place: Option<&Place>,
    has_shared_memory: bool,
    now: BootTime,
) -> Option<Finding> {
    let known = followed.life().and_then(|life| life.program.as_ref());
    let seen = place.map(|place| &place.program).or(known);
    let unseen = Program { comm: locks.comm, uid: locks.uid, ..Program::default() };
    let program = seen.unwrap_or(&unseen);
    let fork_seen = followed.birth.was_seen();
    let forker =
        if fork_seen { followed.birth.parent } else { hazard::forker_of_unseen(locks, &suspect.proven) };
    let stuck = hazard::Stuck {
        child: followed.key,
        parent: forker.unwrap_or(followed.key),
        fork_seen,
        has_shared_memory,
        program,
        program_name: &called(program),
        occupations: followed.life().map_or(&[], |life| &life.occupations),
        case: case(followed, locks),
        proven: suspect.proven,
        place,
        waited: now.since(suspect.since),
        since_fork: now.since(followed.key.start),
    };
    hazard::judge(&stuck, now)
}

/// What was seen of its waits, and what is known of the fork that it came from.
pub(super) fn case<'a>(followed: &'a Process, locks: &'a Locks) -> hazard::Case<'a> {
    hazard::Case {
        child: followed.key,
        locks,
        left_threads_behind: followed.left_threads_behind(),
        parent_threads: followed.life().map_or(&[], |life| &life.forker_threads),
        held: followed.held(),
    }
}
