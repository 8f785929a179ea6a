//! What the daemon does with events and findings: it counts them, logs findings, and writes both as JSON lines.

use std::{io, time::SystemTime};

use anyhow::{Context as _, Result};

use super::{causes::Causes, thread_names::ThreadNames};
use crate::{
    config::{Config, EventOutput},
    core::{Output, Shared},
    engine::{Asker, pipeline::Sink},
    model::{
        event::Event,
        finding::{Finding, Severity, State},
    },
    report::{
        Context,
        columns::{frame, humanly},
        event_file::{EventFile, Rotation},
        identity::identity,
        json::{self, document::Document},
        metrics::Metrics,
        standard_output::StandardOutput,
    },
};

/// Where JSON lines go.
pub(super) enum EventWriter {
    /// Nowhere.
    None,
    /// Standard output.
    Stdout(StandardOutput),
    /// A file that is rotated.
    File(EventFile),
}

impl EventWriter {
    pub(super) fn open(config: &Config) -> Result<Self> {
        Ok(match &config.events.output {
            EventOutput::None => Self::None,
            EventOutput::Stdout => {
                let output = StandardOutput::start();
                Self::Stdout(output.context("cannot start the thread that writes to standard output")?)
            }
            EventOutput::File(path) => Self::File(EventFile::open(path, rotation(config))?),
        })
    }
}

const fn rotation(config: &Config) -> Rotation {
    Rotation { max_bytes: config.events.max_bytes, keep: config.events.keep }
}

/// Counts, logs and writes.
pub(super) struct DaemonSink {
    context: Context,
    writer: EventWriter,
    metrics: Option<Metrics>,
    names: ThreadNames,
    causes: Causes,
    sequence: u64,
}

impl DaemonSink {
    pub(super) fn new(context: &Context, writer: EventWriter, asker: Asker) -> Self {
        Self {
            context: context.clone(),
            writer,
            metrics: None,
            names: ThreadNames::default(),
            causes: Causes::new(Some(asker)),
            sequence: 0,
        }
    }

    /// From now on everything is counted here.
    pub(super) fn count_in(&mut self, metrics: &Metrics) {
        self.metrics = Some(metrics.clone());
    }

    /// Opens the event file anew, with the rotation of this configuration.
    pub(super) fn reopen(&mut self, config: &Config) -> Result<()> {
        match (&mut self.writer, &config.events.output) {
            (EventWriter::File(file), EventOutput::File(path)) if file.path() == path => {
                file.reopen(rotation(config))?;
            }
            (EventWriter::Stdout(_), EventOutput::Stdout) => {}
            _ => self.writer = EventWriter::open(config)?,
        }
        Ok(())
    }

    fn write(&mut self, document: &Document) -> io::Result<()> {
        self.sequence += 1;
        let is_written = match &mut self.writer {
            EventWriter::None => true,
            EventWriter::Stdout(output) => output.append(&serde_json::to_string(document)?)?,
            EventWriter::File(file) => file.append(&serde_json::to_string(document)?),
        };
        if let (false, Some(metrics)) = (is_written, &self.metrics) {
            metrics.event_file_lost(1);
        }
        Ok(())
    }
}

impl Sink for DaemonSink {
    fn event(&mut self, event: &Event) -> io::Result<()> {
        if let Event::Lost(lost) = event {
            tracing::warn!(
                count = lost.count,
                reason = lost.reason.name(),
                "records were lost: raise kernel.ring_bytes"
            );
        }
        if let (Event::Exit(exit), Some(metrics)) = (event, &self.metrics) {
            metrics.child_ended(exit);
        }
        let limit = self.causes.of_event(event);
        if let (Event::CloneFailure(failure), Some(metrics)) = (event, &self.metrics) {
            let cause = limit.as_ref().map_or("unknown", |limit| limit.cause.name());
            metrics.clone_call_failed(failure.errno, cause);
        }
        if matches!(self.writer, EventWriter::None) {
            return Ok(());
        }
        let names = self.names.of(event);
        match json::event(&self.context, self.sequence, event, &names, limit.as_ref()) {
            Some(document) => self.write(&document),
            None => Ok(()),
        }
    }

    fn output(&mut self, output: &Output) -> io::Result<()> {
        let Some(metrics) = &self.metrics else { return Ok(()) };
        match output {
            Output::Unsafe { hazard, program_name, unit, uid } => {
                metrics.unsafe_fork(*hazard, program_name, unit.as_deref(), *uid);
            }
            Output::Allowed { hazard, program_name, reason, .. } => {
                metrics.finding_allowed(*hazard);
                tracing::debug!(
                    hazard = hazard.name(),
                    program = program_name,
                    reason,
                    "a finding is accepted"
                );
            }
            Output::Finding(finding) => {
                metrics.finding(finding);
                log(finding);
                return self.write(&json::finding(&self.context, self.sequence, finding));
            }
            Output::Undecided { hazard, child, .. } => {
                metrics.undecided(*hazard);
                tracing::debug!(hazard = hazard.name(), child = child.tgid, "a hazard could not be judged");
            }
            Output::Dropped(what) => metrics.given_up(what.name()),
            Output::Stuck { hazard, confirmed, unknown, oldest } => {
                let since = oldest.map(|at| SystemTime::from(self.context.timestamp(at)));
                metrics.stuck(*hazard, *confirmed, *unknown, since);
            }
            Output::SharedConnections(count) => metrics.shared_connections(*count),
            Output::Shares(Shared { child, parent, peer, .. }) => {
                let (child, parent) = (child.tgid, parent.tgid);
                tracing::debug!(child, parent, %peer, "a connection is shared over a fork");
            }
            Output::Ask(_) | Output::Order(_) | Output::LivesOn(_) => {}
        }
        Ok(())
    }

    fn batch(&mut self, received: u64, malformed: u64) -> io::Result<()> {
        if let (1.., Some(metrics)) = (received, &self.metrics) {
            metrics.events_received(received, SystemTime::now());
            metrics.events_malformed(malformed);
        }
        match &mut self.writer {
            EventWriter::Stdout(output) => output.flush(),
            EventWriter::None | EventWriter::File(_) => Ok(()),
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
