//! What a forked process has in its output buffers from before the fork.

use serde::{Deserialize, Serialize};

use super::{
    process::{Comm, Program},
    time::BootTime,
};

/// Most streams of one process that are told.
pub const MAX_STREAMS: usize = 16;

/// The streams of the C library in a forked process that hold output from before the fork.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UnflushedSeen {
    /// The process has ended or exec'd, or its pid belongs to another.
    Gone,
    /// Its memory cannot be looked at, for this reason.
    Unreadable(String),
    /// There is none that is known of.
    None,
    /// There are some.
    Unflushed(Box<Unflushed>),
}

/// The streams that do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unflushed {
    /// When they were looked at.
    pub at: BootTime,
    /// The forked process's comm.
    pub comm: Comm,
    /// What runs in it, which is what runs in the process that forked it.
    pub program: Program,
    /// The first [`MAX_STREAMS`].
    pub streams: Vec<UnflushedStream>,
}

/// A stream that holds output from before the fork.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnflushedStream {
    /// The descriptor that it writes to.
    pub fd: u32,
    /// What that is open on.
    pub path: String,
    /// How many bytes.
    pub bytes: u64,
    /// What the process that forked it has of them.
    pub forker: ForkersCopy,
}

/// What has become of the same bytes in the process that forked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ForkersCopy {
    /// It has not written them yet.
    Unwritten,
    /// It has written them.
    Written,
    /// It has ended, or cannot be looked at.
    Unknown,
}
