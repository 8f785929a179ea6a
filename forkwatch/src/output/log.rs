//! What a service's log says of the watch: findings, losses, and, for who looks for a defect, what is not said otherwise.

use std::io;

use super::{
    Output,
    columns::{frame, humanly},
    identity::identity,
    journal::{Journal, priority},
};
use crate::{
    core::{self, Shared},
    model::{
        child_end::ChildEnd,
        event::{Event, Lost},
        finding::{Finding, Severity, State},
        particulars::Particulars,
        process::escape,
        rescued::{RescueReport, Rescued},
        worker::{WorkerChange, WorkerEvent, WorkerState},
    },
};

/// Writes to the log. Findings go to the journal where there is one, with their fields, and else to the log.
#[derive(Default)]
pub struct LogLines {
    journal: Option<Journal>,
}

impl LogLines {
    /// Tells the journal of findings.
    pub const fn with_journal(journal: Option<Journal>) -> Self {
        Self { journal }
    }

    fn tell(&self, finding: &Finding) {
        let is_wanted = match priority(finding) {
            ..=3 => tracing::event_enabled!(tracing::Level::ERROR),
            4..=5 => tracing::event_enabled!(tracing::Level::WARN),
            _ => tracing::event_enabled!(tracing::Level::INFO),
        };
        // A journal that is busy or away is no reason to lose one.
        let is_told =
            self.journal.as_ref().is_some_and(|journal| !is_wanted || journal.tell(finding).is_ok());
        if !is_told {
            log(finding);
        }
    }
}

impl Output for LogLines {
    fn event(&mut self, _: &Event, _: &Particulars) -> io::Result<()> {
        Ok(())
    }

    fn lost(&mut self, lost: &Lost) -> io::Result<()> {
        tracing::warn!(
            count = lost.count,
            reason = lost.reason.name(),
            "records were lost: raise kernel.ring_bytes"
        );
        Ok(())
    }

    fn finding(&mut self, finding: &Finding) -> io::Result<()> {
        self.tell(finding);
        Ok(())
    }

    fn resolution(&mut self, finding: &Finding) -> io::Result<()> {
        self.tell(finding);
        Ok(())
    }

    fn rescued(&mut self, rescued: &Rescued) -> io::Result<()> {
        let RescueReport { pid, name, unit, by_uid, reason, .. } = &rescued.report;
        let (unit, reason, outcome) = (unit.as_deref(), reason.as_deref(), rescued.outcome());
        tracing::warn!(
            pid,
            name,
            unit,
            by_uid,
            outcome,
            reason,
            "forkwatch rescue has written to the lock of a child that hung"
        );
        Ok(())
    }

    fn said(&mut self, said: &core::Output) -> io::Result<()> {
        match said {
            core::Output::Suppressed { hazard, program_name, reason, .. } => {
                let hazard = hazard.name();
                tracing::debug!(hazard, program = program_name, reason, "a finding is accepted");
            }
            core::Output::Undecided { hazard, child, .. } => {
                tracing::debug!(hazard = hazard.name(), child = child.tgid, "a hazard could not be judged");
            }
            core::Output::Shares(Shared { child, parent, peer, .. }) => {
                let (child, parent) = (child.tgid, parent.tgid);
                tracing::debug!(child, parent, %peer, "a connection is shared over a fork");
            }
            core::Output::Worker(event) => worker(event),
            _ => {}
        }
        Ok(())
    }
}

/// What whoever reads a log wants to know of a worker: that it did not end well. The rest is for who looks for more.
fn worker(event: &WorkerEvent) {
    let WorkerEvent { change, worker, server, replaces, .. } = event;
    let (pid, master) = (worker.tgid, server.master.tgid);
    let (server, unit, what) = (escape(&server.name), server.unit.as_deref(), change.name());
    match change {
        WorkerChange::Exited(exited) => {
            let how = exited.end.as_ref().map_or_else(|| "is gone".to_owned(), ChildEnd::words);
            let after = humanly(exited.lifetime);
            let state = exited.state.name();
            let last = exited.did(event.at).map(escape);
            let (last, stuck) = (last.as_deref(), exited.stuck.as_deref());
            let asked = exited.state == WorkerState::Stopping;
            if asked || exited.end.as_ref().is_some_and(|end| end.exit_code == Some(0)) {
                tracing::debug!(server, unit, master, state, after, "worker {pid} {how}");
            } else {
                tracing::info!(server, unit, master, state, after, last, stuck, "worker {pid} {how}");
            }
        }
        WorkerChange::Ready(ready) => {
            let after = humanly(ready.after);
            tracing::debug!(server, unit, master, exact = ready.exact, after, "worker {pid} is ready");
        }
        WorkerChange::Stopping(stopping) => {
            let signal = &stopping.signal;
            tracing::debug!(server, unit, master, signal, "worker {pid} was asked to end");
        }
        // A finding tells of that.
        WorkerChange::NotReady { .. } => {}
        WorkerChange::Forked { .. } | WorkerChange::Replaced { .. } => {
            tracing::debug!(server, unit, master, replaces, what, "worker {pid} was forked");
        }
    }
}

/// A warning for what should be changed, information for the rest.
fn log(finding: &Finding) {
    let Finding { hazard, severity, state, summary, remedy, repeats, program, facts, .. } = finding;
    let (hazard, repeats) = (hazard.name(), *repeats);
    // The uid, the unit or container, and what of its names is not the host's.
    let who = identity(program).join(", ");
    // What whoever is woken at night asks first: how is it known, in which line, and since when.
    let lock = facts.lock.as_deref();
    let proof = lock.map(|lock| lock.proof.name());
    let script = lock.and_then(|lock| lock.script.as_ref()?.frames.first()).map(frame);
    let script = script.as_deref();
    let age = facts.age.map(humanly);
    let age = age.as_deref();
    match (severity, state) {
        (Severity::Info, _) | (_, State::Resolved(_)) => tracing::info!(hazard, repeats, who, "{summary}"),
        (_, State::Unknown) => tracing::warn!(hazard, who, "{summary}"),
        (Severity::Warning, _) => {
            tracing::warn!(hazard, repeats, who, proof, script, age, remedy = remedy.text, "{summary}");
        }
        (Severity::Critical, _) => {
            tracing::error!(hazard, repeats, who, proof, script, age, remedy = remedy.text, "{summary}");
        }
    }
}
