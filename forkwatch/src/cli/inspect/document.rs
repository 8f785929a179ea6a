//! The answer: what is told of a server and its processes.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use crate::{
    detect::fork_check::{Assessment, assess, running_loops},
    host::Process,
    model::{
        inventory::Inventory,
        process::escape,
        program_name::called,
        server::{self, Details, Open, Target, Tree},
        thread::{Occupation, SeenThread},
        time::nanoseconds,
    },
    output::{identity::identity, json},
    remedy::service,
    workers::{
        activity::{activity, shown},
        servers::{Kin, Part, Recognised, Role, recognise},
    },
};

/// What was looked at.
pub(super) struct Looked<'a> {
    /// The process that was asked for.
    pub(super) asked: &'a Process,
    /// It and its family.
    pub(super) tree: &'a Tree,
    /// What it holds.
    pub(super) inventory: &'a Inventory,
    /// What the first of the family holds, where that is another.
    pub(super) master: Option<&'a Inventory>,
}

/// What a look at a server has found.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(title = "forkwatch.inspect/1")]
pub(super) struct Document {
    /// Name and version of this schema. A new version is one that could break a reader; new fields are none.
    #[schemars(extend("const" = "forkwatch.inspect/1"))]
    schema: &'static str,
    /// forkwatch's own.
    version: &'static str,
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
    /// What is told of what was looked at.
    pub(super) fn new(looked: &Looked<'_>) -> Self {
        let Looked { asked, tree, inventory, master } = *looked;
        let pid = asked.key.tgid;
        let Recognised { server, parts } =
            recognise(&tree.members.iter().map(|member| kin(member, tree)).collect::<Vec<_>>());
        let of_server = tree.members.iter().zip(parts);
        // The process that was asked for is told of in any case.
        let told: Vec<(&server::Member, Option<Part>)> =
            of_server.filter(|(member, part)| part.is_some() || member.process == asked.key).collect();
        let members: Vec<&server::Member> = told.iter().map(|(member, _)| *member).collect();
        let server = server.map(|server| Server {
            name: escape(&*server.name),
            known: server.known,
            version: server.version.map(escape),
            settings: server
                .settings
                .into_iter()
                .map(|setting| Setting { name: setting.name, value: escape(setting.value) })
                .collect(),
            listens: listens(&members),
        });
        let (forker, assessed) = match (&server, master, tree.members.first()) {
            (Some(_), Some(master), Some(first)) => (first.process.tgid, master),
            _ => (pid, inventory),
        };
        Self {
            schema: "forkwatch.inspect/1",
            version: env!("CARGO_PKG_VERSION"),
            pid,
            server,
            processes: told
                .iter()
                .map(|(member, part)| self::member(member, part.as_ref(), &members, tree))
                .collect(),
            complete: tree.whole,
            inspected: inspected(inventory),
            next_fork: next_fork(forker, &assess(assessed)),
        }
    }

    /// Whether more privilege would show more of the process that was asked for.
    pub(super) fn is_denied(&self) -> bool {
        let own = self.processes.iter().find(|process| process.pid == self.pid);
        let hidden = own.and_then(|process| process.hidden.as_ref()).is_some_and(|hidden| hidden.denied);
        hidden || self.inspected.unknown.iter().any(|unknown| unknown.denied)
    }
}

fn kin<'a>(member: &'a server::Member, tree: &Tree) -> Kin<'a> {
    Kin {
        program: &member.program,
        loaded: &member.loaded,
        forked: member.forked,
        age: tree.at.since(member.process.start),
    }
}

/// Where any of them listens: what several have from a fork counts once.
fn listens(members: &[&server::Member]) -> Vec<String> {
    let open = members.iter().filter_map(|member| member.details.as_ref()?.open.as_ref());
    let mut all: Vec<String> =
        open.flat_map(|open| &open.listeners).map(|listener| listener.peer.to_string()).collect();
    all.sort();
    all.dedup();
    all
}

fn member(of: &server::Member, part: Option<&Part>, all: &[&server::Member], tree: &Tree) -> Member {
    let nothing = Details::default();
    let details = of.details.as_deref().unwrap_or(&nothing);
    let first = all.first().filter(|first| first.process != of.process && of.forked);
    let of_master: Vec<String> = first
        .and_then(|first| first.details.as_ref())
        .map_or_else(Vec::new, |details| details.threads.iter().skip(1).map(name_of).collect());
    let open = details.open.as_ref();
    let threads: Vec<Thread> =
        details.threads.iter().map(|thread| self::thread(thread, open, &of_master)).collect();
    let others: Vec<&server::Member> =
        all.iter().copied().filter(|other| other.process != of.process).collect();
    let lacks = of_master.iter().filter(|name| !threads.iter().skip(1).any(|thread| thread.name == **name));
    Member {
        pid: of.process.tgid,
        parent: of.parent,
        name: escape(called(&of.program)),
        identity: identity(&of.program),
        forked: of.forked,
        role: part.map(|part| part.role.name()),
        title: part.and_then(|part| part.title.as_ref()).map(escape),
        state: of.state.name(),
        age_ns: nanoseconds(tree.at.since(of.process.start)),
        lacks_threads: if of.details.is_some() { lacks.cloned().collect() } else { Vec::new() },
        threads,
        thread_count: of.details.as_ref().map(|details| details.thread_count),
        memory: details.memory.map(|server::Memory { resident, shared, copied }| Memory {
            resident,
            shared,
            copied,
        }),
        descriptors: open.map(|open| Descriptors { open: open.count, limit: open.limit }),
        connections: open.map(|open| connections(open, &others)).unwrap_or_default(),
        stdout: open.and_then(|open| open.output.as_ref()).map(|target| stream(target, &others)),
        stderr: open.and_then(|open| open.errors.as_ref()).map(|target| stream(target, &others)),
        hidden: details
            .hidden
            .as_ref()
            .map(|hidden| Hidden { why: hidden.why.clone(), denied: hidden.denied }),
    }
}

fn name_of(thread: &server::Thread) -> String {
    thread.name.clone().unwrap_or_else(|| thread.thread.comm.to_string())
}

fn thread(of: &server::Thread, open: Option<&Open>, of_master: &[String]) -> Thread {
    let doing = activity(of.doing.as_ref(), open);
    let name = name_of(of);
    let place = Occupation { tid: of.thread.tid, name: None, at: of.at.clone() }.place();
    Thread {
        tid: of.thread.tid,
        in_master: of_master.contains(&name),
        name,
        at: place,
        does: escape(doing.words),
        call: match &of.doing {
            Some(server::Doing::Waits(wait)) => Some(wait.call.clone()),
            _ => None,
        },
        on: doing.on.into_iter().map(escape).collect(),
        since_ns: of.since,
    }
}

fn connections(open: &Open, others: &[&server::Member]) -> Vec<Connection> {
    let connection = |of: &server::Socket| {
        let has = |other: &&&server::Member| {
            let theirs = other.details.as_ref().and_then(|details| details.open.as_ref());
            theirs.is_some_and(|open| open.connections.iter().any(|socket| socket.inode == of.inode))
        };
        Connection {
            fd: of.fd,
            peer: of.peer.to_string(),
            service: service(&of.peer).filter(|_| !of.accepted),
            accepted: of.accepted,
            shared_with: others.iter().filter(has).map(|other| other.process.tgid).collect(),
        }
    };
    open.connections.iter().map(connection).collect()
}

fn stream(of: &Target, others: &[&server::Member]) -> Stream {
    let goes_there = |other: &&&server::Member| {
        let open = other.details.as_ref().and_then(|details| details.open.as_ref());
        open.is_some_and(|open| {
            [&open.output, &open.errors].into_iter().flatten().any(|target| target.link == of.link)
        })
    };
    Stream {
        to: escape(shown(of)),
        shared_with: others.iter().filter(goes_there).map(|other| other.process.tgid).collect(),
    }
}

fn inspected(seen: &Inventory) -> Inspected {
    let name = |thread: SeenThread| thread.name(&seen.occupations);
    Inspected {
        loops: running_loops(seen)
            .map(|running| Loop {
                of: running.of,
                function: escape(running.function),
                thread: name(running.thread),
            })
            .collect(),
        held_locks: seen.held.as_ref().map(|held| {
            let lock = |now: &crate::model::held_now::LockNow| HeldLock {
                name: now.lock.name.as_ref().map(escape),
                address: format!("{:#x}", now.lock.object),
                thread: name(now.thread),
            };
            held.locks.iter().map(lock).collect()
        }),
        unknown: seen
            .unknown
            .iter()
            .map(|unknown| Unknown {
                what: unknown.what.name(),
                why: unknown.why.clone(),
                denied: unknown.denied,
            })
            .collect(),
    }
}

fn next_fork(pid: u32, assessment: &Assessment) -> NextFork {
    let reason = |reason: &crate::detect::fork_check::Reason| Reason {
        id: reason.id,
        weight: reason.weight.name(),
        what: reason.what.clone(),
    };
    NextFork {
        pid,
        verdict: assessment.verdict.name(),
        reasons: assessment.reasons.iter().map(reason).collect(),
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
