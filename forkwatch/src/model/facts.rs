//! What findings of proven faults rest on. Events bear these as they stand here.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    connection::{Peer, Turn},
    held_lock::{LockKind, LostOwner},
    lock::{Blocked, Doing, Mapping},
    stack::Stack,
};

/// Why nobody can release a lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Proof {
    /// The lock names its owner: a thread that did not come along into the child.
    Owner,
    /// The waiting thread itself owns the lock, as the thread that called fork.
    SelfOwned,
    /// The waiting thread is the only one, and no signal handler could wake it.
    NoCatcher,
    /// The lock was held at the fork: the parent's copy of the same lock has been released since, or is held still.
    Differential,
    /// Several threads queue on one lock that none of them owns, without progress.
    Queue,
    /// The lock was seen held in the child and in the parent right after the fork, and the waiting thread's calls say that
    /// it wants a lock.
    HeldAtFork,
    /// The calls of the waiting thread say what it waits for, and no thread of the child is known to bring it.
    Frames,
}

impl Proof {
    /// The name in events.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Owner => "owner",
            Self::SelfOwned => "self-owned",
            Self::NoCatcher => "no-catcher",
            Self::Differential => "differential",
            Self::Queue => "queue",
            Self::HeldAtFork => "held-at-fork",
            Self::Frames => "frames",
        }
    }
}

/// A lock that nobody can release.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LockFacts {
    /// Why that is known.
    pub proof: Proof,
    /// The address of the futex word in the child, in hexadecimal; of CPython's locks since 3.13.1, which wake a waiting
    /// thread by a futex on its own stack, that of the lock.
    pub address: String,
    /// The memory that it lies in.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub mapping: Option<Mapping>,
    /// The variable that it is, where a symbol covers it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub symbol: Option<String>,
    /// The thread that owns it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub owner: Option<LockOwner>,
    /// The tid of the thread that waits.
    pub waiting_thread: u32,
    /// How many threads of the child wait for it.
    pub waiting_threads: u32,
    /// Nanoseconds for which it is known to have waited.
    pub waited_ns: u64,
    /// The futex operation with its flags, as the system call got it.
    pub operation: u32,
    /// The value that the word had when it went to sleep.
    pub value: u32,
    /// The 12 words of 32 bits from 16 bytes before the futex word on, in hexadecimal; dashes where one may not be read.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub words: Option<String>,
    /// The same of the parent.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub parent_words: Option<String>,
    /// Whether the lock was seen held, or free, right after the fork; absent where that is not known.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub held_at_fork: Option<bool>,
    /// Where the waiting thread is.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub stack: Option<Stack>,
    /// Where it is in the script that it runs.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub script: Option<Stack>,
    /// What it keeps from others.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub blocks: Vec<Blocked>,
}

/// A lock that a child carries and that nobody in it can release.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HeldFacts {
    /// Which kind of lock.
    pub kind: LockKind,
    /// The variable that it is, or what it guards.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub name: Option<String>,
    /// The address in the child, in hexadecimal.
    pub address: String,
    /// The memory that it lies in.
    pub mapping: Mapping,
    /// The thread that holds it.
    pub owner: LostOwner,
}

/// The owner of a lock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LockOwner {
    /// Its tid, as the lock has it.
    pub id: u32,
    /// Its comm, safe for a terminal; absent where it is gone.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub name: Option<String>,
    /// What it does now.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub doing: Option<Doing>,
}

/// A connection that two processes use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ConnectionFacts {
    /// Who is at the other end.
    pub peer: Peer,
    /// What that looks like: `PostgreSQL`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub service: Option<String>,
    /// The socket's inode number.
    pub inode: u64,
    /// Nanoseconds for which the connection has existed at least: it is older than the fork, and the kernel keeps no
    /// other time of it.
    pub age_ns: u64,
    /// Who used it when, the first turns first.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub turns: Vec<Turn>,
    /// Client libraries that use it, as the calls show; where no call was seen, those that are loaded in the parent and
    /// speak to such a service.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub libraries: Vec<String>,
    /// Which code used it, as far as somebody was seen at it.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub callers: Vec<CallerFacts>,
}

/// Where a thread was that used a connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CallerFacts {
    /// Its process.
    pub pid: u32,
    /// The tid of the thread.
    pub tid: u32,
    /// Whether it slept in a call on the connection; otherwise it was in a client library a moment after the use.
    pub waits: bool,
    /// The client libraries that it was in.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub libraries: Vec<String>,
    /// Where it was in the script that it runs.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub script: Option<Stack>,
    /// Where it was in the program.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub stack: Option<Stack>,
}

/// How the children of one process ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HistoryFacts {
    /// Nanoseconds from the first of these ends to the last.
    pub window_ns: u64,
    /// The ends, the most frequent first.
    pub ends: Vec<Ends>,
}

/// Children that ended in the same way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Ends {
    /// How: `code 3`, `SIGKILL`.
    pub how: String,
    /// How many ended like that.
    pub count: u32,
    /// Nanoseconds that they lived, the median.
    pub lifetime_ns: u64,
}

/// A descriptor that somebody holds who has no use for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LeakFacts {
    /// The inode number of the pipe or socket.
    pub inode: u64,
    /// Of a listening socket: its address and port, or its path.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub address: Option<String>,
    /// The processes that have it open.
    pub holders: Vec<DescriptorHolder>,
}

/// A process that holds a descriptor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DescriptorHolder {
    /// Its process id.
    pub pid: u32,
    /// Its comm, safe for a terminal.
    pub name: String,
    /// Its real uid.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub uid: Option<u32>,
    /// The descriptor.
    pub fd: u32,
    /// What it does: the system call that it sleeps in, or `running`.
    pub doing: String,
}
