//! Children that die, and how often those of one parent do.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use super::{
    Output, Watch,
    recent::Recent,
    resolved,
    timers::{Task, Timer},
};
use crate::{
    hazard::{
        Judgement, called,
        crash_loop::{LoopCase, how, is_crash, judge},
    },
    model::{
        event::{Exit, ExitStatus},
        evidence::{ProgramSeen, Request},
        facts::{Ends, HistoryFacts},
        finding::{Finding, HazardId, Resolution},
        process::{Comm, ProcessKey},
        time::{BootTime, nanoseconds},
    },
};

/// So many children have to die in the same way...
const DEATHS: usize = 5;
/// ... within this time, each after a shorter life, for a run of deaths to begin and to go on.
const WINDOW: Duration = Duration::from_secs(60);
/// So long a run must have lasted: what kills all workers at once is over by then.
const SPREAD: Duration = Duration::from_secs(20);
/// So many of the dead must have been forked after the one before had died.
const GENERATIONS: u32 = 3;
/// After so long without a death a loop is over.
const QUIET: Duration = Duration::from_secs(5 * 60);
/// How long an answer may take before the question is put again.
const PATIENCE: Duration = Duration::from_secs(10);

/// Deaths of one parent's children that are compared.
const MOST_DEATHS: usize = 32;
/// Different ways of dying, and lifetimes of each, that are kept of a run.
const MOST_WAYS: usize = 8;
const MOST_LIFETIMES: usize = 31;
/// Most parents whose children have died, and most loops that are waited for.
const MOST_FAMILIES: usize = 4096;
pub(super) const MOST_LOOPS: usize = 1024;

/// All deaths.
pub(super) struct Deaths {
    /// By the parent's tgid alone: an end does not tell when its parent started.
    families: Recent<Family>,
    /// Reported loops, by the parent's tgid.
    loops: HashMap<u32, Loop>,
}

/// The children of one parent.
#[derive(Default)]
struct Family {
    recent: VecDeque<Death>,
    run: Option<Run>,
}

#[derive(Clone, Copy)]
struct Death {
    at: BootTime,
    child: ProcessKey,
    comm: Comm,
    status: ExitStatus,
    lifetime: u64,
}

impl Death {
    /// When the child was forked.
    const fn born(&self) -> BootTime {
        BootTime(self.at.0.saturating_sub(self.lifetime))
    }

    /// Whether that is another way to die. Whether there is a core dump does not matter.
    const fn differs(&self, status: ExitStatus) -> bool {
        match (self.status, status) {
            (ExitStatus::Code(one), ExitStatus::Code(other)) => one != other,
            (ExitStatus::Signal { number: one, .. }, ExitStatus::Signal { number: other, .. }) => {
                one != other
            }
            _ => true,
        }
    }
}

/// Deaths that follow each other at the rate that counts, since it has been reached.
struct Run {
    status: ExitStatus,
    began: BootTime,
    last: Death,
    /// When the last of those died who were each forked after the one before had died, and how many those are.
    generation: BootTime,
    generations: u32,
    ways: Vec<Way>,
    asked: Option<BootTime>,
    /// It was reported, or found to be nothing.
    settled: bool,
}

/// Those that died in the same way.
struct Way {
    status: ExitStatus,
    count: u32,
    lifetimes: VecDeque<u64>,
}

impl Way {
    fn median(&self) -> u64 {
        let mut sorted: Vec<u64> = self.lifetimes.iter().copied().collect();
        sorted.sort_unstable();
        sorted.get(sorted.len() / 2).copied().unwrap_or_default()
    }
}

/// A reported loop.
struct Loop {
    finding: Finding,
    last: BootTime,
    due: BootTime,
}

impl Family {
    /// Takes in a death.
    fn add(&mut self, death: Death) {
        self.recent.retain(|earlier| death.at.since(earlier.at) <= WINDOW);
        if self.recent.len() >= MOST_DEATHS {
            self.recent.pop_front();
        }
        self.recent.push_back(death);
        let Some(status) = self.prevailing() else {
            self.run = None;
            return;
        };
        match &mut self.run {
            Some(run) if !run.last.differs(status) => run.add(death),
            _ => self.run = Run::of(status, &self.recent),
        }
    }

    /// The way in which most died, where they are enough.
    fn prevailing(&self) -> Option<ExitStatus> {
        let same = |one: &Death| self.recent.iter().filter(|other| !other.differs(one.status)).count();
        let found =
            self.recent.iter().map(|death| (same(death), death.status)).max_by_key(|(count, _)| *count);
        found.filter(|(count, _)| *count >= DEATHS && 2 * count > self.recent.len()).map(|(_, status)| status)
    }
}

impl Run {
    fn of(status: ExitStatus, deaths: &VecDeque<Death>) -> Option<Self> {
        let first = *deaths.iter().find(|death| !death.differs(status))?;
        let mut run = Self {
            status,
            began: first.at,
            last: first,
            generation: BootTime(0),
            generations: 0,
            ways: Vec::new(),
            asked: None,
            settled: false,
        };
        deaths.iter().filter(|death| death.at >= first.at).for_each(|death| run.add(*death));
        Some(run)
    }

    fn add(&mut self, death: Death) {
        let room = self.ways.len() < MOST_WAYS;
        match self.ways.iter_mut().find(|way| !death.differs(way.status)) {
            Some(way) => {
                way.count = way.count.saturating_add(1);
                if way.lifetimes.len() >= MOST_LIFETIMES {
                    way.lifetimes.pop_front();
                }
                way.lifetimes.push_back(death.lifetime);
            }
            None if room => {
                self.ways.push(Way { status: death.status, count: 1, lifetimes: [death.lifetime].into() });
            }
            None => {}
        }
        if death.differs(self.status) {
            return;
        }
        self.last = death;
        if death.born() >= self.generation {
            self.generation = death.at;
            self.generations = self.generations.saturating_add(1);
        }
    }

    /// Whether these are dead that were replaced, and died again, for long enough.
    fn is_loop(&self) -> bool {
        self.generations >= GENERATIONS && self.last.at.since(self.began) >= SPREAD
    }

    fn history(&self) -> HistoryFacts {
        let mut ways: Vec<&Way> = self.ways.iter().collect();
        ways.sort_by_key(|way| std::cmp::Reverse(way.count));
        let ends =
            ways.iter().map(|way| Ends { how: how(way.status), count: way.count, lifetime_ns: way.median() });
        HistoryFacts { window_ns: nanoseconds(self.last.at.since(self.began)), ends: ends.collect() }
    }
}

impl Deaths {
    pub(super) fn new() -> Self {
        Self { families: Recent::new(MOST_FAMILIES), loops: HashMap::new() }
    }

    /// Whether a timer still counts.
    pub(super) fn awaits(&self, timer: &Timer) -> bool {
        self.loops.get(&timer.process.tgid).is_some_and(|found| found.due == timer.due)
    }

    #[cfg(test)]
    pub(super) fn within_bounds(&self) -> bool {
        self.families.within_bounds() && self.loops.len() <= MOST_LOOPS
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
        let window = nanoseconds(WINDOW);
        if !is_crash(exit) || exit.lifetime >= window {
            return;
        }
        if let Some(found) = self.deaths.loops.get_mut(&exit.parent_tgid) {
            found.last = found.last.max(exit.at);
        }
        let key = family(exit.parent_tgid);
        let mut family = self.deaths.families.remove(key).unwrap_or_default();
        family.add(Death {
            at: exit.at,
            child: exit.process,
            comm: exit.comm,
            status: exit.status,
            lifetime: exit.lifetime,
        });
        if let Some(run) = family.run.as_mut().filter(|run| !run.settled && run.is_loop())
            && run.asked.is_none_or(|asked| exit.at.since(asked) >= PATIENCE)
        {
            run.asked = Some(exit.at);
            out.push(Output::Ask(Request::Program { tgid: exit.parent_tgid }));
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
        let way = run.ways.iter().find(|way| !run.last.differs(way.status));
        let judgement = judge(&LoopCase {
            parent: seen.process,
            program: &seen.program,
            program_name: &called(&seen.program),
            how: run.last.status,
            count: way.map_or(0, |way| way.count),
            lifetime: way.map_or(0, Way::median),
            history: run.history(),
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
