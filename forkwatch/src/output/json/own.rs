//! The part of a document that is forkwatch's own.

use schemars::JsonSchema;
use serde::Serialize;

use super::own_worker::{OutputLost, Worker};
use crate::model::{
    child_end::ChildEnd,
    facts::{ConnectionFacts, HeldFacts, HistoryFacts, LeakFacts, LockFacts},
    finding::{Certainty, HazardId, Remedy, Severity},
    limit::Cause,
    provenance::{Executable, Namespace, Owner},
    resolution::Resolution,
};

/// What ECS has no name for: one of the parts below, by `event.action`, and where it came from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Forkwatch {
    /// Of `fork`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fork: Option<Fork>,
    /// Of `exec`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exec: Option<Exec>,
    /// Of `exit`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exit: Option<Exit>,
    /// Of `thread`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub thread: Option<NewThread>,
    /// Of `clone_failure`, where the limit behind it was looked for and found.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clone_failure: Option<CloneFailure>,
    /// Of `finding`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finding: Option<Finding>,
    /// Of `events_lost`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lost: Option<Lost>,
    /// Of `finding`: how far the names that the forker goes by can be relied on. Absent where nobody could look.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provenance: Option<Provenance>,
    /// Of `rescued`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rescued: Option<Rescued>,
    /// Of `worker_forked`, `worker_ready`, `worker_stopping`, `worker_exited` and `worker_replaced`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub worker: Option<Worker>,
    /// Of `worker_output_lost`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output_lost: Option<OutputLost>,
    /// Of `assessment`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub assessment: Option<Assessment>,
    /// The cgroup (version 2) of the forker, or of the process where there is no fork.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cgroup: Option<Cgroup>,
    /// The bytes of `process.name` in hexadecimal, where they are not UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub raw_name: Option<String>,
    /// Where in the kernel's stream it stood.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub origin: Option<Origin>,
}

/// Whose word the names of the forker are: its comm, command line, executable, unit and container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Provenance {
    /// Whose they are: the host's own, where root or a unit of the system has started it; a container's; or a user's,
    /// who may call his programs what he likes.
    pub owner: Owner,
    /// Namespaces that it lives in and that are not those of the host's first process; absent where they may not be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespaces: Option<Vec<Namespace>>,
    /// `host` where it runs the file that the host has under that path, `other` where it runs another; absent where that
    /// could not be told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub executable: Option<Executable>,
    /// The uid of the login that it comes from, as text; absent for what the system has started.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub login: Option<String>,
    /// What of it is not the host's, as people are told.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub marks: Vec<String>,
}

/// How a process stood when the watch of it began.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Assessment {
    /// Whether a fork would have been safe, as `forkwatch check` judges it: `safe`, `risky`, `unsafe` or `undecided`.
    pub verdict: &'static str,
    /// What speaks against a fork, the weightiest first.
    pub reasons: Vec<AssessmentReason>,
    /// Its descendants that were forked and have not exec'd.
    pub forked_children: u64,
    /// Pids of those that wait as if stuck: a finding says so, and why, once it is known.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub stuck_children: Vec<u32>,
    /// How many of those could not be looked into, so that it is not known whether they hang.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unseen_children: Option<u64>,
}

/// Something that speaks against a fork, or is worth knowing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AssessmentReason {
    /// The sort of reason, as in the document `forkwatch.check/1`.
    pub id: String,
    /// How much it weighs: `unsafe`, `warning` or `info`.
    pub weight: &'static str,
    /// What was seen, in words.
    pub what: String,
}

/// How a process was created. Describes the forking thread at that moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Fork {
    /// `copying` (fork(2)), `vfork` (also `posix_spawn(3)`), `shared-memory` or `kernel`.
    pub kind: &'static str,
    /// Live threads of the parent, the forking one included, kernel workers excluded.
    pub threads: u32,
    /// Comms of those threads that were seen, without the forking one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub thread_names: Vec<String>,
    /// Signals that were pending and blocked: the child does not get them. Absent where there were none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub pending_signals: Vec<String>,
    /// Signals that the forking thread blocked. Absent where there were none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub blocked_signals: Vec<String>,
    /// Forks since the last exec on the way to this child: 1 for the child of an exec'd program.
    pub generation: u32,
    /// The child's pid in its innermost pid namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace_pid: Option<u32>,
    /// Whether its end will be reported: not where the kernel side's table of children was full.
    pub tracked: bool,
}

/// How a process replaced its program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Exec {
    /// How the process was created; absent for a second exec, and where the fork was not seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fork_kind: Option<&'static str>,
    /// Nanoseconds since the fork; absent likewise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since_fork_ns: Option<u64>,
    /// The thread that called exec, where it was not the main thread.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from_thread: Option<u32>,
    /// Signals blocked in the new program from its start. Absent where there are none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub blocked_signals: Vec<String>,
}

/// How a process ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Exit {
    /// How the process was created.
    pub fork_kind: &'static str,
    /// Nanoseconds from its fork to its end.
    pub lifetime_ns: u64,
    /// What its exit code is known to mean; absent where it means nothing in particular.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub meaning: Option<String>,
    /// The signal that killed it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signal: Option<String>,
    /// Whether it left a core dump; absent where no signal killed it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub core_dumped: Option<bool>,
}

/// A new thread: `process.thread` of `process`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewThread {
    /// The thread that created it.
    pub creator: u32,
    /// Live threads of the process afterwards, kernel workers included.
    pub threads: u32,
}

/// What was found about a fork.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Finding {
    /// The hazard and the entity id of the child, with `/` between. The resolution of a finding bears its id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Counts the findings of this run from 1. The resolution of a finding bears its number.
    pub number: u64,
    /// The id of the hazard: `orphaned-lock`.
    pub hazard: HazardId,
    /// Whether the fault was seen, or only its conditions, or is over.
    pub state: FindingState,
    /// How a resolved finding ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resolution: Option<FindingResolution>,
    /// How sure it is.
    pub certainty: Certainty,
    /// How much it matters.
    pub severity: Severity,
    /// One plain sentence.
    pub summary: String,
    /// The name that the forker goes by in metrics.
    pub program: String,
    /// How many times this program did the same since the last report; 0 in the first.
    pub repeats: u64,
    /// What it rests on.
    pub evidence: Evidence,
    /// What to change.
    pub remedy: Remedy,
}

/// Where a finding stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum FindingState {
    /// The conditions of a fault are there; the fault itself has not been seen.
    Suspected,
    /// The fault has been seen.
    Confirmed,
    /// The fault has been seen, and the process cannot be looked at any more: whether it lasts is not known.
    Unknown,
    /// It is over: `resolution` says how.
    Resolved,
}

/// How a finding ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum FindingResolution {
    /// The child exec'd after all: the finding is withdrawn.
    Execed,
    /// The child exited with a code, and nobody was seen to have asked it to end shortly before.
    Exited,
    /// The child exited with a code, shortly after its parent had asked it to end.
    AskedByParent,
    /// The child exited with a code, shortly after another process had asked it to end.
    AskedByOther,
    /// A signal killed the child, and it is not known who sent it.
    Killed,
    /// The child's parent killed it.
    KilledByParent,
    /// Another process killed it.
    KilledByOther,
    /// The child goes on after all: a signal, a time limit or somebody unknown has ended its wait.
    Woke,
    /// The child has ended, and it is not known how.
    Ended,
    /// What was found is so no longer.
    Cleared,
}

impl From<Resolution> for FindingResolution {
    fn from(resolution: Resolution) -> Self {
        match resolution {
            Resolution::Execed => Self::Execed,
            Resolution::Exited => Self::Exited,
            Resolution::AskedByParent => Self::AskedByParent,
            Resolution::AskedByOther => Self::AskedByOther,
            Resolution::Killed => Self::Killed,
            Resolution::KilledByParent => Self::KilledByParent,
            Resolution::KilledByOther => Self::KilledByOther,
            Resolution::Woke => Self::Woke,
            Resolution::Ended => Self::Ended,
            Resolution::Cleared => Self::Cleared,
        }
    }
}

/// Facts behind a finding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Evidence {
    /// Other threads of the parent at the fork that were still there later (at most 64).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub threads: Vec<super::thread::Thread>,
    /// How many there were in all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub thread_count: Option<u32>,
    /// The signals it is about.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub signals: Vec<String>,
    /// Nanoseconds since the fork when this was decided.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub age_ns: Option<u64>,
    /// The lock that it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lock: Option<LockFacts>,
    /// The connection that it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connection: Option<ConnectionFacts>,
    /// The ends of children that it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub history: Option<HistoryFacts>,
    /// How the child ended, where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end: Option<ChildEnd>,
    /// The descriptor that it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub leak: Option<LeakFacts>,
    /// Locks that the child carries, held by threads that it does not have (at most 16).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub held: Vec<HeldFacts>,
    /// Of a summary of repeats, the children that they were about, the first first (at most 256).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub again: Vec<Again>,
    /// How many more there were than are named in `again`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unnamed: Option<u64>,
    /// Further facts, each a short phrase.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// A child to which the same has happened as to another before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Again {
    /// Its pid: the kernel's tgid.
    pub pid: u32,
    /// Names the process on all hosts and for all times, as in `process.entity_id`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entity_id: Option<String>,
    /// Its comm.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// When that was decided.
    #[schemars(extend("format" = "date-time"))]
    pub at: String,
}

/// Why a system call of the clone family failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CloneFailure {
    /// The limit that was reached.
    pub cause: Cause,
    /// The path of the cgroup that sets it: the process's own, or one above it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cgroup: Option<String>,
}

/// What `forkwatch rescue` did to the lock of a child.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rescued {
    /// `released`: the thread went on. `stayed`: the lock was released, and the thread was not seen to go on. `failed`.
    pub outcome: &'static str,
    /// What failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The lock, and its words before and after, as `forkwatch rescue -o json` shows them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lock: Option<serde_json::Value>,
    /// The real uid of whoever asked for it.
    pub by: String,
}

/// A gap in the stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Lost {
    /// How many events.
    pub count: u64,
    /// The last time that nothing had been lost.
    #[schemars(extend("format" = "date-time"))]
    pub since: String,
    /// `ring-full`, `plain-shed` or `malformed`.
    pub reason: &'static str,
}

/// A cgroup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Cgroup {
    /// Its id, as text: it may exceed what a JSON reader takes for a number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Its path below the root of the hierarchy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
}

/// Where in the kernel's stream an event stood.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Origin {
    /// The CPU that reported it.
    pub cpu: u32,
    /// Counts that CPU's events from 0: a gap is a loss.
    pub sequence: u64,
}
