//! The names of a forker's other threads, for the event of its fork.

use super::budget::Budget;
use crate::{
    host,
    model::{event::Event, process::Comm},
};

/// Looks threads up, within a budget: names are a convenience, and must not hold up the stream.
pub(super) struct ThreadNames(Budget);

impl Default for ThreadNames {
    fn default() -> Self {
        Self(Budget::new())
    }
}

impl ThreadNames {
    /// The names, as far as they can still be seen; empty for any other event, and where the budget is spent.
    pub(super) fn of(&mut self, event: &Event) -> Vec<Comm> {
        let Event::Fork(fork) = event else { return Vec::new() };
        if fork.threads < 2 {
            return Vec::new();
        }
        self.0.is_renewed();
        self.0.spend(|| host::left_behind(fork)).unwrap_or_default()
    }
}
