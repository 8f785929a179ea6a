//! The other question that the kernel side answers: which children fell asleep.

use std::time::{Duration, Instant};

use crate::model::{evidence::Evidence, process::ProcessKey};

/// Of the time, what passes over all tasks may take: one part in so many. Somebody may have threads without number.
const SHARE: u32 = 60;

/// The question, and when the next pass may be.
#[derive(Default)]
pub(crate) struct Sleepers {
    is_asked: bool,
    is_answered: bool,
    not_before: Option<Instant>,
}

impl Sleepers {
    /// Asks.
    pub(crate) const fn ask(&mut self) {
        self.is_asked = true;
    }

    /// The answer, where one is asked for and says anything: that nobody fell asleep is said once, so that it is known
    /// who would be told. `pass` makes a pass.
    pub(crate) fn look(&mut self, pass: impl FnOnce() -> Option<Vec<ProcessKey>>) -> Option<Evidence> {
        let begin = Instant::now();
        if !std::mem::take(&mut self.is_asked) || self.not_before.is_some_and(|due| begin < due) {
            return None;
        }
        let seen = pass();
        let took: Duration = begin.elapsed();
        self.not_before = Some(begin + took * SHARE);
        let says_nothing = self.is_answered && seen.as_ref().is_some_and(Vec::is_empty);
        self.is_answered = true;
        (!says_nothing).then_some(Evidence::FellAsleep { seen })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(seen: Option<Vec<ProcessKey>>) -> Evidence {
        Evidence::FellAsleep { seen }
    }

    #[test]
    fn nobody_is_said_once() {
        let mut sleepers = Sleepers::default();
        assert_eq!(sleepers.look(|| unreachable!("nobody asked")), None);
        sleepers.ask();
        assert_eq!(sleepers.look(|| Some(Vec::new())), Some(told(Some(Vec::new()))));
        sleepers.not_before = None;
        sleepers.ask();
        assert_eq!(sleepers.look(|| Some(Vec::new())), None);
        sleepers.not_before = None;
        sleepers.ask();
        assert_eq!(sleepers.look(|| None), Some(told(None)), "that it cannot be told is said");
    }

    #[test]
    fn a_pass_that_takes_long_is_not_made_again_soon() {
        let mut sleepers = Sleepers::default();
        sleepers.ask();
        let slow = || {
            let begin = Instant::now();
            while begin.elapsed() < Duration::from_millis(5) {}
            None
        };
        assert_eq!(sleepers.look(slow), Some(told(None)));
        let due = sleepers.not_before.unwrap();
        assert!(due > Instant::now() + Duration::from_millis(200));
        sleepers.ask();
        assert_eq!(sleepers.look(|| unreachable!("it is too early")), None);
    }
}
