//! Generators of pseudo-random numbers that several children have copied, and drawn the same numbers from.
//!
//! The first child of a forker that lives on has the forker's memory searched for generators. Where there are any, each
//! child is compared with its forker when its grace is over, and when it has done something since.

mod hazard;

use std::{collections::HashMap, time::Duration};

pub(super) use self::hazard::HAZARD;
use self::hazard::{Case, judge};
use crate::{
    core::{Context, Detector, Output, Recent, Report, Rest, Unanswered},
    model::{
        evidence::{Evidence, Request},
        finding::Finding,
        generator::{Ahead, GeneratorPlaces, Generators, GeneratorsSeen},
        process::ProcessKey,
        time::{BootTime, nanoseconds},
    },
};

/// How long after the first look the next one comes. Each further one comes twice as late, up to the longest pause.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(128);
/// A young child that does something and falls asleep may have drawn, and end soon: it is looked at after an eighth of the
/// pause, as long as that is no longer than this.
const YOUNG: Duration = Duration::from_secs(32);
/// A forker in which no generator was found is searched again for a child that comes later than this.
const SEARCH_AGAIN: Duration = Duration::from_secs(300);
/// Forkers that are remembered.
const MOST_FORKERS: usize = 1024;

/// Children that live on, and how their generators stand to those of their forkers.
pub(super) struct DuplicatedRandom {
    children: HashMap<ProcessKey, Child>,
    forkers: Recent<Forker>,
}

struct Child {
    forker: ProcessKey,
    pause: Duration,
    /// No look comes before, where it does something.
    next: BootTime,
    unanswered: Unanswered,
    rest: Rest,
    /// The generators from which it had drawn.
    ahead: Vec<Ahead>,
}

#[derive(Default)]
struct Forker {
    /// Where its generators lie, and when that was found; absent before.
    found: Option<(GeneratorPlaces, BootTime)>,
    /// The child for which its memory is searched.
    searched_for: Option<ProcessKey>,
    is_reported: bool,
}

impl Default for DuplicatedRandom {
    fn default() -> Self {
        Self { children: HashMap::new(), forkers: Recent::new(MOST_FORKERS) }
    }
}

impl Detector for DuplicatedRandom {
    fn on_life(&mut self, child: ProcessKey, context: &mut Context) {
        let Some(process) = context.processes.get(child) else { return };
        let (child, Some(forker)) = (process.key, process.birth.parent) else { return };
        if !self.forkers.contains(forker) {
            self.forkers.insert(forker, Forker::default());
        }
        let Some(known) = self.forkers.get_mut(forker) else { return };
        let is_old = |at: BootTime| context.now.since(at) >= SEARCH_AGAIN;
        match known.found {
            Some((places, at)) if places.is_empty() && !is_old(at) => return,
            Some((places, _)) if places.is_empty() => known.found = None,
            _ => {}
        }
        let (unanswered, rest) = (Unanswered::default(), Rest::default());
        let followed =
            Child { forker, pause: FIRST_PAUSE, next: context.now, unanswered, rest, ahead: Vec::new() };
        self.children.insert(child, followed);
        self.look(child, context);
    }

    fn on_timer(&mut self, child: ProcessKey, _topic: u64, context: &mut Context) {
        let Some(followed) = self.children.get(&child) else { return };
        if context.sleeps_on(followed.rest) {
            return context.wake_to_look(context.now + followed.pause, child);
        }
        self.look(child, context);
    }

    fn on_evidence(&mut self, evidence: &Evidence, context: &mut Context) {
        match evidence {
            Evidence::Generators { child, seen } => self.seen(*child, seen, context),
            Evidence::FellAsleep { seen: Some(seen) } => {
                for child in seen {
                    let Some(followed) = self.children.get_mut(child) else { continue };
                    followed.rest.fell_asleep();
                    if followed.next <= context.now && !followed.unanswered.is_open() {
                        self.look(*child, context);
                    }
                }
            }
            _ => {}
        }
    }

    fn forget(&mut self, process: ProcessKey, context: &mut Context) {
        self.leave(process, context);
    }

    #[cfg(test)]
    fn remembers(&self) -> (usize, bool) {
        (self.children.len(), self.forkers.within_bounds())
    }
}

impl DuplicatedRandom {
    fn look(&mut self, child: ProcessKey, context: &mut Context) {
        let Some(followed) = self.children.get_mut(&child) else { return };
        let Some(forker) = self.forkers.get_mut(followed.forker) else {
            return self.leave(child, context);
        };
        let places = forker.found.map(|(places, _)| places);
        if forker.is_reported || places.is_some_and(|places| places.is_empty()) {
            return self.leave(child, context);
        }
        if followed.unanswered.is_hopeless() {
            // A search gives way to all other questions.
            if places.is_none() {
                let why = "there was no time to search its parent's memory for random number generators";
                context.tell(Output::Undecided { hazard: HAZARD.id, child, why: why.to_owned() });
            }
            return self.leave(child, context);
        }
        if places.is_none() {
            // One search does for all of its children.
            if forker.searched_for.is_some_and(|other| other != child) {
                return context.wake_at(context.now + FIRST_PAUSE, child);
            }
            forker.searched_for = Some(child);
        }
        if !followed.unanswered.is_open() {
            followed.rest.look_begins();
        }
        followed.unanswered.put();
        let pause = followed.pause;
        followed.next = context.now + if pause <= YOUNG { pause / 8 } else { pause };
        followed.pause = (pause * 2).min(LONGEST_PAUSE);
        let (parent, next) = (followed.forker, context.now + pause);
        context.ask(Request::Generators { child, parent, places });
        context.wake_to_look(next, child);
    }

    fn seen(&mut self, child: ProcessKey, seen: &GeneratorsSeen, context: &mut Context) {
        let Some(followed) = self.children.get_mut(&child) else { return };
        followed.unanswered.answered();
        followed.rest.is_over();
        let Some(forker) = self.forkers.get_mut(followed.forker) else { return self.leave(child, context) };
        let was_search = forker.searched_for == Some(child);
        if was_search {
            forker.searched_for = None;
        }
        match seen {
            GeneratorsSeen::Compared(generators) => {
                if was_search {
                    forker.found = Some((generators.places, context.now));
                    // What was not searched may hide one. That nothing was found says little then.
                    if generators.places.is_empty() && generators.skipped > 0 {
                        let skipped = generators.skipped >> 20;
                        let why = format!(
                            "{skipped} MiB of its parent's memory were not searched for random number generators"
                        );
                        context.tell(Output::Undecided { hazard: HAZARD.id, child, why });
                    }
                }
                if generators.places.is_empty() {
                    return self.leave(child, context);
                }
                followed.rest.found_nothing(context.now);
                followed.ahead.clone_from(&generators.ahead);
                self.compare(child, generators, context);
            }
            GeneratorsSeen::Unknown => {
                forker.found = Some((GeneratorPlaces::default(), context.now));
                self.leave(child, context);
            }
            GeneratorsSeen::Unreadable(why) => {
                context.tell(Output::Undecided { hazard: HAZARD.id, child, why: why.clone() });
                self.leave(child, context);
            }
            GeneratorsSeen::Gone | GeneratorsSeen::Left => self.leave(child, context),
        }
    }

    /// A child is looked at no more.
    fn leave(&mut self, child: ProcessKey, context: &mut Context) {
        context.sleep(child);
        let Some(left) = self.children.remove(&child) else { return };
        if let Some(forker) = self.forkers.get_mut(left.forker)
            && forker.searched_for == Some(child)
        {
            forker.searched_for = None;
        }
    }

    /// Compares what a child has drawn with what its siblings have.
    fn compare(&mut self, child: ProcessKey, generators: &Generators, context: &mut Context) {
        let Some(forker) = self.children.get(&child).map(|followed| followed.forker) else { return };
        let alike = |other: &Child| {
            let pairs = generators.ahead.iter().filter_map(|ours| {
                let is_same = |theirs: &&Ahead| theirs.place == ours.place && theirs.state == ours.state;
                Some((*ours, *other.ahead.iter().find(is_same)?))
            });
            pairs.collect::<Vec<_>>()
        };
        let siblings = self.children.iter().filter(|(key, other)| **key != child && other.forker == forker);
        let mut found: Vec<_> = siblings.map(|(key, other)| (*key, alike(other))).collect();
        found.retain(|(_, alike)| !alike.is_empty());
        // Whatever the order of the table: the oldest is named.
        found.sort_by_key(|(key, _)| (key.start.0, key.tgid));
        let others = found.len();
        let Some((sibling, alike)) = found.into_iter().next() else { return };
        let Some(process) = context.processes.get(child) else { return };
        let (child, age) = (process.key, nanoseconds(generators.at.since(child.start)));
        let verdict = judge(&Case { child, sibling, forker, others, age, alike: &alike, generators });
        if let Some(forker) = self.forkers.get_mut(forker) {
            forker.is_reported = true;
        }
        let parent = (forker, &generators.program);
        let finding = verdict.finding(context.now, HAZARD.id, parent, (child, generators.comm));
        context.follow(child);
        context.report(Report::until_the_end(Finding { child_uid: generators.uid, ..finding }));
    }
}
