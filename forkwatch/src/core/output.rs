//! What the core has to say.

use std::time::Duration;

use crate::model::{
    connection::Peer,
    evidence::Request,
    finding::{Finding, HazardId},
    probe_request::ProbeRequest,
    process::{Comm, ProcessKey, Program},
    time::BootTime,
    worker::WorkerEvent,
};

/// What the core has to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// An instruction for the kernel side.
    Probe(ProbeRequest),
    /// A question for the host; the answer is to come back as [`Core::evidence`](super::Core::evidence).
    Ask(Request),
    /// A first report, a summary of repeats, or a resolution.
    Finding(Box<Finding>),
    /// A child lives on past the grace without exec: not a fault in itself.
    LivesOn(LivesOn),
    /// A child and its parent both hold a connection: not a fault in itself.
    Shares(Shared),
    /// How many such connections there are now.
    SharedConnections(usize),
    /// Something has happened to a worker of a server.
    Worker(Box<WorkerEvent>),
    /// How many children are stuck, and since when the longest.
    Stuck {
        /// The hazard by which they hang.
        hazard: HazardId,
        /// How many of them could be looked at last time.
        confirmed: u64,
        /// How many cannot be looked at any more.
        unknown: u64,
        /// Since when the longest of all, if there is one.
        oldest: Option<BootTime>,
    },
    /// Something unsafe happened, the first time or again: for the counters.
    Unsafe {
        /// The hazard that it is a case of.
        hazard: HazardId,
        /// The program to blame.
        program_name: String,
        /// Its systemd unit, else its container.
        unit: Option<String>,
        /// The real uid of the program to blame, where that is known.
        uid: Option<u32>,
    },
    /// A finding that the operator accepts.
    Suppressed {
        /// What it was about.
        hazard: HazardId,
        /// The program to blame.
        program_name: String,
        /// Which rule of [`Settings::suppress`](super::Settings::suppress) silenced it, from 0.
        rule: usize,
        /// The rule's reason.
        reason: String,
    },
    /// A hazard that could not be judged, because the process was gone or unreadable.
    Undecided {
        /// The hazard that it is about.
        hazard: HazardId,
        /// The forked child: its tgid, and when it started.
        child: ProcessKey,
        /// The reason, for the log.
        why: String,
    },
    /// Something was given up.
    Dropped(Dropped),
}

/// A child that lives on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LivesOn {
    /// The forked child: its tgid, and when it started.
    pub child: ProcessKey,
    /// The process that forked it.
    pub parent: ProcessKey,
    /// The child's comm.
    pub comm: Comm,
    /// When it was seen.
    pub at: BootTime,
    /// How old it was.
    pub since_fork: Duration,
}

/// A connection that a fork left to two processes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shared {
    /// The forked child: its tgid, and when it started.
    pub child: ProcessKey,
    /// The process that forked it.
    pub parent: ProcessKey,
    /// When it was seen.
    pub at: BootTime,
    /// What runs in the parent.
    pub program: Program,
    /// The other end.
    pub peer: Peer,
}

/// What the core gave up, to stay within its bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dropped {
    /// A fork: [`Settings::max_children`](super::Settings::max_children) are being followed.
    Child,
    /// A program that started with signals blocked: too many wait to be looked at.
    Program,
    /// A process about which a question stayed unanswered.
    Unanswered,
    /// A child that lives on: [`Settings::max_children`](super::Settings::max_children) are being looked at.
    Living,
    /// A shared connection: too many are being watched.
    Connection,
}

impl Dropped {
    /// The names of everything that can be given up.
    pub const NAMES: [&str; 5] = [
        Self::Child.name(),
        Self::Program.name(),
        Self::Unanswered.name(),
        Self::Living.name(),
        Self::Connection.name(),
    ];

    /// The name in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Child => "child",
            Self::Program => "program",
            Self::Unanswered => "unanswered",
            Self::Living => "living",
            Self::Connection => "connection",
        }
    }
}
