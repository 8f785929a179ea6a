//! Children of one parent that die one after the other, and what else tells whether they are workers that are replaced
//! or jobs that come and go.

use std::{collections::VecDeque, time::Duration};

use super::hazard::{Succession, how};
use crate::model::{
    event::ExitStatus,
    facts::{Ends, HistoryFacts},
    process::{Comm, ProcessKey},
    time::{BootTime, nanoseconds},
};

/// So many children have to die in the same way...
const DEATHS: usize = 5;
/// ... within this time, each after a shorter life, for a run of deaths to begin and to go on.
pub(super) const WINDOW: Duration = Duration::from_secs(60);
/// So long a run must have lasted: what kills all workers at once is over by then.
const SPREAD: Duration = Duration::from_secs(20);
/// So many of the dead must have been forked after the one before had died.
const GENERATIONS: u32 = 3;
/// So many must have died while the good ends were seen too: before, nothing tells jobs from workers.
const SEEN_WITH_GOOD_ONES: u32 = 3;
/// At so many deaths of a parent's children one begins to look at their good ends.
const SUSPICIOUS: usize = 3;
/// A server forks the next worker so soon after one has died; it may look for the dead once a second.
const REPLACED_WITHIN: Duration = Duration::from_secs(2);
/// Who dies later has done some work.
const YOUNG: u64 = 10_000_000_000;

/// Deaths of one parent's children that are compared.
const MOST_DEATHS: usize = 32;
/// Different ways of dying, and lifetimes of each, that are kept of a run.
const MOST_WAYS: usize = 8;
const MOST_LIFETIMES: usize = 31;
/// Deaths of which it is not known yet whether another child was forked in their place.
const MOST_VACANT: usize = 64;

/// The children of one parent.
#[derive(Default)]
pub(super) struct Family {
    pub(super) recent: VecDeque<Death>,
    /// When those ended, and were forked, that ended well while that is seen.
    good: VecDeque<(BootTime, BootTime)>,
    pub(super) run: Option<Run>,
}

#[derive(Clone, Copy)]
pub(super) struct Death {
    pub(super) at: BootTime,
    pub(super) child: ProcessKey,
    pub(super) comm: Comm,
    pub(super) status: ExitStatus,
    pub(super) lifetime: u64,
}

impl Death {
    /// When the child was forked.
    pub(super) const fn born(&self) -> BootTime {
        BootTime(self.at.0.saturating_sub(self.lifetime))
    }

    /// Whether that is another way to die. Whether there is a core dump does not matter.
    pub(super) const fn differs(&self, status: ExitStatus) -> bool {
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
pub(super) struct Run {
    status: ExitStatus,
    began: BootTime,
    pub(super) last: Death,
    /// When the last of those died who were each forked after the one before had died, and how many those are.
    generation: BootTime,
    generations: u32,
    ways: Vec<Way>,
    /// Since when good ends have been seen too, and how many have died since.
    seen_since: Option<BootTime>,
    seen_dead: u32,
    /// Children that were forked since the run began and ended well.
    well: u32,
    /// Deaths after which no child has been seen to be forked yet, and how many have been followed by one soon, or not.
    vacant: VecDeque<BootTime>,
    replaced: u32,
    not_replaced: u32,
    pub(super) asked: Option<BootTime>,
    /// It was reported, or found to be nothing.
    pub(super) settled: bool,
}

/// Those that died in the same way.
pub(super) struct Way {
    status: ExitStatus,
    pub(super) count: u32,
    lifetimes: VecDeque<u64>,
}

impl Way {
    pub(super) fn median(&self) -> u64 {
        let mut sorted: Vec<u64> = self.lifetimes.iter().copied().collect();
        sorted.sort_unstable();
        sorted.get(sorted.len() / 2).copied().unwrap_or_default()
    }
}

impl Family {
    /// Takes in a death.
    pub(super) fn add(&mut self, death: Death, seen_since: Option<BootTime>) {
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
            _ => {
                self.run = Run::of(status, &self.recent, seen_since);
                if let Some(run) = &mut self.run {
                    self.good.iter().for_each(|(_, born)| run.ended_well(*born));
                }
            }
        }
        if let Some(run) = &mut self.run {
            run.seen_since = seen_since;
        }
    }

    /// Takes in a good end.
    pub(super) fn ended_well(&mut self, at: BootTime, born: BootTime) {
        self.good.retain(|(earlier, _)| at.since(*earlier) <= WINDOW);
        if self.good.len() >= MOST_DEATHS {
            self.good.pop_front();
        }
        self.good.push_back((at, born));
        if let Some(run) = &mut self.run {
            run.ended_well(born);
        }
    }

    /// Whether enough have died to look at how the others end.
    pub(super) fn is_suspicious(&self) -> bool {
        self.recent.len() >= SUSPICIOUS
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
    fn of(status: ExitStatus, deaths: &VecDeque<Death>, seen_since: Option<BootTime>) -> Option<Self> {
        let first = *deaths.iter().find(|death| !death.differs(status))?;
        let mut run = Self {
            status,
            began: first.at,
            last: first,
            generation: BootTime(0),
            generations: 0,
            ways: Vec::new(),
            seen_since,
            seen_dead: 0,
            well: 0,
            vacant: VecDeque::new(),
            replaced: 0,
            not_replaced: 0,
            asked: None,
            settled: false,
        };
        deaths.iter().filter(|death| death.at >= first.at).for_each(|death| run.add(*death));
        Some(run)
    }

    /// A child ended well that was forked then.
    fn ended_well(&mut self, born: BootTime) {
        self.forked(born);
        self.well = self.well.saturating_add(u32::from(born >= self.began));
    }

    /// A child was forked then.
    fn forked(&mut self, born: BootTime) {
        let (mut replaced, mut late) = (0, 0);
        self.vacant.retain(|died| {
            if born < *died {
                return true;
            }
            if born.since(*died) <= REPLACED_WITHIN {
                replaced += 1;
            } else {
                late += 1;
            }
            false
        });
        self.replaced = self.replaced.saturating_add(replaced);
        self.not_replaced = self.not_replaced.saturating_add(late);
    }

    fn add(&mut self, death: Death) {
        self.forked(death.born());
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
        if self.vacant.len() >= MOST_VACANT {
            self.vacant.pop_front();
        }
        self.vacant.push_back(death.at);
        if self.seen_since.is_some_and(|since| death.at > since) {
            self.seen_dead = self.seen_dead.saturating_add(1);
        }
        if death.born() >= self.generation {
            self.generation = death.at;
            self.generations = self.generations.saturating_add(1);
        }
    }

    /// Whether these are dead that were replaced, and died again, for long enough.
    pub(super) fn is_loop(&self) -> bool {
        self.generations >= GENERATIONS
            && self.last.at.since(self.began) >= SPREAD
            && (self.seen_since.is_none() || self.seen_dead >= SEEN_WITH_GOOD_ONES)
    }

    /// Those that died as most did.
    pub(super) fn way(&self) -> Option<&Way> {
        self.ways.iter().find(|way| !self.last.differs(way.status))
    }

    /// What tells workers that are replaced from jobs.
    pub(super) fn succession(&self) -> Succession {
        Succession {
            seen: self.seen_since.is_some(),
            well: self.well,
            replaced_at_once: self.replaced >= 2 && self.replaced >= 3 * self.not_replaced,
            young: self.way().is_some_and(|way| way.median() <= YOUNG),
        }
    }

    pub(super) fn history(&self) -> HistoryFacts {
        let mut ways: Vec<&Way> = self.ways.iter().collect();
        ways.sort_by_key(|way| std::cmp::Reverse(way.count));
        let ends =
            ways.iter().map(|way| Ends { how: how(way.status), count: way.count, lifetime_ns: way.median() });
        HistoryFacts { window_ns: nanoseconds(self.last.at.since(self.began)), ends: ends.collect() }
    }
}
