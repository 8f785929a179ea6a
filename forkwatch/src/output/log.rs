//! What a service's log says of the watch: findings, losses, and, for who looks for a defect, what is not said otherwise.

use std::io;

use super::{
    Output,
    columns::{frame, humanly},
    identity::identity,
};
use crate::{
    core::{self, Shared},
    model::{
        event::{Event, Lost},
        finding::{Finding, Severity, State},
        particulars::Particulars,
        rescued::{RescueReport, Rescued},
    },
};

/// Writes to the log.
pub struct LogLines;

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
        log(finding);
        Ok(())
    }

    fn resolution(&mut self, finding: &Finding) -> io::Result<()> {
        log(finding);
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
            _ => {}
        }
        Ok(())
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
