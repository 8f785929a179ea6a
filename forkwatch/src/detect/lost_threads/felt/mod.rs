//! Threads of the program's own that a child lacks, told when their absence is felt: a handler that a server runs in the
//! child waits, without end, in the very file in which such a thread worked in the parent.
//!
//! What the parent's threads did is known from the fork. A child is looked at when it falls asleep, one of all every few
//! seconds, because a look takes some milliseconds.

mod rule;

use std::time::Duration;

use self::rule::{Case, Felt, concern, felt, judge};
use super::{
    children::{Child, Children},
    told::{self, Told},
};
use crate::{
    core::{Context, Detector, ForkCase},
    model::{
        event::Event,
        evidence::{Evidence, Request},
        process::ProcessKey,
        seen::ThreadsSeen,
        stack::Stacks,
        thread::{Occupation, SeenThread},
        time::BootTime,
    },
};

/// How long such a wait must last, as two looks see it.
const WAITS_FOR: Duration = Duration::from_secs(30);
/// A child is looked at so long after the last look, or the fork; and of all children, one in such a time.
const LOOK_AGAIN: Duration = Duration::from_secs(10);
const BETWEEN_LOOKS: Duration = Duration::from_secs(5);

/// Children whose forkers had threads of their own programs.
#[derive(Default)]
pub(in crate::detect) struct FeltAbsence {
    children: Children<Lacking>,
    /// What was reported: of which thread.
    told: Told<String>,
    /// From when on a child that falls asleep may be looked at.
    next_look: BootTime,
}

/// A child that lives on.
struct Lacking {
    child: Child,
    /// The forker's threads, and what those that run its program did.
    threads: Vec<SeenThread>,
    own: Vec<Occupation>,
    looked: BootTime,
    is_asked: bool,
    /// What was seen to wait, and since when.
    felt: Option<(Felt, BootTime)>,
}

impl FeltAbsence {
    fn watch(&mut self, case: &ForkCase<'_>, context: &Context) {
        let Some(parent) = case.parent.filter(|_| context.settings.stacks != Stacks::None) else { return };
        let now = context.now;
        let is_news = |occupation: &&Occupation| {
            let name = name(occupation, &parent.threads);
            self.told.is_news(&told::of(case.program_name, case.program, name), now)
        };
        let own: Vec<Occupation> =
            case.occupations.iter().filter(|one| concern(one)).filter(is_news).cloned().collect();
        if own.is_empty() || !self.children.has_room() {
            return;
        }
        let lacking = Lacking {
            child: Child::of(case),
            threads: parent.threads.clone(),
            own,
            looked: case.fork.at,
            is_asked: false,
            felt: None,
        };
        self.children.insert(case.fork.child, lacking);
    }

    fn look(&mut self, child: ProcessKey, context: &mut Context) {
        let Some(lacking) = self.children.get_mut(child) else { return };
        (lacking.is_asked, lacking.looked) = (true, context.now);
        context.ask(Request::Threads { child, stacks: context.settings.stacks });
    }

    /// One of them may have begun to wait for a thread that it does not have.
    fn fell_asleep(&mut self, children: &[ProcessKey], context: &mut Context) {
        let now = context.now;
        if now < self.next_look {
            return;
        }
        let is_due = |child: &&ProcessKey| {
            self.children
                .get(**child)
                .is_some_and(|lacking| lacking.felt.is_none() && now >= lacking.looked + LOOK_AGAIN)
        };
        // The one that was looked at longest ago: none is to be left out because of others.
        let due = children.iter().filter(is_due);
        let oldest = due.min_by_key(|child| self.children.get(**child).map(|lacking| lacking.looked));
        if let Some(child) = oldest.copied() {
            self.next_look = now + BETWEEN_LOOKS;
            self.look(child, context);
        }
    }

    fn seen(&mut self, child: ProcessKey, seen: &ThreadsSeen, context: &mut Context) {
        let now = context.now;
        let Some(lacking) = self.children.get_mut(child).filter(|lacking| lacking.is_asked) else { return };
        lacking.is_asked = false;
        lacking.own.retain(|occupation| !rule::is_there(occupation, &seen.places));
        if lacking.own.is_empty() {
            self.children.remove(child);
            return;
        }
        let felt = felt(&lacking.own, &seen.places);
        lacking.felt = match (lacking.felt.take(), felt) {
            (Some((before, since)), Some(felt)) if before == felt => Some((felt, since)),
            (_, felt) => felt.map(|felt| (felt, now)),
        };
        let Some((felt, since)) = &lacking.felt else { return };
        if now.since(*since) < WAITS_FOR {
            return context.wake_at(*since + WAITS_FOR, child);
        }
        let (felt, waited) = (felt.clone(), now.since(*since));
        if let Some(lacking) = self.children.remove(child) {
            self.tell(&lacking, &felt, waited, context);
        }
    }

    fn tell(&mut self, lacking: &Lacking, felt: &Felt, waited: Duration, context: &mut Context) {
        let Lacking { child, threads, .. } = lacking;
        let now = context.now;
        let name = name(&felt.lost, threads);
        // Another child of the program may have been reported meanwhile.
        if !self.told.tell(child.telling(name.clone()), now) {
            return;
        }
        let lost = threads.iter().find(|thread| thread.tid == felt.lost.tid).copied();
        let age = child.age(now);
        let Child { key, parent, program, .. } = child;
        let case = Case { parent: *parent, program, child: *key, felt, name, lost, waited, age };
        child.report(judge(case), true, context);
    }
}

/// What the thread is called: by its program, else by the kernel.
pub(super) fn name(occupation: &Occupation, threads: &[SeenThread]) -> String {
    let known = threads.iter().find(|thread| thread.tid == occupation.tid);
    let own = || occupation.name.clone();
    known.map(|thread| thread.name(std::slice::from_ref(occupation))).or_else(own).unwrap_or_default()
}

impl Detector for FeltAbsence {
    fn on_event(&mut self, event: &Event, context: &mut Context) {
        self.children.on_event(event, context);
    }

    fn on_forker(&mut self, case: &ForkCase<'_>, context: &mut Context) {
        self.watch(case, context);
    }

    fn on_evidence(&mut self, evidence: &Evidence, context: &mut Context) {
        match evidence {
            Evidence::Threads { child, seen: Some(seen) } => self.seen(*child, seen, context),
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
