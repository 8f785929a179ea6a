//! Which of a server's forked processes wait for what brings them work.

use std::collections::HashMap;

use super::{
    absence,
    awaited::awaited,
    call::{Activity, SystemCall},
    clock,
    descriptors::{Descriptor, STANDARD, Table},
    maps::Maps,
    occupation::occupations,
    program,
    scan::forked_children,
    socket::{self, Sockets},
    stat::Stat,
    task,
};
use crate::model::{
    connection::Peer,
    loaded::Loaded,
    process::ProcessKey,
    stack::Stacks,
    thread::{Occupation, occupation},
    worker::WorkSource,
    worker_look::{MAX_TOGETHER, Who, WorkerLook, WorkerSeen, WorkersSeen},
};

/// Descriptors of a master that are looked at, from the lowest; of a worker, for connections that it has taken in.
const MAX_DESCRIPTORS: usize = 1024;
/// Threads of a worker that are looked at, the oldest first.
const MAX_THREADS: usize = 16;
/// Descriptors of one wait that are looked at.
const MAX_AWAITED: usize = 64;
/// What a worker is told to wait for at most.
const MAX_SOURCES: usize = 4;

/// See [`crate::model::evidence::Request::Workers`].
pub(super) fn workers(
    master: ProcessKey,
    workers: &[ProcessKey],
    closely: bool,
    children: bool,
) -> Result<WorkersSeen, String> {
    let stat = Stat::of(master).ok_or("it has ended")?;
    let held = Held::by(master)?;
    let seen = |worker: &ProcessKey| WorkerSeen {
        process: *worker,
        who: if closely { Stat::of(*worker).map(|stat| who(&stat)) } else { None },
        look: look(*worker, &held, closely),
    };
    let workers = workers.iter().take(MAX_TOGETHER).map(seen).collect();
    let seen = WorkersSeen {
        at: clock::now(),
        master: closely.then(|| who(&stat)),
        listens: !held.listeners.is_empty(),
        children: if children {
            forked_children(master).into_iter().map(|child| child.key).collect()
        } else {
            Vec::new()
        },
        workers,
    };
    if Stat::lives(master) { Ok(seen) } else { Err("it has ended".to_owned()) }
}

fn who(stat: &Stat) -> Who {
    let loaded = Maps::of_process(stat.id).map(|maps| Loaded::among(maps.files()));
    Who { program: program::read(stat.id, stat), loaded: loaded.unwrap_or_default() }
}

/// What a master has open, and may have left to its workers.
struct Held {
    /// Sockets that listen, by their inode numbers.
    listeners: HashMap<u64, Peer>,
    /// What the kernel shows of its pipes and sockets: who shows the same has the same open.
    links: Vec<Vec<u8>>,
}

impl Held {
    fn by(master: ProcessKey) -> Result<Self, String> {
        let tgid = master.tgid;
        let listed = Table::of_process(tgid).list(MAX_DESCRIPTORS);
        let descriptors = listed.map_err(|error| {
            absence::reason(tgid, "fd", &error).unwrap_or_else(|| "it has ended".to_owned())
        })?;
        let mut sockets = Sockets::of(master).ok_or("it has ended")?;
        let mut held = Self { listeners: HashMap::new(), links: Vec::new() };
        for descriptor in descriptors.iter().filter(|descriptor| descriptor.object().is_some()) {
            if let Some(inode) = descriptor.socket()
                && let Some(socket::Socket::Listening(address)) = sockets.look(descriptor.number, inode)
            {
                held.listeners.insert(inode, address);
            }
            held.links.push(descriptor.link().to_vec());
        }
        Ok(held)
    }

    /// Whether a connection with this end of its own came in where the master listens.
    fn took_in(&self, local: Option<&Peer>) -> bool {
        let Some(local) = local else { return false };
        let is_at =
            |listener: &Peer| listener == local || local.port().is_some() && listener.port() == local.port();
        self.listeners.values().any(is_at)
    }
}

fn look(worker: ProcessKey, held: &Held, closely: bool) -> WorkerLook {
    let Some(stat) = living(worker) else { return WorkerLook::Gone };
    let unreadable = |file: &str, error: &std::io::Error| {
        absence::reason(worker.tgid, file, error).map_or(WorkerLook::Gone, WorkerLook::Unreadable)
    };
    let mut threads = match task::user_threads(worker.tgid) {
        Ok(threads) => threads,
        Err(error) => return unreadable("task", &error),
    };
    threads.sort_unstable_by_key(|thread| (thread.id != stat.id, thread.start, thread.id));
    let Some(mut own) = Own::of(worker, held) else { return WorkerLook::Gone };
    let (mut sources, mut doing) = (Vec::new(), None);
    for thread in threads.iter().take(MAX_THREADS) {
        let activity = match Activity::of_thread(worker.tgid, thread.id) {
            Ok(activity) => activity,
            Err(error) if absence::is_gone(&error) => continue,
            Err(error) => return unreadable("syscall", &error),
        };
        doing.get_or_insert_with(|| activity.name());
        if let Some(call) = activity.call() {
            sources.extend(own.sources(call));
        }
    }
    let mut place = None;
    if closely && sources.is_empty() {
        sources.extend(own.connection());
        if sources.is_empty() {
            let main = threads.get(..1).unwrap_or_default();
            let seen = occupations(worker, main, Stacks::Light);
            place = occupation(stat.id, &seen).and_then(Occupation::place);
        }
    }
    sources.dedup();
    sources.truncate(MAX_SOURCES);
    if living(worker).is_none() {
        return WorkerLook::Gone;
    }
    let count = u32::try_from(threads.len()).unwrap_or(u32::MAX);
    WorkerLook::Alive { comm: stat.comm, threads: count, sources, doing: doing.unwrap_or_default(), place }
}

/// The process, as long as it lives and has not exec'd.
fn living(worker: ProcessKey) -> Option<Stat> {
    Stat::of(worker).filter(|stat| !stat.process_has_ended() && stat.is_unexeced())
}

/// What a worker has open.
struct Own<'a> {
    worker: ProcessKey,
    held: &'a Held,
    table: Table,
    sockets: Sockets,
}

impl<'a> Own<'a> {
    fn of(worker: ProcessKey, held: &'a Held) -> Option<Self> {
        let table = Table::of_process(worker.tgid);
        Some(Self { worker, held, table, sockets: Sockets::of(worker)? })
    }

    /// What may bring work of what a call waits for.
    fn sources(&mut self, call: &SystemCall) -> Vec<WorkSource> {
        if is_turn(self.worker.tgid, call) {
            return vec![WorkSource::Turn];
        }
        let mut input = awaited(self.worker.tgid, call).input;
        input.truncate(MAX_AWAITED);
        let descriptors: Vec<Descriptor> =
            input.into_iter().filter_map(|number| self.table.get(number).ok().flatten()).collect();
        let mut sources: Vec<_> =
            descriptors.iter().filter_map(|descriptor| self.source(descriptor)).collect();
        // What is sure comes first.
        sources.sort_by_key(|source| !matches!(source, WorkSource::Listener(_)));
        sources
    }

    fn source(&mut self, descriptor: &Descriptor) -> Option<WorkSource> {
        let inode = descriptor.socket();
        if let Some(listener) = inode.and_then(|inode| self.held.listeners.get(&inode)) {
            return Some(WorkSource::Listener(listener.to_string()));
        }
        let is_inherited = self.held.links.iter().any(|link| link == descriptor.link());
        if is_inherited {
            let link = String::from_utf8_lossy(descriptor.link()).into_owned();
            return (descriptor.number > STANDARD).then_some(WorkSource::Queue(link));
        }
        self.taken_in(descriptor.number, inode?)
    }

    /// The other end of a connection that came in where the master listens.
    fn taken_in(&mut self, number: u32, inode: u64) -> Option<WorkSource> {
        match self.sockets.look(number, inode)? {
            socket::Socket::Connected { peer, local } if self.held.took_in(local.as_ref()) => {
                Some(WorkSource::Connection(peer.to_string()))
            }
            _ => None,
        }
    }

    /// A connection that it has taken in and works on.
    fn connection(&mut self) -> Option<WorkSource> {
        let descriptors = self.table.list(MAX_DESCRIPTORS).ok()?;
        descriptors.iter().filter(|descriptor| descriptor.number > STANDARD).find_map(|descriptor| {
            let inode = descriptor.socket().filter(|inode| !self.held.listeners.contains_key(inode))?;
            self.taken_in(descriptor.number, inode)
        })
    }
}

/// Whether a call waits for a lock or semaphore that several processes share: those of a queue take turns.
fn is_turn(tgid: u32, call: &SystemCall) -> bool {
    match call.number {
        libc::SYS_semop | libc::SYS_semtimedop => true,
        libc::SYS_futex => {
            let address = call.arguments.first().copied().unwrap_or_default();
            // A wait that only threads of one process share says so (`FUTEX_PRIVATE_FLAG`).
            let is_private = call.word(1).is_none_or(|operation| operation & 128 != 0);
            !is_private
                && Maps::of_process(tgid)
                    .is_ok_and(|maps| maps.find(address).is_some_and(|mapping| mapping.shared))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::Read as _,
        net::{TcpListener, TcpStream},
        os::{fd::AsRawFd as _, unix::net::UnixStream},
        thread,
        time::{Duration, Instant},
    };

    use super::*;
    use crate::host::forked::Forked;

    fn own() -> ProcessKey {
        Stat::of_process(std::process::id()).unwrap().key()
    }

    /// What is seen of a child once it waits in a call of that name.
    fn seen(child: &Forked, call: &str, closely: bool) -> (Vec<WorkSource>, WorkersSeen) {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            assert!(Instant::now() < deadline, "it never waits in {call}");
            let seen = workers(own(), &[child.key()], closely, false).unwrap();
            let WorkerLook::Alive { sources, doing, .. } = &seen.workers.first().unwrap().look else {
                panic!("{seen:?}");
            };
            if doing.contains(call) {
                return (sources.clone(), seen);
            }
            thread::yield_now();
        }
    }

    #[test]
    fn a_child_that_accepts_at_an_inherited_listener_waits_for_work() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let child = Forked::into(|| drop(listener.accept()));
        let (sources, seen) = seen(&child, "accept", true);
        assert_eq!(sources, [WorkSource::Listener(address)]);
        assert!(seen.listens && seen.master.is_some());
        assert!(seen.workers.first().unwrap().who.is_some());
    }

    #[test]
    fn a_child_that_polls_an_inherited_listener_beside_others_waits_for_work() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let child = Forked::into(|| {
            let fd = |fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
            let mut both = [fd(-1), fd(listener.as_raw_fd())];
            // SAFETY: the array outlives the call, which is told its length.
            unsafe { libc::poll(both.as_mut_ptr(), 2, -1) };
        });
        assert_eq!(seen(&child, "poll", false).0, [WorkSource::Listener(address)]);
    }

    #[test]
    fn a_child_that_reads_an_inherited_pipe_waits_for_jobs() {
        let (mut read, _write) = std::io::pipe().unwrap();
        let child = Forked::into(|| drop(read.read(&mut [0])));
        let (sources, _) = seen(&child, "read", false);
        assert!(
            matches!(sources.as_slice(), [WorkSource::Queue(link)] if link.starts_with("pipe:[")),
            "{sources:?}"
        );
    }

    #[test]
    fn a_child_that_waits_for_something_of_its_own_does_not_wait_for_work() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let child = Forked::into(|| {
            // Connections of tests that run beside this one would be work.
            let listener = u32::try_from(listener.as_raw_fd()).unwrap();
            for (first, last) in [(3, listener - 1), (listener + 1, u32::MAX)] {
                // SAFETY: this process of its own uses none of them any more.
                unsafe { libc::close_range(first, last, 0) };
            }
            let (mut one, _other) = UnixStream::pair().unwrap();
            drop(one.read(&mut [0]));
        });
        assert_eq!(seen(&child, "re", true).0, []);
        let sleeper = Forked::new();
        assert_eq!(seen(&sleeper, "pause", true).0, []);
    }

    #[test]
    fn a_child_at_work_on_a_connection_is_known_by_it() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let client = TcpStream::connect(address).unwrap();
        let peer = client.local_addr().unwrap().to_string();
        let child = Forked::into(|| {
            std::mem::forget(listener.accept());
        });
        assert_eq!(seen(&child, "pause", true).0, [WorkSource::Connection(peer)]);
        assert_eq!(seen(&child, "pause", false).0, []);
    }

    #[test]
    fn a_child_that_is_gone_is_told_so() {
        let child = Forked::new();
        let key = child.key();
        drop(child);
        let other = Forked::new();
        let seen = workers(own(), &[key], true, true).unwrap();
        assert_eq!(seen.workers.first().unwrap().look, WorkerLook::Gone);
        assert!(seen.children.contains(&other.key()) && !seen.children.contains(&key));
        assert!(workers(key, &[], false, false).is_err());
    }
}
