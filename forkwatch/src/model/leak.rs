//! Descriptors that a fork left behind: who holds a pipe or a listening socket, and what those processes do.

use serde::{Deserialize, Serialize};

use super::{
    process::{Comm, ProcessKey, Program},
    signals::SignalSet,
    time::BootTime,
};

/// Most holders of one pipe or socket that are told.
pub const MAX_HOLDERS: usize = 256;

/// Most pipes of one process that are told as kept, or as fed.
pub const MAX_KEPT: usize = 8;

/// What several processes can hold descriptors of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Object {
    /// An unnamed pipe, by its inode number.
    Pipe(u64),
    /// A socket, by its inode number.
    Socket(u64),
}

impl Object {
    /// Its inode number.
    pub const fn inode(self) -> u64 {
        match self {
            Self::Pipe(inode) | Self::Socket(inode) => inode,
        }
    }
}

/// An end of a pipe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum End {
    /// Where its data comes out.
    Read,
    /// Where its data goes in.
    Write,
}

impl End {
    /// The end that the other process would have.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::Read => Self::Write,
            Self::Write => Self::Read,
        }
    }
}

/// What a descriptor may be used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Access {
    /// `O_RDONLY`.
    Read,
    /// `O_WRONLY`.
    Write,
    /// `O_RDWR`: of a pipe, both ends on purpose.
    Both,
}

impl Access {
    /// Whether it keeps that end of a pipe open.
    pub const fn holds(self, end: End) -> bool {
        matches!((self, end), (Self::Both, _) | (Self::Read, End::Read) | (Self::Write, End::Write))
    }
}

/// What the threads of a process do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rest {
    /// How many there are, kernel workers included.
    pub threads: u32,
    /// How often they have given up the CPU, all together: while this stays, none of them has run.
    pub switches: u64,
    /// Stopped by a signal or a debugger, or being traced: nothing about it can be concluded.
    pub stopped: bool,
    /// Signals for which the process has a handler.
    pub caught: SignalSet,
    /// What the main thread does: the system call that it sleeps in, or `running`.
    pub doing: String,
    /// The pipe that every one of them sleeps on, in read(2) or write(2) without a timeout.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub pipe: Option<PipeWait>,
}

/// A sleep on a pipe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PipeWait {
    /// The pipe's inode number.
    pub inode: u64,
    /// The end that is being used.
    pub end: End,
}

/// A process, with what it holds that may have been left behind: cheap to find out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Descriptors {
    /// When it was looked at.
    pub at: BootTime,
    /// Its present parent.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub parent: Option<ProcessKey>,
    /// Whether that is another than the one that forked it.
    pub reparented: bool,
    /// Whether it sleeps, and in what.
    pub rest: Rest,
    /// Whether it holds the other end of the pipe that it sleeps on itself.
    pub holds_other_end: bool,
    /// Whether the process that forked it holds that other end too. Looked for only where it does itself.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub forker_holds: bool,
    /// Pipes that it can write to and not read, at most [`MAX_KEPT`], which it holds beside the three standard descriptors
    /// and has written nothing at all since it was forked. Looked for only beside the process that forked it.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub kept: Vec<u64>,
    /// The same of one that has written something.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub fed: Vec<u64>,
    /// The child until whose end the process that forked it sleeps, by the pid that it has for it. Looked for only where
    /// it could write to such pipes.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub forker_awaits: Option<u32>,
    /// Listening sockets that it holds beside the three standard descriptors, by inode number. Looked for only where
    /// it was reparented and no thread waits in a call that could serve them.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub listeners: Vec<u64>,
}

/// Everybody who holds a pipe or a socket: a look at each process of the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holders {
    /// When the look began.
    pub at: BootTime,
    /// Whether every process of the host was listed, and no holder left out.
    pub complete: bool,
    /// Processes that could not be looked at, at most [`MAX_HOLDERS`].
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub hidden: Vec<u32>,
    /// Who, by ascending pid.
    pub holders: Vec<Holder>,
    /// Whether there may be descriptors that no process has: on their way through a Unix socket, or registered with an
    /// `io_uring`. Looked for only where it is about a pipe.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub elsewhere: bool,
    /// Of a socket that listens: where.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub listener: Option<Listener>,
    /// What runs in the process that forked the one asked about; in that itself where the forker has ended.
    pub program: Program,
}

impl Holders {
    /// Whether nobody else can hold it.
    pub const fn are_all(&self) -> bool {
        self.complete && self.hidden.is_empty()
    }

    /// The same, but for init. Where that may not be looked at, it is still nobody's heir: a pipe that a process has made
    /// comes to init only if it is handed over.
    pub fn are_all_but_init(&self) -> bool {
        self.complete && self.hidden.iter().all(|pid| *pid == 1)
    }

    /// What is known of a process.
    pub fn of(&self, process: ProcessKey) -> Option<&Holder> {
        self.holders.iter().find(|holder| holder.process == process)
    }
}

/// A listening socket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listener {
    /// Its address and port, or its path; safe for a terminal.
    pub address: String,
    /// Connections that wait to be accepted; absent where the kernel does not tell.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub queue: Option<u32>,
}

/// A process that holds a pipe or a socket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// Which. Its start is rounded down to a clock tick.
    pub process: ProcessKey,
    /// Its comm: at most 15 bytes, of its own choice.
    pub comm: Comm,
    /// Real uid.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub uid: Option<u32>,
    /// The file name of its executable; absent where that may not be read.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub executable: Option<String>,
    /// Its present parent.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub parent: Option<ProcessKey>,
    /// Whether that is one that takes in orphans, and not the one that forked it, as far as can be told.
    pub reparented: bool,
    /// Whether it was forked and has not exec'd since.
    pub unexeced: bool,
    /// Its descriptors of the object.
    pub held: Vec<Held>,
    /// Whether it sleeps, and in what.
    pub rest: Rest,
    /// What speaks for its serving the socket, if it is one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub service: Option<Service>,
    /// Of a pipe: whether any of its threads sleeps in a read of it.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub awaits: bool,
    /// Of one that does: the process that sleeps until it ends, where that forked the one asked about; by its pid.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub awaited_by: Option<u32>,
    /// Of a pipe: how many bytes it has written since it was forked, to whatever; absent where that may not be read.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub wrote: Option<u64>,
}

impl Holder {
    /// Whether none of its threads has run since an earlier look, and none has come or gone.
    pub fn has_not_run_since(&self, before: &Self) -> bool {
        before.rest.switches == self.rest.switches && before.rest.threads == self.rest.threads
    }
}

/// A descriptor of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// Its number.
    pub fd: u32,
    /// What it may be used for.
    pub access: Access,
}

/// A sign that a process has a use for a listening socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Service {
    /// It is a standard descriptor, as inetd(8) and its heirs pass it.
    Standard,
    /// It was started with sockets by a service manager (`sd_listen_fds(3)`).
    Activated,
    /// A thread sleeps in a call that accepts, or that may wait for connections or for an order to.
    Waits,
    /// It is in an epoll set of the process, or the process has an `io_uring`, where it may be.
    Watched,
    /// The process holds a connection that was accepted there.
    Connected,
}
