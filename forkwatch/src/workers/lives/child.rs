//! A child of a process that forks.

use super::pace::EXACT;
use crate::model::{
    process::Comm,
    time::{BootTime, nanoseconds},
    worker::{Ready, WorkSource, WorkerState},
    worker_look::Who,
};

/// How often a child is looked at that cannot be looked into.
const MOST_FAILURES: u8 = 3;

/// Whether a child is a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// It may be.
    Candidate,
    /// It is one of the server's workers.
    Worker,
    /// It does something else for its server.
    Helper,
}

/// What is known of a child.
#[derive(Clone, Debug)]
pub(super) struct Child {
    pub(super) forked: BootTime,
    /// Whether its fork was seen.
    pub(super) seen: bool,
    pub(super) comm: Comm,
    pub(super) stage: Stage,
    pub(super) state: WorkerState,
    /// What runs in it, until it is known what it is.
    pub(super) who: Option<Box<Who>>,
    pub(super) slot: Option<String>,
    /// The pid of the worker whose place it has taken.
    pub(super) replaces: Option<u32>,
    /// When it is looked at next, and whether closely.
    pub(super) next: Option<(BootTime, bool)>,
    /// When the look was begun that has just been answered, until the next is planned.
    pub(super) looked: Option<BootTime>,
    /// When a question about it was put that is not answered.
    pub(super) asked: Option<BootTime>,
    /// When it was last seen not to wait for work.
    busy: Option<BootTime>,
    /// Its first wait for work, and when that was seen.
    pub(super) ready: Option<(BootTime, Ready)>,
    /// What it did when it was looked at closely, and when.
    pub(super) last: Option<(BootTime, String)>,
    failures: u8,
    /// Whether it was seen to be gone.
    pub(super) gone: bool,
}

impl Child {
    pub(super) fn new(forked: BootTime, seen: bool, comm: Comm) -> Self {
        Self {
            forked,
            seen,
            comm,
            stage: Stage::Candidate,
            state: if seen { WorkerState::Starting } else { WorkerState::Unknown },
            who: None,
            slot: None,
            replaces: None,
            next: None,
            looked: None,
            asked: None,
            busy: None,
            ready: None,
            last: None,
            failures: 0,
            gone: false,
        }
    }

    /// It was seen to wait for this, or for nothing that brings work.
    pub(super) fn waits(&mut self, source: Option<WorkSource>, at: BootTime) {
        self.failures = 0;
        match source {
            None => self.busy = Some(at),
            Some(source) if self.ready.is_none() => {
                let exact = self.busy.is_some_and(|busy| at.since(busy) <= EXACT);
                let after = nanoseconds(at.since(self.forked));
                self.ready = Some((at, Ready { after, exact, source }));
            }
            Some(_) => {}
        }
    }

    /// It could not be looked into. Tells whether to try again.
    pub(super) const fn failed(&mut self) -> bool {
        self.failures = self.failures.saturating_add(1);
        self.failures < MOST_FAILURES
    }
}
