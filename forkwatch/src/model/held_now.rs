//! Locks that the threads of a running process hold at a moment.

use serde::{Deserialize, Serialize};

use super::{held_lock::HeldLock, thread::SeenThread, time::BootTime};

/// A lock that a thread holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockNow {
    /// The lock, and where it lies.
    pub lock: HeldLock,
    /// Which thread, by its tid and comm.
    pub thread: SeenThread,
}

/// What one look has found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldNow {
    /// When it began.
    pub at: BootTime,
    /// Whether all of the memory was gone through, as far as the budget went; else only where locks had been found.
    pub whole: bool,
    /// Live threads of the process, the main one included.
    pub threads: u32,
    /// The locks: of those that are searched for at most [`super::held_lock::MAX_HELD`].
    pub locks: Vec<LockNow>,
    /// How many there are in all.
    pub count: u32,
    /// Bytes of memory that were gone through.
    pub searched: u64,
    /// Bytes that were not, because the budget was used up before.
    pub skipped: u64,
    /// Nanoseconds of a CPU that it took.
    pub took: u64,
}

/// What became of looking.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HeldNowSeen {
    /// The process has ended.
    Gone,
    /// It lives.
    Alive(Box<HeldNow>),
    /// It could not be looked at, for this reason.
    Unreadable(String),
}
