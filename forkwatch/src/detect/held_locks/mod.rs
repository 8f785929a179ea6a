//! Children that carry locks which threads hold that they do not have: the finding before the hang.
//!
//! A child is looked at soon after a fork beside threads, and again when it is known to live on: what a library has made
//! anew meanwhile is held no longer.

mod hazard;

use std::{collections::HashMap, time::Duration};

pub(super) use self::hazard::{HAZARD, what};
use crate::{
    core::{Context, Detector, EarlierFork, ForkCase, Judgement, Output, Recent, Report, Unanswered},
    model::{
        event::{CloneKind, Event, Fork},
        evidence::{Evidence, Request},
        finding::{HazardId, State},
        held_lock::{HeldLocks as Seen, HeldLocksSeen, Places},
        process::ProcessKey,
        time::BootTime,
    },
};

/// When a child is looked at first: what it does at once, and what the C library makes anew, is over by then.
const FIRST_LOOK: Duration = Duration::from_millis(20);
/// How long an answer may take.
const ANSWERED_WITHIN: Duration = Duration::from_secs(2);
/// How often it is seen whether the search of a sibling has ended.
const SIBLING_LOOK: Duration = Duration::from_millis(50);
/// A forker's children are searched for so small a part of the time: others that it forks meanwhile are looked at only
/// where locks were found in the last.
const PART_OF_TIME: u64 = 50;

/// Most children that are looked at.
const MOST_CHILDREN: usize = 1024;
/// Most forkers of whose children it is known when one was searched.
const MOST_FORKERS: usize = 1024;

/// Children of forks beside threads, until they are judged.
pub(super) struct HeldLocks {
    children: HashMap<ProcessKey, Child>,
    forkers: Recent<Searched>,
    /// Children of which it was told, and that do not hang yet.
    told: Recent<()>,
}

/// A child in its grace.
struct Child {
    parent: ProcessKey,
    forking_tid: u32,
    forked_at: BootTime,
    unanswered: Unanswered,
    look: Look,
}

/// How far looking at a child has come.
#[derive(Clone)]
enum Look {
    /// It is yet to begin, or not answered yet; the child may be known to live on already.
    First { lives: bool },
    /// It has found locks there.
    Found(Places),
    /// These are being looked at again.
    Again(Places),
}

/// When the last child of a forker was searched.
struct Searched {
    /// When that may be done again.
    again: BootTime,
    found: Places,
}

impl Default for HeldLocks {
    fn default() -> Self {
        let (forkers, told) = (Recent::new(MOST_FORKERS), Recent::new(MOST_CHILDREN));
        Self { children: HashMap::new(), forkers, told }
    }
}

impl Detector for HeldLocks {
    fn concern(&self, fork: &Fork, _earlier: Option<&EarlierFork>) -> Option<HazardId> {
        // A fork beside threads is followed up for `multithreaded-fork` already.
        (fork.threads <= 1 && self.concerns(fork)).then_some(HAZARD.id)
    }

    fn on_event(&mut self, event: &Event, context: &mut Context) {
        match event {
            Event::Fork(fork) if fork.kind == CloneKind::Copying && self.concerns(fork) => {
                self.forked(fork, context);
            }
            Event::Exec(exec) => self.left(exec.process, context),
            Event::Exit(exit) => {
                self.left(exit.process, context);
                self.forkers.remove(exit.process);
                self.told.remove(exit.process);
            }
            _ => {}
        }
    }

    fn on_timer(&mut self, process: ProcessKey, _topic: u64, context: &mut Context) {
        self.look(process, context);
    }

    fn on_life(&mut self, process: ProcessKey, context: &mut Context) {
        let Some(child) = self.children.get_mut(&process) else { return };
        // Its fork is judged when it is known whether it still carries them.
        context.hold(process);
        match &mut child.look {
            Look::First { lives } => *lives = true,
            Look::Found(places) | Look::Again(places) => {
                child.look = Look::Again(std::mem::take(places));
                self.look(process, context);
            }
        }
    }

    fn on_evidence(&mut self, evidence: &Evidence, context: &mut Context) {
        match evidence {
            Evidence::HeldLocks { child, seen } => self.seen(*child, seen, context),
            // Whoever proves hangs has been told before.
            Evidence::Place { child, .. } => self.may_hang(*child, context),
            _ => {}
        }
    }

    fn on_forker(&mut self, case: &ForkCase<'_>, context: &mut Context) {
        let Judgement::Unsafe(verdict) = hazard::judge(case) else { return };
        let child = case.fork.child;
        let finding = case.finding(HAZARD.id, *verdict);
        let report = Report { until_its_end: case.fork.tracked, of_one_child: true, ..Report::of(finding) };
        if context.report(report).is_some() {
            self.told.insert(child, ());
        }
    }

    #[cfg(test)]
    fn remembers(&self) -> (usize, bool) {
        let within = self.children.len() <= MOST_CHILDREN;
        (self.children.len(), within && self.forkers.within_bounds() && self.told.within_bounds())
    }
}

impl HeldLocks {
    /// Whether a child may carry locks: one that was forked beside threads, and what that forks soon, as daemons do.
    fn concerns(&self, fork: &Fork) -> bool {
        fork.threads > 1 || self.children.contains_key(&fork.parent)
    }

    fn forked(&mut self, fork: &Fork, context: &mut Context) {
        if self.children.len() >= MOST_CHILDREN || self.children.contains_key(&fork.child) {
            return;
        }
        let child = Child {
            parent: fork.parent,
            forking_tid: fork.parent_tid,
            forked_at: fork.at,
            unanswered: Unanswered::NONE,
            look: Look::First { lives: false },
        };
        self.children.insert(fork.child, child);
        context.wake_at(fork.at + FIRST_LOOK, fork.child);
    }

    /// Puts the question that is due.
    fn look(&mut self, process: ProcessKey, context: &mut Context) {
        let Some(child) = self.children.get_mut(&process) else { return };
        if child.unanswered.is_hopeless() || context.processes.get(process).is_none() {
            return self.done(process, context);
        }
        // A search that has found no time is not asked for again: it would have less.
        if child.unanswered.is_open() && matches!(child.look, Look::First { .. }) {
            let why = "forkwatch had too much else to look at to search its memory".to_owned();
            context.tell(Output::Undecided { hazard: HAZARD.id, child: process, why });
            return self.done(process, context);
        }
        let places = match &child.look {
            Look::First { .. } => {
                let searched = self.forkers.get(child.parent).filter(|searched| context.now < searched.again);
                searched.map(|searched| searched.found.clone())
            }
            Look::Found(places) | Look::Again(places) => Some(places.clone()),
        };
        // What is found in a sibling that is being searched spares the search of this one, for as long as that may take.
        let Child { parent, forking_tid, forked_at, .. } = *child;
        let is_early = context.now < forked_at + ANSWERED_WITHIN;
        if places.is_none() && is_early && self.is_searched(parent) {
            return context.wake_at(context.now + SIBLING_LOOK, process);
        }
        // A sibling was searched a moment ago, and carried nothing.
        if places.as_ref().is_some_and(Places::is_empty) {
            return self.done(process, context);
        }
        if let Some(child) = self.children.get_mut(&process) {
            child.unanswered.put();
        }
        context.wake_at(context.now + ANSWERED_WITHIN, process);
        context.ask(Request::HeldLocks { child: process, parent, forking_tid, forked_at, places });
    }

    /// Whether a search of one of a forker's children is under way.
    fn is_searched(&self, parent: ProcessKey) -> bool {
        let is_search =
            |child: &Child| child.unanswered.is_open() && matches!(child.look, Look::First { .. });
        self.children.values().any(|child| child.parent == parent && is_search(child))
    }

    fn seen(&mut self, process: ProcessKey, seen: &HeldLocksSeen, context: &mut Context) {
        let Some(child) = self.children.get_mut(&process) else { return };
        context.sleep(process);
        let held = match seen {
            HeldLocksSeen::Alive(held) => held,
            HeldLocksSeen::Unreadable(why) => {
                let why = why.clone();
                context.tell(Output::Undecided { hazard: HAZARD.id, child: process, why });
                return self.done(process, context);
            }
            HeldLocksSeen::Gone | HeldLocksSeen::Execed => return self.done(process, context),
        };
        child.unanswered.answered();
        let places = Places::of(held);
        let (parent, lives) =
            (child.parent, matches!(child.look, Look::First { lives: true } | Look::Again(_)));
        let owned = Places { owned: places.owned.clone(), plain: Vec::new() };
        if held.whole {
            self.searched(parent, held, places, context);
        }
        if held.locks.is_empty() || lives {
            self.done(process, context);
        } else if let Some(child) = self.children.get_mut(&process) {
            // Of those without an owner the first look has told all.
            child.look = Look::Found(owned);
        }
    }

    fn searched(&mut self, parent: ProcessKey, held: &Seen, found: Places, context: &Context) {
        let pause = Duration::from_nanos(held.took.saturating_mul(PART_OF_TIME));
        self.forkers.insert(parent, Searched { again: context.now + pause, found });
    }

    /// All is known that will be: the fork may be judged.
    fn done(&mut self, process: ProcessKey, context: &mut Context) {
        if self.children.remove(&process).is_some() {
            context.sleep(process);
            context.release(process);
        }
    }

    fn left(&mut self, process: ProcessKey, context: &mut Context) {
        if self.children.remove(&process).is_some() {
            context.sleep(process);
        }
    }

    /// A child of which it was told may hang by now.
    fn may_hang(&mut self, child: ProcessKey, context: &mut Context) {
        let hangs = context.processes.life(child).is_some_and(|life| life.hangs);
        if hangs && self.told.remove(child).is_some() {
            context.tell_later(child, HAZARD.id, State::Confirmed, "hangs by now: see its `orphaned-lock`");
        }
    }
}
