//! What a worker has still of what its master had when it forked it.

use super::{
    clock,
    descriptors::Table,
    inventory::whereabouts,
    occupation::occupations,
    socket::{Socket, Sockets},
    sockets::sockets,
    stat::Stat,
    task,
};
use crate::model::{
    connection::{MAX_SOCKETS, Peer},
    inheritance::Inheritance,
    inventory::Whereabouts,
    process::ProcessKey,
    seen::MAX_THREADS,
    stack::Stacks,
    thread::SeenThread,
};

/// Descriptors of a worker that are looked at, from the lowest.
const MAX_DESCRIPTORS: usize = 4096;

/// See [`crate::model::evidence::Request::Inheritance`].
pub(super) fn inheritance(worker: ProcessKey, master: ProcessKey, stacks: Stacks) -> Option<Inheritance> {
    let stat = living(worker)?;
    let shared = sockets(worker, master)?;
    let mut of_master = others(master)?;
    of_master.retain(|thread| task::is_older(thread, worker.start, worker.tgid));
    of_master.truncate(MAX_THREADS);
    let mut of_worker = others(worker)?;
    // A list that was cut would make threads seem to be missing.
    if of_worker.len() > MAX_THREADS {
        return None;
    }
    of_worker.sort_unstable_by_key(|thread| thread.id);
    let occupied = occupations(worker, &of_worker, Stacks::None);
    let places = |process, threads: &[Stat]| match stacks {
        Stacks::None => Vec::new(),
        _ => whereabouts(process, None, threads, |_| false).0,
    };
    let is_of_python = |at: &&Whereabouts| at.start.as_deref().is_some_and(is_python);
    let of_python = places(worker, &of_worker).iter().filter(is_of_python).count();
    let own_peers = peers_beside(worker, shared.of_parent.as_deref().unwrap_or_default())?;
    let seen = Inheritance {
        at: clock::now(),
        program: shared.program,
        comm: stat.comm,
        connections: shared.shared,
        libraries: shared.libraries,
        occupations: occupations(master, &of_master, stacks),
        whereabouts: places(master, &of_master),
        threads: of_master.iter().map(seen).collect(),
        own_threads: of_worker.iter().map(|thread| seen(thread).name(&occupied)).collect(),
        own_threads_of_python: u32::try_from(of_python).unwrap_or(u32::MAX),
        own_peers,
    };
    // What was seen may be another's.
    (living(worker).is_some() && Stat::lives(master)).then_some(seen)
}

/// Whether an object is CPython: its library, or an interpreter that has it built in.
fn is_python(object: &str) -> bool {
    let name = object.rsplit('/').next().unwrap_or(object);
    name.starts_with("libpython") || name.starts_with("python")
}

/// The process, as long as it lives and has not exec'd.
fn living(worker: ProcessKey) -> Option<Stat> {
    Stat::of(worker).filter(|stat| !stat.process_has_ended() && stat.is_unexeced())
}

/// Its threads beside the main one, by tid.
fn others(process: ProcessKey) -> Option<Vec<Stat>> {
    let mut threads = task::user_threads(process.tgid).ok()?;
    threads.retain(|thread| thread.id != process.tgid);
    threads.sort_unstable_by_key(|thread| thread.id);
    Some(threads)
}

/// The other ends of its connections, without these sockets.
fn peers_beside(process: ProcessKey, sockets: &[u64]) -> Option<Vec<Peer>> {
    let descriptors = Table::of_process(process.tgid).list(MAX_DESCRIPTORS).ok()?;
    let mut known = Sockets::of(process)?;
    let own = descriptors.iter().filter_map(|descriptor| {
        let inode = descriptor.socket().filter(|inode| !sockets.contains(inode))?;
        match known.look(descriptor.number, inode)? {
            Socket::Connected { peer, .. } => Some(peer),
            _ => None,
        }
    });
    Some(own.take(MAX_SOCKETS).collect())
}

const fn seen(thread: &Stat) -> SeenThread {
    SeenThread { tid: thread.id, comm: thread.comm }
}

#[cfg(test)]
mod tests {
    use std::{
        net::{TcpListener, TcpStream},
        sync::mpsc,
        thread,
    };

    use super::*;
    use crate::host::forked::Forked;

    #[test]
    fn what_a_fork_left_is_told_and_what_came_later_is_not() {
        let own = Stat::of_process(std::process::id()).unwrap().key();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let peer = Peer::Tcp(listener.local_addr().unwrap().to_string());
        let _inherited = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let start = |name: &str| {
            let (end, ended) = mpsc::channel::<()>();
            let (started, runs) = mpsc::channel();
            let run = move || {
                started.send(()).unwrap();
                ended.recv().unwrap_err();
            };
            let thread = thread::Builder::new().name(name.to_owned()).spawn(run).unwrap();
            runs.recv().unwrap();
            (end, thread)
        };
        let (before, thread_before) = start("before-the-fork");
        let child = Forked::new();
        let (after, thread_after) = start("after-the-fork");
        let seen = inheritance(child.key(), own, Stacks::Light).unwrap();
        let has = |name: &str| seen.threads.iter().any(|thread| thread.comm == name.into());
        assert!(has("before-the-fork") && !has("after-the-fork"), "{:?}", seen.threads);
        assert!(seen.connections.iter().any(|socket| socket.peer == peer), "{:?}", seen.connections);
        assert_eq!((seen.own_threads, seen.own_peers), (Vec::<String>::new(), Vec::<Peer>::new()));
        assert_eq!(seen.whereabouts.len(), seen.threads.len());
        assert_eq!(inheritance(child.key(), own, Stacks::None).unwrap().whereabouts, []);
        let key = child.key();
        drop(child);
        assert_eq!(inheritance(key, own, Stacks::None), None);
        // A process that has exec'd was left nothing.
        assert_eq!(inheritance(own, own, Stacks::None), None);
        drop((before, after));
        thread_before.join().unwrap();
        thread_after.join().unwrap();
    }
}
