//! What a look at a server's workers shows: which of them wait for work.

use serde::{Deserialize, Serialize};

use super::{
    loaded::Loaded,
    process::{Comm, ProcessKey, Program},
    time::BootTime,
    worker::WorkSource,
};

/// Most workers of one server that are looked at together.
pub const MAX_TOGETHER: usize = 64;

/// A process that forks, and some of its children.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkersSeen {
    /// When the look ended.
    pub at: BootTime,
    /// What runs in the one that forks, where that was asked.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub master: Option<Who>,
    /// Whether it has a socket that listens.
    pub listens: bool,
    /// All children that were forked and have not exec'd, where that was asked; bounded.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub children: Vec<ProcessKey>,
    /// The children that were asked for, in that order.
    pub workers: Vec<WorkerSeen>,
}

/// What runs in a process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Who {
    /// What runs there.
    pub program: Program,
    /// What tells more of that.
    pub loaded: Vec<Loaded>,
}

/// One of the children.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerSeen {
    /// The worker that was looked at: its tgid, and when it started.
    pub process: ProcessKey,
    /// What runs there, where that was asked.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub who: Option<Who>,
    /// What it does.
    pub look: WorkerLook,
}

/// What a child does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WorkerLook {
    /// It has ended, or has exec'd.
    Gone,
    /// It cannot be looked at: why not.
    Unreadable(String),
    /// It lives.
    Alive {
        /// Its comm: at most 15 bytes, of its own choice.
        comm: Comm,
        /// How many threads it has.
        threads: u32,
        /// What may bring work and that one of its threads waits for; where none does and that was asked, a connection that
        /// its server has taken in and that it holds.
        sources: Vec<WorkSource>,
        /// What its main thread does: the name of the system call that it waits in, or `running`.
        doing: String,
        /// Where that is in its script, where an interpreter runs one and that was asked. Safe for a terminal.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        place: Option<String>,
    },
}
