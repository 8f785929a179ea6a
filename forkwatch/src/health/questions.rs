//! Questions that have been asked and not been answered yet.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

/// When each open question was asked, from the oldest on. They are answered in the order in which they are asked.
#[derive(Debug, Default)]
pub struct Questions {
    open: VecDeque<Instant>,
}

impl Questions {
    /// A question was asked.
    pub fn asked(&mut self, now: Instant) {
        self.open.push_back(now);
    }

    /// The oldest was answered.
    pub fn answered(&mut self) {
        self.open.pop_front();
    }

    /// How many are open.
    pub fn unanswered(&self) -> usize {
        self.open.len()
    }

    /// How old the oldest is; nothing where none is open.
    pub fn lag(&self, now: Instant) -> Duration {
        self.open.front().map_or(Duration::ZERO, |asked| now.saturating_duration_since(*asked))
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
        questions.asked(after(0));
        questions.asked(after(5));
        assert_eq!((questions.unanswered(), questions.lag(after(9))), (2, Duration::from_secs(9)));
        questions.answered();
        assert_eq!((questions.unanswered(), questions.lag(after(9))), (1, Duration::from_secs(4)));
        questions.answered();
        // One answer too many is no question.
        questions.answered();
        assert_eq!((questions.unanswered(), questions.lag(after(9))), (0, Duration::ZERO));
    }
}
