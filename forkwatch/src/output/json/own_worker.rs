//! What a document has of a worker.

use schemars::JsonSchema;
use serde::Serialize;

use crate::model::child_end::{ChildEnd, Sender, SentBy};

/// A worker of a server that forks: `process`, whose `parent` is the master.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Worker {
    /// The server: `gunicorn`, `uWSGI`; of a program that is no known server, the name that it goes by.
    pub server: String,
    /// Whether forkwatch knows its kind. If not, it is a program that keeps two or more forked children.
    pub known: bool,
    /// How the server works, where that has a name: gunicorn's worker class.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub class: Option<String>,
    /// Which of the workers it is, where its title says so: `worker 3`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slot: Option<String>,
    /// The pid of the worker whose place it has taken: the first that had ended in the minute before and that no other has
    /// replaced.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replaces: Option<u32>,
    /// Of `worker_forked`: whether the fork was seen. If not, the worker was found later. The event is told once it is known
    /// that the child is a worker; its time is that of the fork.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fork_seen: Option<bool>,
    /// Of `worker_forked`, where it stood when it was known for a worker; of `worker_exited`, where it stood before:
    /// `starting`, `ready`, `not-ready`, `stopping` or `unknown`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<&'static str>,
    /// Of `worker_ready`: nanoseconds from the fork until it was first seen to wait for work.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ready_after_ns: Option<u64>,
    /// Of `worker_ready`: whether a look at most 100 ms before had seen it not to wait. If not, the wait may have begun any
    /// time before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ready_exact: Option<bool>,
    /// Of `worker_ready`: what it waits for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub awaits: Option<WorkerSource>,
    /// Of `worker_stopping`: the signal that asked it to end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signal: Option<String>,
    /// Of `worker_stopping`: who sent that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sent_by: Option<SentBy>,
    /// Of `worker_stopping`: the process that sent it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sender: Option<Sender>,
    /// Of `worker_exited`: how; absent where it was found gone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end: Option<ChildEnd>,
    /// Of `worker_exited`: nanoseconds from the fork to the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lifetime_ns: Option<u64>,
    /// Of `worker_exited`: what it did when it was looked at last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_activity: Option<LastActivity>,
    /// Of `worker_exited`: what it was stuck in, as the finding about that says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stuck_in: Option<String>,
    /// Of `worker_exited`, where it was asked for and the end was unexpected: the last lines that it wrote to its standard output
    /// and error, at most five. One that another process may have written instead says so in parentheses.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub last_output: Vec<String>,
    /// Of `worker_output`: the line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<WorkerOutput>,
    /// Of `worker_replaced`: nanoseconds from the end of the one that it replaces to its own fork.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gap_ns: Option<u64>,
}

/// A line that a worker has written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WorkerOutput {
    /// The line, without its end.
    pub text: String,
    /// 1 for standard output, 2 for standard error; absent where both lead to the same place.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub descriptor: Option<u32>,
    /// Pids, where it is not known which of these has written it; `process` is the first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub one_of: Vec<u32>,
    /// Whether it was longer, or its end was not seen.
    pub cut: bool,
}

/// What brings work to a worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WorkerSource {
    /// `listener` (connections, at an inherited socket), `connection` (one that came in there), `queue` (an inherited pipe or
    /// socket) or `turn` (at a queue that it shares).
    pub kind: &'static str,
    /// Where that listens, its other end, or the pipe or socket as the kernel shows it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// What a process did at a time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LastActivity {
    /// When it was looked at.
    #[schemars(extend("format" = "date-time"))]
    pub at: String,
    /// What it did, in words.
    pub what: String,
}

/// What workers have written and is not told, whichever of them has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OutputLost {
    /// Lines that were too many for a second.
    pub lines: u64,
    /// Bytes that came to files faster than they are read.
    pub unread_bytes: u64,
    /// About how many bytes were read from pipes before they could be seen.
    pub taken_bytes: u64,
    /// When the first of it was noticed.
    #[schemars(extend("format" = "date-time"))]
    pub since: String,
}
