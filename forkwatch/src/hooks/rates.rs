//! Who has had how many runs of a hook.
//!
//! Each user's processes have a count of their own, so that nobody can use up what another's finding would need.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use crate::config::hook::Rate;

/// Most users that are told apart. All further ones share one count.
const MOST_USERS: usize = 256;

/// Runs that are left, by user.
#[derive(Debug)]
pub(super) struct Rates {
    rate: Rate,
    left: HashMap<Option<u32>, Left>,
    others: Left,
}

/// Runs that are left to somebody.
#[derive(Clone, Copy, Debug)]
struct Left {
    /// Time that runs have been earned for and not used: `per` is `count` runs.
    earned: Duration,
    at: Instant,
}

impl Rates {
    pub(super) fn new(rate: Rate, now: Instant) -> Self {
        Self { rate, left: HashMap::new(), others: Left { earned: rate.per, at: now } }
    }

    /// Whether it may run once more for this user, which counts.
    pub(super) fn take(&mut self, user: Option<u32>, now: Instant) -> bool {
        let rate = self.rate;
        if !self.left.contains_key(&user) && self.left.len() >= MOST_USERS {
            // Who has not run anything for a while is known again when he does.
            self.left.retain(|_, left| left.since(now, rate) < rate.per);
        }
        let is_known = self.left.contains_key(&user) || self.left.len() < MOST_USERS;
        let left = if is_known {
            self.left.entry(user).or_insert(Left { earned: rate.per, at: now })
        } else {
            &mut self.others
        };
        *left = Left { earned: left.since(now, rate), at: now };
        let price = rate.per / rate.count.max(1);
        match left.earned.checked_sub(price) {
            Some(rest) => {
                left.earned = rest;
                true
            }
            None => false,
        }
    }
}

impl Left {
    fn since(&self, now: Instant, rate: Rate) -> Duration {
        self.earned.saturating_add(now.saturating_duration_since(self.at)).min(rate.per)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_at_once_and_then_as_they_are_earned() {
        let begin = Instant::now();
        let at = |seconds| begin + Duration::from_secs(seconds);
        let mut rates = Rates::new(Rate { count: 3, per: Duration::from_secs(60) }, begin);
        let taken: Vec<bool> =
            [0, 0, 0, 0, 19, 20, 20, 41].map(|seconds| rates.take(Some(33), at(seconds))).to_vec();
        assert_eq!(taken, [true, true, true, false, false, true, false, true]);
        assert_eq!((0..9).filter(|_| rates.take(Some(33), at(9999))).count(), 3, "no more is saved up");
    }

    #[test]
    fn one_user_takes_nothing_from_another_and_many_take_no_memory() {
        let now = Instant::now();
        let mut rates = Rates::new(Rate { count: 1, per: Duration::from_secs(60) }, now);
        assert!(rates.take(Some(1), now) && !rates.take(Some(1), now));
        assert!(rates.take(Some(2), now) && rates.take(None, now));
        let taken = (10..100_000).filter(|user| rates.take(Some(*user), now)).count();
        assert_eq!(taken, MOST_USERS - 3 + 1, "one for all the others");
        assert!(rates.left.len() <= MOST_USERS);
        assert!(rates.take(Some(99_999), now + Duration::from_secs(60)), "there is room again");
    }
}
