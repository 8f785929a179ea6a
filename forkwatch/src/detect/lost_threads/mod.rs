//! Children that lack background threads that their parent has.

mod backlog;
mod children;
mod felt;
mod hazard;
mod told;

use std::time::Duration;

pub(super) use self::{backlog::Backlog, felt::FeltAbsence, hazard::HAZARD};
use self::{
    children::{Child, Children},
    hazard::{LostCase, Wait, judge},
    told::Told,
};
use crate::{
    core::{Context, Detector, ForkCase, Unanswered},
    model::{
        event::Event,
        evidence::{Evidence, Request},
        process::{Comm, ProcessKey},
        seen::ThreadsSeen,
        stack::Stacks,
        thread::SeenThread,
        time::BootTime,
    },
};

/// When a child is looked at first, and how long a thread may take to start after work has been seen.
const FIRST_LOOK: Duration = Duration::from_secs(30);
/// The longest that a child is waited for that does nothing: each look takes twice as long to come as the one before.
const LONGEST_WAIT: Duration = Duration::from_secs(60 * 60);
/// How long a wait for a missing thread must last, as two looks see it.
const WAITS_FOR: Duration = Duration::from_secs(5);
/// A child that falls asleep, which may be such a wait, is looked at so long after the last look; and of all children, one
/// in such a time: a look takes some milliseconds.
const LOOK_AGAIN: Duration = Duration::from_secs(10);
const BETWEEN_LOOKS: Duration = Duration::from_millis(500);
/// What makes a child one that has worked, since the look before. An idle worker that wakes each second for its
/// heartbeat uses some 0.1 ms of CPU for it, and moves next to no bytes.
const LEAST_SHARE: u32 = 100;
const LEAST_BYTES: u64 = 64 << 10;

/// Children whose parents have such threads.
#[derive(Default)]
pub(super) struct LostThreads {
    children: Children<Lacking>,
    /// What was reported: of which thread, and whether the child waited for it.
    told: Told<(Comm, bool)>,
    /// From when on a child that falls asleep may be looked at.
    next_look: BootTime,
}

/// A child that lives on.
struct Lacking {
    child: Child,
    /// The parent's threads that a child should have.
    threads: Vec<SeenThread>,
    wait: Duration,
    unanswered: Unanswered,
    before: Option<ThreadsSeen>,
    worked: bool,
    /// Whether it was reported that it works without them.
    reported: bool,
    /// When it is to be looked at for whether it has worked.
    due: BootTime,
    /// When it was looked at last.
    looked: BootTime,
    /// What it was seen to wait for, and since when.
    waits: Option<(Wait, BootTime)>,
}

impl Lacking {
    /// Whether it can be seen that it waits for one of them.
    fn may_wait(&self) -> bool {
        self.threads.iter().any(|thread| hazard::may_be_waited_for(thread.comm))
    }

    fn has_worked_since(&self, seen: &ThreadsSeen) -> bool {
        self.before.as_ref().is_some_and(|before| {
            let ran = Duration::from_nanos(seen.ran.saturating_sub(before.ran));
            let bytes = seen.moved.zip(before.moved).map_or(0, |(now, before)| now.saturating_sub(before));
            let least = seen.at.since(before.at) / LEAST_SHARE;
            !ran.is_zero() && ran >= least || bytes >= LEAST_BYTES
        })
    }
}

impl LostThreads {
    /// Remembers a child that lives on, if it should have threads that its forker has.
    fn watch(&mut self, case: &ForkCase<'_>, context: &mut Context) {
        let Some(parent) = case.parent else { return };
        let due = case.fork.at + FIRST_LOOK;
        let news = |thread: &&SeenThread| {
            let is_news = |waits| {
                self.told.is_news(&told::of(case.program_name, case.program, (thread.comm, waits)), due)
            };
            hazard::is_known(thread.comm)
                && (is_news(false) || hazard::may_be_waited_for(thread.comm) && is_news(true))
        };
        let threads: Vec<SeenThread> = parent.threads.iter().filter(news).copied().collect();
        if threads.is_empty() || !self.children.has_room() {
            return;
        }
        let lacking = Lacking {
            child: Child::of(case),
            threads,
            wait: FIRST_LOOK,
            unanswered: Unanswered::default(),
            before: None,
            worked: false,
            reported: false,
            due,
            looked: case.fork.at,
            waits: None,
        };
        self.children.insert(case.fork.child, lacking);
        context.wake_at(due, case.fork.child);
    }

    fn look(&mut self, child: ProcessKey, context: &mut Context) {
        let Some(lacking) = self.children.get_mut(child) else { return };
        if lacking.unanswered.is_hopeless() {
            self.children.remove(child);
            return;
        }
        lacking.unanswered.put();
        lacking.looked = context.now;
        context.wake_at(context.now + FIRST_LOOK, child);
        let stacks = if lacking.may_wait() { context.settings.stacks } else { Stacks::None };
        context.ask(Request::Threads { child, stacks });
    }

    /// Some of them may have begun to wait for a thread that they do not have.
    fn fell_asleep(&mut self, children: &[ProcessKey], context: &mut Context) {
        let now = context.now;
        for child in children {
            if now < self.next_look {
                return;
            }
            let is_due = |lacking: &Lacking| {
                lacking.may_wait() && !lacking.unanswered.is_open() && now >= lacking.looked + LOOK_AGAIN
            };
            if self.children.get(*child).is_some_and(is_due) {
                self.next_look = now + BETWEEN_LOOKS;
                self.look(*child, context);
            }
        }
    }

    fn threads_seen(&mut self, child: ProcessKey, seen: &ThreadsSeen, context: &mut Context) {
        let now = context.now;
        let Some(lacking) = self.children.get_mut(child) else { return };
        lacking.unanswered.answered();
        lacking.threads.retain(|thread| hazard::is_missing(thread.comm, &seen.comms));
        if lacking.threads.is_empty() {
            self.children.remove(child);
            return;
        }
        let wait = hazard::wait(&lacking.threads, &seen.places);
        lacking.waits = match (lacking.waits.take(), wait) {
            (Some((before, since)), Some(wait)) if before.goes_on(&wait) => Some((wait, since)),
            (_, wait) => wait.map(|wait| (wait, now)),
        };
        if let Some((wait, since)) = &lacking.waits {
            if now.since(*since) >= WAITS_FOR {
                let wait = wait.clone();
                if let Some(lacking) = self.children.remove(child) {
                    self.threads_are_lost(&lacking, Some(wait), context);
                }
                return;
            }
            return context.wake_at(*since + WAITS_FOR, child);
        }
        // This look was for what it waits for.
        if now < lacking.due {
            return context.wake_at(lacking.due, child);
        }
        if lacking.worked && !lacking.reported {
            if let Some(mut lacking) = self.children.remove(child) {
                self.threads_are_lost(&lacking, None, context);
                // It may still be seen to wait for one of them, which says more.
                if lacking.may_wait() {
                    (lacking.reported, lacking.wait) = (true, LONGEST_WAIT);
                    lacking.due = now + lacking.wait;
                    context.wake_at(lacking.due, child);
                    self.children.insert(child, lacking);
                }
            }
            return;
        }
        lacking.worked |= lacking.has_worked_since(seen);
        let wait = match (&lacking.before, lacking.worked) {
            (None, _) | (_, true) if !lacking.reported => FIRST_LOOK,
            _ => lacking.wait * 2,
        };
        if wait > LONGEST_WAIT {
            self.children.remove(child);
            return;
        }
        lacking.before = Some(ThreadsSeen { places: Vec::new(), ..seen.clone() });
        (lacking.wait, lacking.due) = (wait, now + wait);
        context.wake_at(lacking.due, child);
    }

    fn threads_are_lost(&mut self, lacking: &Lacking, wait: Option<Wait>, context: &mut Context) {
        let Lacking { child, threads, .. } = lacking;
        let now = context.now;
        // Another child of the program may have been reported meanwhile.
        let mut lost = threads.clone();
        lost.retain(|thread| self.told.tell(child.telling((thread.comm, wait.is_some())), now));
        let of_one_child = wait.is_some();
        let Child { key, parent, program_name, .. } = child;
        let case = LostCase { parent: *parent, program_name, child: *key, lost, wait, age: child.age(now) };
        if let Some(verdict) = judge(case) {
            child.report(verdict, of_one_child, context);
        }
    }
}

impl Detector for LostThreads {
    fn on_event(&mut self, event: &Event, context: &mut Context) {
        self.children.on_event(event, context);
    }

    fn on_forker(&mut self, case: &ForkCase<'_>, context: &mut Context) {
        self.watch(case, context);
    }

    fn on_evidence(&mut self, evidence: &Evidence, context: &mut Context) {
        match evidence {
            Evidence::Threads { child, seen: Some(seen) } => self.threads_seen(*child, seen, context),
            Evidence::Threads { child, seen: None } => self.children.leave(*child, context),
            Evidence::FellAsleep { seen: Some(children) } => self.fell_asleep(children, context),
            _ => {}
        }
    }

    fn on_timer(&mut self, child: ProcessKey, _topic: u64, context: &mut Context) {
        self.look(child, context);
    }

    #[cfg(test)]
    fn remembers(&self) -> (usize, bool) {
        let (count, is_bounded) = self.children.remembers();
        (count, is_bounded && self.told.is_bounded())
    }
}
