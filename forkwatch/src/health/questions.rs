//! Questions that have been asked and not been answered yet.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

/// When each open question was asked, by its number: they are answered in any order.
#[derive(Debug, Default)]
pub struct Questions {
    open: BTreeMap<u64, Instant>,
    next: u64,
}

impl Questions {
    /// A question was asked: this is its number.
    pub fn asked(&mut self, now: Instant) -> u64 {
        self.next += 1;
        self.open.insert(self.next, now);
        self.next
    }

    /// The question of that number was answered, or is not waited for any more.
    pub fn answered(&mut self, number: u64) {
        self.open.remove(&number);
    }

    /// How many are open.
    pub fn unanswered(&self) -> usize {
        self.open.len()
    }

    /// How old the oldest is; nothing where none is open.
    pub fn lag(&self, now: Instant) -> Duration {
        self.open.values().next().map_or(Duration::ZERO, |asked| now.saturating_duration_since(*asked))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lag_is_the_age_of_the_oldest_open_question() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let mut questions = Questions::default();
        assert_eq!((questions.unanswered(), questions.lag(after(9))), (0, Duration::ZERO));
        let first = questions.asked(after(0));
        let second = questions.asked(after(5));
        let third = questions.asked(after(6));
        assert_eq!((questions.unanswered(), questions.lag(after(9))), (3, Duration::from_secs(9)));
        questions.answered(second);
        assert_eq!((questions.unanswered(), questions.lag(after(9))), (2, Duration::from_secs(9)));
        questions.answered(first);
        assert_eq!((questions.unanswered(), questions.lag(after(9))), (1, Duration::from_secs(3)));
        questions.answered(third);
        // One answer too many is no question.
        questions.answered(third);
        assert_eq!((questions.unanswered(), questions.lag(after(9))), (0, Duration::ZERO));
    }
}
