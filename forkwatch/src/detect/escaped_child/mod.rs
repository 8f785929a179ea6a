//! Children that run on in the code of the process that forked them, and fork there again.
//!
//! Whenever a forked process forks, it is looked at beside its own forker, a few times, until both wait for children. What is
//! seen is told once one of the two has forked more than once: a process that only passes a task on forks once.

mod hazard;

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

pub(super) use self::hazard::HAZARD;
use self::hazard::judge;
use crate::{
    core::{Context, Detector, Output, Recent, Report},
    model::{
        escaped::{EscapedSeen, SameCall},
        event::{CloneKind, Event, Fork},
        evidence::{Evidence, Request},
        finding::Finding,
        process::ProcessKey,
    },
};

/// How long after a fork the first look comes: it takes as long to be known at the latest.
const FIRST_LOOK: Duration = Duration::from_millis(25);
/// How often a process is looked at after each of its forks. Each further look comes twice as late.
const LOOKS: u8 = 6;
/// Children of one process that are known to be counted.
const MOST_COUNTED: usize = 8;
/// Most processes that are remembered of each sort.
const MOST: usize = 256;

/// Forked processes that fork, and what is known of them.
pub(super) struct EscapedChild {
    forked: HashMap<ProcessKey, Forked>,
    /// How often processes have forked, as far as that was told.
    forks: Recent<Forks>,
}

/// How often a process has forked.
#[derive(Clone, Default)]
struct Forks {
    count: u32,
    /// The children that were counted last: a record and a look at the host may both tell of one.
    last: VecDeque<ProcessKey>,
}

impl Default for EscapedChild {
    fn default() -> Self {
        Self { forked: HashMap::new(), forks: Recent::new(4 * MOST) }
    }
}

/// A forked process that has forked.
struct Forked {
    forker: ProcessKey,
    forking_tid: Option<u32>,
    looks: u8,
    /// Once it was seen to wait where its forker does.
    seen: Option<Box<SameCall>>,
    reported: bool,
    /// How often it had forked when it ended; from then on it is remembered for what was seen of it.
    ended: Option<u32>,
}

impl Detector for EscapedChild {
    fn on_event(&mut self, event: &Event, context: &mut Context) {
        match event {
            Event::Fork(fork) if fork.kind == CloneKind::Copying => {
                self.has_forked((fork.parent, fork.child), context, Some(fork));
            }
            Event::Exec(exec) => self.over(exec.process, context),
            Event::Exit(exit) => self.over(exit.process, context),
            _ => {}
        }
    }

    fn on_life(&mut self, child: ProcessKey, context: &mut Context) {
        let Some(process) = context.processes.get(child) else { return };
        let Some(forker) = process.birth.parent else { return };
        if process.birth.was_seen() {
            // Its fork was told: another look, at what lasts.
            self.look_from_now(forker, context);
        } else {
            self.has_forked((forker, child), context, None);
        }
    }

    fn on_timer(&mut self, process: ProcessKey, _topic: u64, context: &mut Context) {
        self.look(process, context);
    }

    fn on_evidence(&mut self, evidence: &Evidence, context: &mut Context) {
        let Evidence::Escaped { child, seen } = evidence else { return };
        match seen {
            EscapedSeen::SameCall(call) => {
                let Some(known) = self.forked.get_mut(child) else { return };
                known.seen = Some(call.clone());
                context.sleep(*child);
                self.tell(*child, context);
            }
            EscapedSeen::Gone => self.over(*child, context),
            EscapedSeen::Unreadable(why) => {
                if self.forked.remove(child).is_some() {
                    context.sleep(*child);
                    context.tell(Output::Undecided { hazard: HAZARD.id, child: *child, why: why.clone() });
                }
            }
            EscapedSeen::Apart => {}
        }
    }

    fn forget(&mut self, process: ProcessKey, context: &mut Context) {
        self.over(process, context);
    }

    #[cfg(test)]
    fn remembers(&self) -> (usize, bool) {
        (self.forked.len(), self.forked.len() <= MOST && self.forks.within_bounds())
    }
}

impl EscapedChild {
    /// A process has forked: told by a record, or seen by its child.
    fn has_forked(
        &mut self,
        (process, child): (ProcessKey, ProcessKey),
        context: &mut Context,
        fork: Option<&Fork>,
    ) {
        self.count(process, child);
        // What its children were seen to do says more now.
        let children: Vec<_> =
            self.forked.iter().filter(|(_, child)| child.forker == process).map(|(key, _)| *key).collect();
        for child in children {
            self.tell(child, context);
        }
        if fork.is_some_and(|fork| fork.generation < 2) {
            return;
        }
        let birth = context.processes.get(process).map(|process| process.birth);
        let Some((forker, forking_tid)) = birth.and_then(|birth| Some((birth.parent?, birth.forking_tid)))
        else {
            return;
        };
        if !self.forked.contains_key(&process) {
            if !self.has_room() {
                return;
            }
            let new = Forked { forker, forking_tid, looks: 0, seen: None, reported: false, ended: None };
            self.forked.insert(process, new);
        }
        self.tell(process, context);
        self.look_from_now(process, context);
    }

    /// Whether one more can be remembered: one that has ended makes way.
    fn has_room(&mut self) -> bool {
        if self.forked.len() >= MOST {
            let ended = self.forked.iter().find(|(_, known)| known.ended.is_some()).map(|(key, _)| *key);
            ended.and_then(|ended| self.forked.remove(&ended));
        }
        self.forked.len() < MOST
    }

    fn count(&mut self, process: ProcessKey, child: ProcessKey) {
        let mut forks = self.forks.get(process).cloned().unwrap_or_default();
        if forks.last.contains(&child) {
            return;
        }
        forks.count = forks.count.saturating_add(1);
        forks.last.truncate(MOST_COUNTED - 1);
        forks.last.push_front(child);
        self.forks.insert(process, forks);
    }

    fn forks(&self, process: ProcessKey) -> u32 {
        self.forks.get(process).map_or(0, |forks| forks.count)
    }

    /// Has a process looked at some times from now on, unless all is known of it.
    fn look_from_now(&mut self, process: ProcessKey, context: &mut Context) {
        let Some(known) = self.forked.get_mut(&process).filter(|known| known.seen.is_none()) else {
            return;
        };
        known.looks = 0;
        context.wake_at(context.now + FIRST_LOOK, process);
    }

    fn look(&mut self, process: ProcessKey, context: &mut Context) {
        let Some(known) = self.forked.get_mut(&process).filter(|known| known.seen.is_none()) else {
            return;
        };
        let (forker, forking_tid) = (known.forker, known.forking_tid);
        context.ask(Request::Escaped { child: process, forker, forking_tid });
        known.looks += 1;
        if known.looks < LOOKS {
            context.wake_at(context.now + FIRST_LOOK * (1 << known.looks), process);
        }
    }

    /// Reports what was seen of a process, if one of the two has forked more than once.
    fn tell(&mut self, child: ProcessKey, context: &mut Context) {
        let Some(known) = self.forked.get(&child).filter(|known| !known.reported) else { return };
        let (forker, Some(call)) = (known.forker, &known.seen) else { return };
        let counts = (known.ended.unwrap_or_else(|| self.forks(child)), self.forks(forker));
        if counts.0.max(counts.1) < 2 {
            return;
        }
        // Of a child of one that has run on itself it is said there.
        let is_told = self.forked.get(&forker).is_some_and(|above| above.reported);
        let verdict = judge(child, forker, counts, call, context.now);
        let finding = verdict.finding(context.now, HAZARD.id, (forker, &call.program), (child, call.comm));
        let finding = Finding { child_uid: call.uid, ..finding };
        if let Some(known) = self.forked.get_mut(&child) {
            known.reported = true;
        }
        if is_told {
            return;
        }
        if context.processes.get(child).is_some() {
            context.follow(child);
            context.report(Report::until_the_end(finding));
        } else {
            context.report(Report::of(finding));
        }
    }

    /// A process has ended or exec'd. One that was seen where its forker is remembered until that forks again.
    fn over(&mut self, process: ProcessKey, context: &mut Context) {
        context.sleep(process);
        let forks = self.forks(process);
        match self.forked.get_mut(&process) {
            Some(known) if known.seen.is_some() && !known.reported => {
                known.ended.get_or_insert(forks);
            }
            _ => drop(self.forked.remove(&process)),
        }
        // It will not fork again.
        self.forked.retain(|_, child| child.forker != process || child.ended.is_none());
        self.forks.remove(process);
    }
}
