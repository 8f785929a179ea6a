//! Connections that a fork left to two processes.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    process::{ProcessKey, Program},
    stack::Stack,
    thread::SeenThread,
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
    /// Whether the child was gone by then, so that these are all of the parent's.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub child_is_gone: bool,
    /// Inode numbers of all sockets that the child holds, also of those that the parent has closed meanwhile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub of_child: Option<Vec<u64>>,
    /// Likewise of the parent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub of_parent: Option<Vec<u64>>,
    /// Connections that the parent holds and the child does not, and that are over: the other end has closed its own, or
    /// has reset them; of the first few only.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ended: Vec<SharedSocket>,
}

/// A connection that a child was born with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inherited {
    /// Its inode number.
    pub inode: u64,
    /// The descriptor, which parent and child have alike.
    pub descriptor: u32,
    /// Bytes that its holders had sent by then, and taken out of it, modulo 2^32; of an end: since the birth. Absent of
    /// a Unix socket, which does not count them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<(u32, u32)>,
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
    /// Whether a client has connected to these processes, as far as the ports of both ends show. Else they are the client.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub accepted: bool,
}

/// Where in its program a thread was, a moment after it used a connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Caller {
    /// When it was looked at.
    pub at: BootTime,
    /// The tid of the thread.
    pub tid: u32,
    /// Whether it was at the connection still.
    pub engaged: Engaged,
    /// Its calls in the script that its interpreter runs; absent where it runs none that is known.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub script: Option<Stack>,
    /// Its calls.
    pub stack: Stack,
    /// Threads that client libraries had in the process that had the connection first, and do not have in this one.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub behind: Vec<LibraryThread>,
}

/// What a thread was at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Engaged {
    /// It slept in a call on the connection.
    WithIt,
    /// It slept in a call on another descriptor.
    WithAnother,
    /// Neither: it ran, for example.
    Otherwise,
}

/// A thread that a client library has started for itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LibraryThread {
    /// The name of the library.
    pub library: String,
    /// Which thread, by its tid and comm.
    pub thread: SeenThread,
}

/// The other end of a connection.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Peer {
    /// By TCP: `10.0.0.7:5432`, `[::1]:6379`.
    Tcp(String),
    /// A named Unix socket: its path, or `@name` in the abstract namespace.
    Unix(String),
    /// Of a TCP connection that was ended before anybody asked: the kernel forgets the other end with it.
    Unknown,
}

impl Peer {
    /// The port of a TCP address.
    pub fn port(&self) -> Option<&str> {
        match self {
            Self::Tcp(address) => address.rsplit_once(':').map(|(_, port)| port),
            Self::Unix(_) | Self::Unknown => None,
        }
    }

    /// Whether it has a port that a kernel gives to those who connect, if nobody has set others
    /// (`ip_local_port_range`, ip(7)).
    pub fn has_port_of_clients(&self) -> bool {
        self.port()
            .and_then(|port| port.parse::<u16>().ok())
            .is_some_and(|port| (32_768..61_000).contains(&port))
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(text) | Self::Unix(text) => {
                formatter.write_str(&super::process::escape(text.as_bytes()))
            }
            Self::Unknown => formatter.write_str("an unknown server"),
        }
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
    /// Which process: its tgid, and when it started.
    pub process: ProcessKey,
    /// Its present parent.
    pub parent_tgid: u32,
    /// Whether it was forked and has not exec'd since.
    pub unexeced: bool,
}
