//! Servers that fork their workers, as a watch has seen them live and end.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Servers and their workers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(title = "forkwatch.servers/1")]
pub struct Servers {
    /// `forkwatch.servers/1`.
    #[schemars(extend("const" = "forkwatch.servers/1"))]
    pub schema: String,
    /// Those that are known, at most 256; the one that changed last stands first.
    pub servers: Vec<ServerDocument>,
    /// How often something was told of them since the start: no more than so many have changed since an earlier answer
    /// as this has grown by, and they stand first.
    #[serde(default)]
    pub told: u64,
}

/// The living workers of all servers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(title = "forkwatch.workers/1")]
pub struct Workers {
    /// `forkwatch.workers/1`.
    #[schemars(extend("const" = "forkwatch.workers/1"))]
    pub schema: String,
    /// Those that were asked for.
    pub workers: Vec<WorkerDocument>,
}

/// A server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ServerDocument {
    /// What it is called, safe for a terminal.
    pub name: String,
    /// Whether forkwatch knows its kind.
    pub known: bool,
    /// How it works, where that has a name: gunicorn's worker class.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub class: Option<String>,
    /// Its systemd unit, else its container.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub unit: Option<String>,
    /// The master's real uid.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub uid: Option<u32>,
    /// The process that forks its workers.
    pub master_pid: u32,
    /// Names that process on all hosts and for all times, as in events.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub master_entity_id: Option<String>,
    /// When that process started.
    #[schemars(extend("format" = "date-time"))]
    #[serde(default)]
    pub master_start: String,
    /// When one of its workers changed last.
    #[schemars(extend("format" = "date-time"))]
    pub changed: String,
    /// Its living workers, the oldest first: at most 1024.
    pub workers: Vec<WorkerDocument>,
    /// How the last ones ended, the latest last: at most 20.
    pub ends: Vec<WorkerEndDocument>,
    /// How many of its workers have ended since the watch began.
    pub ended: u64,
}

/// A living worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WorkerDocument {
    /// Its pid in the host's pid namespace.
    pub pid: u32,
    /// Names it on all hosts and for all times, as in events.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub entity_id: Option<String>,
    /// The process that forks the workers of its server.
    pub master_pid: u32,
    /// What its server is called.
    pub server: String,
    /// Its comm, safe for a terminal.
    pub name: String,
    /// Which of the workers it is, where its title says so.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub slot: Option<String>,
    /// The pid of the worker whose place it has taken.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub replaces: Option<u32>,
    /// When it was forked.
    #[schemars(extend("format" = "date-time"))]
    pub start: String,
    /// `starting`, `ready`, `not-ready`, `stopping` or `unknown`.
    pub state: String,
    /// Since when it is in this state.
    #[schemars(extend("format" = "date-time"))]
    pub since: String,
    /// Nanoseconds from the fork until it was seen to wait for work.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub ready_after_ns: Option<u64>,
    /// Whether that was the moment; if not, it may have waited before.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub ready_exact: Option<bool>,
    /// What brings its work, in words.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub work: Option<String>,
}

/// A worker that has ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WorkerEndDocument {
    /// Its pid in the host's pid namespace.
    pub pid: u32,
    /// Its comm at the end, safe for a terminal.
    pub name: String,
    /// Which of the workers it was, where its title said so.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub slot: Option<String>,
    /// When it ended.
    #[schemars(extend("format" = "date-time"))]
    pub at: String,
    /// How: `code 0`, `SIGKILL`, or `unknown`.
    pub how: String,
    /// The same in words, with who had a hand in it, where that is known.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub words: Option<String>,
    /// Nanoseconds from its fork.
    pub lifetime_ns: u64,
    /// Where it stood before.
    pub state: String,
    /// What it did when it was looked at last.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub last_activity: Option<String>,
    /// When it was looked at last.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub last_seen: Option<String>,
    /// What it was stuck in.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub stuck: Option<String>,
    /// The pid of the worker that has taken its place.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub replaced_by: Option<u32>,
}
