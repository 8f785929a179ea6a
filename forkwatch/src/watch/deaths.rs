//! Children that die, and how often those of one parent do.

use std::{collections::HashMap, time::Duration};

use super::{
    Output, Watch,
    recent::Recent,
    resolved,
    succession::{Death, Family, Run, WINDOW, Way},
    timers::{Task, Timer},
};
use crate::{
    hazard::{
        Judgement, called,
        crash_loop::{LoopCase, is_crash, is_success, judge},
    },
    model::{
        event::{CloneKind, Exit},
        evidence::{ProgramSeen, Request},
        finding::{Finding, HazardId, Resolution},
        order::Order,
        process::ProcessKey,
        time::{BootTime, nanoseconds},
    },
};

/// After so long without a death a loop is over.
const QUIET: Duration = Duration::from_secs(5 * 60);
/// How long an answer may take before the question is put again.
const PATIENCE: Duration = Duration::from_secs(10);

/// Most parents whose children have died, and most loops that are waited for.
const MOST_FAMILIES: usize = 4096;
pub(super) const MOST_LOOPS: usize = 1024;
/// Most parents of whose children the good ends are seen too: as many as the kernel side has room for.
pub(super) const MOST_SEEN: usize = 256;

/// All deaths.
pub(super) struct Deaths {
    /// By the parent's tgid alone: an end does not tell when its parent started.
    families: Recent<Family>,
    /// Reported loops, by the parent's tgid.
    loops: HashMap<u32, Loop>,
    /// Parents of whose children the good ends are seen too, by tgid.
    seen: HashMap<u32, Seen>,
}

/// Since when, and until when unless another dies.
struct Seen {
    since: BootTime,
    due: BootTime,
}

/// A reported loop.
struct Loop {
    finding: Finding,
    last: BootTime,
    due: BootTime,
}

impl Deaths {
    pub(super) fn new() -> Self {
        Self { families: Recent::new(MOST_FAMILIES), loops: HashMap::new(), seen: HashMap::new() }
    }

    /// Whether a timer still counts.
    pub(super) fn awaits(&self, timer: &Timer) -> bool {
        self.loops.get(&timer.process.tgid).is_some_and(|found| found.due == timer.due)
    }

    #[cfg(test)]
    pub(super) fn within_bounds(&self) -> bool {
        self.families.within_bounds() && self.loops.len() <= MOST_LOOPS && self.seen.len() <= MOST_SEEN
    }
}

/// A family stands under its tgid alone.
const fn family(tgid: u32) -> ProcessKey {
    ProcessKey { tgid, start: BootTime(0) }
}

impl Watch {
    /// A forked child ended that had not exec'd.
    pub(super) fn died(&mut self, exit: &Exit, out: &mut Vec<Output>) {
        self.looper_died(exit, out);
        if !is_crash(exit) {
            self.ended_well(exit);
            return;
        }
        if exit.lifetime >= nanoseconds(WINDOW) {
            return;
        }
        if let Some(found) = self.deaths.loops.get_mut(&exit.parent_tgid) {
            found.last = found.last.max(exit.at);
        }
        let key = family(exit.parent_tgid);
        let mut family = self.deaths.families.remove(key).unwrap_or_default();
        let death = Death {
            at: exit.at,
            child: exit.process,
            comm: exit.comm,
            status: exit.status,
            lifetime: exit.lifetime,
        };
        family.add(death, self.deaths.seen.get(&exit.parent_tgid).map(|seen| seen.since));
        self.look_at_good_ends(exit, family.is_suspicious(), out);
        if let Some(run) = family.run.as_mut().filter(|run| !run.settled && run.is_loop())
            && run.asked.is_none_or(|asked| exit.at.since(asked) >= PATIENCE)
        {
            run.asked = Some(exit.at);
            out.push(Output::Ask(Request::Program { tgid: exit.parent_tgid }));
        }
        self.deaths.families.insert(key, family);
    }

    /// Has the good ends of a parent's children told too, once enough have died, for as long as they go on dying.
    fn look_at_good_ends(&mut self, exit: &Exit, suspicious: bool, out: &mut Vec<Output>) {
        let parent = family(exit.parent_tgid);
        let due = exit.at + WINDOW;
        let room = self.deaths.seen.len() < MOST_SEEN;
        match self.deaths.seen.get_mut(&parent.tgid) {
            // The timer that was set looks when the next is due.
            Some(seen) => seen.due = seen.due.max(due),
            None if suspicious && room => {
                self.deaths.seen.insert(parent.tgid, Seen { since: exit.at, due });
                out.push(Output::Order(Order::WatchFamily(parent)));
                self.set(due, parent, Task::Family);
            }
            None => {}
        }
    }

    /// Looks at good ends no longer, where nobody has died for some time.
    pub(super) fn look_at_family(&mut self, timer: &Timer, now: BootTime, out: &mut Vec<Output>) {
        let parent = timer.process;
        let Some(seen) = self.deaths.seen.get(&parent.tgid) else { return };
        if seen.due > now {
            let due = seen.due;
            self.set(due, parent, Task::Family);
            return;
        }
        self.deaths.seen.remove(&parent.tgid);
        out.push(Output::Order(Order::UnwatchFamily(parent)));
    }

    /// A child ended in a way that does not count as dying.
    fn ended_well(&mut self, exit: &Exit) {
        if exit.kind != CloneKind::Copying || !self.deaths.seen.contains_key(&exit.parent_tgid) {
            return;
        }
        let key = family(exit.parent_tgid);
        let Some(mut family) = self.deaths.families.remove(key) else { return };
        let born = BootTime(exit.at.0.saturating_sub(exit.lifetime));
        if is_success(exit) {
            family.ended_well(exit.at, born);
        }
        self.deaths.families.insert(key, family);
    }

    /// Takes in what runs in a parent whose children die.
    pub(super) fn loop_seen(
        &mut self,
        now: BootTime,
        tgid: u32,
        seen: Option<&ProgramSeen>,
        out: &mut Vec<Output>,
    ) {
        let key = family(tgid);
        let Some(mut family) = self.deaths.families.remove(key) else { return };
        let waiting = |run: &&mut Run| run.asked.is_some() && !run.settled && run.is_loop();
        let Some(run) = family.run.as_mut().filter(waiting) else {
            self.deaths.families.insert(key, family);
            return;
        };
        // A parent that is gone forks nobody any more; one that is younger than the dead was not theirs.
        let parents = |seen: &&ProgramSeen| {
            let born = family.recent.iter().map(Death::born).min();
            seen.process.tgid == tgid && born.is_some_and(|born| seen.process.start <= born)
        };
        let Some(seen) = seen.filter(parents) else { return };
        run.settled = true;
        let way = run.way();
        let judgement = judge(&LoopCase {
            parent: seen.process,
            program: &seen.program,
            program_name: &called(&seen.program),
            how: run.last.status,
            count: way.map_or(0, |way| way.count),
            lifetime: way.map_or(0, Way::median),
            history: run.history(),
            succession: run.succession(),
        });
        let last = run.last;
        self.deaths.families.insert(key, family);
        let Judgement::Unsafe(verdict) = judgement else { return };
        let parent = (seen.process, &seen.program);
        let finding = verdict.finding(now, HazardId::CrashLoop, parent, (last.child, last.comm));
        let Some(finding) = self.enter(finding, None, out) else { return };
        let room = self.deaths.loops.len() < MOST_LOOPS;
        if room && !self.deaths.loops.contains_key(&tgid) {
            let due = last.at + QUIET;
            self.set(due, seen.process, Task::Loop);
            self.deaths.loops.insert(tgid, Loop { finding, last: last.at, due });
        }
    }

    /// Says that a loop is over, if nobody has died for some time.
    pub(super) fn look_at_loop(&mut self, timer: &Timer, now: BootTime, out: &mut Vec<Output>) {
        if !self.deaths.awaits(timer) {
            return;
        }
        let tgid = timer.process.tgid;
        let Some(found) = self.deaths.loops.get_mut(&tgid) else { return };
        let due = found.last + QUIET;
        if due > now {
            found.due = due;
            self.set(due, timer.process, Task::Loop);
            return;
        }
        let quiet = "have stopped dying one after the other";
        self.end_loop(tgid, Resolution::Cleared, quiet, now, out);
    }

    /// The looping parent itself was forked and never exec'd, and has ended.
    fn looper_died(&mut self, exit: &Exit, out: &mut Vec<Output>) {
        let tgid = exit.process.tgid;
        let is_it = |found: &Loop| found.finding.parent.start.ticks() == exit.process.start.ticks();
        if self.deaths.loops.get(&tgid).is_some_and(is_it) {
            self.end_loop(tgid, Resolution::Ended, "have no parent any more", exit.at, out);
        }
        // Whoever gets this pid next begins anew.
        self.deaths.families.remove(family(tgid));
    }

    fn end_loop(&mut self, tgid: u32, how: Resolution, what: &str, at: BootTime, out: &mut Vec<Output>) {
        let Some(Loop { finding, .. }) = self.deaths.loops.remove(&tgid) else { return };
        let summary = format!("the children of {} (pid {tgid}) {what}", called(&finding.program));
        out.push(resolved(finding, how, at, summary));
    }
}
