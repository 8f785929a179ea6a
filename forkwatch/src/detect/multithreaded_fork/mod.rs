//! Threads of a process that forked, and of which its child, which lives on, has none.
//!
//! Once the child is known to live on, the forker is asked what its threads are called in its program and what they do:
//! only then, and once in a while for each forker, because that is read from its memory.

mod hazard;
mod occupations;

pub(super) use self::hazard::{BY_DESIGN, HAZARD, notes};
use self::occupations::Occupations;
use super::by_fork::ByFork;
use crate::{
    core::{Context, Detector, EarlierFork, ForkCase},
    model::{
        event::{Event, Fork},
        evidence::Evidence,
        finding::HazardId,
        process::ProcessKey,
    },
};

/// Judges forks beside threads, for which it finds out what those do.
pub(super) struct MultithreadedFork {
    judges: ByFork,
    occupations: Occupations,
}

impl Default for MultithreadedFork {
    fn default() -> Self {
        let judges = ByFork { hazard: &HAZARD, concerns: hazard::concerns, judge: hazard::judge };
        Self { judges, occupations: Occupations::default() }
    }
}

impl Detector for MultithreadedFork {
    fn concern(&self, fork: &Fork, earlier: Option<&EarlierFork>) -> Option<HazardId> {
        self.judges.concern(fork, earlier)
    }

    fn on_event(&mut self, event: &Event, _context: &mut Context) {
        if let Event::Exit(exit) = event {
            self.occupations.forget(exit.process);
        }
    }

    fn on_life(&mut self, child: ProcessKey, context: &mut Context) {
        self.occupations.ask(child, context);
    }

    fn on_timer(&mut self, child: ProcessKey, _topic: u64, context: &mut Context) {
        context.release(child);
    }

    fn on_evidence(&mut self, evidence: &Evidence, context: &mut Context) {
        if let Evidence::Occupations { child, seen } = evidence {
            self.occupations.answered(*child, seen, context);
        }
    }

    fn on_forker(&mut self, case: &ForkCase<'_>, context: &mut Context) {
        self.judges.on_forker(case, context);
    }

    #[cfg(test)]
    fn remembers(&self) -> (usize, bool) {
        self.occupations.remembers()
    }
}
