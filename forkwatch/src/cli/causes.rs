//! The limits behind failed calls, for their events and metrics.

use std::collections::HashMap;

use super::budget::Budget;
use crate::{
    host::Limits,
    model::{
        event::{CloneFailure, Event},
        limit::Limit,
    },
};

/// Looks limits up, within a budget.
pub(super) struct Causes {
    limits: Limits,
    budget: Budget,
    /// What was found in this second, by process and error: who cannot fork tries again and again.
    found: HashMap<(u32, u32), Option<Limit>>,
}

impl Default for Causes {
    fn default() -> Self {
        Self { limits: Limits::default(), budget: Budget::new(), found: HashMap::new() }
    }
}

impl Causes {
    /// The limit behind a failure; absent where it cannot be told, and where the budget is spent.
    pub(super) fn of(&mut self, failure: &CloneFailure) -> Option<Limit> {
        if self.budget.is_renewed() {
            self.found.clear();
        }
        let key = (failure.tgid, failure.errno);
        if let Some(found) = self.found.get(&key) {
            return found.clone();
        }
        // A look may read all of `/proc`, and must not hold up the stream.
        let limit = self.budget.spend(|| self.limits.find(failure))?;
        self.found.insert(key, limit.clone());
        limit
    }

    /// The limit behind an event, where that is a failure.
    pub(super) fn of_event(&mut self, event: &Event) -> Option<Limit> {
        let Event::CloneFailure(failure) = event else { return None };
        self.of(failure)
    }
}
