//! Event loops that run on in several processes after a fork.
//!
//! A child is looked at once its grace is over, and from then on ever less often, beside the process that forked it. If it
//! waits in an instance that this process has but does not wait in, it is compared with the other children of which the
//! same is known.

mod edited;
mod hazard;
mod wake_up;

use std::{collections::HashMap, time::Duration};

pub(super) use self::hazard::HAZARD;
use self::{
    edited::{judge_taken, judge_unwoken, taken},
    hazard::{Case, judge, judge_emptied},
    wake_up::judge_wake_up,
};
use crate::{
    core::{Context, Detector, Output, Report, Rest, Unanswered},
    model::{
        event_loop::{EmptiedLoop, ForeignWakeUp, LoopSeen, RestingLoop, SharedLoop},
        evidence::{Evidence, Request},
        finding::Finding,
        process::ProcessKey,
        resolution::Resolution,
        time::nanoseconds,
    },
};

/// How long after the first look the next one comes. Each further one comes twice as late, up to the longest pause.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(128);
/// From this pause on, a child that waits for no events is left alone as long as it sleeps on. Before, its forker may
/// still be on its way into the loop.
const SETTLED: Duration = Duration::from_secs(16);

/// Children that live on, and what they wait for events in.
#[derive(Default)]
pub(super) struct SharedEventLoop {
    children: HashMap<ProcessKey, Child>,
}

struct Child {
    forker: ProcessKey,
    /// The forker's descriptor of the instance that it waits in, while the forker does not.
    held: Option<u32>,
    /// What the forker slept for at the last look.
    resting: Option<Box<RestingLoop>>,
    pause: Duration,
    unanswered: Unanswered,
    rest: Rest,
    /// Whether it was reported that its signals are told to the forker.
    wakes_forker: bool,
    /// With whom it was reported to share the loop.
    reported: Option<ProcessKey>,
}

impl Detector for SharedEventLoop {
    fn on_life(&mut self, child: ProcessKey, context: &mut Context) {
        let Some(process) = context.processes.get(child) else { return };
        let (child, Some(forker)) = (process.key, process.birth.parent) else { return };
        let (unanswered, rest) = (Unanswered::default(), Rest::default());
        let pause = FIRST_PAUSE;
        let followed = Child {
            forker,
            held: None,
            resting: None,
            pause,
            unanswered,
            rest,
            wakes_forker: false,
            reported: None,
        };
        self.children.insert(child, followed);
        self.look(child, context);
    }

    fn on_timer(&mut self, child: ProcessKey, _topic: u64, context: &mut Context) {
        let is_settled = |followed: &&Child| followed.pause >= SETTLED && context.sleeps_on(followed.rest);
        if let Some(followed) = self.children.get(&child).filter(is_settled) {
            return context.wake_to_look(context.now + followed.pause, child);
        }
        self.look(child, context);
    }

    fn on_evidence(&mut self, evidence: &Evidence, context: &mut Context) {
        match evidence {
            Evidence::SharedLoop { child, other, seen, resting, wakes_other } => {
                self.seen(*child, *other, seen, context);
                self.rests(*child, *other, resting.as_deref(), context);
                if let Some(told) = wakes_other {
                    self.wakes(*child, *other, told, context);
                }
            }
            Evidence::FellAsleep { seen: Some(seen) } => {
                for child in seen {
                    if let Some(followed) = self.children.get_mut(child) {
                        followed.rest.fell_asleep();
                    }
                }
            }
            _ => {}
        }
    }

    fn forget(&mut self, process: ProcessKey, context: &mut Context) {
        self.children.remove(&process);
        context.sleep(process);
    }

    #[cfg(test)]
    fn remembers(&self) -> (usize, bool) {
        (self.children.len(), true)
    }
}

impl SharedEventLoop {
    fn look(&mut self, child: ProcessKey, context: &mut Context) {
        let Some(followed) = self.children.get_mut(&child) else { return };
        // Locks are asked about in the same children, and there it is said.
        if followed.unanswered.is_hopeless() {
            self.children.remove(&child);
            return;
        }
        if !followed.unanswered.is_open() {
            followed.rest.look_begins();
        }
        followed.unanswered.put();
        let pause = followed.pause;
        followed.pause = (pause * 2).min(LONGEST_PAUSE);
        context.ask(Request::SharedLoop { child, other: followed.forker, stacks: context.settings.stacks });
        context.wake_to_look(context.now + pause, child);
    }

    fn seen(&mut self, child: ProcessKey, other: ProcessKey, seen: &LoopSeen, context: &mut Context) {
        let Some(followed) = self.children.get_mut(&child) else { return };
        followed.unanswered.answered();
        followed.rest.is_over();
        if *seen == LoopSeen::Apart && other == followed.forker {
            followed.rest.found_nothing(context.now);
        }
        let (is_forker, reported) = (other == followed.forker, followed.reported);
        followed.held = match seen {
            LoopSeen::Held(fd) if is_forker => Some(*fd),
            _ if is_forker => None,
            _ => followed.held,
        };
        match seen {
            LoopSeen::Shared(shared) if reported.is_none() => self.found(child, other, shared, context),
            LoopSeen::Held(fd) if is_forker && reported.is_none() => self.compare(child, *fd, context),
            LoopSeen::Emptied(emptied) if is_forker && reported.is_none() => {
                self.emptied(child, other, emptied, context);
            }
            LoopSeen::Shared(_) | LoopSeen::Held(_) | LoopSeen::Apart | LoopSeen::Emptied(_) => {}
            LoopSeen::Left => {
                if reported == Some(other) {
                    context.resolve(child, HAZARD.id, Resolution::Cleared);
                }
                if is_forker && reported.is_none_or(|with| with == other) {
                    self.leave(child, context);
                }
            }
            LoopSeen::Gone => {
                context.resolve(child, HAZARD.id, Resolution::Ended);
                self.leave(child, context);
            }
            LoopSeen::Unreadable(why) => {
                if reported.is_none() {
                    context.tell(Output::Undecided { hazard: HAZARD.id, child, why: why.clone() });
                }
                self.leave(child, context);
            }
        }
    }

    /// A child is looked at no more.
    fn leave(&mut self, child: ProcessKey, context: &mut Context) {
        self.children.remove(&child);
        context.sleep(child);
    }

    /// Has a child compared with another that waits in an instance which their forker has under the same number.
    fn compare(&self, child: ProcessKey, fd: u32, context: &mut Context) {
        let Some(forker) = self.children.get(&child).map(|followed| followed.forker) else { return };
        let is_like = |other: &Child| other.forker == forker && other.held == Some(fd);
        let mut others = self.children.iter().filter(|(key, other)| **key != child && is_like(other));
        if let Some((other, _)) = others.next() {
            context.ask(Request::SharedLoop { child, other: *other, stacks: context.settings.stacks });
        }
    }

    fn found(&mut self, child: ProcessKey, other: ProcessKey, shared: &SharedLoop, context: &mut Context) {
        let Some(process) = context.processes.get(child) else { return };
        let (child, was_seen) = (process.key, process.birth.was_seen());
        let Some(followed) = self.children.get_mut(&child) else { return };
        let forker = followed.forker;
        let age = nanoseconds(shared.at.since(child.start));
        let case = Case { child, other, forker, was_seen, age, shared };
        let Some(verdict) = judge(&case) else { return };
        followed.reported = Some(other);
        // Of two children it is said once.
        if let Some(other) = self.children.get_mut(&other) {
            other.reported = Some(child);
        }
        let parent = (forker, &shared.program);
        let finding = verdict.finding(context.now, HAZARD.id, parent, (child, shared.comm));
        let finding = Finding { child_uid: shared.uid, ..finding };
        context.follow(child);
        context.report(Report::until_the_end(finding));
    }

    /// The forker sleeps: has anybody taken from its instance what it waits for?
    fn rests(
        &mut self,
        child: ProcessKey,
        other: ProcessKey,
        resting: Option<&RestingLoop>,
        context: &mut Context,
    ) {
        let Some(followed) = self.children.get_mut(&child) else { return };
        if other != followed.forker || followed.reported.is_some() {
            return;
        }
        let before = std::mem::replace(&mut followed.resting, resting.cloned().map(Box::new));
        let Some(now) = resting else { return };
        let lost = before.map(|before| taken(&before, now)).unwrap_or_default();
        let verdict = if lost.is_empty() {
            judge_unwoken(child, other, now)
        } else {
            Some(judge_taken(child, other, now, &lost))
        };
        let Some(verdict) = verdict else { return };
        followed.reported = Some(other);
        let parent = (other, &now.program);
        let finding = verdict.finding(context.now, HAZARD.id, parent, (child, now.comm));
        context.report(Report::of(Finding { child_uid: now.uid, ..finding }));
    }

    /// The loop of the forker is told of the child's signals.
    fn wakes(&mut self, child: ProcessKey, other: ProcessKey, told: &ForeignWakeUp, context: &mut Context) {
        let Some(followed) = self.children.get_mut(&child) else { return };
        let is_reported = followed.reported.is_some() || std::mem::replace(&mut followed.wakes_forker, true);
        if other != followed.forker || is_reported {
            return;
        }
        let verdict = judge_wake_up(child, other, told);
        let finding = verdict.finding(context.now, HAZARD.id, (other, &told.program), (child, told.comm));
        context.report(Report::of(Finding { child_uid: told.uid, ..finding }));
    }

    /// The forker waits for nothing. The end of the child does not end that.
    fn emptied(
        &mut self,
        child: ProcessKey,
        forker: ProcessKey,
        emptied: &EmptiedLoop,
        context: &mut Context,
    ) {
        let Some(followed) = self.children.get_mut(&child) else { return };
        followed.reported = Some(forker);
        let age = nanoseconds(emptied.at.since(child.start));
        let verdict = judge_emptied(child, forker, age, emptied);
        let parent = (forker, &emptied.program);
        let finding = verdict.finding(context.now, HAZARD.id, parent, (child, emptied.comm));
        context.report(Report::of(Finding { child_uid: emptied.uid, ..finding }));
    }
}
