//! Children that live on, and the descriptors that their fork left behind.
//!
//! A child is looked at now and then, which is cheap. What it sleeps on, or listens to, becomes suspect; when that has
//! lasted without the child having run, the whole host is searched for other holders, which is dear: twice before a
//! finding, and ever less often where the first search cleared the suspicion.

use std::{collections::HashMap, time::Duration};

use super::{
    Dropped, Output, Watch,
    children::MOST_UNANSWERED,
    locks::later,
    timers::{Task, Timer},
};
use crate::{
    hazard::{
        Judgement, Verdict, called,
        leaked_pipe::{self, PipeCase},
        pinned_listener::{self, ListenerCase},
    },
    model::{
        evidence::Request,
        finding::{Finding, HazardId, Resolution, State},
        leak::{Descriptors, Holders, Object},
        process::ProcessKey,
        time::{BootTime, nanoseconds},
    },
};

/// A child with nothing suspect about it is looked at less and less often, down to once in so many intervals.
const SLOWEST: u32 = 4;
/// A suspect that a search has cleared is searched for again later and later, down to once in so many intervals.
const SELDOM: u32 = 64;
/// No two searches of the host are closer than this: they keep other questions waiting.
const BETWEEN_SEARCHES: Duration = Duration::from_secs(2);

/// Children that live on, by tgid.
#[derive(Default)]
pub(super) struct Leaks {
    children: HashMap<u32, Child>,
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
    due: BootTime,
    unanswered: u8,
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

impl Leaks {
    pub(super) fn len(&self) -> usize {
        self.children.len()
    }

    /// Forgets a child that exec'd or ended.
    pub(super) fn forget(&mut self, process: ProcessKey) {
        if self.child(process).is_some() {
            self.children.remove(&process.tgid);
        }
    }

    fn child(&mut self, process: ProcessKey) -> Option<&mut Child> {
        self.children.get_mut(&process.tgid).filter(|child| child.process.is_same(process))
    }

    /// Whether a timer still counts.
    pub(super) fn awaits(&self, timer: &Timer) -> bool {
        self.children.get(&timer.process.tgid).is_some_and(|child| {
            timer.task == Task::Leaks && child.process == timer.process && child.due == timer.due
        })
    }
}

impl Object {
    const fn hazard(self) -> HazardId {
        match self {
            Self::Pipe(_) => HazardId::LeakedPipe,
            Self::Socket(_) => HazardId::PinnedListener,
        }
    }
}

impl Watch {
    /// Looks at a child that lives on from now on, until it execs or ends.
    pub(super) fn follow_leaks(
        &mut self,
        process: ProcessKey,
        forker: Option<ProcessKey>,
        now: BootTime,
        out: &mut Vec<Output>,
    ) {
        let known = self.leaks.children.get(&process.tgid).map(|child| child.process);
        if known.is_some_and(|known| known.is_same(process)) {
            return;
        }
        if known.is_none() && self.leaks.len() >= self.settings.max_children {
            out.push(Output::Dropped(Dropped::Child));
            return;
        }
        let due = now + self.settings.leak_interval;
        let child =
            Child { process, forker, forker_stayed: false, suspicion: None, pace: 1, due, unanswered: 0 };
        self.leaks.children.insert(process.tgid, child);
        self.set(due, process, Task::Leaks);
    }

    fn look_for_leaks_at(&mut self, process: ProcessKey, due: BootTime) {
        let Some(child) = self.leaks.child(process) else { return };
        child.due = due;
        self.set(due, process, Task::Leaks);
    }

    pub(super) fn look_for_leaks(&mut self, timer: &Timer, now: BootTime, out: &mut Vec<Output>) {
        if !self.leaks.awaits(timer) {
            return;
        }
        let process = timer.process;
        let Some(child) = self.leaks.child(process) else { return };
        if child.unanswered >= MOST_UNANSWERED {
            self.leaks.forget(process);
            out.push(Output::Dropped(Dropped::Unanswered));
            return;
        }
        child.unanswered += 1;
        out.push(Output::Ask(Request::Descriptors { process, forker: child.forker }));
        self.look_for_leaks_at(process, now + self.settings.leak_interval);
    }

    /// A child lives and cannot be looked at. What was reported of it may still be so.
    pub(super) fn leak_unseen(&mut self, now: BootTime, process: ProcessKey, out: &mut Vec<Output>) {
        let pause = self.settings.leak_interval * SLOWEST;
        let Some(child) = self.leaks.child(process) else { return };
        child.unanswered = 0;
        let Some(suspicion) = child.suspicion.as_mut().filter(|suspicion| suspicion.reported) else {
            return self.leaks.forget(process);
        };
        if !std::mem::replace(&mut suspicion.unseen, true) {
            let hazard = suspicion.object.hazard();
            let words = "can no longer be looked at, and whether it still waits there is unknown";
            self.tell_later(process, hazard, State::Unknown, words, now, out);
        }
        self.look_for_leaks_at(process, now + pause);
    }

    /// Tells a later state of what was reported of a child.
    fn tell_later(
        &mut self,
        process: ProcessKey,
        hazard: HazardId,
        state: State,
        words: &str,
        now: BootTime,
        out: &mut Vec<Output>,
    ) {
        let Some(findings) = self.followed.remove(process) else { return };
        let of_it = findings.iter().filter(|finding| finding.hazard == hazard);
        out.extend(of_it.filter_map(|finding| later(finding, state, now, words)));
        self.followed.insert(process, findings);
    }

    pub(super) fn descriptors_seen(
        &mut self,
        now: BootTime,
        process: ProcessKey,
        seen: Option<Box<Descriptors>>,
        out: &mut Vec<Output>,
    ) {
        let (interval, pipe_patience) = (self.settings.leak_interval, self.settings.pipe_patience);
        let Some(child) = self.leaks.child(process) else { return };
        child.unanswered = 0;
        let Some(seen) = seen else {
            let reported = child.suspicion.take().filter(|suspicion| suspicion.reported);
            self.leaks.forget(process);
            if let Some(suspicion) = reported {
                self.resolve(process, Some(suspicion.object.hazard()), Resolution::Ended, now, out);
            }
            return;
        };
        child.forker_stayed |= !seen.reparented && seen.at.since(process.start) >= interval;
        let object = object(&seen);
        let same = |suspicion: &Suspicion| {
            Some(suspicion.object) == object && suspicion.switches == seen.rest.switches
        };
        let mut again = None;
        if let Some(suspicion) = child.suspicion.as_mut().filter(|suspicion| same(suspicion)) {
            child.pace = 1;
            again = std::mem::take(&mut suspicion.unseen).then(|| suspicion.object.hazard());
        } else {
            let patience = |object| match object {
                Object::Pipe(_) => pipe_patience,
                Object::Socket(_) => interval,
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
                self.resolve(process, Some(before.object.hazard()), Resolution::Cleared, now, out);
            }
        }
        if let Some(hazard) = again {
            let words = "can be looked at again, and is as it was";
            self.tell_later(process, hazard, State::Confirmed, words, now, out);
        }
        let Some(child) = self.leaks.child(process) else { return };
        let due = now + interval * child.pace;
        let due = self.search(process, now, out).map_or(due, |later| later.min(due));
        self.look_for_leaks_at(process, due);
    }

    /// Has the host searched if that is due for a child. Gives when to come back for it, where it cannot be done now.
    fn search(&mut self, process: ProcessKey, now: BootTime, out: &mut Vec<Output>) -> Option<BootTime> {
        let apart = BETWEEN_SEARCHES.min(self.settings.leak_interval);
        let free = self.leaks.last_search.map_or(now, |last| last + apart);
        let child = self.leaks.child(process)?;
        let forker = child.forker;
        let suspicion = child.suspicion.as_ref().filter(|suspicion| !suspicion.reported)?;
        if suspicion.search_at > now {
            return Some(suspicion.search_at);
        }
        if free > now {
            return Some(free);
        }
        let object = suspicion.object;
        self.leaks.last_search = Some(now);
        out.push(Output::Ask(Request::Holders { process, forker, object }));
        None
    }

    pub(super) fn holders_seen(
        &mut self,
        now: BootTime,
        process: ProcessKey,
        object: Object,
        seen: Option<Box<Holders>>,
        out: &mut Vec<Output>,
    ) {
        let interval = self.settings.leak_interval;
        let stuck = self.stuck_children();
        let Some(child) = self.leaks.child(process) else { return };
        let (forker, forker_stayed) = (child.forker, child.forker_stayed);
        let Some(suspicion) = child.suspicion.as_mut().filter(|one| one.object == object && !one.reported)
        else {
            return;
        };
        let first = suspicion.first.take();
        let judged = seen.as_deref().map_or(Judgement::Undecided, |second| {
            let first = first.as_deref().unwrap_or(second);
            judge(process, forker, forker_stayed, suspicion, (first, second), &stuck, now)
        });
        match (judged, seen) {
            (Judgement::Unsafe(verdict), Some(second)) if first.is_some() => {
                suspicion.reported = true;
                let finding = finding(now, process, forker, object.hazard(), *verdict, &second);
                self.report(finding, true, None, out);
            }
            (Judgement::Unsafe(_), seen) => {
                suspicion.first = seen;
                suspicion.search_at = now + interval;
            }
            (judged, _) => {
                suspicion.search_at = now + interval * suspicion.put_off;
                suspicion.put_off = (suspicion.put_off * 2).min(SELDOM);
                if judged == Judgement::Undecided && !std::mem::replace(&mut suspicion.undecided, true) {
                    out.push(Output::Undecided { hazard: object.hazard(), child: process });
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
