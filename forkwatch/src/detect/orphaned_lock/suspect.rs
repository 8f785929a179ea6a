//! How far the case against a child has come that waits for a lock.

use super::{
    awaited::{self, Told},
    pace::SHORTEST,
    proof::{Case, Proven, is_inherited, is_lock, is_semaphore, wait_alone},
};
use crate::{
    core::{Settings, Unanswered},
    model::{
        facts::Proof,
        finding::{Certainty, Finding, State},
        held_lock::AtFork,
        lock::{LockWait, Locks, MemoryUsers, Place},
        stack::Stacks,
        time::BootTime,
    },
};

/// Looks in a row that may find a thread running that spins: on a busy host it waits for a CPU as well.
const MOST_MISSES_OF_SPINNER: u8 = 5;

/// How far the case against a child has come.
#[derive(Default)]
pub(super) enum Stuck {
    /// It does not wait for a lock, or not in a way that proves anything.
    #[default]
    No,
    /// It does, and cannot be released; but not for long enough yet to be sure that nothing moves.
    Suspected { suspect: Suspect, locks: Box<Locks> },
    /// So it has been for long enough; what can be told of it is being gathered.
    Proven { suspect: Suspect, locks: Box<Locks> },
    /// It has been judged.
    Judged { suspect: Suspect, finding: Box<Finding> },
}

impl Stuck {
    pub(super) const fn suspect(&self) -> Option<&Suspect> {
        match self {
            Self::No => None,
            Self::Suspected { suspect, .. } | Self::Proven { suspect, .. } | Self::Judged { suspect, .. } => {
                Some(suspect)
            }
        }
    }

    pub(super) fn is_confirmed(&self) -> bool {
        matches!(self, Self::Judged { finding, .. } if finding.state == State::Confirmed)
    }

    /// The finding about it, once there is one.
    pub(super) fn finding(&self) -> Option<&Finding> {
        match self {
            Self::Judged { finding, .. } => Some(finding),
            Self::No | Self::Suspected { .. } | Self::Proven { .. } => None,
        }
    }

    /// Whether a child that is not seen in its wait now may be so at the next look. A handler may run in between, and the
    /// thread go back to its wait: of one that was judged it is said after a second look that it has left. And one that
    /// spins may be at it just now.
    pub(super) const fn may_be_back(&mut self) -> bool {
        let (suspect, most) = match self {
            Self::Suspected { suspect, .. } | Self::Proven { suspect, .. } | Self::Judged { suspect, .. }
                if suspect.wait.spins =>
            {
                (suspect, MOST_MISSES_OF_SPINNER)
            }
            Self::Judged { suspect, .. } => (suspect, 1),
            Self::No | Self::Suspected { .. } | Self::Proven { .. } => return false,
        };
        suspect.misses = suspect.misses.saturating_add(1);
        suspect.misses <= most
    }
}

/// What is known of where a thread is, of which that is asked when its wait is new.
#[derive(Clone)]
pub(super) enum Early {
    /// It was not asked.
    Unasked,
    /// It was, and nobody has answered.
    Asked,
    /// This was answered.
    Told(Box<Place>),
}

impl Early {
    pub(super) fn place(&self) -> Option<&Place> {
        match self {
            Self::Told(place) => Some(place),
            Self::Unasked | Self::Asked => None,
        }
    }
}

/// One wait, as long as it lasts without a change.
#[derive(Clone)]
pub(super) struct Suspect {
    /// Since when it is known to have been so.
    pub(super) since: BootTime,
    /// When it was first seen so.
    pub(super) seen: BootTime,
    /// In how many looks it was seen so: one never shows that nothing moves.
    pub(super) looks: u32,
    pub(super) proven: Proven,
    pub(super) wait: LockWait,
    /// How often it was asked where the thread is.
    pub(super) asked: Unanswered,
    /// What is known of that since the wait was new: a server may kill the child before more is.
    pub(super) early: Early,
    /// Whether others were seen to use the memory that the lock is in: they may release it.
    pub(super) shares_memory: bool,
    /// How many looks in a row have not shown the thread in this wait.
    pub(super) misses: u8,
    /// Whether the last look did not show it at all.
    pub(super) unseen: bool,
}

impl Suspect {
    /// A wait that was seen first at that time, in a process that was born then. The kernel tells how long the thread has
    /// slept.
    pub(super) fn new(seen: BootTime, born: BootTime, proven: Proven, wait: LockWait) -> Self {
        let slept = wait.slept.unwrap_or_default();
        Self {
            since: BootTime(seen.0.saturating_sub(slept)).max(born.min(seen)),
            seen,
            looks: 1,
            proven,
            wait,
            asked: Unanswered::NONE,
            early: Early::Unasked,
            shares_memory: false,
            misses: 0,
            unseen: false,
        }
    }

    /// When the wait has lasted long enough to be reported: by the kernel's word, and over two looks at least. What is
    /// certain needs no more in a snapshot than that nothing moves.
    pub(super) fn enough(&self, settings: &Settings) -> BootTime {
        let usual = self.proven.patience(settings.stuck_after);
        let is_certain = self.proven.certainty == Certainty::Certain;
        let patience = if is_certain { settings.pause(usual) } else { usual };
        let is_named = matches!(self.proven.proof, Proof::Owner | Proof::SelfOwned);
        let least = settings.pause(if is_named { patience.min(SHORTEST) } else { patience / 2 });
        (self.since + patience).max(self.seen + least)
    }

    /// Whether what was seen of the thread when the wait was new is enough for a finding: nothing certain, and nobody else
    /// used the memory.
    pub(super) fn is_told_by(&self, early: &Place, stacks: Stacks) -> bool {
        stacks != Stacks::Full
            && self.proven.certainty < Certainty::Certain
            && early.memory == Some(MemoryUsers::Alone)
    }

    /// How to go on with a wait of which the words prove nothing, by where the thread is; nothing where there is no
    /// reason to.
    pub(super) fn explained(mut self, case: &Case<'_>, place: &Place) -> Option<Self> {
        if self.proven.proof != Proof::Frames {
            return Some(self);
        }
        let Locks { threads, python, comparable, .. } = *case.locks;
        let is_alone = wait_alone(case.locks, &self.wait);
        // A thread of the child's has taken it since the fork, and another waits for that one.
        if threads != 1 && self.proven.at_fork == Some(AtFork::Free) {
            return None;
        }
        let is_lock = is_lock(&self.wait) || awaited::wants_lock(place);
        if self.wait.spins {
            self.proven.proof = Proof::Differential;
            return (awaited::wants_spin_lock(place) && is_inherited(case, &self.wait)).then_some(self);
        }
        let wants_lock = match awaited::told(place, is_alone) {
            Told::Awaits(_) => return Some(self),
            Told::Parked => false,
            // Idle workers sleep on all kinds of words, but neither on locks nor, in a line of a script, on CPython's.
            Told::Nothing if is_inherited(case, &self.wait) => {
                is_alone || is_lock || python && is_semaphore(&self.wait)
            }
            // Of a parent that has ended there is nothing to compare with.
            Told::Nothing => is_alone && !comparable && (is_lock || python),
            Told::Unknown => is_lock && is_inherited(case, &self.wait),
        };
        self.proven.proof = Proof::Differential;
        wants_lock.then_some(self)
    }

    /// Whether the thread has not run since.
    pub(super) fn is_unmoved(&self, locks: &Locks) -> bool {
        self.find(locks).is_some_and(|wait| wait.switches == self.wait.switches)
    }

    /// The same thread's wait at the same address, however often it has looked.
    pub(super) fn find<'a>(&self, locks: &'a Locks) -> Option<&'a LockWait> {
        locks.waits.iter().find(|wait| wait.tid == self.wait.tid && wait.address == self.wait.address)
    }
}

/// A wait that was looked at and left: the thread is parked, or nothing can be said of it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Dismissed {
    tid: u32,
    address: u64,
    switches: u64,
}

impl Dismissed {
    pub(super) const fn new(wait: &LockWait) -> Self {
        Self { tid: wait.tid, address: wait.address, switches: wait.switches }
    }
}
