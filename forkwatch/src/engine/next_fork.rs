//! The one question that the kernel side answers: whether anything has been created since a sweep.

use crate::{host, kernel::Ring};

/// The question, while it is open.
#[derive(Default)]
pub(crate) enum NextFork {
    /// Nobody asks.
    #[default]
    Unasked,
    /// Asked with this mark, and not yet passed on.
    Asked(u64),
    /// The kernel side wakes the reader of the ring.
    Awaited,
}

impl NextFork {
    /// Asks; what was asked before needs no answer any more.
    pub(crate) fn ask(&mut self, mark: u64) {
        *self = Self::Asked(mark);
    }

    /// Whether there is an answer now, which is given once. Costs nothing where nobody asks, and a look at a table
    /// where somebody does.
    pub(crate) fn has_come(&mut self, ring: &mut Ring) -> bool {
        let came = match self {
            Self::Unasked => false,
            // Whatever came before the kernel side was told shows in the mark.
            Self::Asked(mark) => ring.await_fork().is_err() || host::created_since(*mark),
            Self::Awaited => ring.has_forked().unwrap_or(true),
        };
        *self = match self {
            Self::Asked(_) | Self::Awaited if !came => Self::Awaited,
            _ => Self::Unasked,
        };
        came
    }
}
