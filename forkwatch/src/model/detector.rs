//! How far a detector works, and what it stands on.

use serde::{Deserialize, Serialize};

/// How far a detector works on a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DetectorState {
    /// Fully.
    On,
    /// With restrictions: what it says holds, and some things it does not see.
    Limited,
    /// It runs, and can come to no conclusion here, because the host hides what it would have to see.
    Undecided,
    /// Not at all.
    Off,
}

impl DetectorState {
    /// Every state.
    pub const ALL: [Self; 4] = [Self::On, Self::Limited, Self::Undecided, Self::Off];

    /// The name in documents, metrics and messages.
    pub const fn name(self) -> &'static str {
        match self {
            Self::On => "on",
            Self::Limited => "limited",
            Self::Undecided => "undecided",
            Self::Off => "off",
        }
    }

    /// Whether its silence says anything: the value of `forkwatch_detector_enabled`.
    pub const fn works(self) -> bool {
        matches!(self, Self::On | Self::Limited)
    }
}

/// Something of a process that detectors want to see.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Aspect {
    /// What its descriptors are open on.
    Descriptors,
    /// The masks and sets behind them (`fdinfo`).
    Details,
    /// What its sockets are connected to (`pidfd_getfd(2)`).
    Sockets,
    /// Which system call its threads sleep in.
    Calls,
    /// What its memory holds, its threads' stacks included (`/proc/PID/mem`).
    Memory,
    /// Whether another process uses that too (`kcmp(2)`).
    Sharing,
    /// Which file it runs.
    Executable,
    /// How much it has read and written.
    Traffic,
}

impl Aspect {
    /// Every aspect.
    pub const ALL: [Self; 8] = [
        Self::Descriptors,
        Self::Details,
        Self::Sockets,
        Self::Calls,
        Self::Memory,
        Self::Sharing,
        Self::Executable,
        Self::Traffic,
    ];

    /// What it is, in the plural or without a number: "the system calls".
    pub const fn words(self) -> &'static str {
        match self {
            Self::Descriptors => "the descriptors",
            Self::Details => "the details of descriptors (fdinfo)",
            Self::Sockets => "the sockets",
            Self::Calls => "the system calls",
            Self::Memory => "the memory",
            Self::Sharing => "the sharers of the memory (kcmp)",
            Self::Executable => "the executable",
            Self::Traffic => "the reads and writes",
        }
    }
}

/// Of which processes a detector wants to see something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// Of those that it judges: it judges the others.
    Each,
    /// Of every process of the host but init, or else it concludes nothing.
    AllButInit,
    /// Of every process of the host, or else it concludes nothing. Without init it is less sure.
    All,
    /// Of those that it judges, and without it does so less well.
    Helps,
}

/// What the capabilities let be seen of other users' processes, most first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reach {
    /// Everything.
    Full,
    /// Their executables, but not their memory and file descriptors: `CAP_DAC_READ_SEARCH` is missing.
    Programs,
    /// Not even those: `CAP_SYS_PTRACE` is missing.
    Partial,
    /// Nothing: `/proc` hides them besides.
    Hidden,
}

/// What a detector may need that the kernel side observes on demand, which not every kernel allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Observable {
    /// Who sends and receives on a connection.
    SocketUse,
    /// Which connections a child is born with.
    Heirs,
    /// Every shutdown(2) of one.
    Shutdowns,
    /// Who sends a signal.
    Senders,
    /// Which children fell asleep.
    Sleepers,
    /// The ends of children that did not fail.
    GoodEnds,
}
