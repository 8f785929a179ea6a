//! What a process holds that a fork would copy, share or lose.

use serde::{Deserialize, Serialize};

use super::{
    connection::Peer,
    held_now::HeldNow,
    process::{Comm, Program},
    sampling::Sampling,
    signals::SignalSet,
    stack::Frame,
    thread::{Occupation, SeenThread},
    time::BootTime,
};

/// Most entries of one sort that are told.
pub const MAX_ENTRIES: usize = 256;

/// A process at one moment, as its next fork would find it. Lists hold at most [`MAX_ENTRIES`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inventory {
    /// When it was looked at.
    pub at: BootTime,
    /// What runs in it.
    pub program: Program,
    /// Its live threads beside the main one, kernel workers excluded, by tid.
    pub threads: Vec<SeenThread>,
    /// How many such threads there are in all.
    pub thread_count: u32,
    /// Signals that are pending for the process or one of its threads, and blocked there.
    pub pending: SignalSet,
    /// What its threads are called in its program, and what they do, as far as that could be told.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub occupations: Vec<Occupation>,
    /// Where its threads were seen to be, the main one included.
    pub whereabouts: Vec<Whereabouts>,
    /// Its means to wait for events.
    pub events: Events,
    /// Whether gevent is loaded, so that the event loop is gevent's.
    pub has_gevent: bool,
    /// Stream sockets that are connected to a peer with a name, at descriptors above 2.
    pub connections: Vec<Connection>,
    /// Stream sockets that listen.
    pub listeners: Vec<Listener>,
    /// Locks on files.
    pub file_locks: Vec<FileLock>,
    /// Open databases that live in files.
    pub databases: Vec<Database>,
    /// Open devices that keep a context for each process.
    pub devices: Vec<OpenFile>,
    /// Threads that wait at this moment for a mutex that another thread holds.
    pub contended: Vec<Contended>,
    /// Locks that its threads held when it was looked at; absent where nobody looked.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub held: Option<Box<HeldNow>>,
    /// How often locks were held when it was looked at again and again; absent where it was not.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub sampling: Option<Box<Sampling>>,
    /// Client libraries for databases and brokers that are loaded.
    pub libraries: Vec<String>,
    /// Its memory; absent where that could not be read.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub memory: Option<Memory>,
    /// The garbage collector of CPython; absent where none runs in it, or it could not be looked at.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub collector: Option<Collector>,
    /// Processes that it has forked, which live and have not exec'd.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub workers: Vec<Worker>,
    /// What could not be looked at. Nothing follows from its absence above.
    pub unknown: Vec<Unknown>,
}

/// Descriptors by which a process waits for events, and who does.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Events {
    /// epoll instances.
    pub epoll: u32,
    /// `io_uring` instances.
    pub io_uring: u32,
    /// Descriptors of signalfd(2).
    pub signalfd: u32,
    /// Descriptors of `eventfd(2)`.
    pub eventfd: u32,
    /// Descriptors of `timerfd_create(2)`.
    pub timerfd: u32,
    /// inotify instances.
    pub inotify: u32,
    /// What the epoll instances watch; one that could not be looked into is missing.
    pub instances: Vec<Instance>,
    /// Threads that were seen to wait in an epoll or `io_uring` instance, the main one included.
    pub waiting: Vec<Waiting>,
}

/// An epoll instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instance {
    /// Its descriptor.
    pub fd: u32,
    /// How many descriptors it watches.
    pub watched: u32,
    /// How many of them somebody outside of the process can set off: all but timers, eventfds, signalfds, and pipes and
    /// socket pairs of which the process holds both ends.
    pub outside: u32,
}

/// A thread that waits for events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waiting {
    /// Which thread, by its tid and comm.
    pub thread: SeenThread,
    /// The descriptor of the epoll instance; absent where it waits in `io_uring`.
    pub epoll: Option<u32>,
}

/// Where a thread was seen to be. What could not be told is empty.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Whereabouts {
    /// Which thread, by its tid and comm.
    pub thread: SeenThread,
    /// The object whose code it was started to run, by its path: the library's that made the thread.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub start: Option<String>,
    /// Its calls in native code, innermost first. Told of the threads in which a loop may run.
    pub native: Vec<Frame>,
    /// Its calls in a script, innermost first. Of a thread that was awake the outer ones alone.
    pub script: Vec<Frame>,
    /// Whether the module that started it ends it before each fork of Python's and starts it again in the forker: told of
    /// gunicorn's control socket alone.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub ends_at_forks: bool,
}

/// A connected socket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connection {
    /// The descriptor.
    pub fd: u32,
    /// The other end.
    pub peer: Peer,
    /// Whether it came in at a port on which this process listens.
    pub accepted: bool,
}

/// A listening socket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listener {
    /// The descriptor.
    pub fd: u32,
    /// Where it listens.
    pub address: Peer,
}

/// An open file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenFile {
    /// The descriptor.
    pub fd: u32,
    /// Its path in the process's own file system, lossy where it is not UTF-8.
    pub path: String,
}

/// A lock on a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileLock {
    /// On what.
    pub file: OpenFile,
    /// To whom it belongs.
    pub kind: FileLockKind,
}

/// To whom a lock on a file belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FileLockKind {
    /// To the process: `fcntl(F_SETLK)`, `lockf`.
    Posix,
    /// To the open file, which a child shares: `flock`.
    Flock,
    /// To the open file likewise: `fcntl(F_OFD_SETLK)`.
    OpenFile,
}

/// An open database that lives in files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Database {
    /// Its main file.
    pub file: OpenFile,
    /// Of which kind, going by its name.
    pub kind: DatabaseKind,
}

/// Databases that live in files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DatabaseKind {
    /// `SQLite`.
    Sqlite,
    /// LMDB.
    Lmdb,
    /// gdbm.
    Gdbm,
    /// Berkeley DB.
    BerkeleyDb,
}

/// A thread that waits for a mutex of the C library.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contended {
    /// The thread that waits.
    pub waiter: SeenThread,
    /// The thread that the mutex names as its owner.
    pub owner: SeenThread,
    /// The address of the mutex.
    pub address: u64,
}

/// Memory of a process, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// In RAM and no file's: what is copied page by page as either side of a fork writes to it.
    pub anonymous: u64,
    /// Page tables, which the fork itself copies.
    pub page_tables: u64,
}

/// The state of CPython's garbage collector.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Collector {
    /// Whether it collects by itself: `gc.isenabled()`.
    pub enabled: bool,
    /// Objects that it leaves alone: `gc.get_freeze_count()`.
    pub frozen: u64,
    /// Objects that a full collection looks at.
    pub tracked: u64,
    /// Bytes of the pages that it writes to for them: copied, as far as a forked process shares them still.
    pub copies: u64,
    /// Whether all of them were counted. If not, there are more.
    pub whole: bool,
}

/// A forked process, and its memory in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Worker {
    /// Its pid in the host's pid namespace.
    pub pid: u32,
    /// Its comm: at most 15 bytes, of its own choice.
    pub comm: Comm,
    /// In RAM.
    pub resident: u64,
    /// Of this, what it shares with another process, its forker for one.
    pub shared: u64,
    /// Of this, what is its own and was written: copied or new since the fork.
    pub copied: u64,
}

/// Something that could not be looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unknown {
    /// What was to be looked at.
    pub what: Subject,
    /// The reason, for people.
    pub why: String,
    /// Whether more privilege would help.
    pub denied: bool,
}

/// What can remain unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Subject {
    /// Signals pending for some thread.
    Signals,
    /// Everything that is open: event loops, connections, files, devices.
    Descriptors,
    /// Whether a thread waits in the event loop, or for a mutex.
    Calls,
    /// Where the threads are in their program, and so whether an event loop runs.
    Stacks,
    /// Peers of some sockets.
    Sockets,
    /// Locks on files.
    FileLocks,
    /// How much memory it has.
    Memory,
    /// Locks that its threads hold.
    HeldLocks,
}

impl Subject {
    /// The name that users see.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Signals => "signals",
            Self::Descriptors => "descriptors",
            Self::Calls => "calls",
            Self::Stacks => "stacks",
            Self::Sockets => "sockets",
            Self::FileLocks => "file-locks",
            Self::Memory => "memory",
            Self::HeldLocks => "held-locks",
        }
    }
}
