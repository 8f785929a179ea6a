//! What forked processes wait for events with: epoll instances and `io_uring`s that they share with others of their family.

use serde::{Deserialize, Serialize};

use super::{
    inventory::{Instance, Waiting, Whereabouts},
    process::{Comm, Program},
    signals::SignalSet,
    time::BootTime,
};

/// What a forked process waits for events with, compared with another process of its family.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LoopSeen {
    /// The forked process has ended or exec'd, or its pid belongs to another.
    Gone,
    /// The other one has.
    Left,
    /// They cannot be compared, for this reason.
    Unreadable(String),
    /// It waits in no epoll instance that the other has too.
    Apart,
    /// It waits in one that the other has under the same number, and was not seen to wait in.
    Held(u32),
    /// Both wait in one.
    Shared(Box<SharedLoop>),
    /// The other, which has one thread, waits without end in one that watches nothing.
    Emptied(Box<EmptiedLoop>),
}

/// An epoll instance that watches nothing, and the only thread of a process that waits there for good.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EmptiedLoop {
    /// When it was looked at.
    pub at: BootTime,
    /// The comm of its forked child.
    pub comm: Comm,
    /// The child's real uid, where that may be read.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub uid: Option<u32>,
    /// What runs in it.
    pub program: Program,
    /// The thread, and the descriptor.
    pub waits: Waiting,
}

/// A forked process of which the signals are told to the event loop of its forker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForeignWakeUp {
    /// When it was looked at.
    pub at: BootTime,
    /// Its comm: at most 15 bytes, of its own choice.
    pub comm: Comm,
    /// Its real uid, where that may be read.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub uid: Option<u32>,
    /// What runs in its forker.
    pub program: Program,
    /// The signals whose arrival the child writes to that socket.
    pub signals: SignalSet,
    /// Its descriptor of the socket that the signals are written to.
    pub descriptor: u32,
    /// The forker's descriptor of the epoll instance that watches the other end.
    pub epoll: u32,
}

/// A process that sleeps in an epoll instance with all its threads, and what that watches.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestingLoop {
    /// When it was looked at.
    pub at: BootTime,
    /// The comm of its forked child.
    pub comm: Comm,
    /// The child's real uid, where that may be read.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub uid: Option<u32>,
    /// What runs in it.
    pub program: Program,
    /// The thread, and the descriptor.
    pub waits: Waiting,
    /// How often its threads had been taken from their processors, all together: two looks with the same number mean that
    /// all of them slept in between.
    pub switches: u64,
    /// How many threads it has.
    pub threads: u32,
    /// Whether the child has the instance under the same number.
    pub is_held: bool,
    /// What the instance watches and the process has open.
    pub watched: Vec<Watched>,
    /// Where in its program the thread is. Told where the instance watches nothing that only the process itself sets off.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub whereabouts: Option<Whereabouts>,
}

/// A descriptor that an epoll instance watches. The number is the one under which it was entered: it may be closed by now,
/// or another's, while the open file lives on elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watched {
    /// The descriptor under which it was entered.
    pub number: u32,
    /// The inode number of what it is open on; absent before Linux 5.1.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub inode: Option<u64>,
}

/// An epoll instance or `io_uring` in which two processes slept at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SharedLoop {
    /// When it was looked at.
    pub at: BootTime,
    /// The forked process's comm.
    pub comm: Comm,
    /// Its real uid, where that may be read.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub uid: Option<u32>,
    /// What runs in the other process.
    pub program: Program,
    /// Which thread of the forked process waits, and at which descriptor.
    pub waits: Waiting,
    /// Which thread of the other.
    pub other_waits: Waiting,
    /// The instance, as the other process has it.
    pub instance: Instance,
    /// Whether it is an `io_uring`, and no epoll instance: then only its descriptor is told.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub is_ring: bool,
    /// Where in its program the thread of the forked process is.
    pub whereabouts: Whereabouts,
}
