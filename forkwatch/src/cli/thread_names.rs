//! The names of a forker's other threads, for the event of its fork.

use super::budget::Budget;
use crate::{
    host,
    model::{
        event::Event,
        evidence::{Evidence, Request},
        process::Comm,
    },
};

/// Looks in a second: names are a convenience, and must not hold up the stream.
const BUDGET: u32 = 100;

/// Looks threads up, within a budget.
pub(super) struct ThreadNames(Budget);

impl Default for ThreadNames {
    fn default() -> Self {
        Self(Budget::new(BUDGET))
    }
}

impl ThreadNames {
    /// The names, as far as they can still be seen; empty for any other event, and where the budget is spent.
    pub(super) fn of(&mut self, event: &Event) -> Vec<Comm> {
        let Event::Fork(fork) = event else { return Vec::new() };
        if fork.threads < 2 || !self.may_look() {
            return Vec::new();
        }
        let request = Request::Parent {
            child: fork.child,
            parent: fork.parent,
            forking_tid: fork.parent_tid,
            forked_at: fork.at,
        };
        match host::answer(&request) {
            Evidence::Parent { seen: Some(seen), .. } => {
                seen.threads.iter().map(|thread| thread.comm).collect()
            }
            _ => Vec::new(),
        }
    }

    fn may_look(&mut self) -> bool {
        self.0.is_renewed();
        self.0.spend()
    }
}
