//! The answer as a document: what is told of a server and its processes.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use crate::{
    api::{Brief, WorkerEndDocument},
    output::json,
    workers::servers::Role,
};

/// What a look at a server has found.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(title = "forkwatch.inspect/1")]
pub(in crate::cli) struct Document {
    /// Name and version of this schema. A new version is one that could break a reader; new fields are none.
    #[schemars(extend("const" = "forkwatch.inspect/1"))]
    pub(in crate::cli) schema: &'static str,
    /// forkwatch's own.
    pub(in crate::cli) version: &'static str,
    /// The process that was asked for.
    pub(in crate::cli) pid: u32,
    /// The server that it belongs to; absent where it belongs to none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::cli) server: Option<Server>,
    /// Its processes, parents before their children; the process that was asked for alone, where there is no server.
    pub(in crate::cli) processes: Vec<Member>,
    /// Whether these are all.
    pub(in crate::cli) complete: bool,
    /// What else is known of the process that was asked for.
    pub(in crate::cli) inspected: Inspected,
    /// What a fork of the master would find now.
    pub(in crate::cli) next_fork: NextFork,
    /// What a running daemon has found about these processes and still follows; absent where none could be asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::cli) findings: Option<Vec<Brief>>,
    /// How the server's last workers ended, the latest last, as a running daemon has seen it; absent where none has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::cli) ends: Option<Vec<WorkerEndDocument>>,
}

/// The server that the process belongs to.
#[derive(Debug, Serialize, JsonSchema)]
pub(in crate::cli) struct Server {
    /// The name of the software, such as gunicorn.
    pub(in crate::cli) name: String,
    /// Whether its kind is known; if not, it is any program that keeps forked children.
    pub(in crate::cli) known: bool,
    /// Its version, or that of what it runs in, where its title or its path tells.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::cli) version: Option<String>,
    /// How it is set up, as far as its command line and what it has loaded tell.
    pub(in crate::cli) settings: Vec<Setting>,
    /// The addresses on which connections are accepted.
    pub(in crate::cli) listens: Vec<String>,
}

/// A setting of a server.
#[derive(Debug, Serialize, JsonSchema)]
pub(in crate::cli) struct Setting {
    /// What is set.
    pub(in crate::cli) name: &'static str,
    /// Its value, as the command line or the library says it.
    pub(in crate::cli) value: String,
}

/// A process of a server.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub(in crate::cli) struct Member {
    pub(in crate::cli) pid: u32,
    /// The pid of its parent.
    pub(in crate::cli) parent: u32,
    /// What its users call it.
    pub(in crate::cli) name: String,
    /// Whose it is: uid, unit, container.
    pub(in crate::cli) identity: Vec<String>,
    /// Whether it was forked by another one of these and has not exec'd since.
    pub(in crate::cli) forked: bool,
    /// `master`, `worker` or `helper`; absent where it belongs to no server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::cli) role: Option<&'static str>,
    /// What its title says in addition.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::cli) title: Option<String>,
    /// `running`, `sleeping`, `uninterruptible`, `stopped` or `zombie`.
    pub(in crate::cli) state: &'static str,
    /// Nanoseconds since it was created.
    pub(in crate::cli) age_ns: u64,
    /// Its threads, the main one first; of a process with many, the first ones.
    pub(in crate::cli) threads: Vec<Thread>,
    /// How many there are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::cli) thread_count: Option<u32>,
    /// What several of its threads wait for together.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(in crate::cli) queues: Vec<Queue>,
    /// Threads of the master that it has none of the same name as, by their names: a fork leaves them behind.
    pub(in crate::cli) lacks_threads: Vec<String>,
    /// Its memory, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::cli) memory: Option<Memory>,
    /// Its open descriptors.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::cli) descriptors: Option<Descriptors>,
    /// What it is connected to.
    pub(in crate::cli) connections: Vec<Connection>,
    /// Where its standard output goes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::cli) stdout: Option<Stream>,
    /// Where its standard error goes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::cli) stderr: Option<Stream>,
    /// Why something is missing here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::cli) hidden: Option<Hidden>,
}

/// A thread.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub(in crate::cli) struct Thread {
    pub(in crate::cli) tid: u32,
    /// The name that its program gave it, else that of the kernel.
    pub(in crate::cli) name: String,
    /// Where in its script it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::cli) at: Option<String>,
    /// What it waits for or works at, in words.
    pub(in crate::cli) does: String,
    /// The system call that it waits in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::cli) call: Option<String>,
    /// What it waits for.
    pub(in crate::cli) on: Vec<String>,
    /// Nanoseconds since it last ran; absent while it runs, and where the kernel does not tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::cli) since_ns: Option<u64>,
    /// Whether the master has a thread of this name, too.
    pub(in crate::cli) in_master: bool,
}

/// Threads that wait for the same word of memory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub(in crate::cli) struct Queue {
    /// Its address, in hexadecimal.
    pub(in crate::cli) address: String,
    /// Whether it is waited for as for a mutex; otherwise it may be of a semaphore or a condition, too.
    pub(in crate::cli) mutex: bool,
    /// The lock that it is, where one of the locks that threads hold lies there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::cli) lock: Option<String>,
    /// The threads, by their names.
    pub(in crate::cli) threads: Vec<String>,
    /// Nanoseconds for which the first of them has not run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::cli) since_ns: Option<u64>,
}

/// Memory in bytes.
#[derive(Clone, Copy, Debug, Serialize, JsonSchema)]
pub(in crate::cli) struct Memory {
    /// Bytes that are in RAM, shared ones included.
    pub(in crate::cli) resident: u64,
    /// Of this, what it shares with other processes.
    pub(in crate::cli) shared: u64,
    /// Of this, what is its own and was written: in a forked one, copied or new since the fork.
    pub(in crate::cli) copied: u64,
}

/// Open descriptors.
#[derive(Clone, Copy, Debug, Serialize, JsonSchema)]
pub(in crate::cli) struct Descriptors {
    /// How many are open.
    pub(in crate::cli) open: u32,
    /// How many it may have.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::cli) limit: Option<u64>,
}

/// A connected socket.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub(in crate::cli) struct Connection {
    pub(in crate::cli) fd: u32,
    /// The other end.
    pub(in crate::cli) peer: String,
    /// What the peer's address looks like.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::cli) service: Option<&'static str>,
    /// Whether a client made it.
    pub(in crate::cli) accepted: bool,
    /// Other processes of the server that have the same connection open.
    pub(in crate::cli) shared_with: Vec<u32>,
}

/// Where output goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub(in crate::cli) struct Stream {
    /// A path, the peer of a socket, or `pipe:[4711]`.
    pub(in crate::cli) to: String,
    /// Other processes of the server whose output or errors go there, too.
    pub(in crate::cli) shared_with: Vec<u32>,
}

/// Why something could not be seen.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub(in crate::cli) struct Hidden {
    /// What the kernel says.
    pub(in crate::cli) why: String,
    /// Whether more privilege would help.
    pub(in crate::cli) denied: bool,
}

/// What else is known of one process.
#[derive(Debug, Serialize, JsonSchema)]
pub(in crate::cli) struct Inspected {
    /// Event loops that run in it.
    pub(in crate::cli) loops: Vec<Loop>,
    /// Locks that its threads hold; absent where nobody could look, or where it has one thread only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::cli) held_locks: Option<Vec<HeldLock>>,
    /// What could not be seen.
    pub(in crate::cli) unknown: Vec<Unknown>,
}

/// An event loop.
#[derive(Debug, Serialize, JsonSchema)]
pub(in crate::cli) struct Loop {
    /// The library or framework that runs it.
    pub(in crate::cli) of: &'static str,
    /// The function that the thread is in.
    pub(in crate::cli) function: String,
    /// The thread that runs it, by its name.
    pub(in crate::cli) thread: String,
}

/// A lock.
#[derive(Debug, Serialize, JsonSchema)]
pub(in crate::cli) struct HeldLock {
    /// The variable that it is, or what it guards.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::cli) name: Option<String>,
    /// In hexadecimal.
    pub(in crate::cli) address: String,
    /// The thread that holds it.
    pub(in crate::cli) thread: String,
}

/// Something that could not be seen.
#[derive(Debug, Serialize, JsonSchema)]
pub(in crate::cli) struct Unknown {
    /// What could not be looked at.
    pub(in crate::cli) what: &'static str,
    /// Why not, in words.
    pub(in crate::cli) why: String,
    /// Whether more privilege would help.
    pub(in crate::cli) denied: bool,
}

/// What a fork would find, as `forkwatch check` says it.
#[derive(Debug, Serialize, JsonSchema)]
pub(in crate::cli) struct NextFork {
    /// The process that would fork: the master.
    pub(in crate::cli) pid: u32,
    /// `safe`, `risky`, `unsafe` or `undecided`.
    pub(in crate::cli) verdict: &'static str,
    /// What speaks against it, the weightiest first.
    pub(in crate::cli) reasons: Vec<Reason>,
}

/// Something that speaks against a fork.
#[derive(Debug, Serialize, JsonSchema)]
pub(in crate::cli) struct Reason {
    /// Names the sort of reason; does not change.
    pub(in crate::cli) id: &'static str,
    /// `unsafe`, `warning` or `info`.
    pub(in crate::cli) weight: &'static str,
    /// What was seen.
    pub(in crate::cli) what: String,
}

/// The JSON Schema of the document.
pub(in crate::cli) fn schema() -> Value {
    json::schema_of::<Document>()
}

impl Document {
    /// Whether more privilege would show more of the process that was asked for.
    pub(in crate::cli) fn is_denied(&self) -> bool {
        let own = self.processes.iter().find(|process| process.pid == self.pid);
        let hidden = own.and_then(|process| process.hidden.as_ref()).is_some_and(|hidden| hidden.denied);
        hidden || self.inspected.unknown.iter().any(|unknown| unknown.denied)
    }
}

impl Member {
    /// How long it has lived.
    pub(in crate::cli) const fn age(&self) -> Duration {
        Duration::from_nanos(self.age_ns)
    }

    /// The same so many nanoseconds later, if it has not run since.
    pub(in crate::cli) fn later(&self, by: u64) -> Self {
        let mut later = self.clone();
        later.age_ns = later.age_ns.saturating_add(by);
        let threads = later.threads.iter_mut().map(|thread| &mut thread.since_ns);
        let queues = later.queues.iter_mut().map(|queue| &mut queue.since_ns);
        for since in threads.chain(queues).flatten() {
            *since = since.saturating_add(by);
        }
        later
    }

    /// Whether it is a worker.
    pub(in crate::cli) fn is_worker(&self) -> bool {
        self.role == Some(Role::Worker.name())
    }
}
