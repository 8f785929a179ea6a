//! Copying forks, followed until it is known what becomes of the child.

use std::{collections::HashMap, time::Duration};

use super::{
    Dropped, LivesOn, Output, Watch,
    case::{Answer, Case},
    living::Birth,
    timers::{Task, Timer},
};
use crate::{
    hazard::{self, ForkCase, Judgement, Rule, called},
    model::{
        event::{CloneKind, Fork},
        evidence::{ChildSeen, ParentSeen, Request},
        process::{Comm, ProcessKey},
        time::BootTime,
    },
};

/// How often a child is looked at that never seems to have had the time to exec, before it is judged all the same.
const MOST_LOOKS: u8 = 60;
/// How often a question is put that nobody answers: another process may keep whoever answers for some seconds.
pub(super) const MOST_UNANSWERED: u8 = 3;
/// The soonest that a child is looked at again.
const SOONEST: Duration = Duration::from_millis(10);

/// Children by tgid.
pub(super) type Children = HashMap<u32, Child>;

/// How long an answer may take at least: a short grace is no reason to ask a busy host more often.
const ANSWERED_WITHIN: Duration = Duration::from_secs(1);

/// How long to wait for an answer that did not come so many times.
fn longer(patience: Duration, unanswered: u8) -> Duration {
    patience * (1 << unanswered.min(MOST_UNANSWERED))
}

/// A child that has neither exec'd nor ended, as far as is known.
pub(super) struct Child {
    start: BootTime,
    forked_at: BootTime,
    pub(super) parent: ProcessKey,
    /// Comm of the thread that forked.
    pub(super) comm: Comm,
    /// Its real uid.
    pub(super) uid: u32,
    /// The grace counts from here: the fork, or the last time the child was seen stopped.
    counted_from: BootTime,
    /// Nanoseconds it had waited for a CPU by then.
    waited_before: u64,
    /// The timer that counts.
    due: BootTime,
    looks: u8,
    stops: u8,
    unanswered: u8,
    /// The thread that forked, and how many there were with it.
    forking_tid: u32,
    threads: u32,
    /// Whether the forker had exec'd itself.
    first_generation: bool,
    /// Whether its end will be reported.
    tracked: bool,
    /// Only where the fork itself gives reason to follow it up.
    case: Option<Box<Case>>,
}

impl Child {
    fn new(fork: &Fork, due: BootTime) -> Self {
        Self {
            start: fork.child.start,
            forked_at: fork.at,
            parent: fork.parent,
            comm: fork.comm,
            uid: fork.uid,
            counted_from: fork.at,
            waited_before: 0,
            due,
            looks: 0,
            stops: 0,
            unanswered: 0,
            forking_tid: fork.parent_tid,
            threads: fork.threads,
            first_generation: fork.generation <= 1,
            tracked: fork.tracked,
            case: None,
        }
    }

    fn lives_on(&self) -> bool {
        self.case.as_ref().is_some_and(|case| case.lives_on.is_some())
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

impl Watch {
    pub(super) fn forked(&mut self, fork: &Fork, out: &mut Vec<Output>) {
        if fork.kind != CloneKind::Copying {
            return;
        }
        let known = self.children.get(&fork.child.tgid).map(|child| child.start);
        if known == Some(fork.child.start) {
            return;
        }
        if known.is_none() && self.children.len() >= self.settings.max_children {
            out.push(Output::Dropped(Dropped::Child));
            return;
        }
        let mut child = Child::new(fork, fork.at + self.settings.grace);
        self.set(child.due, fork.child, Task::Child);
        if hazard::concerns(fork) {
            let due = fork.at + self.settings.recheck;
            self.set(due, fork.child, Task::Parent);
            child.case = Some(Box::new(Case::new(fork, due)));
        }
        self.children.insert(fork.child.tgid, child);
    }

    /// Forgets a child that exec'd or ended.
    pub(super) fn left(&mut self, process: ProcessKey) -> Option<Child> {
        self.child(process)?;
        self.children.remove(&process.tgid)
    }

    /// Whether it is not known yet that the child lives on.
    pub(super) fn is_child(&self, process: ProcessKey) -> bool {
        self.children.get(&process.tgid).is_some_and(|child| {
            ProcessKey { tgid: process.tgid, start: child.start }.is_same(process) && !child.lives_on()
        })
    }

    fn child(&mut self, process: ProcessKey) -> Option<&mut Child> {
        self.children.get_mut(&process.tgid).filter(|child| child.start == process.start)
    }

    /// Whether a timer still counts.
    pub(super) fn child_awaits(children: &Children, timer: &Timer) -> bool {
        children.get(&timer.process.tgid).filter(|child| child.start == timer.process.start).is_some_and(
            |child| match timer.task {
                Task::Child => child.due == timer.due && !child.lives_on(),
                Task::Parent => child.case.as_ref().is_some_and(|case| case.awaits(timer.due)),
                Task::Program
                | Task::Living
                | Task::Connection(_)
                | Task::Loop
                | Task::Family
                | Task::Threads
                | Task::Leaks => false,
            },
        )
    }

    pub(super) fn look_at_child(&mut self, timer: &Timer, now: BootTime, out: &mut Vec<Output>) {
        if !Self::child_awaits(&self.children, timer) {
            return;
        }
        let patience = self.settings.grace.max(ANSWERED_WITHIN);
        let Some(child) = self.child(timer.process) else { return };
        let again = now + longer(patience, child.unanswered);
        if child.unanswered >= MOST_UNANSWERED {
            self.children.remove(&timer.process.tgid);
            out.push(Output::Dropped(Dropped::Unanswered));
            return;
        }
        child.unanswered += 1;
        child.looks = child.looks.saturating_add(1);
        child.due = again;
        self.set(again, timer.process, Task::Child);
        out.push(Output::Ask(Request::Child { child: timer.process }));
    }

    pub(super) fn look_at_parent(&mut self, timer: &Timer, now: BootTime, out: &mut Vec<Output>) {
        if !Self::child_awaits(&self.children, timer) {
            return;
        }
        let patience = self.settings.grace.max(ANSWERED_WITHIN);
        let Some(case) = self.child(timer.process).and_then(|child| child.case.as_mut()) else { return };
        if case.asked >= MOST_UNANSWERED {
            case.parent = Answer::Unknown;
            self.settle(timer.process, now, out);
            return;
        }
        let again = now + longer(patience, case.asked);
        case.asked += 1;
        case.due = again;
        out.push(Output::Ask(Request::Parent {
            child: timer.process,
            parent: case.fork.parent,
            forking_tid: case.fork.parent_tid,
            forked_at: case.fork.at,
        }));
        self.set(again, timer.process, Task::Parent);
    }

    pub(super) fn child_seen(
        &mut self,
        now: BootTime,
        process: ProcessKey,
        seen: &ChildSeen,
        out: &mut Vec<Output>,
    ) {
        let grace = self.settings.grace;
        let Some(child) = self.child(process) else { return };
        child.unanswered = 0;
        let (at, comm, ran, waited, stopped) = match seen {
            ChildSeen::Gone | ChildSeen::Execed => {
                self.children.remove(&process.tgid);
                return;
            }
            ChildSeen::Unreadable(_) => {
                let case = self.children.remove(&process.tgid).and_then(|child| child.case);
                out.extend(
                    case.iter().flat_map(|case| case.hazards()).map(|hazard| hazard.undecided(process)),
                );
                return;
            }
            ChildSeen::Alive { .. } if child.lives_on() => return,
            ChildSeen::Alive { at, comm, ran, waited, stopped } => (*at, *comm, *ran, *waited, *stopped),
        };
        if let Some(wait) = child.not_yet(&Look { at, ran, waited, stopped }, grace) {
            child.due = now.max(at) + wait;
            let due = child.due;
            self.set(due, process, Task::Child);
            return;
        }
        let (parent, since_fork) = (child.parent, at.since(child.forked_at));
        let birth = Birth {
            parent: Some(parent),
            forking_tid: Some(child.forking_tid),
            threads: Some(child.threads),
            uid: Some(child.uid),
            first_generation: child.first_generation,
        };
        let tracked = child.tracked;
        out.push(Output::LivesOn(LivesOn { child: process, parent, comm, at, since_fork }));
        match &mut child.case {
            Some(case) => case.lives_on = Some(comm),
            None => drop(self.children.remove(&process.tgid)),
        }
        self.lives(process, birth, tracked, now, out);
        self.settle(process, now, out);
    }

    pub(super) fn parent_seen(
        &mut self,
        now: BootTime,
        process: ProcessKey,
        seen: Option<ParentSeen>,
        out: &mut Vec<Output>,
    ) {
        let Some(case) = self.child(process).and_then(|child| child.case.as_mut()) else { return };
        case.parent = seen.map_or(Answer::Unknown, |seen| Answer::Seen(Box::new(seen)));
        self.settle(process, now, out);
    }

    /// Judges a case for which all the evidence is in.
    fn settle(&mut self, process: ProcessKey, now: BootTime, out: &mut Vec<Output>) {
        if !self.child(process).and_then(|child| child.case.as_ref()).is_some_and(|case| case.is_complete()) {
            return;
        }
        let Some(case) = self.children.remove(&process.tgid).and_then(|child| child.case) else { return };
        if let (Answer::Seen(seen), Some(alive)) = (&case.parent, self.living(process)) {
            alive.parent_threads.clone_from(&seen.threads);
            alive.program = Some(seen.program.clone());
        }
        let (program, parent) = match &case.parent {
            Answer::Seen(seen) => (seen.program.clone(), Some(&**seen)),
            Answer::Awaited | Answer::Unknown => (case.forker(), None),
        };
        let name = called(&program);
        if let Some(parent) = parent {
            self.watch_threads(&case, parent, &name);
        }
        let seen = ForkCase { at: now, fork: &case.fork, parent, program: &program, program_name: &name };
        for hazard in case.hazards() {
            let Rule::LivingChild { judge, .. } = hazard.rule else { continue };
            match judge(&seen) {
                Judgement::Clean => {}
                Judgement::Undecided => out.push(hazard.undecided(process)),
                Judgement::Unsafe(verdict) => {
                    let finding = case.finding(hazard, *verdict, &seen);
                    self.report(finding, case.fork.tracked, None, out);
                }
            }
        }
    }
}
