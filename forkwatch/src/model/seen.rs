//! What was seen of processes: all of the host, and the two that a fork is about.

use serde::{Deserialize, Serialize};

use super::{
    left_lock::LockWait,
    lock::ThreadAt,
    process::{Comm, ProcessKey, Program},
    signals::SignalSet,
    thread::SeenThread,
    time::BootTime,
};

/// Most threads that an answer names.
pub const MAX_THREADS: usize = 64;

/// The processes of a host that a fork has left in a state worth knowing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sweep {
    /// When it began.
    pub at: BootTime,
    /// Nanoseconds that it took.
    pub took: u64,
    /// For the next request.
    pub mark: u64,
    /// Living processes of user space.
    pub processes: u32,
    /// Processes that were forked and have not exec'd.
    pub unexeced: Vec<Swept>,
    /// Processes that have ended and that nobody has waited for.
    pub zombies: Vec<Swept>,
    /// Processes that wait for a lock on a file whose taker does not hold it any more.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub waits: Vec<LockWait>,
}

/// A process that a sweep found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Swept {
    /// Which. Its start is rounded down to a clock tick.
    pub process: ProcessKey,
    /// Its comm: at most 15 bytes, of its own choice.
    pub comm: Comm,
    /// Its real uid, where it lives and that may be read.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub uid: Option<u32>,
    /// Its present parent; of one that lives, only where that may be the process that forked it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub parent: Option<ProcessKey>,
}

/// A process, and what runs in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProgramSeen {
    /// Which. Its start is rounded down to a clock tick.
    pub process: ProcessKey,
    /// What runs in it.
    pub program: Program,
    /// Stopped by a signal or a debugger.
    pub stopped: bool,
}

/// The threads of a forked process, and how much it has done since the fork.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ThreadsSeen {
    /// When it was looked at.
    pub at: BootTime,
    /// The different comms of its threads that run user code, all of them.
    pub comms: Vec<Comm>,
    /// Nanoseconds that its threads have run, those that have ended included.
    pub ran: u64,
    /// Bytes it has read and written by read(2), write(2) and their like; absent where that cannot be seen.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub moved: Option<u64>,
    /// Where its oldest threads are, as far as they sleep: at most [`MAX_TOLD`](super::lock::MAX_TOLD).
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub places: Vec<ThreadAt>,
}

/// A process, some time after its exec.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecedSeen {
    /// When it was looked at.
    pub at: BootTime,
    /// What runs in it.
    pub program: Program,
    /// What runs in its parent now, where that is still the process that forked it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub parent: Option<(ProcessKey, Program)>,
    /// Signals that every one of its threads blocks now.
    pub blocked: SignalSet,
    /// Signals that it takes in through a signalfd: blocked on purpose. Absent where that cannot be seen.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub awaited: Option<SignalSet>,
}

/// The forker, some time after the fork.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ParentSeen {
    /// When it was looked at.
    pub at: BootTime,
    /// What runs in it.
    pub program: Program,
    /// Its threads of the time of the fork that are still there, without the forking one and without kernel
    /// workers: the first [`MAX_THREADS`] by tid.
    pub threads: Vec<SeenThread>,
    /// How many such threads there are in all.
    pub thread_count: u32,
    /// Signals pending and blocked in the forking thread (or, where that has ended, in the main thread), its own
    /// and the process's.
    pub pending: SignalSet,
}

/// The child, at the time of the verdict.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ChildSeen {
    /// It has ended, or its pid belongs to another.
    Gone,
    /// It has exec'd (`PF_FORKNOEXEC` is clear), though no event said so.
    Execed,
    /// It lives on without exec.
    Alive {
        /// When it was looked at.
        at: BootTime,
        /// Its comm now.
        comm: Comm,
        /// Nanoseconds it has run; absent where the kernel does not account for it.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        ran: Option<u64>,
        /// Nanoseconds it has waited for a CPU; absent likewise.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        waited: Option<u64>,
        /// Stopped by a signal or a debugger.
        stopped: bool,
    },
    /// It could not be read, for this reason.
    Unreadable(String),
}
