//! Servers that are set up so that their workers will be hurt by it. Each is told once.
//!
//! It asks nothing of its own: what is seen of workers when their lives are followed is enough.

mod hazard;

use std::time::Duration;

pub(super) use self::hazard::HAZARD;
use self::hazard::judge;
use crate::{
    core::{Context, Detector, Recent, Report},
    model::{
        evidence::Evidence,
        process::ProcessKey,
        worker_look::{Who, WorkerLook, WorkersSeen},
    },
    workers::{
        hints::hints,
        servers::{Kin, recognise},
    },
};

/// Most masters of which it is known that they were told.
const MOST_TOLD: usize = 256;
/// How long a worker must have lived: the threads of its application come with that.
const SETTLED: Duration = Duration::from_secs(1);

/// Judges each server once.
pub(super) struct ServerSetup {
    /// Of how many hints each master was told.
    told: Recent<usize>,
}

impl Default for ServerSetup {
    fn default() -> Self {
        Self { told: Recent::new(MOST_TOLD) }
    }
}

impl Detector for ServerSetup {
    fn on_evidence(&mut self, evidence: &Evidence, context: &mut Context) {
        let Evidence::Workers { master, seen: Ok(seen) } = evidence else { return };
        if let Some(who) = &seen.master {
            self.look(*master, who, seen, context);
        }
    }

    #[cfg(test)]
    fn remembers(&self) -> (usize, bool) {
        (0, self.told.within_bounds())
    }
}

impl ServerSetup {
    fn look(&mut self, master: ProcessKey, who: &Who, seen: &WorkersSeen, context: &mut Context) {
        let kin = |process: ProcessKey, who, forked| kin(who, forked, seen.at.since(process.start));
        let settled = seen.workers.iter().filter(|worker| seen.at.since(worker.process.start) >= SETTLED);
        let workers = settled.filter_map(|worker| match &worker.look {
            WorkerLook::Alive { threads, .. } => {
                Some((kin(worker.process, worker.who.as_ref()?, true), *threads))
            }
            _ => None,
        });
        let (mut family, threads): (Vec<Kin<'_>>, Vec<u32>) = workers.unzip();
        let Some(most) = threads.into_iter().max() else { return };
        family.insert(0, kin(master, who, false));
        let Some(server) = recognise(&family).server else { return };
        let found = hints(&server, most);
        if found.len() <= self.told.get(master).copied().unwrap_or(0) {
            return;
        }
        self.told.insert(master, found.len());
        let verdict = judge(master, &server.name, &found);
        let program = &who.program;
        // It is about the master itself: no child is to blame, nor is one hurt yet.
        let finding = verdict.finding(context.now, HAZARD.id, (master, program), (master, program.comm));
        context.report(Report::of(finding));
    }
}

fn kin(who: &Who, forked: bool, age: Duration) -> Kin<'_> {
    Kin { program: &who.program, loaded: &who.loaded, forked, age }
}
