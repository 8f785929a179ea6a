//! Workers of servers that do not come to wait for work; and the lives of all others, which are told on the way.
//!
//! What a worker is, and when it is ready, `workers::lives` judges. This asks what that wants to know.

mod hazard;

pub(super) use self::hazard::HAZARD;
use self::hazard::judge;
use crate::{
    core::{Context, Detector, Output, Report},
    model::{
        event::{CloneKind, Event},
        evidence::Evidence,
        observation::Observation,
        process::{Comm, ProcessKey, Program},
        resolution::Resolution,
        worker::{WorkerChange, WorkerEvent},
    },
    workers::lives::{Deed, Lives},
};

/// Follows the lives of workers.
#[derive(Default)]
pub(super) struct WorkerNotReady {
    lives: Lives,
}

impl Detector for WorkerNotReady {
    fn on_event(&mut self, event: &Event, context: &mut Context) {
        if !context.settings.workers {
            return;
        }
        let deeds = match event {
            Event::Fork(fork) if fork.kind == CloneKind::Copying => self.lives.forked(fork),
            Event::Exec(exec) => self.lives.left(exec.process, exec.at),
            Event::Exit(exit) => {
                let hung = context.processes.life(exit.process).and_then(|life| life.hung.as_ref());
                let stuck = hung.map(|hung| hung.0.summary.clone());
                self.lives.ended(exit, context.end(exit), stuck)
            }
            _ => return,
        };
        do_all(deeds, context);
    }

    fn on_observation(&mut self, seen: &Observation, _context: &mut Context) {
        if let Observation::Signal(signal) = seen {
            self.lives.signalled(signal);
        }
    }

    fn on_life(&mut self, child: ProcessKey, context: &mut Context) {
        let Some(process) = context.processes.get(child).filter(|_| context.settings.workers) else { return };
        let (child, Some(forker)) = (process.key, process.birth.parent) else { return };
        let deeds = self.lives.found(forker, child, context.now);
        do_all(deeds, context);
        if self.lives.is_worker(child) {
            // It was known for one before its end could be followed.
            context.watch_worker(child);
        }
    }

    fn on_evidence(&mut self, evidence: &Evidence, context: &mut Context) {
        let Evidence::Workers { master, seen } = evidence else { return };
        let seen = seen.as_deref().map_err(String::as_str);
        let deeds = self.lives.seen(*master, seen, context.now);
        do_all(deeds, context);
    }

    fn on_timer(&mut self, master: ProcessKey, _topic: u64, context: &mut Context) {
        let deeds = self.lives.look(master, context.now);
        do_all(deeds, context);
    }

    fn forget(&mut self, process: ProcessKey, context: &mut Context) {
        let deeds = self.lives.doubted(process, context.now);
        do_all(deeds, context);
    }

    #[cfg(test)]
    fn remembers(&self) -> (usize, bool) {
        self.lives.remembers()
    }
}

fn do_all(deeds: Vec<Deed>, context: &mut Context) {
    for deed in deeds {
        match deed {
            Deed::Ask(request) => context.ask(request),
            Deed::Wake(master, at) => context.wake_at(at, master),
            Deed::Watch(worker) => context.watch_worker(worker),
            Deed::Tell(event) => tell(event, context),
        }
    }
}

fn tell(event: Box<WorkerEvent>, context: &mut Context) {
    match &event.change {
        WorkerChange::NotReady { doing, after } => {
            let verdict = judge(&event, doing, *after);
            let (master, server) = (event.server.master, &event.server);
            let known = context.processes.life(event.worker).and_then(|life| life.program.clone());
            let program = known.unwrap_or_else(|| Program {
                comm: Comm::new(server.name.as_bytes()),
                unit: server.unit.clone(),
                uid: server.uid,
                ..Program::default()
            });
            let child = (event.worker, event.comm);
            let finding = verdict.finding(context.now, HAZARD.id, (master, &program), child);
            context.report(Report::until_the_end(finding));
        }
        WorkerChange::Ready(_) => context.resolve(event.worker, HAZARD.id, Resolution::Cleared),
        _ => {}
    }
    context.tell(Output::Worker(event));
}
