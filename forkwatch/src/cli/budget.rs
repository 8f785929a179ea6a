//! How often in a second something costly may be done.

use std::time::{Duration, Instant};

/// A budget that is renewed each second.
pub(super) struct Budget {
    second: Instant,
    size: u32,
    left: u32,
}

impl Budget {
    /// So often a second.
    pub(super) fn new(size: u32) -> Self {
        Self { second: Instant::now(), size, left: size }
    }

    /// Whether a new second has begun since the last call that said so.
    pub(super) fn is_renewed(&mut self) -> bool {
        let renewed = self.second.elapsed() >= Duration::from_secs(1);
        if renewed {
            *self = Self::new(self.size);
        }
        renewed
    }

    /// Whether it may be done once more in this second.
    pub(super) fn spend(&mut self) -> bool {
        let allowed = self.left > 0;
        self.left = self.left.saturating_sub(1);
        allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_spent_than_there_is() {
        let mut budget = Budget::new(2);
        assert_eq!(
            [budget.spend(), budget.spend(), budget.spend(), budget.spend()],
            [true, true, false, false]
        );
    }
}
