//! What to watch, and how.

use std::time::Duration;

use forkwatch_ebpf::{filter, stream};

use super::{kernel_log::Speakers, probes::Probe};
use crate::model::defaults;

/// Which plain events enter the ring. Hazardous forks, and their outcomes, always do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stream {
    /// Copying forks without a hazard.
    pub plain: bool,
    /// vfork. Clones that share memory for good are always told.
    pub sharing: bool,
    /// Threads that a process creates.
    pub threads: bool,
}

impl Stream {
    pub(super) fn bits(self) -> u32 {
        let Self { plain, sharing, threads } = self;
        [(plain, stream::PLAIN), (sharing, stream::SHARING), (threads, stream::THREADS)]
            .iter()
            .filter(|(wanted, _)| *wanted)
            .fold(0, |bits, (_, bit)| bits | bit)
    }
}

/// Whose forks enter the ring: those that pass every filter that is set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Only processes named by [`Kernel::let_through`](super::Kernel::let_through), and their descendants.
    pub tasks: bool,
    /// Only this real uid.
    pub uid: Option<u32>,
    /// Only this cgroup of the version 2 hierarchy, and those below it.
    pub cgroup: Option<Cgroup>,
}

/// A cgroup of the version 2 hierarchy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cgroup {
    /// Its id: the inode number of its directory.
    pub id: u64,
    /// Its depth; the root's is 0.
    pub level: u32,
}

impl Filter {
    pub(super) fn bits(&self) -> u32 {
        let Self { tasks, uid, cgroup } = self;
        [(*tasks, filter::TASKS), (uid.is_some(), filter::UID), (cgroup.is_some(), filter::CGROUP)]
            .iter()
            .filter(|(wanted, _)| *wanted)
            .fold(0, |bits, (_, bit)| bits | bit)
    }
}

/// Everything that is decided before the load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Which plain events enter the ring.
    pub stream: Stream,
    /// Whose events enter the ring.
    pub filter: Filter,
    /// How long a child may take to exec or exit before it counts as living on.
    pub grace: Duration,
    /// Size of the ring in bytes: a power of two, and a multiple of the page size.
    pub ring_bytes: u32,
    /// How many un-exec'd children are followed at once.
    pub max_children: u32,
    /// Probes that are on only where they are asked for.
    pub asked: &'static [Probe],
    /// Whose decisions are logged: if anybody's, the object that can log is loaded.
    pub kernel_log: Speakers,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            stream: Stream::default(),
            filter: Filter::default(),
            grace: defaults::GRACE,
            ring_bytes: defaults::RING_BYTES,
            max_children: defaults::MAX_CHILDREN,
            asked: &[],
            kernel_log: Speakers::default(),
        }
    }
}
