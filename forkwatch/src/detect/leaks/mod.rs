//! Children that live on, and the descriptors that their fork left behind.
//!
//! A child is looked at when it has slept for a moment, which is cheap. What it sleeps on, or listens to, becomes suspect.
//! When that has lasted without the child having run, the whole host is searched for other holders, which is dear: twice
//! before a finding, and ever less often where the first search cleared the suspicion. One child of each forker is looked
//! at by the clock besides: it shows when the forker has ended, and then all are looked at.

mod families;
pub mod holders;
mod kept;
pub mod leaked_pipe;
pub mod nobody_accepts;
pub mod pinned_listener;
mod suspicion;
mod verdict;

use std::{collections::HashMap, time::Duration};

pub(super) use self::kept::KeptPipes;
use self::{
    families::Families,
    suspicion::{Suspicion, object},
    verdict::{History, finding, judge},
};
use crate::{
    core::{Context, Detector, Dropped, Judgement, Output, Process, Report, Unanswered},
    model::{
        evidence::{Evidence, Request},
        finding::State,
        leak::{Descriptors, Holders, Object},
        process::ProcessKey,
        resolution::Resolution,
        time::BootTime,
    },
};

/// A child that has slept for so long is looked at: before, it may be between two reads.
const AT_REST: Duration = Duration::from_secs(2);
/// A child that is looked at by the clock, and has nothing suspect about it, is looked at less and less often, down to
/// once in so many intervals.
const SLOWEST: u32 = 4;
/// The same where it waits for something that its forker alone can bring: what that does is to be seen soon.
const WHILE_FORKER_HOLDS: Duration = Duration::from_secs(4);
/// A suspect that a search has cleared is searched for again later and later, down to once in so many intervals.
const SELDOM: u32 = 64;
/// Two searches for the holders of a pipe, of which nobody is to have run from the one to the other, are so far apart.
const BETWEEN_LOOKS: Duration = Duration::from_secs(2);
/// No two searches of the host are closer than this: they keep other questions waiting.
const BETWEEN_SEARCHES: Duration = Duration::from_millis(250);
/// Nor closer than so many times what the last has taken, up to a bound: on a busy host that is more than it costs.
const SHARE: u32 = 30;
const FARTHEST: Duration = Duration::from_secs(2);

/// What was left behind in children that live on.
#[derive(Default)]
pub(super) struct Leaks {
    children: HashMap<ProcessKey, Child>,
    families: Families,
    /// When the host may be searched again.
    free: BootTime,
}

struct Child {
    process: ProcessKey,
    forker: Option<ProcessKey>,
    suspicion: Option<Suspicion>,
    /// Intervals between two looks.
    pace: u32,
    /// When it is looked at next.
    due: Option<BootTime>,
    unanswered: Unanswered,
}

impl Detector for Leaks {
    fn on_life(&mut self, child: ProcessKey, context: &mut Context) {
        let Some(process) = context.processes.get(child) else { return };
        self.follow(process.key, process.birth.parent, context);
    }

    fn on_timer(&mut self, process: ProcessKey, _topic: u64, context: &mut Context) {
        let Some(child) = self.children.get_mut(&process) else { return };
        if child.unanswered.is_hopeless() {
            self.leave(process, context);
            // Of a child that is followed, those say it who ask about its locks.
            if context.processes.life(process).is_none() {
                context.tell(Output::Dropped(Dropped::Unanswered));
            }
            return;
        }
        child.unanswered.put();
        let (process, forker) = (child.process, child.forker);
        context.ask(Request::Descriptors { process, forker });
        self.wake(process, context.now + context.settings.leak_interval, context);
    }

    fn on_evidence(&mut self, evidence: &Evidence, context: &mut Context) {
        match evidence {
            // Programs that a parent left behind are many on some hosts: they are looked at where that is done once.
            Evidence::Sweep { seen: Some(_) } if context.settings.snapshot => context.ask(Request::Orphans),
            Evidence::Orphans { seen } => seen.iter().for_each(|orphan| self.follow(*orphan, None, context)),
            Evidence::FellAsleep { seen: Some(seen) } => self.fell_asleep(seen, context),
            Evidence::FellAsleep { seen: None } => self.is_not_told(context),
            Evidence::Descriptors { process, seen: None, lives: true } => self.unseen(*process, context),
            Evidence::Descriptors { process, seen: None, lives: false } => self.gone(*process, context),
            Evidence::Descriptors { process, seen: Some(seen), .. } => self.seen(*process, seen, context),
            Evidence::Holders { process, object, seen } => {
                self.holders_seen(*process, *object, seen.as_deref(), context);
            }
            _ => {}
        }
    }

    fn forget(&mut self, process: ProcessKey, context: &mut Context) {
        self.leave(process, context);
    }

    #[cfg(test)]
    fn remembers(&self) -> (usize, bool) {
        (self.children.len(), self.families.members() <= self.children.len())
    }
}

impl Leaks {
    fn follow(&mut self, process: ProcessKey, forker: Option<ProcessKey>, context: &mut Context) {
        let unanswered = Unanswered::default();
        let child = Child { process, forker, suspicion: None, pace: 1, due: None, unanswered };
        self.children.insert(process, child);
        if let Some(forker) = forker {
            self.families.join(forker, process);
        }
        let due = self.place_for(process, context.now + at_rest(context));
        self.wake(process, due, context);
    }

    /// Follows a child no more.
    fn leave(&mut self, process: ProcessKey, context: &mut Context) -> Option<Child> {
        context.sleep(process);
        let child = self.children.remove(&process)?;
        let heir = child.forker.and_then(|forker| self.families.leave(forker, child.process));
        if let Some(heir) = heir {
            let due = context.now + at_rest(context);
            if self.children.get(&heir).is_some_and(|heir| heir.due.is_none_or(|before| before > due)) {
                self.wake(heir, due, context);
            }
        }
        Some(child)
    }

    fn wake(&mut self, process: ProcessKey, due: BootTime, context: &mut Context) {
        if let Some(child) = self.children.get_mut(&process) {
            child.due = Some(due);
            context.wake_at(due, process);
        }
    }

    /// When a child may be looked at that is due at this time.
    fn place_for(&mut self, process: ProcessKey, due: BootTime) -> BootTime {
        let forker = self.children.get(&process).and_then(|child| child.forker);
        forker.map_or(due, |forker| self.families.place_for(forker, due))
    }

    /// Children that may have come to rest are looked at when they have slept for a moment.
    fn fell_asleep(&mut self, children: &[ProcessKey], context: &mut Context) {
        let due = context.now + at_rest(context);
        for process in children {
            let Some(child) = self.children.get(process) else { continue };
            // What was reported is over where it runs, however often it falls asleep.
            let is_reported = child.suspicion.as_ref().is_some_and(|suspicion| suspicion.reported);
            let is_due = is_reported && child.due.is_some_and(|before| before <= due);
            if !is_due && !child.unanswered.is_open() {
                let due = self.place_for(*process, due);
                self.wake(*process, due, context);
            }
        }
    }

    /// Where it is not told who falls asleep, each child is looked at by the clock.
    fn is_not_told(&mut self, context: &mut Context) {
        let quiet: Vec<ProcessKey> =
            self.children.values().filter(|child| child.due.is_none()).map(|child| child.process).collect();
        for process in quiet {
            let due = self.place_for(process, context.now + at_rest(context));
            self.wake(process, due, context);
        }
    }

    /// A child lives and cannot be looked at. What was reported of it may still be so.
    fn unseen(&mut self, process: ProcessKey, context: &mut Context) {
        let pause = context.settings.leak_interval * SLOWEST;
        let Some(child) = self.children.get_mut(&process) else { return };
        child.unanswered.answered();
        let Some(suspicion) = child.suspicion.as_mut().filter(|suspicion| suspicion.reported) else {
            self.leave(process, context);
            return;
        };
        if !std::mem::replace(&mut suspicion.unseen, true) {
            let words = "can no longer be looked at, and whether it still waits there is unknown";
            context.tell_later(process, suspicion.hazard, State::Unknown, words);
        }
        self.wake(process, context.now + pause, context);
    }

    /// A child has ended.
    fn gone(&mut self, process: ProcessKey, context: &mut Context) {
        let suspicion = self.leave(process, context).and_then(|child| child.suspicion);
        if let Some(suspicion) = suspicion.filter(|suspicion| suspicion.reported) {
            context.resolve(process, suspicion.hazard, Resolution::Ended);
        }
    }

    fn seen(&mut self, process: ProcessKey, seen: &Descriptors, context: &mut Context) {
        let Some(child) = self.children.get_mut(&process) else { return };
        child.unanswered.answered();
        child.due = None;
        let object = object(seen);
        let same = |suspicion: &Suspicion| {
            Some(suspicion.object) == object && suspicion.switches == seen.rest.switches
        };
        if let Some(suspicion) = child.suspicion.as_mut().filter(|suspicion| same(suspicion)) {
            child.pace = 1;
            if std::mem::take(&mut suspicion.unseen) {
                let words = "can be looked at again, and is as it was";
                context.tell_later(process, suspicion.hazard, State::Confirmed, words);
            }
        } else {
            let fresh = object.map(|object| Suspicion::new(object, seen, child.suspicion.is_some(), context));
            // Whether its forker stays is to be known once it is so old.
            let is_young = seen.at.since(process.start) < context.settings.leak_interval;
            child.pace = if fresh.is_some() || is_young { 1 } else { (child.pace * 2).min(SLOWEST) };
            let before = std::mem::replace(&mut child.suspicion, fresh);
            if let Some(before) = before.filter(|before| before.reported) {
                context.resolve(process, before.hazard, Resolution::Cleared);
            }
        }
        if let Some(suspicion) = &mut child.suspicion {
            suspicion.is_held_by_forker(seen.forker_holds, context);
        }
        self.forker_seen(process, seen, context);
        self.look_again(process, context);
    }

    /// Takes in what a child shows of its forker.
    fn forker_seen(&mut self, process: ProcessKey, seen: &Descriptors, context: &mut Context) {
        let Some(forker) = self.children.get(&process).and_then(|child| child.forker) else { return };
        if !seen.reparented {
            return self.families.seen_beside(forker, seen.at);
        }
        for other in self.families.orphaned(forker) {
            let is_open = self.children.get(&other).is_none_or(|other| other.unanswered.is_open());
            if other != process && !is_open {
                let due = self.families.place_for(forker, context.now);
                self.wake(other, due, context);
            }
        }
    }

    /// Plans the next look at a child, and has the host searched if that is due.
    fn look_again(&mut self, process: ProcessKey, context: &mut Context) {
        let (now, interval) = (context.now, context.settings.leak_interval);
        let is_told = context.is_told_who_falls_asleep();
        let Some(child) = self.children.get(&process) else { return };
        let (process, forker, due) = (child.process, child.forker, now + interval * child.pace);
        let Some(suspicion) = &child.suspicion else {
            let by_clock = forker.is_none_or(|forker| self.families.sentinel(forker) == Some(process));
            if context.settings.snapshot || (is_told && !by_clock) {
                return context.sleep(process);
            }
            return self.wake(process, due, context);
        };
        let waits_for_forker = suspicion.forker_holds && !suspicion.reported;
        let due = match forker.filter(|_| waits_for_forker && is_told) {
            Some(forker)
                if self.families.sentinel(forker) == Some(process) || self.takes_over(forker, process) =>
            {
                due.min(now + WHILE_FORKER_HOLDS)
            }
            Some(_) => now + interval * SLOWEST,
            None => due,
        };
        let due = self.search(process, context).map_or(due, |later| later.min(due));
        self.wake(process, due, context);
    }

    /// Has a child that waits for its forker looked at by the clock, in place of one that does not.
    fn takes_over(&mut self, forker: ProcessKey, process: ProcessKey) -> bool {
        let waits = |child: &Child| child.suspicion.as_ref().is_some_and(|suspicion| suspicion.forker_holds);
        let sentinel = self.families.sentinel(forker);
        let is_taken = sentinel.and_then(|other| self.children.get(&other)).is_some_and(waits);
        if !is_taken {
            self.families.appoint(forker, process);
        }
        !is_taken
    }

    /// Has the host searched if that is due for a child. Gives when to come back for it, where it cannot be done now.
    fn search(&mut self, process: ProcessKey, context: &mut Context) -> Option<BootTime> {
        let now = context.now;
        let apart = context.settings.pause(BETWEEN_SEARCHES.min(context.settings.leak_interval));
        let child = self.children.get(&process)?;
        let (process, forker) = (child.process, child.forker);
        let suspicion = child.suspicion.as_ref().filter(|suspicion| !suspicion.reported)?;
        if suspicion.search_at > now {
            return Some(suspicion.search_at);
        }
        if self.free > now && !context.settings.snapshot {
            return Some(self.free);
        }
        self.free = now + apart;
        context.ask(Request::Holders { process, forker, object: suspicion.object });
        None
    }

    fn holders_seen(
        &mut self,
        process: ProcessKey,
        object: Object,
        seen: Option<&Holders>,
        context: &mut Context,
    ) {
        let (now, interval) = (context.now, context.settings.leak_interval);
        let took = seen.map_or(Duration::ZERO, |seen| now.since(seen.at));
        self.free = self.free.max(now + context.settings.pause((took * SHARE).min(FARTHEST)));
        let Some(child) = self.children.get_mut(&process) else { return };
        let (process, forker) = (child.process, child.forker);
        let stayed = |forker| self.families.stayed(forker, process.start + interval);
        let forker_stayed = forker.is_some_and(stayed);
        let Some(suspicion) = child.suspicion.as_mut().filter(|one| one.object == object && !one.reported)
        else {
            return;
        };
        let first = suspicion.first.take();
        let stuck = context.processes.hanging();
        let left_threads =
            context.processes.get(process).and_then(Process::left_threads_behind) == Some(true);
        let (hazard, judged) = seen.map_or((suspicion.hazard, Judgement::Undecided), |second| {
            let first = first.as_deref().unwrap_or(second);
            let history = History { forker, forker_stayed, left_threads };
            judge(process, history, suspicion, (first, second), &stuck, now)
        });
        match (judged, seen) {
            (Judgement::Unsafe(verdict), Some(second)) if first.is_some() => {
                (suspicion.reported, suspicion.hazard) = (true, hazard);
                let finding = finding(now, process, forker, hazard, *verdict, second);
                context.report(Report::until_the_end(finding));
            }
            (Judgement::Unsafe(_), seen) => {
                suspicion.first = seen.cloned().map(Box::new);
                suspicion.search_at = now
                    + match object {
                        Object::Pipe(_) => BETWEEN_LOOKS.min(interval),
                        Object::Socket(_) => interval,
                    };
                let due = suspicion.search_at;
                self.wake(process, due, context);
            }
            (judged, _) => {
                suspicion.search_at = now + interval * suspicion.put_off;
                suspicion.put_off = (suspicion.put_off * 2).min(SELDOM);
                if judged == Judgement::Undecided && !std::mem::replace(&mut suspicion.undecided, true) {
                    let hazard = object.hazard();
                    let why = format!(
                        "{}: not every process that may hold what it holds could be looked at",
                        hazard.name()
                    );
                    context.tell(Output::Undecided { hazard, child: process, why });
                }
            }
        }
    }
}

/// How long a child sleeps before it is looked at.
fn at_rest(context: &Context) -> Duration {
    AT_REST.min(context.settings.leak_interval)
}
