//! What speaks against a fork.

use super::{
    Reason, Weight,
    event_loop::event_loop,
    locks::locks,
    threads::{self, Bearing},
    words::{GEVENT_OS, OF_GEVENT, counted},
};
use crate::{
    detect::{multithreaded_fork::BY_DESIGN, pending_signals},
    model::{
        connection::Peer,
        inventory::{DatabaseKind, FileLockKind, Inventory, OpenFile},
        process::escape,
        thread::SeenThread,
    },
    remedy::{connection::Connection, ecosystem, ecosystem::CONTROL_SOCKET, remedy, service},
};

/// From here on the copying of memory is felt: some ten milliseconds for the fork alone.
const MUCH_MEMORY: u64 = 1 << 30;

const MAN_FORK: &str = "https://man7.org/linux/man-pages/man2/fork.2.html";
const MAN_ATFORK: &str = "https://man7.org/linux/man-pages/man3/pthread_atfork.3.html";

/// Why a thread that may hold anything makes a fork unsafe.
const LEFT_BEHIND: &str = "fork copies only the thread that calls it. A lock that another one holds at that moment stays locked in the child \
     for good, and what the others do is not done there. Whether the program itself stops them before it forks cannot be \
     seen from outside.";

/// Every reason there is, in the order in which equals are told.
pub(super) fn all(seen: &Inventory, name: &str) -> Vec<Reason> {
    let mut reasons = Vec::new();
    reasons.extend(contended(seen));
    reasons.extend(locks(seen, name));
    reasons.extend(other_threads(seen, name));
    reasons.extend(pending(seen));
    reasons.extend(event_loop(seen, name));
    reasons.extend(connections(seen));
    reasons.extend(databases(seen));
    reasons.extend(file_locks(seen));
    reasons.extend(devices(seen));
    reasons.extend(accepted(seen));
    reasons.extend(listeners(seen));
    reasons.extend(memory(seen));
    reasons
}

fn contended(seen: &Inventory) -> Option<Reason> {
    let first = seen.contended.first()?;
    let thread = |thread: SeenThread| format!("thread {} ({})", thread.tid, thread.name(&seen.occupations));
    let more = match seen.contended.len() {
        1 => String::new(),
        count => format!(", and {} more wait likewise", count - 1),
    };
    Some(Reason {
        id: "contended-lock",
        weight: Weight::Unsafe,
        what: format!(
            "{} holds the mutex at {:#x} at this moment, and {} waits for it{more}",
            thread(first.owner),
            first.address,
            thread(first.waiter)
        ),
        why: "Forked by any other thread, the child gets this mutex locked and nobody to release it. It hangs as \
              soon as it wants it.",
        remedy: ecosystem::recognise(&seen.program, &seen.threads).remedy(),
    })
}

fn other_threads(seen: &Inventory, name: &str) -> Option<Reason> {
    if seen.thread_count == 0 {
        return None;
    }
    let what = match seen.thread_count {
        1 => "1 other thread runs".to_owned(),
        count => format!("{count} other threads run"),
    };
    let by_design = BY_DESIGN.contains(&name);
    let all_listed = usize::try_from(seen.thread_count).is_ok_and(|count| count == seen.threads.len());
    let bearings = seen.threads.iter().map(|thread| threads::known(*thread, &seen.whereabouts).bearing);
    let worst = bearings.max().filter(|_| all_listed).unwrap_or(Bearing::Unknown);
    let note = if by_design { "; this server forks beside them by design, to save its data" } else { "" };
    let usual = || ecosystem::advice(&seen.program, &seen.threads, &seen.occupations);
    let (weight, why, remedy) = match worst {
        _ if by_design => (Weight::Info, LEFT_BEHIND, usual()),
        Bearing::Handled => (
            Weight::Info,
            "Their library handles forks (pthread_atfork): it ends them before, or takes its locks and begins anew \
             in the child. A fork by fork(2) itself, without the C library, passes it by.",
            remedy(
                "Nothing: call fork() of the C library, as everything but raw system calls does.",
                MAN_ATFORK,
            ),
        ),
        Bearing::Ended => (
            Weight::Info,
            "gunicorn ends the thread of its control socket before each fork, and starts it again in the master. That is \
             done where Python forks (os.fork); a fork by C code alone passes it by.",
            remedy(
                "Nothing; where the control socket is not used, --no-control-socket saves the thread.",
                CONTROL_SOCKET,
            ),
        ),
        Bearing::Renewed => (
            Weight::Warning,
            "They wait for work, and gevent starts new ones in a child that was forked through it. In a child of a \
             plain os.fork, whatever uses the pool (the look-up of a name, for one) waits for ever.",
            remedy(OF_GEVENT, GEVENT_OS),
        ),
        Bearing::Awaited => (
            Weight::Unsafe,
            "GCC's OpenMP has no fork handlers: a child of the thread that used it waits for these threads, which \
             it does not have, as soon as it enters a parallel region. It hangs for good.",
            remedy(
                "Fork before the first parallel region (for NumPy or scikit-learn: before the first call), or set \
                 OMP_NUM_THREADS=1 in the parent, or start workers by exec: spawn or forkserver in Python.",
                "https://gcc.gnu.org/bugzilla/show_bug.cgi?id=58378",
            ),
        ),
        Bearing::Unknown => (Weight::Unsafe, LEFT_BEHIND, usual()),
    };
    let what = format!("{what}: {}{note}", threads::described(seen));
    Some(Reason { id: "threads", weight, what, why, remedy })
}

fn pending(seen: &Inventory) -> Option<Reason> {
    let (_, remedy) = (pending_signals::HAZARD.remedies)().into_iter().next()?;
    (!seen.pending.is_empty()).then(|| Reason {
        id: "pending-signals",
        weight: Weight::Unsafe,
        what: format!("blocked signals are pending: {}", seen.pending),
        why: "A child starts with no signal pending: what waits here for its delivery never reaches the child.",
        remedy,
    })
}

/// One reason for each service.
fn connections(seen: &Inventory) -> Vec<Reason> {
    let mut groups: Vec<(Option<&'static str>, Vec<&Peer>)> = Vec::new();
    for connection in seen.connections.iter().filter(|connection| !connection.accepted) {
        let service = service(&connection.peer);
        match groups.iter_mut().find(|(of, _)| *of == service) {
            Some((_, peers)) => peers.push(&connection.peer),
            None => groups.push((service, vec![&connection.peer])),
        }
    }
    let reason = |(service, peers): (Option<&'static str>, Vec<&Peer>)| {
        let first = peers.first().copied()?;
        let remedy = Connection::new(first, Vec::new(), seen.libraries.clone(), &seen.program).remedy();
        let peers = listed(peers.iter().map(ToString::to_string));
        Some(Reason {
            id: "connection",
            weight: Weight::Warning,
            what: service.map_or_else(
                || format!("connected to {peers}"),
                |service| format!("connected to {service}: {peers}"),
            ),
            why: "Parent and child share the connection. Once both use it, their messages mix and each can read \
                  the other's answers; and a child that closes it properly ends it for the parent.",
            remedy,
        })
    };
    groups.into_iter().filter_map(reason).collect()
}

fn databases(seen: &Inventory) -> Vec<Reason> {
    let kinds = [
        (
            DatabaseKind::Sqlite,
            "SQLite",
            "https://www.sqlite.org/howtocorrupt.html#_carrying_an_open_database_connection_across_a_fork_",
        ),
        (DatabaseKind::Lmdb, "LMDB", "http://www.lmdb.tech/doc/"),
    ];
    let reason = |(kind, name, link): (DatabaseKind, &str, &str)| {
        let databases = seen.databases.iter().filter(|database| database.kind == kind);
        let files: Vec<&OpenFile> = databases.map(|database| &database.file).collect();
        (!files.is_empty()).then(|| Reason {
            id: "database",
            weight: Weight::Warning,
            what: format!("{name} has {} open", paths(&files)),
            why: "Its locks do not follow into the child, and its memory says they do: with the inherited handle, \
                  two processes write at once and damage the file.",
            remedy: remedy(
                "Open the database after the fork, in each process that uses it. A child does not even close a \
                 handle that it inherited.",
                link,
            ),
        })
    };
    kinds.into_iter().filter_map(reason).collect()
}

fn file_locks(seen: &Inventory) -> Vec<Reason> {
    let of = |wanted: fn(FileLockKind) -> bool| -> Vec<&OpenFile> {
        seen.file_locks.iter().filter(|lock| wanted(lock.kind)).map(|lock| &lock.file).collect()
    };
    let own = of(|kind| kind == FileLockKind::Posix);
    let shared = of(|kind| kind != FileLockKind::Posix);
    let own = (!own.is_empty()).then(|| Reason {
        id: "posix-lock",
        weight: Weight::Warning,
        what: format!("locked by fcntl or lockf: {}", paths(&own)),
        why: "Such a lock belongs to the process: the child does not have it, and when the parent exits, as one \
              does that becomes a daemon, it is gone.",
        remedy: remedy(
            "Take the lock in the process that needs it, after the fork.",
            "https://man7.org/linux/man-pages/man2/fcntl_locking.2.html",
        ),
    });
    let shared = (!shared.is_empty()).then(|| Reason {
        id: "flock",
        weight: Weight::Warning,
        what: format!("locked by flock, or by a lock of the open file: {}", paths(&shared)),
        why: "Such a lock belongs to the open file, which the child shares: it lasts until both have closed it, and \
              an unlock by either releases it for both.",
        remedy: remedy(
            "Close the descriptor in the child, or take the lock after the fork.",
            "https://man7.org/linux/man-pages/man2/flock.2.html",
        ),
    });
    own.into_iter().chain(shared).collect()
}

fn devices(seen: &Inventory) -> Option<Reason> {
    let files: Vec<&OpenFile> = seen.devices.iter().collect();
    (!files.is_empty()).then(|| Reason {
        id: "device",
        weight: Weight::Warning,
        what: format!("open: {}", paths(&files)),
        why: "The driver keeps a context for the process that opened the device. A child that uses what it \
              inherited gets errors, or disturbs the parent; one that never touches it is fine.",
        remedy: remedy(
            "Make the first call to the device (CUDA, ROCm, RDMA) after the fork, or start workers by spawn or \
             forkserver.",
            "https://pytorch.org/docs/stable/notes/multiprocessing.html",
        ),
    })
}

fn accepted(seen: &Inventory) -> Option<Reason> {
    let accepted = seen.connections.iter().filter(|connection| connection.accepted).count();
    let count = u32::try_from(accepted).ok().filter(|count| *count > 0)?;
    Some(Reason {
        id: "accepted-connections",
        weight: Weight::Info,
        what: format!("serves {} of clients", counted(count, "connection")),
        why: "The child keeps them open, too: a client sees the end of its connection only when both have closed it.",
        remedy: remedy("Close in the child what it does not serve.", MAN_FORK),
    })
}

fn listeners(seen: &Inventory) -> Option<Reason> {
    let addresses = seen.listeners.iter().map(|listener| listener.address.to_string());
    (!seen.listeners.is_empty()).then(|| Reason {
        id: "listener",
        weight: Weight::Info,
        what: format!("listens on {}", listed(addresses)),
        why: "The child keeps the address taken for as long as it lives. If it outlives the parent without \
              accepting, clients connect to nobody, and no successor can listen there.",
        remedy: remedy("Close it in a child that does not accept.", MAN_FORK),
    })
}

fn memory(seen: &Inventory) -> Option<Reason> {
    let memory = seen.memory.filter(|memory| memory.anonymous >= MUCH_MEMORY)?;
    let mebibytes = |bytes: u64| bytes >> 20;
    Some(Reason {
        id: "memory",
        weight: Weight::Info,
        what: format!(
            "{} MiB of its memory are copied as either side writes to them, and {} MiB of page tables by the fork",
            mebibytes(memory.anonymous),
            mebibytes(memory.page_tables)
        ),
        why: "The fork takes long, meanwhile the process stands still; and what both sides write to is then there \
              twice.",
        remedy: remedy(
            "Fork while the process is still small, or use posix_spawn or vfork. In CPython, gc.freeze() before the \
             fork keeps the collector from writing to what parent and child share.",
            "https://docs.python.org/3/library/gc.html#gc.freeze",
        ),
    })
}

fn paths(files: &[&OpenFile]) -> String {
    listed(files.iter().map(|file| escape(&file.path)))
}

/// The first few different ones, with how often each is there.
fn listed(names: impl Iterator<Item = String>) -> String {
    const SHOWN: usize = 4;
    let mut different: Vec<(String, usize)> = Vec::new();
    for name in names {
        match different.iter_mut().find(|(known, _)| *known == name) {
            Some((_, count)) => *count += 1,
            None => different.push((name, 1)),
        }
    }
    let more = different.len().saturating_sub(SHOWN);
    let mut shown: Vec<String> = different
        .into_iter()
        .take(SHOWN)
        .map(|(name, count)| if count > 1 { format!("{name} x{count}") } else { name })
        .collect();
    if more > 0 {
        shown.push(format!("and {more} more"));
    }
    shown.join(", ")
}
