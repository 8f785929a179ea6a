//! Children that are stuck now.

use std::{collections::HashMap, thread, time::Duration};

use super::{Found, reader::Reader};
use crate::{
    detect::orphaned_lock::hazard::{self as orphaned_lock, Case, Proven, Stuck},
    host::clock,
    model::{
        evidence::{Evidence, Request, Sweep, Swept},
        finding::{Certainty, Finding},
        lock::{LockWait, Locks, LocksSeen, Place},
        process::{ProcessKey, Program},
        program_name::called,
        stack::Stacks,
    },
};

/// What looks wrong is looked at again after this time.
pub(super) const SETTLE: Duration = Duration::from_secs(2);

/// Children of one parent that are described with their stacks: a server whose workers all hang is described by some of
/// them, for each takes some milliseconds.
const DESCRIBED: u32 = 16;

/// A child that waits in a way that proves something.
struct Candidate {
    swept: Swept,
    locks: Box<Locks>,
    proven: Proven,
}

impl Candidate {
    fn new(swept: Swept, locks: Box<Locks>) -> Option<Self> {
        let proven = orphaned_lock::prove(&case(swept.process, &locks))?;
        Some(Self { swept, locks, proven })
    }

    fn wait(&self) -> Option<&LockWait> {
        self.locks.waits.get(self.proven.wait)
    }

    fn slept(&self) -> Option<Duration> {
        self.wait()?.slept.map(Duration::from_nanos)
    }

    /// Whether another look has found the same thread in the same sleep.
    fn is_unmoved(&self, before: &Self) -> bool {
        let key = |candidate: &Self| candidate.wait().map(|wait| (wait.tid, wait.address, wait.switches));
        key(self).is_some() && key(self) == key(before)
    }
}

/// Looks at every forked and never exec'd process.
pub(super) fn look(
    sweep: &Sweep,
    stuck_after: Duration,
    stacks: Stacks,
    reader: &mut Reader,
    found: &mut Found,
) {
    let mut candidates = Vec::new();
    for swept in &sweep.unexeced {
        match seen(swept, |request| reader.answer(request)) {
            LocksSeen::Alive(locks) => candidates.extend(Candidate::new(*swept, locks)),
            LocksSeen::Unreadable(why) => found.unread(swept.process.tgid, &swept.comm, why),
            LocksSeen::Gone | LocksSeen::Execed => {}
        }
    }
    if !candidates.is_empty() {
        thread::sleep(SETTLE);
    }
    let mut described: HashMap<Option<ProcessKey>, u32> = HashMap::new();
    for first in candidates {
        let Some(candidate) = settled(&first, reader) else { continue };
        let waited = candidate.locks.at.since(first.locks.at).max(candidate.slept().unwrap_or_default());
        // What is certain needs no patience beyond that nothing has moved.
        if candidate.proven.certainty < Certainty::Certain && waited < candidate.proven.patience(stuck_after)
        {
            found.waiting += 1;
            continue;
        }
        let of_parent = described.entry(candidate.swept.parent).or_default();
        *of_parent += 1;
        let stacks = (*of_parent <= DESCRIBED).then_some(stacks);
        let place = stacks.and_then(|stacks| place(&candidate, stacks, reader));
        if let Some(sharers) = place.as_ref().and_then(orphaned_lock::sharers) {
            let sharers: Vec<String> = sharers.iter().map(ToString::to_string).collect();
            let why =
                format!("its memory is used by process {} too, which may release a lock", sharers.join(", "));
            found.unread(first.swept.process.tgid, &first.swept.comm, why);
            continue;
        }
        found.findings.extend(finding(&candidate, waited, place.as_ref(), reader));
    }
}

/// The candidate as it is some time later; none where it has moved.
fn settled(first: &Candidate, reader: &mut Reader) -> Option<Candidate> {
    let LocksSeen::Alive(locks) = seen(&first.swept, |request| reader.answer(request)) else { return None };
    Candidate::new(first.swept, locks).filter(|second| second.is_unmoved(first))
}

fn seen(swept: &Swept, answer: impl FnOnce(&Request) -> Evidence) -> LocksSeen {
    let child = swept.process;
    let request =
        Request::Locks { child, parent: swept.parent, forked_at: Some(child.start), forking_tid: None };
    match answer(&request) {
        Evidence::Locks { seen, .. } => seen,
        _ => LocksSeen::Gone,
    }
}

fn case(child: ProcessKey, locks: &Locks) -> Case<'_> {
    Case { child, locks, left_threads_behind: None, parent_threads: &[] }
}

/// The finding; `place` is absent where the child was not described.
fn finding(
    candidate: &Candidate,
    waited: Duration,
    place: Option<&Place>,
    reader: &mut Reader,
) -> Option<Finding> {
    let Candidate { swept, locks, proven } = candidate;
    let child = swept.process;
    let parent = orphaned_lock::forker_of_unseen(locks, proven);
    let unseen = || {
        parent.and_then(|parent| reader.program(parent)).unwrap_or(Program {
            comm: swept.comm,
            uid: locks.uid,
            ..Program::default()
        })
    };
    let program = place.map_or_else(unseen, |place| place.program.clone());
    let name = called(&program);
    let now = clock::now();
    let stuck = Stuck {
        child,
        parent: parent.unwrap_or(child),
        fork_seen: false,
        has_shared_memory: false,
        program: &program,
        program_name: &name,
        case: case(child, locks),
        proven: *proven,
        place,
        waited,
        since_fork: now.since(child.start),
    };
    orphaned_lock::judge(&stuck, now)
}

fn place(candidate: &Candidate, stacks: Stacks, reader: &mut Reader) -> Option<Place> {
    let Candidate { swept, locks, proven } = candidate;
    let LockWait { tid, address, .. } = *candidate.wait()?;
    let (child, holder) = (swept.process, proven.owner_in_parent());
    let parent = orphaned_lock::forker_of_unseen(locks, proven);
    match reader.answer(&Request::Place { child, parent, tid, address, holder, stacks }) {
        Evidence::Place { seen, .. } => seen.map(|place| *place),
        _ => None,
    }
}
