//! Children that were killed or left in the middle of their work, and what that leaves the rest of their family waiting for.
//!
//! Once a child that lives on was killed by a signal, or has exited with a code other than 0, its family is looked at: the process that forked it, and the other
//! children of that. What waits for something that only the killed one could have brought is looked at a second time. The
//! family goes on being looked at for some minutes, later and later: the others may have something else to do first.

pub(super) mod abandoned_semaphore;
mod frames;
pub(super) mod lost_result;
pub(super) mod not_replaced;

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use crate::{
    core::{Context, Detector, Report, Unanswered, Verdict},
    model::{
        child_end::ChildEnd,
        event::{CloneKind, Event, Exit, ExitStatus, Fork},
        evidence::{Evidence, Request},
        family::{Family, Member},
        finding::{Finding, HazardId},
        process::{Comm, ProcessKey},
        time::{BootTime, nanoseconds},
    },
};

/// How long after a child was killed its family is looked at first. Who replaces a child has done so by then.
const FIRST: Duration = Duration::from_secs(3);
/// How long after a look that shows something the second comes.
const SECOND: Duration = Duration::from_secs(4);
/// A family that shows nothing is looked at again so many times later each time, as long as the pause is no longer than
/// this.
const LATER: u32 = 2;
const LONGEST: Duration = Duration::from_secs(128);
/// So often it is looked at where more are killed.
const AT_LEAST: Duration = Duration::from_secs(24);
/// Most families that are looked at, and most children of one that were killed.
const MOST_FAMILIES: usize = 256;
const MOST_KILLED: usize = 16;

/// Families of which a member was killed.
#[derive(Default)]
pub(super) struct KilledMember {
    families: HashMap<ProcessKey, Bereft>,
}

/// A family of which a member was killed.
struct Bereft {
    /// Those that were killed, the last of them last.
    killed: VecDeque<Killed>,
    /// When one was forked last.
    forked: Option<BootTime>,
    /// What the first look has shown that something may be wrong with.
    first: Option<Box<Family>>,
    pause: Duration,
    looked: Option<BootTime>,
    unanswered: Unanswered,
    reported: Vec<HazardId>,
}

/// A child that was killed.
#[derive(Clone, Debug)]
struct Killed {
    /// Which process: its tgid, and when it started.
    child: ProcessKey,
    /// Its comm: at most 15 bytes, of its own choice.
    comm: Comm,
    /// When, on the clock that counts from the boot.
    at: BootTime,
    /// Which signal it was, and who sent it.
    end: ChildEnd,
}

impl Detector for KilledMember {
    fn on_event(&mut self, event: &Event, context: &mut Context) {
        match event {
            Event::Fork(fork) => self.forked(fork),
            Event::Exit(exit) => {
                self.families.remove(&exit.process);
                self.ended(exit, context);
            }
            Event::Exec(exec) => drop(self.families.remove(&exec.process)),
            _ => {}
        }
    }

    fn on_timer(&mut self, forker: ProcessKey, _topic: u64, context: &mut Context) {
        let Some(bereft) = self.families.get_mut(&forker) else { return };
        if bereft.unanswered.is_hopeless() {
            self.families.remove(&forker);
            return;
        }
        bereft.unanswered.put();
        context.ask(Request::Family { forker });
        context.wake_at(context.now + LONGEST, forker);
    }

    fn on_evidence(&mut self, evidence: &Evidence, context: &mut Context) {
        if let Evidence::Family { forker, seen } = evidence {
            self.seen(*forker, seen.as_deref(), context);
        }
    }

    #[cfg(test)]
    fn remembers(&self) -> (usize, bool) {
        (self.families.len(), self.families.len() <= MOST_FAMILIES)
    }
}

impl KilledMember {
    fn forked(&mut self, fork: &Fork) {
        if fork.kind == CloneKind::Copying
            && let Some(bereft) = self.families.get_mut(&fork.parent)
        {
            bereft.forked = Some(fork.at);
        }
    }

    /// A child has ended: it counts where a signal killed it, and where it has left with a code, as `os._exit` does in the
    /// middle of a task.
    fn ended(&mut self, exit: &Exit, context: &mut Context) {
        if exit.status == ExitStatus::Code(0) {
            return;
        }
        let end = context.end(exit);
        let Some(process) = context.processes.get(exit.process).filter(|process| process.life().is_some())
        else {
            return;
        };
        let Some(forker) = process.birth.parent else { return };
        let room = self.families.len() < MOST_FAMILIES || self.families.contains_key(&forker);
        if context.settings.snapshot || !room {
            return;
        }
        let bereft = self.families.entry(forker).or_insert_with(|| Bereft {
            killed: VecDeque::new(),
            forked: None,
            first: None,
            pause: FIRST,
            looked: None,
            unanswered: Unanswered::default(),
            reported: Vec::new(),
        });
        if bereft.killed.len() >= MOST_KILLED {
            bereft.killed.pop_front();
        }
        let killed = Killed { child: exit.process, comm: exit.comm, at: exit.at, end };
        bereft.killed.push_back(killed);
        bereft.first = None;
        // Of a family that loses one after the other is not looked at after each.
        bereft.pause = bereft.pause.min(AT_LEAST);
        let pause = bereft.pause;
        let due = bereft.looked.map_or(exit.at, |looked| looked + pause).max(exit.at + FIRST);
        context.wake_at(due, forker);
    }

    fn seen(&mut self, forker: ProcessKey, seen: Option<&Family>, context: &mut Context) {
        let Some(bereft) = self.families.get_mut(&forker) else { return };
        bereft.unanswered.answered();
        bereft.looked = Some(context.now);
        let Some(seen) = seen else {
            self.families.remove(&forker);
            return context.sleep(forker);
        };
        let first = bereft.first.take();
        let case = Case {
            killed: bereft.killed.make_contiguous(),
            forked: bereft.forked,
            first: first.as_deref().unwrap_or(seen),
            second: seen,
            now: context.now,
        };
        let found: Vec<(HazardId, Verdict)> =
            judge(&case).into_iter().filter(|(hazard, _)| !bereft.reported.contains(hazard)).collect();
        if first.is_none() && !found.is_empty() {
            bereft.first = Some(Box::new(seen.clone()));
            return context.wake_at(context.now + SECOND, forker);
        }
        for (hazard, mut verdict) in found {
            bereft.reported.push(hazard);
            let Some(killed) = bereft.killed.back() else { continue };
            verdict.facts.end = Some(Box::new(killed.end.clone()));
            verdict.facts.age = Some(nanoseconds(context.now.since(killed.at)));
            let parent = (seen.forker.process, &seen.program);
            let finding = verdict.finding(context.now, hazard, parent, (killed.child, killed.comm));
            let uid = seen.forker.uid;
            context.report(Report::of(Finding { child_uid: uid, ..finding }));
        }
        if bereft.pause > LONGEST {
            self.families.remove(&forker);
            return context.sleep(forker);
        }
        let pause = bereft.pause;
        bereft.pause = pause * LATER;
        context.wake_at(context.now + pause, forker);
    }
}

/// A family of which a member was killed, with two looks at it: at the first they are the same.
struct Case<'a> {
    /// Those that were killed, the last of them last.
    killed: &'a [Killed],
    /// When the process that forks has last forked since.
    forked: Option<BootTime>,
    /// The earlier look.
    first: &'a Family,
    /// The later one.
    second: &'a Family,
    /// When it is judged.
    now: BootTime,
}

/// All that is wrong. What explains the other comes first, and alone.
fn judge(case: &Case<'_>) -> Vec<(HazardId, Verdict)> {
    // Who has killed a child itself knows that its work is lost; that its lock stays locked it need not know.
    let is_wanted = case.killed.last().is_some_and(|killed| not_replaced::is_wanted(&killed.end));
    let semaphore = abandoned_semaphore::judge(case);
    let result = if semaphore.is_none() && !is_wanted { lost_result::judge(case) } else { None };
    let replaced = if is_wanted { None } else { not_replaced::judge(case) };
    let found = [
        (abandoned_semaphore::HAZARD.id, semaphore),
        (lost_result::HAZARD.id, result),
        (not_replaced::HAZARD.id, replaced),
    ];
    found.into_iter().filter_map(|(hazard, verdict)| Some((hazard, verdict?))).collect()
}

impl<'a> Case<'a> {
    /// All of the family, as they were seen last.
    fn members(&self) -> impl Iterator<Item = &'a Member> {
        [&self.second.forker].into_iter().chain(&self.second.children)
    }

    /// One of the family, as it was seen first.
    fn before(&self, member: &Member) -> Option<&'a Member> {
        let before = [&self.first.forker].into_iter().chain(&self.first.children);
        before.into_iter().find(|other| other.process == member.process)
    }

    /// The last that was killed, for a sentence.
    fn killed_words(&self) -> String {
        self.killed.last().map_or_else(
            || "a child was killed".to_owned(),
            |killed| format!("{} {}", killed.child.tgid, killed.how()),
        )
    }

    /// What the kernel tells of processes that it has killed for want of memory, as a note.
    fn memory_note(&self) -> Option<String> {
        let killed = self.killed.last()?;
        let count = self
            .second
            .out_of_memory
            .filter(|count| *count > 0 && killed.end.exit_code.is_none() && killed.signal() == "SIGKILL")?;
        let processes = if count == 1 { "1 process".to_owned() } else { format!("{count} processes") };
        Some(format!(
            "the kernel has killed {processes} of this control group for want of memory (memory.events)"
        ))
    }
}

impl Killed {
    /// How it ended, after its name.
    fn how(&self) -> String {
        match self.end.exit_code {
            Some(code) => format!("exited with code {code}"),
            None => format!("was killed by {}", self.signal()),
        }
    }

    /// The signal that killed it.
    fn signal(&self) -> &str {
        self.end.signal.as_deref().unwrap_or("a signal")
    }
}

#[cfg(test)]
mod tests;
