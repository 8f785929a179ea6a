//! Who gets a series of his own where there are fewer than programs.
//!
//! As long as there is room everybody does. After that every user has a right to as many as every other, and what has been
//! idle for longest gives way. So one user who thinks of new names all the time pushes nobody out for good, and makes
//! Prometheus keep few series more than there may be at a time.

use std::{
    collections::HashMap,
    hash::Hash,
    time::{Duration, Instant},
};

/// After so long without a fork a series gives way to another of the same user.
const IDLE: Duration = Duration::from_secs(3600);

/// Whose a series is; of some processes nobody knows.
pub(super) type User = Option<u32>;

/// The keys that have a series.
pub(super) struct Shares<K> {
    held: HashMap<K, Held>,
    by_user: HashMap<User, usize>,
    max: usize,
    refused: u64,
}

struct Held {
    user: User,
    last: Instant,
}

/// What becomes of a key.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Admission<K> {
    /// It has a series.
    Own,
    /// It has one now, in the place of this.
    InPlaceOf(K),
    /// There is none for it.
    Refused,
}

impl<K: Clone + Eq + Hash + Ord> Shares<K> {
    pub(super) fn new(max: usize) -> Self {
        Self { held: HashMap::new(), by_user: HashMap::new(), max, refused: 0 }
    }

    /// Finds or makes a series for a key of a user's.
    pub(super) fn admit(&mut self, key: K, user: User, now: Instant) -> Admission<K> {
        if let Some(held) = self.held.get_mut(&key) {
            held.last = now;
            return Admission::Own;
        }
        if self.held.len() < self.max {
            self.take(key, user, now);
            return Admission::Own;
        }
        let Some(victim) = self.victim(user, now) else {
            self.refused += 1;
            return Admission::Refused;
        };
        self.give_up(&victim);
        self.take(key, user, now);
        Admission::InPlaceOf(victim)
    }

    /// How often a key was refused.
    pub(super) fn refused(&self) -> u64 {
        self.refused
    }

    /// What gives way to a new key of a user's.
    fn victim(&self, user: User, now: Instant) -> Option<K> {
        let own = self.by_user.get(&user).copied().unwrap_or(0);
        let users = self.by_user.len() + usize::from(own == 0);
        let share = (self.max / users).max(1);
        if own < share
            && let Some((most, count)) = self.by_user.iter().max_by_key(|(user, count)| (**count, **user))
            && *count > share
        {
            let most = *most;
            return self.longest_idle(|held| held.user == most).map(|(key, _)| key);
        }
        // Not another's, as long as one has any: or he would have them all.
        let (key, last) = self.longest_idle(|held| own == 0 || held.user == user)?;
        (now.saturating_duration_since(last) >= IDLE).then_some(key)
    }

    fn longest_idle(&self, of: impl Fn(&Held) -> bool) -> Option<(K, Instant)> {
        let held = self.held.iter().filter(|(_, held)| of(held));
        let longest = held.min_by(|(key, held), (other, others)| (held.last, key).cmp(&(others.last, other)));
        longest.map(|(key, held)| (key.clone(), held.last))
    }

    fn take(&mut self, key: K, user: User, now: Instant) {
        *self.by_user.entry(user).or_default() += 1;
        self.held.insert(key, Held { user, last: now });
    }

    fn give_up(&mut self, key: &K) {
        let Some(Held { user, .. }) = self.held.remove(key) else { return };
        if let Some(count) = self.by_user.get_mut(&user) {
            *count -= 1;
            if *count == 0 {
                self.by_user.remove(&user);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MAX: usize = 10;

    fn shares() -> (Shares<String>, Instant) {
        (Shares::new(MAX), Instant::now())
    }

    fn admit(shares: &mut Shares<String>, key: &str, user: u32, at: Instant) -> Admission<String> {
        shares.admit(key.to_owned(), Some(user), at)
    }

    #[test]
    fn while_there_is_room_everybody_has_some() {
        let (mut shares, at) = shares();
        for number in 0..MAX {
            assert_eq!(admit(&mut shares, &format!("a{number}"), 1000, at), Admission::Own);
        }
        assert_eq!(admit(&mut shares, "a3", 1000, at), Admission::Own);
        assert_eq!(admit(&mut shares, "b", 1000, at), Admission::Refused);
        assert_eq!(shares.refused(), 1);
    }

    #[test]
    fn who_has_less_than_his_share_gets_it_from_who_has_most_the_longest_idle_first() {
        let (mut shares, start) = shares();
        let after = |seconds| start + Duration::from_secs(seconds);
        for number in 0..8 {
            admit(&mut shares, &format!("a{number}"), 1000, after(number));
        }
        admit(&mut shares, "web", 33, start);
        admit(&mut shares, "db", 34, start);
        admit(&mut shares, "a0", 1000, after(20));
        let gives_way = |key: &str| Admission::InPlaceOf(key.to_owned());
        assert_eq!(admit(&mut shares, "cron", 0, after(21)), gives_way("a1"));
        assert_eq!(admit(&mut shares, "mail", 0, after(21)), gives_way("a2"));
        // Four users have a right to two each.
        assert_eq!(admit(&mut shares, "more", 0, after(21)), Admission::Refused);
        assert_eq!(admit(&mut shares, "web2", 33, after(21)), gives_way("a3"));
        // Whoever tries for ever gets no further, and what he pushed out comes back to nobody's harm.
        for number in 0..1000 {
            assert_eq!(admit(&mut shares, &format!("n{number}"), 1000, after(22)), Admission::Refused);
        }
        for (key, user) in [("web", 33), ("db", 34), ("cron", 0), ("web2", 33), ("mail", 0)] {
            assert_eq!(admit(&mut shares, key, user, after(23)), Admission::Own, "{key}");
        }
    }

    #[test]
    fn what_is_idle_for_long_gives_way_to_its_own_user() {
        let (mut shares, start) = shares();
        for number in 0..MAX {
            admit(&mut shares, &format!("a{number}"), 1000, start);
        }
        let later = start + IDLE;
        assert_eq!(admit(&mut shares, "a5", 1000, later), Admission::Own);
        assert_eq!(admit(&mut shares, "early", 1000, start + IDLE / 2), Admission::Refused);
        assert_eq!(admit(&mut shares, "late", 1000, later), Admission::InPlaceOf("a0".to_owned()));
    }

    #[test]
    fn where_everybody_has_one_only_the_idle_give_way_to_a_newcomer() {
        let (mut shares, start) = shares();
        for user in 0..10 {
            admit(&mut shares, &format!("of {user}"), user, start);
        }
        assert_eq!(admit(&mut shares, "new", 77, start + IDLE / 2), Admission::Refused);
        assert_eq!(admit(&mut shares, "new", 77, start + IDLE), Admission::InPlaceOf("of 0".to_owned()));
    }

    proptest! {
        #[test]
        fn there_are_never_more_than_may_be_and_the_counts_add_up(
            steps in prop::collection::vec((0_u8..40, 0_u32..5, 0_u64..2000), 0..300)
        ) {
            let (mut shares, start) = shares();
            let mut now = start;
            for (key, user, wait) in steps {
                now += Duration::from_secs(wait);
                let before = shares.held.len();
                let admission = admit(&mut shares, &format!("{user} {key}"), user, now);
                prop_assert!(shares.held.len() <= MAX && shares.held.len() >= before);
                prop_assert_eq!(shares.by_user.values().sum::<usize>(), shares.held.len());
                if admission == Admission::Refused {
                    // Nobody is refused below his share while another is above his.
                    let own = shares.by_user.get(&Some(user)).copied().unwrap_or(0);
                    let share = (MAX / (shares.by_user.len() + usize::from(own == 0))).max(1);
                    prop_assert!(own >= share || shares.by_user.values().all(|count| *count <= share));
                }
            }
        }
    }
}
