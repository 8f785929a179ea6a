//! What the threads of forkers are called and do, as they were seen last.

use std::time::Duration;

use crate::{
    core::{Context, Recent},
    model::{evidence::Request, process::ProcessKey, thread::Occupation, time::BootTime},
};

/// How long a fork is judged by what its forker's threads did when they were looked at for another one.
const FRESH: Duration = Duration::from_secs(10);
/// How long the judgement waits for an answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// Most forkers of whose threads it is known.
const MOST_FORKERS: usize = 256;

/// What was seen of forkers.
pub(super) struct Occupations {
    forkers: Recent<Seen>,
}

/// When somebody looked, or was asked to, and what came of it.
struct Seen {
    at: BootTime,
    threads: Vec<Occupation>,
}

impl Default for Occupations {
    fn default() -> Self {
        Self { forkers: Recent::new(MOST_FORKERS) }
    }
}

impl Occupations {
    /// Has the fork of a child that lives on judged with what its forker's threads do: it is asked for, unless that is
    /// known.
    pub(super) fn ask(&mut self, child: ProcessKey, context: &mut Context) {
        let Some(fork) = context.processes.get(child).and_then(|process| process.fork_to_judge()) else {
            return;
        };
        if fork.threads <= 1 {
            return;
        }
        let (parent, forking_tid, forked_at) = (fork.parent, fork.parent_tid, fork.at);
        let fresh = self.forkers.get(parent).filter(|seen| context.now < seen.at + FRESH);
        if let Some(seen) = fresh {
            context.processes.set_occupations(child, &seen.threads);
            return;
        }
        self.forkers.insert(parent, Seen { at: context.now, threads: Vec::new() });
        context.hold(child);
        context.wake_at(context.now + PATIENCE, child);
        context.ask(Request::Occupations { child, parent, forking_tid, forked_at });
    }

    /// Takes in what the threads of the child's forker do.
    pub(super) fn answered(&mut self, child: ProcessKey, seen: &[Occupation], context: &mut Context) {
        let parent = context.processes.get(child).and_then(|process| process.birth.parent);
        if let Some(known) = parent.and_then(|parent| self.forkers.get_mut(parent)) {
            known.threads = seen.to_vec();
        }
        context.processes.set_occupations(child, seen);
        context.sleep(child);
        context.release(child);
    }

    /// The process has ended.
    pub(super) fn forget(&mut self, process: ProcessKey) {
        self.forkers.remove(process);
    }

    #[cfg(test)]
    pub(super) fn remembers(&self) -> (usize, bool) {
        (self.forkers.len(), self.forkers.within_bounds())
    }
}
