//! Servers that are set up so that their workers will be hurt by it. Each is told once.
//!
//! What a server lacks, what is seen of workers when their lives are followed tells. What a worker has not renewed, and
//! which threads it has, is asked of one worker of each server, some time after it was ready.

mod hazard;
mod not_renewed;

use std::time::Duration;

pub(super) use self::hazard::HAZARD;
use self::hazard::judge;
use super::{held_locks, lost_threads, multithreaded_fork, shared_connection};
use crate::{
    core::{Context, Detector, Recent, Report},
    model::{
        evidence::{Evidence, Request},
        inheritance::Inheritance,
        process::{ProcessKey, Program},
        worker_look::{Who, WorkerLook, WorkersSeen},
    },
    workers::{
        hints::hints,
        servers::{Kin, Server, recognise},
    },
};

/// Most masters of which it is known that they were told.
const MOST_TOLD: usize = 256;

/// How long after a worker was seen to wait for work it is looked at for what it has renewed: an application may do that
/// at its first request.
const RENEWS_WITHIN: Duration = Duration::from_secs(10);

/// Judges each server once.
pub(super) struct ServerSetup {
    /// Of how many hints each master was told.
    told: Recent<usize>,
    /// Of each master, a worker that waits for work, and that is or was looked at.
    ready: Recent<(ProcessKey, Server)>,
}

impl Default for ServerSetup {
    fn default() -> Self {
        Self { told: Recent::new(MOST_TOLD), ready: Recent::new(MOST_TOLD) }
    }
}

impl Detector for ServerSetup {
    fn on_evidence(&mut self, evidence: &Evidence, context: &mut Context) {
        match evidence {
            Evidence::Workers { master, seen: Ok(seen) } => {
                if let Some(who) = &seen.master {
                    self.look(*master, who, seen, context);
                }
            }
            Evidence::Inheritance { worker, master, seen: Some(seen) } => {
                self.judge_inheritance(*master, *worker, seen, context);
            }
            // Another worker may be looked at.
            Evidence::Inheritance { master, seen: None, .. } => drop(self.ready.remove(*master)),
            _ => {}
        }
    }

    fn on_timer(&mut self, master: ProcessKey, _topic: u64, context: &mut Context) {
        if let Some((worker, _)) = self.ready.get(master) {
            let stacks = context.settings.stacks;
            context.ask(Request::Inheritance { worker: *worker, master, stacks });
        }
    }

    #[cfg(test)]
    fn remembers(&self) -> (usize, bool) {
        (0, self.told.within_bounds() && self.ready.within_bounds())
    }
}

impl ServerSetup {
    fn look(&mut self, master: ProcessKey, who: &Who, seen: &WorkersSeen, context: &mut Context) {
        let kin = |process: ProcessKey, who, forked| kin(who, forked, seen.at.since(process.start));
        let living = seen.workers.iter().filter(|worker| matches!(worker.look, WorkerLook::Alive { .. }));
        let workers = living.filter_map(|worker| Some(kin(worker.process, worker.who.as_ref()?, true)));
        let mut family: Vec<Kin<'_>> = workers.collect();
        if family.is_empty() {
            return;
        }
        family.insert(0, kin(master, who, false));
        let Some(server) = recognise(&family).server else { return };
        self.await_renewal(master, &server, seen, context);
        self.give_hints((master, &who.program), &server, 0, context);
    }

    /// Tells what a server lacks, of which a worker has so many threads of Python's, where more is known than was told.
    fn give_hints(
        &mut self,
        (master, program): (ProcessKey, &Program),
        server: &Server,
        python_threads: u32,
        context: &mut Context,
    ) {
        let found = hints(server, python_threads);
        if found.len() <= self.told.get(master).copied().unwrap_or(0) {
            return;
        }
        self.told.insert(master, found.len());
        let verdict = judge(master, &server.name, &found);
        // It is about the master itself: no child is to blame, nor is one hurt yet.
        let finding = verdict.finding(context.now, HAZARD.id, (master, program), (master, program.comm));
        context.report(Report::of(finding));
    }

    /// Has one worker that waits for work looked at, once for each master.
    fn await_renewal(
        &mut self,
        master: ProcessKey,
        server: &Server,
        seen: &WorkersSeen,
        context: &mut Context,
    ) {
        if self.ready.contains(master) || !not_renewed::is_judged(server) {
            return;
        }
        let waits =
            |look: &WorkerLook| matches!(look, WorkerLook::Alive { sources, .. } if !sources.is_empty());
        let Some(worker) = seen.workers.iter().find(|worker| waits(&worker.look)) else { return };
        self.ready.insert(master, (worker.process, server.clone()));
        context.wake_at(context.now + RENEWS_WITHIN, master);
    }

    /// Tells what a worker has not renewed, unless a finding about one of its master's workers says so.
    fn judge_inheritance(
        &mut self,
        master: ProcessKey,
        worker: ProcessKey,
        seen: &Inheritance,
        context: &mut Context,
    ) {
        let told = [
            multithreaded_fork::HAZARD.id,
            held_locks::HAZARD.id,
            lost_threads::HAZARD.id,
            shared_connection::hazard::HAZARD.id,
            shared_connection::closed::HAZARD.id,
        ];
        let Some((_, server)) = self.ready.get(master).cloned() else { return };
        self.give_hints((master, &seen.program), &server, seen.own_threads_of_python, context);
        if context.has_found(master, &told) {
            return;
        }
        if let Some(verdict) = not_renewed::judge(&server, (master, worker), seen) {
            let about = (worker, seen.comm);
            let finding = verdict.finding(context.now, HAZARD.id, (master, &seen.program), about);
            context.report(Report { of_one_child: true, ..Report::of(finding) });
        }
    }
}

fn kin(who: &Who, forked: bool, age: Duration) -> Kin<'_> {
    Kin { program: &who.program, loaded: &who.loaded, forked, age }
}
