//! The answer of `forkwatch check` as JSON.

use serde::Serialize;

use super::name;
use crate::{
    detect::fork_check::{Assessment, Reason, RunningLoop, Verdict, running_loops},
    model::{
        connection::Peer,
        held_lock::{self as model, LockKind},
        held_now::LockNow,
        inventory::{
            self, Collector, Contended, Database, FileLock, Instance, Inventory, Memory, OpenFile, Unknown,
            Waiting,
        },
        lock::Mapping,
        process::Program,
        sampling as model_sampling,
        stack::Frame,
        thread::{SeenThread, occupation},
        time::nanoseconds,
    },
    remedy::service,
};

/// The name of the document that `-o json` prints. It changes when a field changes its meaning or goes away, not when
/// one is added.
const SCHEMA: &str = "forkwatch.check/1";

/// The answer: the document, in the order of its fields.
#[derive(Debug, Serialize)]
pub(super) struct Document<'a> {
    /// [`SCHEMA`].
    schema: &'static str,
    /// forkwatch's.
    version: &'static str,
    process: Process<'a>,
    /// `safe`, `risky`, `unsafe` or `undecided`.
    verdict: Verdict,
    /// What speaks against the fork, the weightiest first.
    reasons: &'a [Reason],
    /// What could not be looked at, and why.
    unknown: &'a [Unknown],
    facts: Facts<'a>,
}

/// Whom it is about.
#[derive(Debug, Serialize)]
struct Process<'a> {
    pid: u32,
    /// The name that its users know it by, safe for a terminal.
    name: String,
    #[serde(flatten)]
    program: &'a Program,
}

/// What was seen. Nothing follows from the absence of something that is `unknown`.
#[derive(Debug, Serialize)]
struct Facts<'a> {
    /// The first threads beside the main one, by tid.
    threads: Vec<Thread>,
    /// How many there are in all.
    thread_count: u32,
    /// Names of signals that are blocked and pending.
    pending_signals: Vec<String>,
    events: Events<'a>,
    connections: Vec<Connection<'a>>,
    listeners: Vec<Listener<'a>>,
    databases: &'a [Database],
    file_locks: &'a [FileLock],
    devices: &'a [OpenFile],
    contended_locks: Vec<ContendedLock>,
    /// Locks that threads held when they were looked for; absent where nobody could look.
    #[serde(skip_serializing_if = "Option::is_none")]
    held_locks: Option<Vec<HeldLock>>,
    /// How often they were held, with `--for`.
    #[serde(skip_serializing_if = "Option::is_none")]
    sampling: Option<Sampling>,
    /// Client libraries for databases and brokers.
    libraries: &'a [String],
    /// In bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    memory: Option<Memory>,
    /// The garbage collector of CPython.
    #[serde(skip_serializing_if = "Option::is_none")]
    collector: Option<Collector>,
    /// Processes that it has forked, which live and have not exec'd, with their memory in bytes.
    workers: Vec<Worker>,
}

/// A thread, by tid and name.
#[derive(Debug, Serialize)]
struct Thread {
    tid: u32,
    /// Its comm, safe for a terminal.
    name: String,
    /// The name that its program gave it, where that is another: CPython's `threading.Thread` has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    own_name: Option<String>,
    /// Where it is: in its script, else in native code outside of the C library.
    #[serde(skip_serializing_if = "Option::is_none")]
    at: Option<Frame>,
    /// The object whose code it was started to run, where that could be told.
    #[serde(skip_serializing_if = "Option::is_none")]
    start: Option<String>,
}

/// A thread that waits for events.
#[derive(Debug, Serialize)]
struct Waiter {
    #[serde(flatten)]
    thread: Thread,
    /// The descriptor of the epoll instance; absent where it waits in `io_uring`.
    #[serde(skip_serializing_if = "Option::is_none")]
    epoll: Option<u32>,
}

/// Instances of each sort, and who waits in those of epoll and `io_uring`.
#[derive(Debug, Serialize)]
struct Events<'a> {
    epoll: u32,
    io_uring: u32,
    signalfd: u32,
    eventfd: u32,
    timerfd: u32,
    inotify: u32,
    /// What the epoll instances watch.
    instances: &'a [Instance],
    waiting: Vec<Waiter>,
    /// Event loops whose code a thread was seen in, whether it waits or is busy.
    running: Vec<Running>,
}

/// An event loop that runs.
#[derive(Debug, Serialize)]
struct Running {
    #[serde(flatten)]
    thread: Thread,
    /// Whose loop it is.
    of: &'static str,
    /// The function of the loop that the thread is in.
    function: String,
}

/// A connected socket.
#[derive(Debug, Serialize)]
struct Connection<'a> {
    fd: u32,
    peer: &'a Peer,
    /// What the peer's address looks like.
    #[serde(skip_serializing_if = "Option::is_none")]
    service: Option<&'static str>,
    /// Whether a client made it.
    accepted: bool,
}

/// A listening socket.
#[derive(Debug, Serialize)]
struct Listener<'a> {
    fd: u32,
    address: &'a Peer,
}

/// A mutex that one thread holds and another waits for.
#[derive(Debug, Serialize)]
struct ContendedLock {
    /// In hexadecimal.
    address: String,
    owner: Thread,
    waiter: Thread,
}

/// A lock that a thread holds.
#[derive(Debug, Serialize)]
struct HeldLock {
    #[serde(flatten)]
    lock: Lock,
    owner: Thread,
}

/// A lock, and where it lies.
#[derive(Debug, Serialize)]
struct Lock {
    /// Which kind of lock.
    kind: LockKind,
    /// The variable that it is, or what it guards.
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    /// In hexadecimal.
    address: String,
    /// The memory that it lies in.
    mapping: Mapping,
}

/// What many looks have seen.
#[derive(Debug, Serialize)]
struct Sampling {
    /// From the first look to the last.
    duration_ns: u64,
    /// How often the locks that were known were looked at.
    looks: u32,
    /// In how many of these looks one was held that a child would get locked.
    held: u32,
    /// How often the memory was searched for more of them. What a search finds counts from then on.
    searches: u32,
    /// Time of a CPU that all of it took.
    cpu_ns: u64,
    locks: Vec<SampledLock>,
    /// Why it ended early.
    #[serde(skip_serializing_if = "Option::is_none")]
    ended: Option<String>,
}

/// A lock, and how often it was held.
#[derive(Debug, Serialize)]
struct SampledLock {
    #[serde(flatten)]
    lock: Lock,
    /// How often it was looked at since it was found.
    looks: u32,
    /// How often it was held then.
    held: u32,
    by: Vec<Holder>,
}

/// A thread, and how often it held the lock.
#[derive(Debug, Serialize)]
struct Holder {
    #[serde(flatten)]
    thread: Thread,
    held: u32,
}

/// A process that was forked.
#[derive(Debug, Serialize)]
struct Worker {
    pid: u32,
    /// Its comm, safe for a terminal.
    name: String,
    /// In RAM.
    resident: u64,
    /// Of this, what it shares with other processes.
    shared: u64,
    /// Of this, what is its own and was written: copied or new since the fork.
    copied: u64,
}

/// What was seen and judged of a process.
pub(super) fn document<'a>(pid: u32, inventory: &'a Inventory, assessment: &'a Assessment) -> Document<'a> {
    Document {
        schema: SCHEMA,
        version: env!("CARGO_PKG_VERSION"),
        process: Process { pid, name: name(&inventory.program), program: &inventory.program },
        verdict: assessment.verdict,
        reasons: &assessment.reasons,
        unknown: &inventory.unknown,
        facts: facts(inventory),
    }
}

fn facts(seen: &Inventory) -> Facts<'_> {
    Facts {
        threads: seen.threads.iter().map(|thread| started(thread, seen)).collect(),
        thread_count: seen.thread_count,
        pending_signals: seen.pending.names(),
        events: Events {
            epoll: seen.events.epoll,
            io_uring: seen.events.io_uring,
            signalfd: seen.events.signalfd,
            eventfd: seen.events.eventfd,
            timerfd: seen.events.timerfd,
            inotify: seen.events.inotify,
            instances: &seen.events.instances,
            waiting: seen.events.waiting.iter().map(|waiting| waiter(waiting, seen)).collect(),
            running: running_loops(seen).map(|of| running(of, seen)).collect(),
        },
        connections: seen
            .connections
            .iter()
            .map(|connection| Connection {
                fd: connection.fd,
                peer: &connection.peer,
                service: service(&connection.peer).filter(|_| !connection.accepted),
                accepted: connection.accepted,
            })
            .collect(),
        listeners: seen
            .listeners
            .iter()
            .map(|listener| Listener { fd: listener.fd, address: &listener.address })
            .collect(),
        databases: &seen.databases,
        file_locks: &seen.file_locks,
        devices: &seen.devices,
        held_locks: seen
            .held
            .as_ref()
            .map(|held| held.locks.iter().map(|now| held_lock(now, seen)).collect()),
        sampling: seen.sampling.as_deref().map(|sampling| sampled(sampling, seen)),
        contended_locks: seen.contended.iter().map(|lock| contended(lock, seen)).collect(),
        libraries: &seen.libraries,
        memory: seen.memory,
        collector: seen.collector,
        workers: seen.workers.iter().map(worker).collect(),
    }
}

fn thread(thread: &SeenThread, seen: &Inventory) -> Thread {
    let occupation = occupation(thread.tid, &seen.occupations);
    let comm = thread.comm.to_string();
    Thread {
        tid: thread.tid,
        own_name: occupation.and_then(|occupation| occupation.name.clone()).filter(|name| *name != comm),
        name: comm,
        at: occupation.and_then(|occupation| occupation.at.clone()),
        start: None,
    }
}

fn started(of: &SeenThread, seen: &Inventory) -> Thread {
    let known = seen.whereabouts.iter().find(|known| known.thread.tid == of.tid);
    Thread { start: known.and_then(|known| known.start.clone()), ..thread(of, seen) }
}

fn waiter(waiting: &Waiting, seen: &Inventory) -> Waiter {
    Waiter { thread: thread(&waiting.thread, seen), epoll: waiting.epoll }
}

fn running(running: RunningLoop<'_>, seen: &Inventory) -> Running {
    Running { thread: thread(&running.thread, seen), of: running.of, function: running.function.to_owned() }
}

fn contended(lock: &Contended, seen: &Inventory) -> ContendedLock {
    ContendedLock {
        address: format!("{:#x}", lock.address),
        owner: thread(&lock.owner, seen),
        waiter: thread(&lock.waiter, seen),
    }
}

fn worker(of: &inventory::Worker) -> Worker {
    let inventory::Worker { pid, comm, resident, shared, copied } = *of;
    Worker { pid, name: comm.to_string(), resident, shared, copied }
}

fn lock(lock: &model::HeldLock) -> Lock {
    Lock {
        kind: lock.kind,
        name: lock.name.clone(),
        address: format!("{:#x}", lock.object),
        mapping: lock.mapping.clone(),
    }
}

fn held_lock(now: &LockNow, seen: &Inventory) -> HeldLock {
    HeldLock { lock: lock(&now.lock), owner: thread(&now.thread, seen) }
}

fn sampled(sampling: &model_sampling::Sampling, seen: &Inventory) -> Sampling {
    let holder = |(of, held): &(SeenThread, u32)| Holder { thread: thread(of, seen), held: *held };
    let locks = sampling.locks.iter().map(|known| SampledLock {
        lock: lock(&known.lock),
        looks: known.looks,
        held: known.held,
        by: known.by.iter().map(holder).collect(),
    });
    Sampling {
        duration_ns: nanoseconds(sampling.until.since(sampling.from)),
        looks: sampling.looks,
        held: sampling.held,
        searches: sampling.searches,
        cpu_ns: sampling.took,
        locks: locks.collect(),
        ended: sampling.ended.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::fork_check::assess;

    #[test]
    fn the_document_says_what_was_seen_and_judged() {
        let seen = Inventory {
            threads: vec![SeenThread { tid: 8, comm: "\u{1b}[2J".into() }],
            thread_count: 1,
            memory: Some(Memory { anonymous: 4096, page_tables: 8192 }),
            ..Inventory::default()
        };
        let value = serde_json::to_value(document(7, &seen, &assess(&seen))).unwrap();
        assert_eq!(value["schema"], SCHEMA);
        assert_eq!(value["verdict"], "unsafe");
        assert_eq!(value["process"]["pid"], 7);
        assert_eq!(value["reasons"][0]["id"], "threads");
        assert_eq!(value["facts"]["threads"][0]["name"], "\\x1b[2J");
        assert_eq!(value["facts"]["memory"]["anonymous"], 4096);
    }
}
