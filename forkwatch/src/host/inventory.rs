//! What a process holds that a fork would copy, share or lose.

mod calls;
mod edited_loop;
mod files;
mod foreign_wakeup;
mod fork_handlers;
mod instances;
mod pairs;
mod shared_loop;
mod whereabouts;
mod workers;

use std::io;

use super::{
    absence, budget,
    client_libraries::{client_libraries, has_gevent, has_sqlite},
    clock,
    descriptors::{Descriptor, STANDARD, Table},
    file, host_mounts, occupation, program,
    scan::{Process, ScanError},
    socket::{Socket, Sockets},
    stack,
    stat::Stat,
    status::Status,
    task,
};
use crate::model::{
    connection::Peer,
    inventory::{Connection, Inventory, Listener, MAX_ENTRIES, Memory, Subject, Unknown},
    process::ProcessKey,
    signals::SignalSet,
    stack::Stacks,
    thread::SeenThread,
};
use crate::privilege;

pub(super) use edited_loop::resting_loop;
pub(super) use foreign_wakeup::foreign_wake_up;
pub(super) use shared_loop::shared_loop;
pub(super) use whereabouts::whereabouts;

/// Descriptors that are looked at, from the lowest. More take long, and are noted as unknown.
const MAX_DESCRIPTORS: usize = 65_536;

/// Why something is refused to one who has every capability that the kernel itself asks for.
const BEYOND_PRIVILEGE: &str = "the kernel refuses it although forkwatch has CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH. A \
                                security module, or the sandbox that this machine runs in, closes the process to root, \
                                too; or the process is of a user namespace above forkwatch's own";

/// Makes ready for all that follows, in a process that was forked with nothing but memory, while everything may be made
/// still.
pub fn begin_anew() {
    host_mounts::begin_anew();
    pairs::begin_anew();
}

/// Looks at a process now. What it does not allow to be looked at is noted; only where not even its threads can be
/// listed it is an error.
pub fn inventory(process: &Process) -> Result<Inventory, ScanError> {
    let key = process.key;
    let gone = || ScanError::NoSuchProcess(key.tgid);
    let before = Stat::of(key).ok_or_else(gone)?;
    let inventory = budget::question(budget::LARGE, || gather(key, &before))?;
    if Stat::lives(key) { Ok(inventory) } else { Err(gone()) }
}

fn gather(key: ProcessKey, stat: &Stat) -> Result<Inventory, ScanError> {
    let tgid = key.tgid;
    let mut threads = task::user_threads(tgid)
        .map_err(|source| ScanError::Unreadable { path: format!("/proc/{tgid}/task"), source })?;
    threads.sort_unstable_by_key(|thread| thread.id);
    // The main thread may have ended before the others. Then the first of them is not another one.
    let main = threads.iter().find(|thread| thread.id == tgid).or(threads.first()).map(|thread| thread.id);
    let others: Vec<SeenThread> = threads
        .iter()
        .filter(|thread| Some(thread.id) != main)
        .map(|thread| SeenThread { tid: thread.id, comm: thread.comm })
        .collect();
    let mut inventory = Inventory {
        program: program::read(tgid, stat),
        thread_count: u32::try_from(others.len()).unwrap_or(u32::MAX),
        threads: others.into_iter().take(MAX_ENTRIES).collect(),
        libraries: client_libraries(tgid),
        has_gevent: has_gevent(tgid),
        ..Inventory::default()
    };
    let mut unknown = Unknowns(Vec::new());
    inventory.pending = unknown.unless(Subject::Signals, pending(tgid, &threads)).unwrap_or_default();
    if threads.len() > 1 {
        let contended = calls::contended(tgid, &threads);
        inventory.contended = unknown.unless(Subject::Calls, contended).unwrap_or_default();
    }
    inventory.memory = unknown.unless(Subject::Memory, memory(tgid));
    if let Some(descriptors) =
        unknown.unless(Subject::Descriptors, Table::of_process(tgid).list(MAX_DESCRIPTORS))
    {
        if descriptors.len() >= MAX_DESCRIPTORS {
            let why = format!("there are more than {MAX_DESCRIPTORS}, and only those were looked at");
            unknown.note(Subject::Descriptors, why, false);
        }
        open_descriptors(key, &threads, &descriptors, &mut inventory, &mut unknown);
    }
    look_into_threads(key, main, &threads, &mut inventory, &mut unknown);
    inventory.collector = stack::collector(key);
    inventory.workers = workers::workers(tgid);
    if let Some(why) = budget::exceeded() {
        for subject in [Subject::Stacks, Subject::Descriptors] {
            unknown.note(subject, why.to_string(), false);
        }
    }
    inventory.unknown = unknown.0;
    inventory.at = clock::now();
    Ok(inventory)
}

/// Where the threads are: what started them, and whether one of them is in an event loop.
fn look_into_threads(
    key: ProcessKey,
    main: Option<u32>,
    threads: &[Stat],
    inventory: &mut Inventory,
    unknown: &mut Unknowns,
) {
    let events = &inventory.events;
    let may_loop = events.epoll + events.io_uring > 0;
    let waits = |tid: u32| events.waiting.iter().any(|waiting| waiting.thread.tid == tid);
    let loops = |tid: u32| may_loop && (Some(tid) == main || waits(tid));
    let (whereabouts, untold) = whereabouts(key, main, threads, loops);
    inventory.whereabouts = whereabouts;
    let told: Vec<Stat> = threads.iter().take(MAX_ENTRIES).copied().collect();
    inventory.occupations = occupation::occupations(key, &told, Stacks::Light);
    if let Some(why) = untold {
        unknown.note(Subject::Stacks, why, false);
    }
}

/// What the descriptors of a process stand for.
fn open_descriptors(
    key: ProcessKey,
    threads: &[Stat],
    descriptors: &[Descriptor],
    inventory: &mut Inventory,
    unknown: &mut Unknowns,
) {
    inventory.events = files::events(descriptors);
    if inventory.events.epoll + inventory.events.io_uring > 0 {
        let waiting = calls::waiting_for_events(key.tgid, threads);
        inventory.events.waiting = unknown.unless(Subject::Calls, waiting).unwrap_or_default();
        inventory.events.instances = instances::instances(key.tgid, descriptors);
    }
    inventory.devices = files::devices(descriptors);
    inventory.databases = files::databases(descriptors, has_sqlite(key.tgid));
    let locks = files::file_locks(key.tgid, descriptors);
    inventory.file_locks = unknown.unless(Subject::FileLocks, locks).unwrap_or_default();
    sockets(key, descriptors, inventory, unknown);
}

fn sockets(key: ProcessKey, descriptors: &[Descriptor], inventory: &mut Inventory, unknown: &mut Unknowns) {
    let Some(mut sockets) = Sockets::of(key) else { return };
    let mut connections = Vec::new();
    let mut unseen = 0_u32;
    for descriptor in descriptors.iter().filter(|descriptor| descriptor.number > STANDARD) {
        let Some(inode) = descriptor.socket() else { continue };
        let fd = descriptor.number;
        match sockets.look(fd, inode) {
            Some(Socket::Connected { peer, local }) => connections.push((fd, peer, local)),
            Some(Socket::Listening(address)) => inventory.listeners.push(Listener { fd, address }),
            None if Table::of_process(key.tgid).has(descriptor) => unseen += 1,
            // Of no interest, or closed meanwhile.
            Some(Socket::Other) | None => {}
        }
    }
    inventory.listeners.truncate(MAX_ENTRIES);
    connections.truncate(MAX_ENTRIES);
    let listening: Vec<&str> =
        inventory.listeners.iter().filter_map(|listener| listener.address.port()).collect();
    inventory.connections = connections
        .into_iter()
        .map(|(fd, peer, local)| {
            let accepted = local.as_ref().and_then(Peer::port).is_some_and(|port| listening.contains(&port));
            Connection { fd, peer, accepted }
        })
        .collect();
    if unseen > 0 {
        unknown.note(
            Subject::Sockets,
            format!(
                "the kernel does not tell what {unseen} sockets of process {} are connected to",
                key.tgid
            ),
            true,
        );
    }
}

/// Signals that are held back in any thread. Threads that end meanwhile hold nothing back any more.
fn pending(tgid: u32, threads: &[Stat]) -> io::Result<SignalSet> {
    let mut pending = SignalSet::EMPTY;
    for thread in threads {
        match Status::of_thread(tgid, thread.id) {
            Ok(status) => pending = pending.or(status.held_back()),
            Err(error) if absence::is_gone(&error) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(pending)
}

/// From `/proc/PID/status`, which counters answer. `smaps_rollup` would tell more, but walks all of the memory and
/// keeps the process from mapping any meanwhile.
fn memory(tgid: u32) -> io::Result<Memory> {
    let path = format!("/proc/{tgid}/status");
    let text = file::read_small(&path)?;
    let bytes = |key| {
        let kibibytes: u64 = file::field(&text, key)?.strip_suffix(" kB")?.trim().parse().ok()?;
        kibibytes.checked_mul(1024)
    };
    bytes("RssAnon:")
        .zip(bytes("VmPTE:"))
        .map(|(anonymous, page_tables)| Memory { anonymous, page_tables })
        .ok_or_else(|| file::unknown_layout(&path))
}

/// What could not be looked at, each subject once.
struct Unknowns(Vec<Unknown>);

impl Unknowns {
    /// What was found; or nothing, and a note why.
    fn unless<T>(&mut self, what: Subject, found: io::Result<T>) -> Option<T> {
        found
            .inspect_err(|error| {
                let refused = error.kind() == io::ErrorKind::PermissionDenied;
                let all_there = privilege::missing_for_others().is_ok_and(|missing| missing.is_empty());
                if refused && all_there {
                    self.note(what, format!("{error}: {BEYOND_PRIVILEGE}"), false);
                } else {
                    self.note(what, error.to_string(), refused);
                }
            })
            .ok()
    }

    fn note(&mut self, what: Subject, why: String, denied: bool) {
        if !self.0.iter().any(|unknown| unknown.what == what) {
            self.0.push(Unknown { what, why, denied });
        }
    }
}

#[cfg(test)]
mod tests;
