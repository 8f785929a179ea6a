//! Children that live on, and the descriptors that their fork left behind.
//!
//! A child is looked at now and then, which is cheap. What it sleeps on, or listens to, becomes suspect; when that has
//! lasted without the child having run, the whole host is searched for other holders, which is dear: twice before a
//! finding, and ever less often where the first search cleared the suspicion.

pub mod leaked_pipe;
pub mod pinned_listener;

use std::{collections::HashMap, time::Duration};

use self::{leaked_pipe::PipeCase, pinned_listener::ListenerCase};
use crate::{
    core::{Context, Detector, Dropped, Judgement, Output, Report, Unanswered, Verdict},
    model::{
        evidence::{Evidence, Request},
        finding::{Finding, HazardId, State},
        leak::{Descriptors, Holders, Object},
        process::ProcessKey,
        program_name::called,
        resolution::Resolution,
        time::{BootTime, nanoseconds},
    },
};

/// A child with nothing suspect about it is looked at less and less often, down to once in so many intervals.
const SLOWEST: u32 = 4;
/// A suspect that a search has cleared is searched for again later and later, down to once in so many intervals.
const SELDOM: u32 = 64;
/// No two searches of the host are closer than this: they keep other questions waiting.
const BETWEEN_SEARCHES: Duration = Duration::from_secs(2);

/// What was left behind in children that live on.
#[derive(Default)]
pub(super) struct Leaks {
    children: HashMap<ProcessKey, Child>,
    last_search: Option<BootTime>,
}

struct Child {
    process: ProcessKey,
    forker: Option<ProcessKey>,
    /// Whether the forker was seen beside it when it was some time old.
    forker_stayed: bool,
    suspicion: Option<Suspicion>,
    /// Intervals between two looks.
    pace: u32,
    unanswered: Unanswered,
}

/// Something that a child sleeps on or listens to, for as long as it does not run.
struct Suspicion {
    object: Object,
    switches: u64,
    since: BootTime,
    /// The first search, where that has found nobody to use the object.
    first: Option<Box<Holders>>,
    /// When to search next, and how many intervals that is to be put off if nothing comes of it.
    search_at: BootTime,
    put_off: u32,
    undecided: bool,
    reported: bool,
    /// Whether the child could not be looked at last time.
    unseen: bool,
}

impl Object {
    fn hazard(self) -> HazardId {
        match self {
            Self::Pipe(_) => leaked_pipe::HAZARD.id,
            Self::Socket(_) => pinned_listener::HAZARD.id,
        }
    }
}

impl Detector for Leaks {
    fn on_life(&mut self, child: ProcessKey, context: &mut Context) {
        let Some(process) = context.processes.get(child) else { return };
        self.follow(process.key, process.birth.parent, context);
    }

    fn on_timer(&mut self, process: ProcessKey, _topic: u64, context: &mut Context) {
        let Some(child) = self.children.get_mut(&process) else { return };
        if child.unanswered.is_hopeless() {
            self.children.remove(&process);
            return context.tell(Output::Dropped(Dropped::Unanswered));
        }
        child.unanswered.put();
        let (process, forker) = (child.process, child.forker);
        context.ask(Request::Descriptors { process, forker });
        context.wake_at(context.now + context.settings.leak_interval, process);
    }

    fn on_evidence(&mut self, evidence: &Evidence, context: &mut Context) {
        match evidence {
            // Programs that a parent left behind are many on some hosts: they are looked at where that is done once.
            Evidence::Sweep { seen: Some(_) } if context.settings.snapshot => context.ask(Request::Orphans),
            Evidence::Orphans { seen } => seen.iter().for_each(|orphan| self.follow(*orphan, None, context)),
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
        self.children.remove(&process);
        context.sleep(process);
    }

    #[cfg(test)]
    fn remembers(&self) -> (usize, bool) {
        (self.children.len(), true)
    }
}

impl Leaks {
    fn follow(&mut self, process: ProcessKey, forker: Option<ProcessKey>, context: &mut Context) {
        let unanswered = Unanswered::default();
        let child = Child { process, forker, forker_stayed: false, suspicion: None, pace: 1, unanswered };
        self.children.insert(process, child);
        context.wake_at(context.now + context.settings.leak_interval, process);
    }

    /// A child lives and cannot be looked at. What was reported of it may still be so.
    fn unseen(&mut self, process: ProcessKey, context: &mut Context) {
        let pause = context.settings.leak_interval * SLOWEST;
        let Some(child) = self.children.get_mut(&process) else { return };
        child.unanswered.answered();
        let Some(suspicion) = child.suspicion.as_mut().filter(|suspicion| suspicion.reported) else {
            self.children.remove(&process);
            return context.sleep(process);
        };
        if !std::mem::replace(&mut suspicion.unseen, true) {
            let words = "can no longer be looked at, and whether it still waits there is unknown";
            context.tell_later(process, suspicion.object.hazard(), State::Unknown, words);
        }
        context.wake_at(context.now + pause, process);
    }

    /// A child has ended.
    fn gone(&mut self, process: ProcessKey, context: &mut Context) {
        let suspicion = self.children.remove(&process).and_then(|child| child.suspicion);
        context.sleep(process);
        if let Some(suspicion) = suspicion.filter(|suspicion| suspicion.reported) {
            context.resolve(process, suspicion.object.hazard(), Resolution::Ended);
        }
    }

    fn seen(&mut self, process: ProcessKey, seen: &Descriptors, context: &mut Context) {
        let (interval, pipe_patience) = (context.settings.leak_interval, context.settings.pipe_patience);
        let Some(child) = self.children.get_mut(&process) else { return };
        child.unanswered.answered();
        child.forker_stayed |= !seen.reparented && seen.at.since(process.start) >= interval;
        let object = object(seen);
        let same = |suspicion: &Suspicion| {
            Some(suspicion.object) == object && suspicion.switches == seen.rest.switches
        };
        if let Some(suspicion) = child.suspicion.as_mut().filter(|suspicion| same(suspicion)) {
            child.pace = 1;
            if std::mem::take(&mut suspicion.unseen) {
                let words = "can be looked at again, and is as it was";
                context.tell_later(process, suspicion.object.hazard(), State::Confirmed, words);
            }
        } else {
            let patience = |object| match object {
                Object::Pipe(_) => context.settings.pause(pipe_patience),
                Object::Socket(_) => context.settings.pause(interval),
            };
            let fresh = object.map(|object| Suspicion {
                object,
                switches: seen.rest.switches,
                since: seen.at,
                first: None,
                search_at: seen.at + patience(object),
                put_off: 1,
                undecided: false,
                reported: false,
                unseen: false,
            });
            child.pace = if fresh.is_some() { 1 } else { (child.pace * 2).min(SLOWEST) };
            let before = std::mem::replace(&mut child.suspicion, fresh);
            if let Some(before) = before.filter(|before| before.reported) {
                context.resolve(process, before.object.hazard(), Resolution::Cleared);
            }
        }
        let due = context.now + interval * child.pace;
        if child.suspicion.is_none() {
            return context.wake_to_look(due, process);
        }
        let due = self.search(process, context).map_or(due, |later| later.min(due));
        context.wake_at(due, process);
    }

    /// Has the host searched if that is due for a child. Gives when to come back for it, where it cannot be done now.
    fn search(&mut self, process: ProcessKey, context: &mut Context) -> Option<BootTime> {
        let now = context.now;
        let apart = context.settings.pause(BETWEEN_SEARCHES.min(context.settings.leak_interval));
        let free = self.last_search.map_or(now, |last| last + apart);
        let child = self.children.get(&process)?;
        let (process, forker) = (child.process, child.forker);
        let suspicion = child.suspicion.as_ref().filter(|suspicion| !suspicion.reported)?;
        if suspicion.search_at > now {
            return Some(suspicion.search_at);
        }
        if free > now {
            return Some(free);
        }
        self.last_search = Some(now);
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
        let Some(child) = self.children.get_mut(&process) else { return };
        let (process, forker, forker_stayed) = (child.process, child.forker, child.forker_stayed);
        let Some(suspicion) = child.suspicion.as_mut().filter(|one| one.object == object && !one.reported)
        else {
            return;
        };
        let first = suspicion.first.take();
        let stuck = context.processes.hanging();
        let judged = seen.map_or(Judgement::Undecided, |second| {
            let first = first.as_deref().unwrap_or(second);
            judge(process, forker, forker_stayed, suspicion, (first, second), &stuck, now)
        });
        match (judged, seen) {
            (Judgement::Unsafe(verdict), Some(second)) if first.is_some() => {
                suspicion.reported = true;
                let finding = finding(now, process, forker, object.hazard(), *verdict, second);
                context.report(Report::until_the_end(finding));
            }
            (Judgement::Unsafe(_), seen) => {
                suspicion.first = seen.cloned().map(Box::new);
                suspicion.search_at = now + interval;
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

/// What a child has to be suspected for.
fn object(seen: &Descriptors) -> Option<Object> {
    if seen.rest.stopped {
        return None;
    }
    let pipe = leaked_pipe::concern(seen.rest.pipe, seen.holds_other_end);
    pipe.or_else(|| seen.listeners.first().copied().map(Object::Socket))
}

fn judge(
    process: ProcessKey,
    forker: Option<ProcessKey>,
    forker_stayed: bool,
    suspicion: &Suspicion,
    (first, second): (&Holders, &Holders),
    stuck: &[ProcessKey],
    now: BootTime,
) -> Judgement {
    let name = called(&second.program);
    match suspicion.object {
        Object::Pipe(inode) => leaked_pipe::judge(&PipeCase {
            process,
            forker,
            inode,
            waited: now.since(suspicion.since),
            first,
            second,
            stuck,
            program_name: &name,
        }),
        Object::Socket(inode) => pinned_listener::judge(&ListenerCase {
            process,
            forker,
            forker_stayed,
            inode,
            first,
            second,
            stuck,
            program_name: &name,
        }),
    }
}

fn finding(
    at: BootTime,
    process: ProcessKey,
    forker: Option<ProcessKey>,
    hazard: HazardId,
    mut verdict: Verdict,
    seen: &Holders,
) -> Finding {
    verdict.facts.age = Some(nanoseconds(at.since(process.start)));
    let comm = seen.of(process).map_or(seen.program.comm, |holder| holder.comm);
    verdict.finding(at, hazard, (forker.unwrap_or(process), &seen.program), (process, comm))
}
