//! Findings, as they are kept and listed.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::StoreHealth;
use crate::model::{
    finding::{Certainty, Finding, Severity, State},
    process::{ProcessKey, escape},
};

/// What has become of a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum KeptState {
    /// The conditions of a fault are there; the fault itself has not been seen.
    Suspected,
    /// The fault has been seen.
    Confirmed,
    /// The fault has been seen, and the process cannot be looked at any more.
    Unknown,
    /// It is over; `resolution` says how.
    Resolved,
    /// The watch that found it has ended. What has become of it since, nobody knows.
    Unwatched,
}

impl KeptState {
    /// The name in documents and filters.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Suspected => "suspected",
            Self::Confirmed => "confirmed",
            Self::Unknown => "unknown",
            Self::Resolved => "resolved",
            Self::Unwatched => "unwatched",
        }
    }

    /// Whether a running watch still follows it.
    pub const fn is_open(self) -> bool {
        matches!(self, Self::Suspected | Self::Confirmed | Self::Unknown)
    }
}

/// A finding on one line: what a list shows of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Brief {
    /// Names the finding in this store. A later finding has a greater one, digit by digit.
    pub id: String,
    /// When it was reported first: RFC 3339, UTC.
    #[schemars(extend("format" = "date-time"))]
    pub first_seen: String,
    /// When something was last said of it.
    #[schemars(extend("format" = "date-time"))]
    pub last_seen: String,
    /// What is wrong: an id that `/api/v1/hazards` explains.
    pub hazard: String,
    /// What has become of it.
    pub state: KeptState,
    /// How it ended, where it did.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub resolution: Option<String>,
    /// How sure it is.
    pub certainty: Certainty,
    /// How much it matters.
    pub severity: Severity,
    /// One plain sentence.
    pub summary: String,
    /// The program to blame, by the name that metrics give it.
    pub program: String,
    /// The systemd unit that the forker runs in.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub unit: Option<String>,
    /// The container that the forker runs in.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub container: Option<String>,
    /// The real uid of the forker.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub uid: Option<u32>,
    /// The child, or the process that it is about.
    pub pid: u32,
    /// Names that process on all hosts and for all times, as in events.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub entity_id: Option<String>,
    /// Its comm, escaped for a terminal.
    pub name: String,
    /// The forker; absent where nobody knows who forked it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub parent_pid: Option<u32>,
    /// Names the forker on all hosts and for all times, as in events.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub parent_entity_id: Option<String>,
    /// How many times this program did the same again.
    pub repeats: u64,
    /// Pids of further children to which the same has happened: at most 1024.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub also_pids: Vec<u32>,
    /// How many more there were that are not named: of a program's repeats within a minute, 256 children are.
    #[serde(skip_serializing_if = "is_zero", default)]
    pub unnamed: u64,
    /// Locks that the child carries, held by threads that it does not have.
    #[serde(skip_serializing_if = "is_zero", default)]
    pub carried_locks: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's skip_serializing_if passes a reference")]
const fn is_zero(count: &u64) -> bool {
    *count == 0
}

impl Brief {
    /// Whether it is about this process, or one that this process has forked.
    pub fn is_about(&self, pid: u32) -> bool {
        self.pid == pid || self.parent_pid == Some(pid) || self.also_pids.contains(&pid)
    }

    /// Of a finding that was decided at this time, and in which processes have these names. It has no id yet.
    pub fn of(finding: &Finding, at: String, entity_id: impl Fn(ProcessKey) -> Option<String>) -> Self {
        // Where nobody knows who forked the child, it stands in for its forker.
        let parent = Some(finding.parent).filter(|parent| *parent != finding.child && parent.tgid != 0);
        let again = finding.facts.again.iter().map(|repeat| repeat.child);
        let (state, resolution) = match finding.state {
            State::Suspected => (KeptState::Suspected, None),
            State::Confirmed => (KeptState::Confirmed, None),
            State::Unknown => (KeptState::Unknown, None),
            State::Resolved(how) => (KeptState::Resolved, Some(how.name().to_owned())),
        };
        Self {
            id: String::new(),
            first_seen: at.clone(),
            last_seen: at,
            hazard: finding.hazard.name().to_owned(),
            state,
            resolution,
            certainty: finding.certainty,
            severity: finding.severity,
            summary: finding.summary.clone(),
            program: finding.program_name.clone(),
            unit: finding.program.unit.clone(),
            container: finding.program.container.clone(),
            uid: finding.program.uid,
            pid: finding.child.tgid,
            entity_id: entity_id(finding.child),
            name: escape(finding.child_comm.bytes()),
            parent_pid: parent.map(|parent| parent.tgid),
            parent_entity_id: parent.and_then(entity_id),
            repeats: finding.repeats,
            also_pids: again.filter(|child| *child != finding.child).map(|child| child.tgid).collect(),
            unnamed: if matches!(finding.state, State::Resolved(_)) { 0 } else { finding.facts.unnamed },
            carried_locks: u64::try_from(finding.facts.held.len()).unwrap_or(u64::MAX),
        }
    }
}

/// A finding with all that is known of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Kept {
    /// What a list shows of it.
    #[serde(flatten)]
    pub brief: Brief,
    /// The report, a document of the schema `forkwatch.event/1`; `null` where it was too long to be kept.
    pub report: Value,
    /// What was said when it was over: another such document.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub end: Option<Value>,
}

/// A list of findings, the latest first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(title = "forkwatch.findings/1")]
pub struct Findings {
    /// `forkwatch.findings/1`. A new version is one that could break a reader; new fields are none.
    #[schemars(extend("const" = "forkwatch.findings/1"))]
    pub schema: String,
    /// Those that were asked for.
    pub findings: Vec<Brief>,
    /// Where there are more: what `before` has to be for the next of them.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub next: Option<String>,
    /// How findings are kept, and for how long.
    pub store: StoreHealth,
}

/// One finding, with its evidence.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(title = "forkwatch.finding/1")]
pub struct FindingDocument {
    /// `forkwatch.finding/1`.
    #[schemars(extend("const" = "forkwatch.finding/1"))]
    pub schema: String,
    /// What a list shows of it, its report, and its end.
    pub finding: Kept,
}

/// A finding, for tests.
#[cfg(test)]
pub(crate) fn test_brief() -> Brief {
    Brief {
        id: "18a3".to_owned(),
        first_seen: "2026-11-29T20:00:00Z".to_owned(),
        last_seen: "2026-11-29T21:00:00Z".to_owned(),
        hazard: "orphaned-lock".to_owned(),
        state: KeptState::Confirmed,
        resolution: None,
        certainty: Certainty::Certain,
        severity: Severity::Critical,
        summary: "gunicorn (pid 7) waits for a lock that nobody can release".to_owned(),
        program: "gunicorn".to_owned(),
        unit: None,
        container: None,
        uid: Some(33),
        pid: 7,
        entity_id: None,
        name: "gunicorn".to_owned(),
        parent_pid: Some(6),
        parent_entity_id: None,
        repeats: 0,
        also_pids: Vec::new(),
        unnamed: 0,
        carried_locks: 0,
    }
}
