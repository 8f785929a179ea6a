//! A process and the children that it forked: what each of their threads waits for. Asked once one of them was killed.

use serde::{Deserialize, Serialize};

use super::{
    process::{Comm, ProcessKey, Program},
    stack::Stack,
    thread::SeenThread,
    time::BootTime,
};

/// Most children that are told.
pub const MAX_CHILDREN: usize = 64;
/// Most threads of one of the family that are told.
pub const MAX_THREADS: usize = 16;

/// A process, and its children that never exec'd.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Family {
    /// When they were looked at.
    pub at: BootTime,
    /// What runs there.
    pub program: Program,
    /// The process that forks.
    pub forker: Member,
    /// Its children, at most [`MAX_CHILDREN`].
    pub children: Vec<Member>,
    /// Whether these are all of them, with all of their threads.
    pub whole: bool,
    /// How many processes of its control group the kernel has killed for want of memory, as far as it tells.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub out_of_memory: Option<u64>,
}

/// One of the family.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Which process: its tgid, and when it started.
    pub process: ProcessKey,
    /// Its comm: at most 15 bytes, of its own choice.
    pub comm: Comm,
    /// Its real uid, where that may be read.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub uid: Option<u32>,
    /// Stopped by a signal, or being traced.
    pub stopped: bool,
    /// Its threads, the main thread first, at most [`MAX_THREADS`].
    pub threads: Vec<Waiter>,
}

/// A thread.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waiter {
    /// Which thread, by its tid and comm.
    pub thread: SeenThread,
    /// How often it has given up the CPU: while this stays, it has not run.
    pub switches: u64,
    /// The system call that it sleeps in, or `running`.
    pub call: String,
    /// Whether it waits on a futex without a time limit.
    pub endless: bool,
    /// What it waits for there, if other processes may share it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub shared: Option<SharedLock>,
    /// Where it is in the script that its interpreter runs; absent where it runs none that is known.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub script: Option<Stack>,
}

/// A lock in memory that several processes share, for which a thread waits without a time limit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SharedLock {
    /// Where it lies, the same for all who share it: device, inode, and bytes from the start.
    pub place: (u64, u64, u64, u64),
    /// The file that it lies in, safe for a terminal.
    pub file: String,
    /// What is known of the kind of lock.
    pub kind: SharedKind,
}

/// What a lock is that several processes share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SharedKind {
    /// A semaphore of glibc's at zero: it does not say who took it.
    Semaphore,
    /// A mutex of glibc's that is not robust.
    Mutex {
        /// The thread that holds it, by the tid that the waiting process would know it by.
        owner: u32,
        /// Whether a thread of that tid is there; absent where that cannot be told.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        lives: Option<bool>,
    },
    /// Something else.
    Other,
}

impl Member {
    /// Whether none of its threads has run from one look to the other, and it is free to.
    pub fn is_unmoved_since(&self, before: &Self) -> bool {
        let switches = |member: &Self| {
            member.threads.iter().map(|waiter| (waiter.thread.tid, waiter.switches)).collect::<Vec<_>>()
        };
        self.process == before.process
            && !self.stopped
            && !before.stopped
            && switches(self) == switches(before)
    }

    /// Its main thread.
    pub fn main(&self) -> Option<&Waiter> {
        self.threads.first()
    }
}
