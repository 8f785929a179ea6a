//! The limits behind failed calls, for their events and metrics.

use std::{collections::HashMap, time::Duration};

use super::budget::Budget;
use crate::{
    engine::Asker,
    model::{
        event::{CloneFailure, Event},
        limit::Limit,
    },
    reader::{Answer, Question},
};

/// How long the answer may take.
const PATIENCE: Duration = Duration::from_millis(100);

/// Looks limits up, within a budget.
pub(super) struct Causes {
    /// Absent where what is shown happened elsewhere, or long ago.
    asker: Option<Asker>,
    budget: Budget,
    /// What was found in this second, by process and error: who cannot fork tries again and again.
    found: HashMap<(u32, u32), Option<Limit>>,
}

impl Causes {
    pub(super) fn new(asker: Option<Asker>) -> Self {
        Self { asker, budget: Budget::new(), found: HashMap::new() }
    }

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
        let asker = self.asker.as_ref()?;
        let look = || asker.ask_now(Question::Limit(failure.clone()), PATIENCE);
        let limit = match self.budget.spend(look)? {
            Some(Answer::Limit(limit)) => limit,
            _ => None,
        };
        self.found.insert(key, limit.clone());
        limit
    }

    /// The limit behind an event, where that is a failure.
    pub(super) fn of_event(&mut self, event: &Event) -> Option<Limit> {
        let Event::CloneFailure(failure) = event else { return None };
        self.of(failure)
    }
}
