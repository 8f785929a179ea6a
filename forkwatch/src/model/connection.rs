//! Connections that a fork left to two processes.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    process::{ProcessKey, Program},
    time::BootTime,
};

/// Most shared connections of one pair of processes that are told.
pub const MAX_SOCKETS: usize = 64;

/// The connections that a child and its parent both hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sockets {
    /// When they were looked at.
    pub at: BootTime,
    /// What runs in the parent.
    pub program: Program,
    /// Connected stream sockets of both, with a peer that has a name, at descriptors above 2 in both; at most
    /// [`MAX_SOCKETS`].
    pub shared: Vec<SharedSocket>,
    /// Names of the client libraries that are loaded in the parent and speak such protocols: `psycopg2`, `sqlalchemy`,
    /// `redis`, `libpq`, as far as its mappings and open files show.
    pub libraries: Vec<String>,
}

/// A connection that two processes hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SharedSocket {
    /// The inode number that `/proc/PID/fd` shows: names the socket while it is open anywhere.
    pub inode: u64,
    /// Who is at the other end.
    pub peer: Peer,
    /// The descriptor in the child.
    pub child_fd: u32,
    /// The descriptor in the parent.
    pub parent_fd: u32,
}

/// The other end of a connection.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Peer {
    /// By TCP: `10.0.0.7:5432`, `[::1]:6379`.
    Tcp(String),
    /// A named Unix socket: its path, or `@name` in the abstract namespace.
    Unix(String),
}

impl fmt::Display for Peer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Tcp(text) | Self::Unix(text)) = self;
        formatter.write_str(&super::process::escape(text.as_bytes()))
    }
}

/// What somebody did with a watched socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Act {
    /// Sent bytes.
    Sent,
    /// Received bytes (a peek is none).
    Received,
    /// Shut it down, for everyone who holds it.
    ShutDown,
}

/// One turn in the interleaving of two processes on a connection, as a finding tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Turn {
    /// Which process.
    pub pid: u32,
    /// What it did.
    pub act: Act,
    /// Nanoseconds since the first of the turns.
    pub after_ns: u64,
    /// Bytes of its first such call in this turn.
    pub bytes: u64,
}

/// Which process used a watched socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// Which.
    pub process: ProcessKey,
    /// Its present parent.
    pub parent_tgid: u32,
    /// Whether it was forked and has not exec'd since.
    pub unexeced: bool,
}
