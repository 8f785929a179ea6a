//! What was reported, so that nothing is reported twice.

use std::{collections::HashMap, path::PathBuf, time::Duration};

use crate::model::{
    finding::{Finding, HazardId},
    time::BootTime,
};

use super::Output;

/// Most programs that are told apart; all further ones share an entry for each hazard, so that names that change
/// all the time cannot flood the output.
const MOST_PROGRAMS: usize = 1024;

/// After so many intervals without a finding a program is forgotten.
const FORGOTTEN_AFTER: u32 = 10;

/// What makes two findings the same. The default program stands for all that had no room.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Key {
    hazard: HazardId,
    program: Option<Identity>,
}

/// Two users' programs are two, also where all else is the same: what is said of one must not be said of the other.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Identity {
    name: String,
    exe: Option<PathBuf>,
    place: Option<String>,
    uid: Option<u32>,
}

struct Entry {
    reported: BootTime,
    last: BootTime,
    repeats: u64,
    /// The last repeat.
    latest: Option<Box<Finding>>,
}

/// The findings of this run.
#[derive(Default)]
pub(super) struct Ledger {
    entries: HashMap<Key, Entry>,
    number: u64,
    deadline: Option<BootTime>,
}

impl Ledger {
    /// Reports a finding at once if it is the first of its kind, and returns it; else counts it.
    pub(super) fn enter(
        &mut self,
        mut finding: Finding,
        interval: Duration,
        out: &mut Vec<Output>,
    ) -> Option<Finding> {
        let at = finding.at;
        let key = self.key(&finding, interval);
        if let Some(entry) = self.entries.get_mut(&key) {
            entry.repeats += 1;
            entry.last = entry.last.max(at);
            let due = at.max(entry.reported + interval);
            self.deadline = Some(self.deadline.map_or(due, |deadline| deadline.min(due)));
            entry.latest = Some(Box::new(finding));
            return None;
        }
        self.number += 1;
        finding.number = self.number;
        self.entries.insert(key, Entry { reported: at, last: at, repeats: 0, latest: None });
        out.push(Output::Finding(Box::new(finding.clone())));
        Some(finding)
    }

    fn key(&mut self, finding: &Finding, interval: Duration) -> Key {
        let program = Some(Identity {
            name: finding.program_name.clone(),
            exe: finding.program.exe.clone(),
            place: finding.program.place().map(str::to_owned),
            uid: finding.program.uid,
        });
        let key = Key { hazard: finding.hazard, program };
        if self.entries.len() >= MOST_PROGRAMS && !self.entries.contains_key(&key) {
            self.forget_quiet(finding.at, interval);
            if self.entries.len() >= MOST_PROGRAMS {
                return Key { program: None, ..key };
            }
        }
        key
    }

    /// When the next summary is due.
    pub(super) fn deadline(&self) -> Option<BootTime> {
        self.deadline.filter(|due| due.0 != u64::MAX)
    }

    /// Reports the repeats whose interval is over.
    pub(super) fn advance(&mut self, now: BootTime, interval: Duration, out: &mut Vec<Output>) {
        if self.deadline().is_some_and(|deadline| deadline <= now) {
            self.sum_up(now, interval, out);
        }
    }

    /// Reports the repeats of programs that were last reported an interval ago or earlier.
    pub(super) fn sum_up(&mut self, now: BootTime, interval: Duration, out: &mut Vec<Output>) {
        let first = out.len();
        for entry in self.entries.values_mut().filter(|entry| entry.reported + interval <= now) {
            let Some(mut finding) = entry.latest.take() else { continue };
            finding.repeats = std::mem::take(&mut entry.repeats);
            finding.at = now;
            entry.reported = now;
            let times =
                if finding.repeats == 1 { "once".to_owned() } else { format!("{} times", finding.repeats) };
            finding.summary =
                format!("seen {times} since the last report, the last time: {}", finding.summary);
            out.push(Output::Finding(finding));
        }
        // A map's order is random; the order of what happened is not.
        if let Some(summaries) = out.get_mut(first..) {
            summaries.sort_by_key(|output| match output {
                Output::Finding(finding) => (finding.child.start, finding.child.tgid, finding.hazard),
                _ => (BootTime(0), 0, HazardId::MultithreadedFork),
            });
            for output in summaries {
                if let Output::Finding(finding) = output {
                    self.number += 1;
                    finding.number = self.number;
                }
            }
        }
        self.forget_quiet(now, interval);
        self.deadline = self
            .entries
            .values()
            .filter(|entry| entry.repeats > 0)
            .map(|entry| entry.reported + interval)
            .min();
    }

    fn forget_quiet(&mut self, now: BootTime, interval: Duration) {
        self.entries.retain(|_, entry| entry.repeats > 0 || entry.last + interval * FORGOTTEN_AFTER > now);
    }

    #[cfg(test)]
    pub(super) fn within_bounds(&self) -> bool {
        self.entries.len() <= MOST_PROGRAMS + HazardId::ALL.len()
    }
}
