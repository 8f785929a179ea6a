//! A forked child that is followed, as whoever asks is told of it.

use super::process::{Comm, ProcessKey};

/// A child that has not exec'd and lives on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Followed {
    /// Its tgid, and when it started.
    pub process: ProcessKey,
    /// The process that forked it, where that was seen or still lives.
    pub parent: Option<ProcessKey>,
    /// The comm of the thread that forked it.
    pub forked_by: Option<Comm>,
    /// Threads of its forker at the fork, where a record told.
    pub forker_threads: Option<u32>,
    /// The real uid that it was forked with.
    pub uid: Option<u32>,
    /// Whether it is proven to hang for good.
    pub hangs: bool,
    /// Whether it waits in a way that may be endless.
    pub waits: bool,
    /// How many locks it carries that threads hold which it does not have.
    pub carried_locks: usize,
}
