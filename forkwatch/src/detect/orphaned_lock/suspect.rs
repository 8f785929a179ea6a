//! How far the case against a child has come that waits for a lock.

use std::time::Duration;

use super::proof::Proven;
use crate::{
    core::{Settings, Unanswered},
    model::{
        finding::{Certainty, Finding, State},
        lock::{LockWait, Locks},
        time::BootTime,
    },
};

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
    /// It has been judged; none was found where it is parked on purpose.
    Judged { suspect: Suspect, finding: Option<Box<Finding>> },
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
        matches!(self, Self::Judged { finding: Some(finding), .. } if finding.state == State::Confirmed)
    }

    /// Whether a child that was judged is now for the first time not seen in its wait. A handler may run in between, and
    /// the thread go back to its wait: that it has left is said after a second look.
    pub(super) const fn is_first_miss(&mut self) -> bool {
        match self {
            Self::Judged { suspect, .. } => !std::mem::replace(&mut suspect.missed, true),
            Self::No | Self::Suspected { .. } | Self::Proven { .. } => false,
        }
    }
}

/// One wait, as long as it lasts without a change.
#[derive(Clone)]
pub(super) struct Suspect {
    /// Since when it is known to be so.
    pub(super) since: BootTime,
    /// In how many looks it was seen so: one never shows that nothing moves.
    pub(super) looks: u32,
    pub(super) proven: Proven,
    pub(super) wait: LockWait,
    /// How often it was asked where the thread is.
    pub(super) asked: Unanswered,
    /// Whether others were seen to use the memory that the lock is in: they may release it.
    pub(super) shares_memory: bool,
    /// Whether the last look did not show the thread in this wait.
    pub(super) missed: bool,
    /// Whether the last look did not show it at all.
    pub(super) unseen: bool,
}

impl Suspect {
    /// A wait that was seen for the first time, and is known to last since then.
    pub(super) const fn new(since: BootTime, proven: Proven, wait: LockWait) -> Self {
        let asked = Unanswered::NONE;
        Self { since, looks: 1, proven, wait, asked, shares_memory: false, missed: false, unseen: false }
    }

    /// For how long it must be known to last before it is reported. What is certain needs no more in a snapshot than that
    /// nothing moves.
    pub(super) fn patience(&self, settings: &Settings) -> Duration {
        let usual = self.proven.patience(settings.stuck_after);
        if self.proven.certainty == Certainty::Certain { settings.pause(usual) } else { usual }
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
