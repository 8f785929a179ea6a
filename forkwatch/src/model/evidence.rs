//! What the core asks of the host, and what the host answers.
//!
//! Every race of `/proc` (the process is gone, its pid belongs to another by now) ends in an answer that says so,
//! never in a wrong one.

use serde::{Deserialize, Serialize};

use super::{
    process::{Comm, ProcessKey, Program},
    signals::SignalSet,
    time::BootTime,
};

/// Most threads that an answer names.
pub const MAX_THREADS: usize = 64;

/// A question of the core about one fork, to be answered off the hot path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Request {
    /// Who forked, and which of its threads that lived at the fork live still?
    Parent {
        /// The fork's child: names the question.
        child: ProcessKey,
        /// The process to look at.
        parent: ProcessKey,
        /// The thread that forked, which is not in the answer's list.
        forking_tid: u32,
        /// Threads that started later are not in the answer's list either.
        forked_at: BootTime,
    },
    /// Does the child live on without exec?
    Child {
        /// The process to look at.
        child: ProcessKey,
    },
    /// What runs in a process that exec'd, and does it still block signals? Asked some time after the exec.
    Execed {
        /// The process to look at.
        process: ProcessKey,
    },
}

/// An answer to a [`Request`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Evidence {
    /// About the parent.
    Parent {
        /// The fork's child.
        child: ProcessKey,
        /// What was seen; absent where the parent is gone, reused, or unreadable.
        seen: Option<ParentSeen>,
    },
    /// About the child.
    Child {
        /// The child.
        child: ProcessKey,
        /// What was seen.
        seen: ChildSeen,
    },
    /// About a process that exec'd.
    Execed {
        /// The process.
        process: ProcessKey,
        /// What was seen; absent where it is gone, reused, or unreadable.
        seen: Option<ExecedSeen>,
    },
}

/// A process, some time after its exec.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecedSeen {
    /// When it was looked at.
    pub at: BootTime,
    /// What runs in it.
    pub program: Program,
    /// What runs in its parent now, where that is still the process that forked it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub parent: Option<(ProcessKey, Program)>,
    /// Signals that every one of its threads blocks now.
    pub blocked: SignalSet,
    /// Signals that it takes in through a signalfd: blocked on purpose. Absent where that cannot be seen.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub awaited: Option<SignalSet>,
}

/// The forker, some time after the fork.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ParentSeen {
    /// When it was looked at.
    pub at: BootTime,
    /// What runs in it.
    pub program: Program,
    /// Its threads of the time of the fork that are still there, without the forking one and without kernel
    /// workers: the first [`MAX_THREADS`] by tid.
    pub threads: Vec<SeenThread>,
    /// How many such threads there are in all.
    pub thread_count: u32,
    /// Signals pending and blocked in the forking thread (or, where that has ended, in the main thread), its own
    /// and the process's.
    pub pending: SignalSet,
}

/// A thread of the parent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeenThread {
    /// Its tid in the root pid namespace.
    pub tid: u32,
    /// Its comm.
    pub comm: Comm,
}

/// The child, at the time of the verdict.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ChildSeen {
    /// It has ended, or its pid belongs to another.
    Gone,
    /// It has exec'd (`PF_FORKNOEXEC` is clear), though no event said so.
    Execed,
    /// It lives on without exec.
    Alive {
        /// When it was looked at.
        at: BootTime,
        /// Its comm now.
        comm: Comm,
        /// Nanoseconds it has run; absent where the kernel does not account for it.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        ran: Option<u64>,
        /// Nanoseconds it has waited for a CPU; absent likewise.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        waited: Option<u64>,
        /// Stopped by a signal or a debugger.
        stopped: bool,
    },
    /// It could not be read, for this reason.
    Unreadable(String),
}
