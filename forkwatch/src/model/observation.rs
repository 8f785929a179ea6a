//! What the kernel side sees while a question is open, or of what a child is born with: evidence for the core, of which
//! outputs are not told.

use serde::{Deserialize, Serialize};

use super::{
    connection::{Act, Inherited, User},
    event::Origin,
    process::{Comm, ProcessKey},
    time::BootTime,
};

/// A signal was sent to a process that is watched for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signal {
    /// Place in the stream.
    pub origin: Origin,
    /// When, on the clock that counts from the boot.
    pub at: BootTime,
    /// Its number, from 1 to 64 (signal(7)).
    pub number: u32,
    /// To which process.
    pub target: ProcessKey,
    /// The process that sent it; 0 where the kernel did.
    pub sender_tgid: u32,
    /// Comm of the sending thread.
    pub comm: Comm,
}

/// A process took its turn on a watched socket: it did what another process had done last, or it had not used the
/// socket before. Not every call makes one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SocketUse {
    /// Place in the stream.
    pub origin: Origin,
    /// When, on the clock that counts from the boot.
    pub at: BootTime,
    /// The socket's inode number.
    pub inode: u64,
    /// The process that used it.
    pub user: User,
    /// The calling thread.
    pub tid: u32,
    /// Its comm: at most 15 bytes, of its own choice.
    pub comm: Comm,
    /// What the process did with it.
    pub act: Act,
    /// How many bytes it moved.
    pub bytes: u64,
}

/// A child was born with connections of its parent's; or one that was has ended, and these have moved bytes since.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heir {
    /// Place in the stream.
    pub origin: Origin,
    /// When, on the clock that counts from the boot.
    pub at: BootTime,
    /// The process that forked.
    pub parent: ProcessKey,
    /// The forked child: its tgid, and when it started.
    pub child: ProcessKey,
    /// Comm of the thread that forked, or of the one that ended last.
    pub comm: Comm,
    /// The connections.
    pub sockets: Vec<Inherited>,
    /// Whether it has more that were not looked at.
    pub more: bool,
}

/// A process that shares sockets with others has ended or exec'd. It is told of while uses are watched, and where no
/// other record may tell.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SharerEnd {
    /// Place in the stream.
    pub origin: Origin,
    /// When, on the clock that counts from the boot.
    pub at: BootTime,
    /// The process that does not have the sockets any more.
    pub process: ProcessKey,
    /// Whether it has exec'd, and lives on as another program.
    pub execed: bool,
}

/// Something that was seen because the core had asked for it, or may need it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Observation {
    /// A watched process got a signal.
    Signal(Signal),
    /// A watched socket was used.
    SocketUse(SocketUse),
    /// A child was born with connections.
    Heir(Heir),
    /// Such a child ends, and connections have moved bytes since its birth.
    Moved(Heir),
    /// A process that shares sockets is no more.
    SharerEnd(SharerEnd),
}

impl Observation {
    /// When it happened.
    pub const fn at(&self) -> BootTime {
        match self {
            Self::Signal(seen) => seen.at,
            Self::SocketUse(seen) => seen.at,
            Self::Heir(seen) | Self::Moved(seen) => seen.at,
            Self::SharerEnd(seen) => seen.at,
        }
    }
}
