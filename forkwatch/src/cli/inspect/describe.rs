//! What is told of what was looked at.

use super::document::{
    Connection, Descriptors, Document, HeldLock, Hidden, Inspected, Loop, Member, Memory, NextFork, Queue,
    Reason, Server, Setting, Stream, Thread, Unknown,
};
use crate::{
    detect::fork_check::{Assessment, assess, running_loops},
    host::Process,
    model::{
        inventory::Inventory,
        process::{ProcessKey, escape},
        program_name::called,
        server::{self, Details, Open, Target, Tree},
        thread::{Occupation, SeenThread},
        time::nanoseconds,
    },
    output::identity::identity,
    remedy::service,
    workers::{
        activity::{activity, shown},
        servers::{Kin, Part, Recognised, recognise},
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

/// A server's processes, as they are told of.
pub(in crate::cli) struct Family {
    /// The server; absent where it is none.
    pub(in crate::cli) server: Option<Server>,
    /// Its processes, parents before their children.
    pub(in crate::cli) processes: Vec<Member>,
}

impl Family {
    /// Of a tree. The process that was asked for is told of in any case.
    pub(in crate::cli) fn new(tree: &Tree, asked: ProcessKey) -> Self {
        let Recognised { server, parts } =
            recognise(&tree.members.iter().map(|member| kin(member, tree)).collect::<Vec<_>>());
        let of_server = tree.members.iter().zip(parts);
        let told: Vec<(&server::Member, Option<Part>)> =
            of_server.filter(|(member, part)| part.is_some() || member.process == asked).collect();
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
        let processes =
            told.iter().map(|(member, part)| self::member(member, part.as_ref(), &members, tree)).collect();
        Self { server, processes }
    }
}

impl Document {
    /// What is told of what was looked at.
    pub(super) fn new(looked: &Looked<'_>) -> Self {
        let Looked { asked, tree, inventory, master } = *looked;
        let pid = asked.key.tgid;
        let Family { server, mut processes } = Family::new(tree, asked.key);
        let inspected = inspected(inventory);
        if let Some(own) = processes.iter_mut().find(|process| process.pid == pid) {
            name_queues(&mut own.queues, inspected.held_locks.as_deref().unwrap_or_default());
        }
        let (forker, assessed) = match (&server, master, tree.members.first()) {
            (Some(_), Some(master), Some(first)) => (first.process.tgid, master),
            _ => (pid, inventory),
        };
        Self {
            schema: "forkwatch.inspect/1",
            version: env!("CARGO_PKG_VERSION"),
            pid,
            server,
            processes,
            complete: tree.whole,
            inspected,
            next_fork: next_fork(forker, &assess(assessed)),
            findings: None,
            ends: None,
        }
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
        queues: queues(details),
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

/// Futexes that several threads wait for, those of most threads first.
fn queues(details: &Details) -> Vec<Queue> {
    let mut all: Vec<(server::Futex, Vec<&server::Thread>)> = Vec::new();
    for thread in &details.threads {
        let Some(server::Doing::Waits(wait)) = &thread.doing else { continue };
        let Some(futex) = wait.futex else { continue };
        match all.iter_mut().find(|(known, _)| known.address == futex.address) {
            Some((_, threads)) => threads.push(thread),
            None => all.push((futex, vec![thread])),
        }
    }
    all.retain(|(_, threads)| threads.len() > 1);
    all.sort_by_key(|(_, threads)| std::cmp::Reverse(threads.len()));
    let queue = |(futex, threads): (server::Futex, Vec<&server::Thread>)| Queue {
        address: format!("{:#x}", futex.address),
        mutex: futex.is_mutex,
        lock: None,
        since_ns: threads.iter().filter_map(|thread| thread.since).max(),
        threads: threads.into_iter().map(name_of).collect(),
    };
    all.into_iter().map(queue).collect()
}

/// Says which lock it is that threads of a process wait for, where it is one that was found held.
fn name_queues(queues: &mut [Queue], held: &[HeldLock]) {
    for queue in queues {
        let lock = held.iter().find(|lock| lock.address == queue.address);
        queue.lock = lock.map(|lock| {
            let name = lock.name.as_deref().unwrap_or("a mutex");
            format!("{name} (held by thread {})", lock.thread)
        });
    }
}

fn name_of(thread: &server::Thread) -> String {
    thread.name.clone().unwrap_or_else(|| thread.thread.comm.to_string())
}

fn thread(of: &server::Thread, open: Option<&Open>, of_master: &[String]) -> Thread {
    let doing = activity(of.doing.as_ref(), open);
    let name = name_of(of);
    let place = Occupation { tid: of.thread.tid, at: of.at.clone(), ..Occupation::default() }.place();
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
