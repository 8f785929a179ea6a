//! The answer as a document: what is told of a server and its processes.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use crate::{output::json, workers::servers::Role};

/// What a look at a server has found.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(title = "forkwatch.inspect/1")]
pub(super) struct Document {
    /// Name and version of this schema. A new version is one that could break a reader; new fields are none.
    #[schemars(extend("const" = "forkwatch.inspect/1"))]
    pub(super) schema: &'static str,
    /// forkwatch's own.
    pub(super) version: &'static str,
    /// The process that was asked for.
    pub(super) pid: u32,
    /// The server that it belongs to; absent where it belongs to none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) server: Option<Server>,
    /// Its processes, parents before their children; the process that was asked for alone, where there is no server.
    pub(super) processes: Vec<Member>,
    /// Whether these are all.
    pub(super) complete: bool,
    /// What else is known of the process that was asked for.
    pub(super) inspected: Inspected,
    /// What a fork of the master would find now.
    pub(super) next_fork: NextFork,
}

/// The server that the process belongs to.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Server {
    /// The name of the software, such as gunicorn.
    pub(super) name: String,
    /// Whether its kind is known; if not, it is any program that keeps forked children.
    pub(super) known: bool,
    /// Its version, or that of what it runs in, where its title or its path tells.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) version: Option<String>,
    /// How it is set up, as far as its command line and what it has loaded tell.
    pub(super) settings: Vec<Setting>,
    /// The addresses on which connections are accepted.
    pub(super) listens: Vec<String>,
}

/// A setting of a server.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Setting {
    /// What is set.
    pub(super) name: &'static str,
    /// To what.
    pub(super) value: String,
}

/// A process of a server.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Member {
    pub(super) pid: u32,
    /// The pid of its parent.
    pub(super) parent: u32,
    /// What its users call it.
    pub(super) name: String,
    /// Whose it is: uid, unit, container.
    pub(super) identity: Vec<String>,
    /// Whether it was forked by another one of these and has not exec'd since.
    pub(super) forked: bool,
    /// `master`, `worker` or `helper`; absent where it belongs to no server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) role: Option<&'static str>,
    /// What its title says in addition.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) title: Option<String>,
    /// `running`, `sleeping`, `uninterruptible`, `stopped` or `zombie`.
    pub(super) state: &'static str,
    /// Nanoseconds since it was created.
    pub(super) age_ns: u64,
    /// Its threads, the main one first; of a process with many, the first ones.
    pub(super) threads: Vec<Thread>,
    /// How many there are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) thread_count: Option<u32>,
    /// Threads of the master that it has none of the same name as, by their names: a fork leaves them behind.
    pub(super) lacks_threads: Vec<String>,
    /// Its memory, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) memory: Option<Memory>,
    /// Its open descriptors.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) descriptors: Option<Descriptors>,
    /// What it is connected to.
    pub(super) connections: Vec<Connection>,
    /// Where its standard output goes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) stdout: Option<Stream>,
    /// Where its standard error goes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) stderr: Option<Stream>,
    /// Why something is missing here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) hidden: Option<Hidden>,
}

/// A thread.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Thread {
    pub(super) tid: u32,
    /// The name that its program gave it, else that of the kernel.
    pub(super) name: String,
    /// Where in its script it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) at: Option<String>,
    /// What it waits for or works at, in words.
    pub(super) does: String,
    /// The system call that it waits in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) call: Option<String>,
    /// What it waits for.
    pub(super) on: Vec<String>,
    /// Nanoseconds since it last ran; absent while it runs, and where the kernel does not tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) since_ns: Option<u64>,
    /// Whether the master has a thread of this name, too.
    pub(super) in_master: bool,
}

/// Memory in bytes.
#[derive(Clone, Copy, Debug, Serialize, JsonSchema)]
pub(super) struct Memory {
    /// Bytes that are in RAM, shared ones included.
    pub(super) resident: u64,
    /// Of this, what it shares with other processes.
    pub(super) shared: u64,
    /// Of this, what is its own and was written: in a forked one, copied or new since the fork.
    pub(super) copied: u64,
}

/// Open descriptors.
#[derive(Clone, Copy, Debug, Serialize, JsonSchema)]
pub(super) struct Descriptors {
    /// How many are open.
    pub(super) open: u32,
    /// How many it may have.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) limit: Option<u64>,
}

/// A connected socket.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Connection {
    pub(super) fd: u32,
    /// The other end.
    pub(super) peer: String,
    /// What the peer's address looks like.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) service: Option<&'static str>,
    /// Whether a client made it.
    pub(super) accepted: bool,
    /// Other processes of the server that have the same connection open.
    pub(super) shared_with: Vec<u32>,
}

/// Where output goes.
#[derive(Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub(super) struct Stream {
    /// A path, the peer of a socket, or `pipe:[4711]`.
    pub(super) to: String,
    /// Other processes of the server whose output or errors go there, too.
    pub(super) shared_with: Vec<u32>,
}

/// Why something could not be seen.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Hidden {
    /// What the kernel says.
    pub(super) why: String,
    /// Whether more privilege would help.
    pub(super) denied: bool,
}

/// What else is known of one process.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Inspected {
    /// Event loops that run in it.
    pub(super) loops: Vec<Loop>,
    /// Locks that its threads hold; absent where nobody could look, or where it has one thread only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) held_locks: Option<Vec<HeldLock>>,
    /// What could not be seen.
    pub(super) unknown: Vec<Unknown>,
}

/// An event loop.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Loop {
    /// The library or framework that runs it.
    pub(super) of: &'static str,
    /// The function that the thread is in.
    pub(super) function: String,
    /// The thread that runs it, by its name.
    pub(super) thread: String,
}

/// A lock.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct HeldLock {
    /// The variable that it is, or what it guards.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) name: Option<String>,
    /// In hexadecimal.
    pub(super) address: String,
    /// The thread that holds it.
    pub(super) thread: String,
}

/// Something that could not be seen.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Unknown {
    /// What could not be looked at.
    pub(super) what: &'static str,
    /// Why not, in words.
    pub(super) why: String,
    /// Whether more privilege would help.
    pub(super) denied: bool,
}

/// What a fork would find, as `forkwatch check` says it.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct NextFork {
    /// The process that would fork: the master.
    pub(super) pid: u32,
    /// `safe`, `risky`, `unsafe` or `undecided`.
    pub(super) verdict: &'static str,
    /// What speaks against it, the weightiest first.
    pub(super) reasons: Vec<Reason>,
}

/// Something that speaks against a fork.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Reason {
    /// Names the sort of reason; does not change.
    pub(super) id: &'static str,
    /// `unsafe`, `warning` or `info`.
    pub(super) weight: &'static str,
    /// What was seen.
    pub(super) what: String,
}

/// The JSON Schema of the document.
pub(in crate::cli) fn schema() -> Value {
    json::schema_of::<Document>()
}

impl Document {
    /// Whether more privilege would show more of the process that was asked for.
    pub(super) fn is_denied(&self) -> bool {
        let own = self.processes.iter().find(|process| process.pid == self.pid);
        let hidden = own.and_then(|process| process.hidden.as_ref()).is_some_and(|hidden| hidden.denied);
        hidden || self.inspected.unknown.iter().any(|unknown| unknown.denied)
    }
}

impl Member {
    /// How long it has lived.
    pub(super) const fn age(&self) -> Duration {
        Duration::from_nanos(self.age_ns)
    }

    /// Whether it is a worker.
    pub(super) fn is_worker(&self) -> bool {
        self.role == Some(Role::Worker.name())
    }
}
