//! What `-o json` prints, and what the system log gets.

use jiff::Timestamp;
use schemars::{JsonSchema, Schema};
use serde::Serialize;
use serde_json::Value;

use super::{Child, Outcome, Proven, text};
use crate::{
    action::rescue::{Kind, Released, Word},
    engine::session,
    model::{finding::Finding, process::escape, rescued::RescueReport, time::nanoseconds},
    output::json,
};

/// The name of the document. It changes when a field changes its meaning or goes away, not when one is added.
const SCHEMA: &str = "forkwatch.rescue/1";

/// What became of a rescue.
#[derive(Clone, Copy, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
enum Action {
    /// The lock was released.
    Rescued,
    /// It would be: nothing was changed, as was asked for.
    WouldRescue,
    /// Nothing was changed, for the reason that is given.
    Refused,
    /// Nothing was changed: whoever was asked said no.
    Declined,
    /// It was tried, and failed.
    Failed,
}

/// A document of `forkwatch rescue`.
#[derive(Serialize, JsonSchema)]
#[schemars(title = "forkwatch.rescue/1", deny_unknown_fields)]
pub(super) struct Document {
    /// `forkwatch.rescue/1`.
    #[schemars(extend("const" = SCHEMA))]
    schema: &'static str,
    /// forkwatch's.
    version: &'static str,
    /// When it ended.
    #[serde(rename = "@timestamp")]
    #[schemars(extend("format" = "date-time"))]
    timestamp: String,
    /// What became of it.
    action: Action,
    /// Why nothing was changed, or what failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// The child.
    process: Process,
    /// The real uid of whoever asked for it.
    by_uid: u32,
    /// The lock; absent where none is proven orphaned, or it is of another kind.
    #[serde(skip_serializing_if = "Option::is_none")]
    lock: Option<Lock>,
    /// What was done; absent where nothing was.
    #[serde(skip_serializing_if = "Option::is_none")]
    released: Option<Done>,
    /// What is proven of the child: a document of the schema `forkwatch.event/1`. The system log does not have it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<std::collections::BTreeMap<String, Value>>")]
    finding: Option<Box<json::document::Document>>,
}

/// A process, and whose it is.
#[derive(Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
struct Process {
    /// Its pid in the host's pid namespace.
    pid: u32,
    /// Its comm, safe for a terminal.
    name: String,
    /// Its real uid.
    #[serde(skip_serializing_if = "Option::is_none")]
    uid: Option<u32>,
    /// Its unit or container, else the path of its cgroup.
    #[serde(skip_serializing_if = "Option::is_none")]
    unit: Option<String>,
}

/// The lock that is released.
#[derive(Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
struct Lock {
    /// What kind of lock it is.
    kind: Kind,
    /// Its words that tell who has it, in the order in which they are written.
    words: Vec<Word>,
    /// What may go wrong after a release, in a sentence.
    risk: &'static str,
    /// What to do instead, or afterwards.
    advice: &'static str,
}

/// For how long the child stood still, and whether its thread went on.
#[derive(Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
struct Done {
    /// Nanoseconds for which the threads of the child stood still, at most.
    stopped_ns: u64,
    /// Whether the thread was seen to have left its wait within a second.
    went_on: bool,
}

impl Document {
    pub(super) fn new(child: &Child, outcome: &Outcome) -> Self {
        let (action, reason, proven, released) = match outcome {
            Outcome::Refused { reason, .. } => (Action::Refused, Some(reason.clone()), None, None),
            Outcome::WouldRelease(proven) => (Action::WouldRescue, None, Some(proven), None),
            Outcome::Declined(proven) => (Action::Declined, None, Some(proven), None),
            Outcome::Released(proven, released) => (Action::Rescued, None, Some(proven), Some(released)),
            Outcome::Failed(proven, error) => (Action::Failed, Some(error.to_string()), Some(proven), None),
        };
        let finding = match outcome {
            Outcome::Refused { finding, .. } => finding.as_deref(),
            _ => proven.map(|proven| &*proven.finding),
        };
        let context = session::context();
        let finding = finding.map(|finding: &Finding| Box::new(json::finding(&context, 0, finding)));
        Self {
            schema: SCHEMA,
            version: env!("CARGO_PKG_VERSION"),
            timestamp: Timestamp::now().to_string(),
            action,
            reason,
            process: Process {
                pid: child.key.tgid,
                name: child.owner.comm.to_string(),
                uid: child.owner.uid,
                unit: child.owner.unit.as_deref().map(|unit| escape(unit.as_bytes())),
            },
            by_uid: nix::unistd::getuid().as_raw(),
            lock: proven.map(Lock::new),
            released: released.map(|released| Done::new(*released)),
            finding,
        }
    }

    /// For a running daemon.
    pub(super) fn report(&self, child: &Child) -> RescueReport {
        RescueReport {
            pid: child.key.tgid,
            start_ns: child.key.start.0,
            name: self.process.name.clone(),
            uid: self.process.uid,
            unit: self.process.unit.clone(),
            released: self.released.is_some(),
            went_on: self.released.as_ref().is_some_and(|done| done.went_on),
            reason: self.reason.clone(),
            lock: self.lock.as_ref().and_then(|lock| serde_json::to_value(lock).ok()),
            by_uid: self.by_uid,
        }
    }

    /// Short enough for a line of a log.
    pub(super) fn without_finding(self) -> Self {
        Self { finding: None, ..self }
    }
}

impl Lock {
    fn new(proven: &Proven) -> Self {
        let release = &proven.rescue.release;
        Self { kind: release.kind, words: release.words.clone(), risk: text::RISK, advice: text::ADVICE }
    }
}

impl Done {
    fn new(released: Released) -> Self {
        Self { stopped_ns: nanoseconds(released.stopped), went_on: released.went_on }
    }
}

/// The schema of the document.
pub(in crate::cli) fn schema() -> Schema {
    schemars::schema_for!(Document)
}
