//! How much time in a second may go into looking things up, beside the stream.

use std::time::{Duration, Instant};

/// What of each second: little enough that the ring, which holds a storm of several hundred milliseconds, never waits
/// long.
const SHARE: Duration = Duration::from_millis(20);

/// A budget that is renewed each second. One look may exceed it; the next has to wait.
pub(super) struct Budget {
    second: Instant,
    spent: Duration,
}

impl Budget {
    pub(super) fn new() -> Self {
        Self { second: Instant::now(), spent: Duration::ZERO }
    }

    /// Whether a new second has begun since the last call that said so.
    pub(super) fn is_renewed(&mut self) -> bool {
        let renewed = self.second.elapsed() >= Duration::from_secs(1);
        if renewed {
            *self = Self::new();
        }
        renewed
    }

    /// Looks, if there is time left in this second.
    pub(super) fn spend<T>(&mut self, look: impl FnOnce() -> T) -> Option<T> {
        if self.spent >= SHARE {
            return None;
        }
        let start = Instant::now();
        let found = look();
        self.spent += start.elapsed();
        Some(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_spent_than_there_is() {
        let mut budget = Budget::new();
        assert_eq!(budget.spend(|| 1), Some(1));
        budget.spent = SHARE;
        assert_eq!(budget.spend(|| 2), None);
        budget.second -= Duration::from_secs(1);
        assert!(budget.is_renewed() && !budget.is_renewed());
        assert_eq!(budget.spend(|| 3), Some(3));
    }
}
