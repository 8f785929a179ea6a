//! Children that have ended and that nobody waits for.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use super::{Output, Watch, resolved};
use crate::{
    hazard::{
        called,
        unreaped_children::{NeglectCase, judge, severity},
    },
    model::{
        evidence::{ProgramSeen, Request, Sweep, Swept},
        finding::{Finding, HazardId, Resolution, Severity},
        process::ProcessKey,
        time::BootTime,
    },
};

/// So long a parent may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// The processes that have ended, and who should wait for them. As many as a sweep tells at most.
#[derive(Default)]
pub(super) struct Zombies {
    /// Since which sweep each has been seen.
    since: HashMap<ProcessKey, BootTime>,
    /// The parents that have let one lie for too long.
    parents: BTreeMap<ProcessKey, Neglect>,
}

/// What a parent lets lie.
struct Neglect {
    count: usize,
    oldest: Swept,
    since: BootTime,
    /// How many there were at the first report, and how much that mattered; none before it.
    told: Option<(usize, Severity)>,
    /// The report, if its end is to be told.
    reported: Option<Finding>,
}

impl Neglect {
    /// Whether there is something to say that has not been said.
    fn is_news(&self) -> bool {
        self.told.is_none_or(|(before, told)| severity(self.count, before) > told)
    }
}

impl Zombies {
    /// Whether the next sweep must look at everything, also where nothing was forked since the last: whether these
    /// are still there cannot be told from forks.
    pub(super) fn want_all(&self) -> bool {
        !self.since.is_empty()
    }

    /// Takes in who is there now; returns the findings that are over.
    fn take(&mut self, sweep: &Sweep) -> Vec<Finding> {
        let known = std::mem::take(&mut self.since);
        let mut parents: BTreeMap<ProcessKey, Neglect> = BTreeMap::new();
        for zombie in &sweep.zombies {
            let since = known.get(&zombie.process).copied().unwrap_or(sweep.at);
            self.since.insert(zombie.process, since);
            let Some(parent) = zombie.parent.filter(|_| sweep.at.since(since) >= PATIENCE) else { continue };
            let neglect = parents.entry(parent).or_insert_with(|| {
                let before = self.parents.get_mut(&parent);
                let (told, reported) =
                    before.map_or((None, None), |before| (before.told, before.reported.take()));
                Neglect { count: 0, oldest: *zombie, since, told, reported }
            });
            neglect.count += 1;
            if (since, zombie.process) < (neglect.since, neglect.oldest.process) {
                (neglect.since, neglect.oldest) = (since, *zombie);
            }
        }
        let before = std::mem::replace(&mut self.parents, parents);
        before.into_values().filter_map(|neglect| neglect.reported).collect()
    }
}

impl Watch {
    /// Whether the next sweep must look at everything: then it is to be asked for without a mark.
    pub(super) fn sweeps_whole(&self) -> bool {
        self.zombies.want_all()
    }

    /// Takes in which processes have ended and not been waited for.
    pub(super) fn unreaped(&mut self, now: BootTime, sweep: &Sweep, out: &mut Vec<Output>) {
        for finding in self.zombies.take(sweep) {
            let (name, parent) = (called(&finding.program), finding.parent.tgid);
            let summary = format!("{name} (pid {parent}) has left no ended children unfetched");
            out.push(resolved(finding, Resolution::Cleared, now, summary));
        }
        let news = self.zombies.parents.iter().filter(|(_, neglect)| neglect.is_news());
        out.extend(news.map(|(parent, _)| Output::Ask(Request::Program { tgid: parent.tgid })));
    }

    /// Takes in what runs in a parent. Without an answer the next sweep asks again.
    pub(super) fn neglect_seen(
        &mut self,
        now: BootTime,
        tgid: u32,
        seen: Option<&ProgramSeen>,
        out: &mut Vec<Output>,
    ) {
        // A stopped process cannot wait for anybody.
        let Some(seen) = seen.filter(|seen| seen.process.tgid == tgid && !seen.stopped) else { return };
        let Some(neglect) = self.zombies.parents.get_mut(&seen.process).filter(|neglect| neglect.is_news())
        else {
            return;
        };
        let case = NeglectCase {
            parent: seen.process,
            program_name: &called(&seen.program),
            count: neglect.count,
            before: neglect.told.map_or(0, |(before, _)| before),
            oldest: neglect.oldest,
            age: now.since(neglect.since),
        };
        let verdict = judge(&case);
        let first = neglect.told.map_or(neglect.count, |(before, _)| before);
        neglect.told = Some((first, verdict.severity));
        let child = (neglect.oldest.process, neglect.oldest.comm);
        let hazard = HazardId::UnreapedChildren;
        let finding = verdict.finding(now, hazard, (seen.process, &seen.program), child);
        let reported = self.enter(finding, None, out);
        if let (Some(reported), Some(neglect)) = (reported, self.zombies.parents.get_mut(&seen.process)) {
            neglect.reported.get_or_insert(reported);
        }
    }
}
