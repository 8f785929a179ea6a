//! What an output may want to know of an event beyond what the kernel told of it.

use serde::{Deserialize, Serialize};

use super::{event::Event, limit::Limit, process::Comm};

/// What was found out beside an event.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Particulars {
    /// Nothing: there is nothing to be found out, nobody looked, or no answer came in time.
    #[default]
    None,
    /// The comms of the threads that a fork left behind, as far as they were still there: the first
    /// [`MAX_THREADS`](super::seen::MAX_THREADS) by tid.
    ThreadNames(Vec<Comm>),
    /// The limit that a failed call ran into.
    Limit(Limit),
}

impl Particulars {
    /// Whether there may be any of such an event.
    pub const fn may_be_of(event: &Event) -> bool {
        match event {
            Event::Fork(fork) => fork.threads > 1,
            Event::CloneFailure(_) => true,
            _ => false,
        }
    }

    /// The comms of the threads that a fork left behind.
    pub fn thread_names(&self) -> &[Comm] {
        if let Self::ThreadNames(names) = self { names } else { &[] }
    }

    /// The limit that a failed call ran into.
    pub const fn limit(&self) -> Option<&Limit> {
        if let Self::Limit(limit) = self { Some(limit) } else { None }
    }
}
