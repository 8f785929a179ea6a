//! Children that have ended and that nobody waits for.

mod hazard;

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

pub(super) use self::hazard::HAZARD;
use self::hazard::{NeglectCase, judge, severity};
use crate::{
    core::{Context, Detector, Report, resolved},
    model::{
        evidence::{Evidence, Request},
        finding::{Finding, Severity},
        process::ProcessKey,
        program_name::called,
        resolution::Resolution,
        seen::{ProgramSeen, Sweep, Swept},
        time::BootTime,
    },
};

/// So long a parent may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// The processes that have ended, and who should wait for them. As many as a sweep tells at most.
#[derive(Default)]
pub(super) struct UnreapedChildren {
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

impl Detector for UnreapedChildren {
    fn on_evidence(&mut self, evidence: &Evidence, context: &mut Context) {
        match evidence {
            Evidence::Sweep { seen: Some(sweep) } => self.unreaped(sweep, context),
            Evidence::Program { tgid, seen: Some(seen) } => self.neglect_seen(*tgid, seen, context),
            _ => {}
        }
    }

    #[cfg(test)]
    fn remembers(&self) -> (usize, bool) {
        (self.since.len() + self.parents.len(), true)
    }
}

impl UnreapedChildren {
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

    /// Takes in which processes have ended and not been waited for.
    fn unreaped(&mut self, sweep: &Sweep, context: &mut Context) {
        for finding in self.take(sweep) {
            let (name, parent) = (called(&finding.program), finding.parent.tgid);
            let summary = format!("{name} (pid {parent}) has left no ended children unfetched");
            context.tell(resolved(finding, Resolution::Cleared, context.now, summary));
        }
        let news = self.parents.iter().filter(|(_, neglect)| neglect.is_news());
        news.for_each(|(parent, _)| context.ask(Request::Program { tgid: parent.tgid }));
        // Whether these are still there cannot be told from forks.
        context.sweep_all(!self.since.is_empty());
    }

    /// Takes in what runs in a parent. Without an answer the next sweep asks again.
    fn neglect_seen(&mut self, tgid: u32, seen: &ProgramSeen, context: &mut Context) {
        // A stopped process cannot wait for anybody.
        if seen.process.tgid != tgid || seen.stopped {
            return;
        }
        let Some(neglect) = self.parents.get_mut(&seen.process).filter(|neglect| neglect.is_news()) else {
            return;
        };
        let case = NeglectCase {
            parent: seen.process,
            program_name: &called(&seen.program),
            count: neglect.count,
            before: neglect.told.map_or(0, |(before, _)| before),
            oldest: neglect.oldest,
            age: context.now.since(neglect.since),
        };
        let verdict = judge(&case);
        let first = neglect.told.map_or(neglect.count, |(before, _)| before);
        neglect.told = Some((first, verdict.severity));
        let child = (neglect.oldest.process, neglect.oldest.comm);
        let finding = verdict.finding(context.now, HAZARD.id, (seen.process, &seen.program), child);
        if let Some(reported) = context.report(Report::of(finding)) {
            neglect.reported.get_or_insert(reported);
        }
    }
}
