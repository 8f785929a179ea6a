//! Locks on files that a forked process carries, and who took them.

use serde::{Deserialize, Serialize};

use super::{
    inventory::{FileLockKind, OpenFile},
    process::{Comm, ProcessKey, Program},
    time::BootTime,
};

/// Most locks of one process that are told, and most processes that wait for one.
pub const MAX_LOCKS: usize = 16;

/// The locks that belong to open files of a forked process, and that it has not taken itself as far as is known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CarriedLocksSeen {
    /// The process has ended or exec'd, or its pid belongs to another.
    Gone,
    /// They cannot be looked at, for this reason.
    Unreadable(String),
    /// It carries none.
    None,
    /// It carries some.
    Carried(Box<CarriedLocks>),
}

/// The locks of a forked process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CarriedLocks {
    /// When they were looked at.
    pub at: BootTime,
    /// Its comm: at most 15 bytes, of its own choice.
    pub comm: Comm,
    /// What runs in it, which is what runs in the process that forked it, or ran there.
    pub program: Program,
    /// Whether it has left the session of whoever forked it, as a program does that goes into the background for good.
    pub in_background: bool,
    /// The locks: the first [`MAX_LOCKS`].
    pub locks: Vec<CarriedLock>,
}

/// A lock on a file that a process shares with whoever has the same open file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CarriedLock {
    /// On what, as the process has it.
    pub file: OpenFile,
    /// To whom it belongs.
    pub kind: FileLockKind,
    /// Who took it.
    pub taker: Taker,
    /// Processes that wait for it: the first [`MAX_LOCKS`]. They are looked for where the taker holds it no longer.
    pub waiters: Vec<LockWaiter>,
}

/// Who took a lock, and what has become of that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Taker {
    /// The process that forked this one has it too, or another that lives may.
    Holds,
    /// The process that forked this one took it and has ended.
    Ended,
    /// The process that forked this one took it, and has closed its own descriptor of the file.
    Closed,
    /// Somebody else took it and has ended, or the kernel does not tell who.
    Unknown,
}

/// A process that waits for a lock on a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockWaiter {
    /// Which process: its tgid, and when it started.
    pub process: ProcessKey,
    /// Its comm: at most 15 bytes, of its own choice.
    pub comm: Comm,
}

/// A process that waits for a lock by flock(2) which others hold than the process that took it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct LockWait {
    /// The process that waits: its tgid, and when it started.
    pub waiter: ProcessKey,
    /// The pid of the process that took the lock, which has ended, or has closed the file.
    pub taker: u32,
    /// The file, by its device and inode number as the kernel writes them.
    pub place: String,
}

/// Who holds such a lock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockHolders {
    /// When it was looked at.
    pub at: BootTime,
    /// The comm of the process that waits: at most 15 bytes, of its own choice.
    pub waiter: Comm,
    /// All that have the open file: the first [`MAX_LOCKS`].
    pub holders: Vec<LockHolder>,
    /// Whether these are all: nobody's descriptors were hidden.
    pub complete: bool,
}

/// A process that has an open file with a lock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockHolder {
    /// Which process: its tgid, and when it started.
    pub process: ProcessKey,
    /// Its comm: at most 15 bytes, of its own choice.
    pub comm: Comm,
    /// What runs in it.
    pub program: Program,
    /// The file, as this process has it.
    pub file: OpenFile,
    /// The parent, where that is not one that takes in orphans.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub parent: Option<u32>,
    /// Whether it has begun a session of its own, or is in one that was begun after the lock was taken.
    pub in_background: bool,
    /// Whether it was forked, and has not exec'd.
    pub unexeced: bool,
    /// Whether it was started before the process that took the lock, as far as their pids tell.
    pub older: bool,
}
