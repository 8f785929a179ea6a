//! Copying forks, followed until it is known what becomes of the child: it execs, ends, or lives on.

use std::time::Duration;

use super::{
    Context, Core, Dropped, LivesOn, Output,
    case::{Answer, Case, ForkCase},
    detector::{MOST_UNANSWERED, Unanswered},
    processes::{Grace, Life, Processes},
    scheduler::{Setter, Timer},
};
use crate::model::{
    event::{CloneKind, Fork},
    evidence::Request,
    process::ProcessKey,
    program_name::called,
    seen::{ChildSeen, ParentSeen},
    time::BootTime,
};

/// How often a child is looked at that never seems to have had the time to exec, before it is judged all the same.
const MOST_LOOKS: u8 = 60;
/// The soonest that a child is looked at again.
const SOONEST: Duration = Duration::from_millis(10);

/// How long an answer may take at least: a short grace is no reason to ask a busy host more often.
const ANSWERED_WITHIN: Duration = Duration::from_secs(1);

/// How long to wait for an answer that did not come so many times.
fn longer(patience: Duration, unanswered: u8) -> Duration {
    patience * (1 << unanswered.min(MOST_UNANSWERED))
}

impl Grace {
    const fn new(fork: &Fork, due: BootTime) -> Self {
        Self {
            forked_at: fork.at,
            counted_from: fork.at,
            waited_before: 0,
            due,
            looks: 0,
            stops: 0,
            unanswered: Unanswered::NONE,
            tracked: fork.tracked,
        }
    }

    /// How long to wait before the next look, where the child has not had its grace yet.
    fn not_yet(&mut self, look: &Look, grace: Duration) -> Option<Duration> {
        if look.stopped {
            self.counted_from = look.at;
            self.waited_before = look.waited.unwrap_or(self.waited_before);
            self.looks = 0;
            self.stops = self.stops.saturating_add(1);
            return Some(grace * u32::from(self.stops.min(MOST_LOOKS)));
        }
        if self.looks >= MOST_LOOKS {
            return None;
        }
        if look.ran == Some(0) {
            if look.waited.is_none() {
                self.counted_from = look.at;
            }
            return Some(grace);
        }
        let waited = look.waited.map_or(0, |waited| waited.saturating_sub(self.waited_before));
        let had = look.at.since(self.counted_from).saturating_sub(Duration::from_nanos(waited));
        grace.checked_sub(had).filter(|left| !left.is_zero()).map(|left| left.max(SOONEST))
    }
}

/// A child that was seen without exec.
struct Look {
    at: BootTime,
    ran: Option<u64>,
    waited: Option<u64>,
    stopped: bool,
}

/// Whether a timer of the core's own still counts.
pub(super) fn counts(processes: &Processes, timer: &Timer) -> bool {
    processes.get(timer.process).is_some_and(|process| match timer.setter {
        Setter::Child => process.grace.as_ref().is_some_and(|grace| grace.due == timer.due),
        Setter::Forker => process.case.as_ref().is_some_and(|case| case.awaits(timer.due)),
        Setter::Detector(_) => false,
    })
}

impl Core {
    pub(super) fn forked(&mut self, fork: &Fork) {
        if fork.kind != CloneKind::Copying {
            return;
        }
        let known = self.context.processes.get(fork.child);
        if known.is_some_and(|known| known.birth.was_seen()) {
            return;
        }
        // A sweep may have found it before this record was read. Detectors then know less of its birth than they may.
        self.forget(fork.child);
        self.replace(fork.child);
        if !self.has_room() {
            self.context.tell(Output::Dropped(Dropped::Child));
            return;
        }
        let (grace, recheck) = (self.context.settings.grace, self.context.settings.recheck);
        let due = fork.at + grace;
        let birth = self.context.processes.birth(fork);
        let earlier = birth.earlier.as_ref();
        let concerns: Vec<_> =
            self.detectors.iter().filter_map(|detector| detector.concern(fork, earlier)).collect();
        let process = self.context.processes.enter(fork.child, birth);
        process.grace = Some(Grace::new(fork, due));
        if !concerns.is_empty() {
            process.case = Some(Box::new(Case::new(fork, concerns, fork.at + recheck)));
            self.context.set(fork.at + recheck, fork.child, Setter::Forker);
        }
        self.context.set(due, fork.child, Setter::Child);
    }

    /// Whether there is room for a fork. Those that live on have places of their own: however many there are, it is seen
    /// what becomes of new ones.
    fn has_room(&self) -> bool {
        let processes = &self.context.processes;
        processes.len() - processes.living() < self.context.settings.max_children
    }

    /// Forgets another process that had this one's tgid.
    pub(super) fn replace(&mut self, process: ProcessKey) {
        let before = self.context.processes.with_tgid(process.tgid);
        if let Some(before) = before.filter(|before| *before != process) {
            self.forget(before);
        }
    }

    pub(super) fn look_at_child(&mut self, child: ProcessKey) {
        let context = &mut self.context;
        let patience = context.settings.grace.max(ANSWERED_WITHIN);
        let now = context.now;
        let Some(process) = context.processes.get_mut(child) else { return };
        let Some(grace) = process.grace.as_mut() else { return };
        if grace.unanswered.is_hopeless() {
            process.grace = None;
            process.case = None;
            context.processes.tidy(child);
            context.tell(Output::Dropped(Dropped::Unanswered));
            return;
        }
        let due = now + longer(patience, grace.unanswered.put());
        grace.looks = grace.looks.saturating_add(1);
        grace.due = due;
        context.set(due, child, Setter::Child);
        context.ask(Request::Child { child });
    }

    pub(super) fn look_at_forker(&mut self, child: ProcessKey) {
        let context = &mut self.context;
        let patience = context.settings.grace.max(ANSWERED_WITHIN);
        let now = context.now;
        let Some(case) = context.processes.get_mut(child).and_then(|process| process.case.as_mut()) else {
            return;
        };
        if case.unanswered.is_hopeless() {
            case.parent = Answer::Unknown;
            self.settle(child);
            return;
        }
        case.due = now + longer(patience, case.unanswered.put());
        let (due, fork) = (case.due, &case.fork);
        let (parent, forking_tid, forked_at) = (fork.parent, fork.parent_tid, fork.at);
        context.ask(Request::Parent { child, parent, forking_tid, forked_at });
        context.set(due, child, Setter::Forker);
    }

    pub(super) fn child_seen(&mut self, child: ProcessKey, seen: &ChildSeen) {
        let context = &mut self.context;
        let (now, patience) = (context.now, context.settings.grace);
        let Some(process) = context.processes.get_mut(child) else { return };
        let (at, comm, ran, waited, stopped) = match seen {
            ChildSeen::Gone | ChildSeen::Execed => {
                process.grace = None;
                process.case = None;
                return context.processes.tidy(child);
            }
            ChildSeen::Unreadable(why) => {
                process.grace = None;
                let concerns = process.case.take().map(|case| case.concerns).unwrap_or_default();
                context.processes.tidy(child);
                for hazard in concerns {
                    context.tell(Output::Undecided { hazard, child, why: why.clone() });
                }
                return;
            }
            ChildSeen::Alive { at, comm, ran, waited, stopped } => (*at, *comm, *ran, *waited, *stopped),
        };
        let Some(grace) = process.grace.as_mut() else { return };
        grace.unanswered.answered();
        if let Some(wait) = grace.not_yet(&Look { at, ran, waited, stopped }, patience) {
            let due = now.max(at) + wait;
            grace.due = due;
            context.set(due, child, Setter::Child);
            return;
        }
        let (since_fork, tracked) = (at.since(grace.forked_at), grace.tracked);
        process.grace = None;
        if let Some(case) = &mut process.case {
            case.lives_on = Some(comm);
        }
        let parent = process.birth.parent.unwrap_or(child);
        context.tell(Output::LivesOn(LivesOn { child, parent, comm, at, since_fork }));
        self.lives(child, tracked);
        self.settle(child);
    }

    /// A followed process is known to live on; `tracked` says whether the kernel side reports its end.
    pub(super) fn lives(&mut self, child: ProcessKey, tracked: bool) {
        let Context { processes, settings, now, wakefulness, .. } = &mut self.context;
        let Some(process) = processes.get(child).filter(|process| process.life().is_none()) else { return };
        let key = process.key;
        if processes.living() >= settings.max_children {
            processes.tidy(child);
            return self.context.tell(Output::Dropped(Dropped::Living));
        }
        if processes.begin_life(child, Life::new(*now, tracked)) {
            wakefulness.is_of_use(*now);
            self.each(|detector, context| detector.on_life(key, context));
        }
    }

    pub(super) fn forker_seen(&mut self, child: ProcessKey, seen: Option<&ParentSeen>, ended: bool) {
        let Some(case) = self.context.processes.get_mut(child).and_then(|process| process.case.as_mut())
        else {
            return;
        };
        case.parent = match seen {
            Some(seen) => Answer::Seen(Box::new(seen.clone())),
            None if ended => Answer::Ended,
            None => Answer::Unknown,
        };
        self.settle(child);
    }

    /// Has a fork judged for which all the evidence is in.
    pub(super) fn settle(&mut self, child: ProcessKey) {
        let grace = self.context.settings.grace;
        let Some(process) = self.context.processes.get_mut(child) else { return };
        let Some(case) = process.case.take_if(|case| case.is_complete()) else { return };
        if let Answer::Seen(seen) = &case.parent {
            self.context.processes.set_forker(child, &seen.threads, &case.occupations, &seen.program);
        }
        let (program, parent) = match &case.parent {
            Answer::Seen(seen) => (seen.program.clone(), Some(&**seen)),
            Answer::Awaited | Answer::Unknown | Answer::Ended => (case.forker(), None),
        };
        let (at, fork, child_comm) = (self.context.now, &case.fork, case.lives_on.unwrap_or(case.fork.comm));
        let program_name = called(&program);
        let held = self.context.processes.get(child).and_then(|process| process.still_held(grace)).cloned();
        let held = held.as_ref();
        let parent_ended = matches!(case.parent, Answer::Ended);
        let (program, program_name) = (&program, &*program_name);
        let earlier = self.context.processes.get(child).and_then(|process| process.birth.earlier);
        let (earlier, occupations) = (earlier.as_ref(), &case.occupations);
        let seen = ForkCase {
            at,
            fork,
            earlier,
            child_comm,
            parent,
            parent_ended,
            program,
            program_name,
            held,
            occupations,
        };
        self.each(|detector, context| detector.on_forker(&seen, context));
        self.context.processes.tidy(child);
    }
}
