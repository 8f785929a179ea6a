//! A server's processes, as one look finds them.

use serde::{Deserialize, Serialize};

use super::{
    connection::Peer,
    loaded::Loaded,
    process::{ProcessKey, Program},
    stack::Frame,
    thread::SeenThread,
    time::BootTime,
};

/// Most processes of which all is told.
pub const MAX_DETAILED: usize = 64;
/// Most threads of one process that are told.
pub const MAX_THREADS: usize = 64;

/// A process with those that it is forked from, and all that descend from these.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tree {
    /// When it was looked at.
    pub at: BootTime,
    /// Parents stand before their children; the first is the one from which all others descend.
    pub members: Vec<Member>,
    /// Whether these are all.
    pub whole: bool,
}

/// A process of the family.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// The process: its tgid, and when it started.
    pub process: ProcessKey,
    /// The pid of its parent.
    pub parent: u32,
    /// What runs in it.
    pub program: Program,
    /// What tells more of that.
    pub loaded: Vec<Loaded>,
    /// Whether it runs the first one's program, forked from it and not exec'd since.
    pub forked: bool,
    /// What its main thread does.
    pub state: State,
    /// What it holds; absent for a process of another program, and for those beyond [`MAX_DETAILED`].
    pub details: Option<Box<Details>>,
}

/// What a process holds and does.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Details {
    /// Its threads, the main one first, then the oldest first.
    pub threads: Vec<Thread>,
    /// How many there are.
    pub thread_count: u32,
    /// What is open; absent where that may not be seen.
    pub open: Option<Open>,
    /// Its memory; absent where that may not be seen.
    pub memory: Option<Memory>,
    /// Why something is missing above; the first reason.
    pub hidden: Option<Hidden>,
}

/// Why something could not be seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hidden {
    /// What the kernel says.
    pub why: String,
    /// Whether more privilege would help.
    pub denied: bool,
}

/// What a process does, as the scheduler has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// It runs, or wants to.
    Running,
    /// It waits.
    Sleeping,
    /// It waits, and no signal ends that: for a disk, mostly.
    Uninterruptible,
    /// A signal or a debugger has stopped it.
    Stopped,
    /// It has ended, and its parent has not asked how.
    Zombie,
}

impl State {
    /// The name that users see.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Sleeping => "sleeping",
            Self::Uninterruptible => "uninterruptible",
            Self::Stopped => "stopped",
            Self::Zombie => "zombie",
        }
    }
}

/// A thread, and what it does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Thread {
    /// Which thread, by its tid and comm.
    pub thread: SeenThread,
    /// The name that its program gave it, safe for a terminal.
    pub name: Option<String>,
    /// The innermost call of its script.
    pub at: Option<Frame>,
    /// What it does; absent where that may not be seen.
    pub doing: Option<Doing>,
    /// Nanoseconds since it last ran; absent while it runs, and where the kernel does not tell.
    pub since: Option<u64>,
}

/// What a thread does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Doing {
    /// It runs, or wants to.
    Runs,
    /// It is in the kernel, but in no system call.
    Elsewhere,
    /// It waits in a system call.
    Waits(Wait),
}

/// A system call that a thread waits in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wait {
    /// The name of the system call.
    pub call: String,
    /// The descriptors that it waits for; what an epoll instance watches, for one that waits there.
    pub on: Vec<u32>,
    /// The futex that it waits for without a time limit.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub futex: Option<Futex>,
}

/// A word of memory that a thread waits for to be woken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Futex {
    /// Its address in the process that waits.
    pub address: u64,
    /// Whether it is waited for as glibc waits for a mutex; otherwise it may be of a semaphore or a condition, too.
    pub is_mutex: bool,
}

/// The open descriptors of a process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Open {
    /// How many of them there are.
    pub count: u32,
    /// How many it may have (`RLIMIT_NOFILE`, the soft limit); absent where that is unlimited or unknown.
    pub limit: Option<u64>,
    /// Sockets that are connected to a peer with a name. Each list is bounded.
    pub connections: Vec<Socket>,
    /// Sockets that listen.
    pub listeners: Vec<Socket>,
    /// Where its standard output goes.
    pub output: Option<Target>,
    /// Where its standard error goes.
    pub errors: Option<Target>,
    /// What the descriptors that its threads wait for are open on.
    pub awaited: Vec<(u32, Target)>,
}

/// A socket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Socket {
    /// Its descriptor.
    pub fd: u32,
    /// Its inode number: two processes that hold the same one share it.
    pub inode: u64,
    /// The other end; of a socket that listens, its own.
    pub peer: Peer,
    /// Whether it came in at a port on which the process listens.
    pub accepted: bool,
}

/// What a descriptor is open on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// As the kernel shows it: a path, `pipe:[4711]`. Two processes that show the same have the same open. Lossy where it is
    /// not UTF-8.
    pub link: String,
    /// The other end of a connected socket, or the address of one that listens.
    pub peer: Option<Peer>,
}

/// Memory of a process, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// Bytes that are in RAM, shared ones included.
    pub resident: u64,
    /// Of this, what it shares with other processes.
    pub shared: u64,
    /// Of this, what is its own and was written: in a forked one, copied or new since the fork.
    pub copied: u64,
}
