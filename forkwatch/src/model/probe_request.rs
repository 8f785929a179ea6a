//! What the core has the kernel side look at while a question is open.

use super::{process::ProcessKey, time::BootTime};

/// What the kernel side is to report, or no longer. What it attaches for the first request it detaches with the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProbeRequest {
    /// Report how this child ends, or that it execs, though its fork was not streamed.
    Follow {
        /// The forked child: its tgid, and when it started.
        child: ProcessKey,
        /// Its present parent.
        parent_tgid: u32,
    },
    /// Report every signal that is sent to this process.
    WatchSignals(ProcessKey),
    /// No longer.
    UnwatchSignals(ProcessKey),
    /// Report how every child ends that this process forks from now on, or that it execs: the good ends too.
    WatchFamily(ProcessKey),
    /// No longer.
    UnwatchFamily(ProcessKey),
    /// Report who uses the socket of this inode number, of the processes that share one and their children: each
    /// one's first use of a kind, and the first 64 turns. Requested again, it begins anew.
    WatchSocket(u64),
    /// No longer.
    UnwatchSocket(u64),
    /// This process holds a watched socket; so will every child that it forks.
    Share(ProcessKey),
    /// It does no longer.
    Unshare(ProcessKey),
    /// Tell of every child that this process forks with connections: it has left some to a child before.
    Cover(ProcessKey),
    /// Tell of none before this time: its children do not keep them.
    Disregard {
        /// The process that forks.
        forker: ProcessKey,
        /// The time from which on it is told of again.
        until: BootTime,
    },
}
