//! The children that a detector looks at because they may lack a thread of their forker's.

use std::collections::HashMap;

use super::told;
use crate::{
    core::{Context, ForkCase, Report, Verdict},
    detect::lost_threads::HAZARD,
    model::{
        event::Event,
        process::{Comm, ProcessKey, Program},
        time::{BootTime, nanoseconds},
    },
};

/// Most children that one detector looks at.
const MOST: usize = 1024;

/// A child that lives on, and the fork that made it.
pub(super) struct Child {
    pub(super) key: ProcessKey,
    pub(super) parent: ProcessKey,
    /// What runs in the forker, and its name.
    pub(super) program: Program,
    pub(super) program_name: String,
    comm: Comm,
    forked_at: BootTime,
    /// Whether its end will be reported.
    is_tracked: bool,
}

impl Child {
    pub(super) fn of(case: &ForkCase<'_>) -> Self {
        Self {
            key: case.fork.child,
            parent: case.fork.parent,
            program: case.program.clone(),
            program_name: case.program_name.to_owned(),
            comm: case.child_comm,
            forked_at: case.fork.at,
            is_tracked: case.fork.tracked,
        }
    }

    /// Nanoseconds since the fork.
    pub(super) fn age(&self, now: BootTime) -> u64 {
        nanoseconds(now.since(self.forked_at))
    }

    /// By what it is remembered that this was told of the forker.
    pub(super) fn telling<What>(&self, what: What) -> told::Of<What> {
        told::of(&self.program_name, &self.program, what)
    }

    /// Reports a finding about it. `of_one_child` says whether other children of the program may differ.
    pub(super) fn report(&self, verdict: Verdict, of_one_child: bool, context: &mut Context) {
        let parent = (self.parent, &self.program);
        let finding = verdict.finding(context.now, HAZARD.id, parent, (self.key, self.comm));
        context.report(Report { until_its_end: self.is_tracked, of_one_child, ..Report::of(finding) });
    }
}

/// Children, each with what the detector notes about it.
pub(super) struct Children<Lacking>(HashMap<ProcessKey, Lacking>);

impl<Lacking> Default for Children<Lacking> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<Lacking> Children<Lacking> {
    pub(super) fn has_room(&self) -> bool {
        self.0.len() < MOST
    }

    pub(super) fn insert(&mut self, child: ProcessKey, lacking: Lacking) {
        self.0.insert(child, lacking);
    }

    pub(super) fn get(&self, child: ProcessKey) -> Option<&Lacking> {
        self.0.get(&child)
    }

    pub(super) fn get_mut(&mut self, child: ProcessKey) -> Option<&mut Lacking> {
        self.0.get_mut(&child)
    }

    pub(super) fn remove(&mut self, child: ProcessKey) -> Option<Lacking> {
        self.0.remove(&child)
    }

    /// A child is not looked at any more.
    pub(super) fn leave(&mut self, child: ProcessKey, context: &mut Context) {
        if self.0.remove(&child).is_some() {
            context.sleep(child);
        }
    }

    /// Leaves a child that has exec'd or ended. `Detector::forget` does not tell of all of them: a child may lack threads
    /// although its memory cannot be looked into.
    pub(super) fn on_event(&mut self, event: &Event, context: &mut Context) {
        match event {
            Event::Exec(exec) => self.leave(exec.process, context),
            Event::Exit(exit) => self.leave(exit.process, context),
            _ => {}
        }
    }

    /// How many there are, and whether that is within the bound.
    #[cfg(test)]
    pub(super) fn remembers(&self) -> (usize, bool) {
        (self.0.len(), self.0.len() <= MOST)
    }
}
