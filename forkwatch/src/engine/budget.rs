//! How much processor time in a second may go into what outputs want to know beside the stream.

use std::time::{Duration, Instant};

/// What of each second: little enough that the core's own questions are hardly kept waiting.
const SHARE: Duration = Duration::from_millis(20);

/// A budget that is renewed each second. One look may exceed it; the next has to wait.
pub(super) struct Budget {
    second: Instant,
    spent: Duration,
}

impl Budget {
    pub(super) const fn new(now: Instant) -> Self {
        Self { second: now, spent: Duration::ZERO }
    }

    /// Whether a new second has begun since the last call that said so.
    pub(super) fn is_renewed(&mut self, now: Instant) -> bool {
        let renewed = now.saturating_duration_since(self.second) >= Duration::from_secs(1);
        if renewed {
            *self = Self::new(now);
        }
        renewed
    }

    /// Whether there is time left in this second.
    pub(super) fn has_some(&self) -> bool {
        self.spent < SHARE
    }

    /// So much was spent.
    pub(super) fn charge(&mut self, spent: Duration) {
        self.spent += spent;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_spent_than_there_is() {
        let begun = Instant::now();
        let mut budget = Budget::new(begun);
        budget.charge(SHARE / 2);
        assert!(budget.has_some());
        budget.charge(SHARE / 2);
        assert!(!budget.has_some());
        let later = begun + Duration::from_secs(1);
        assert!(!budget.is_renewed(begun) && budget.is_renewed(later) && !budget.is_renewed(later));
        assert!(budget.has_some());
    }
}
