//! Processes that are not looked into for a while, because a look hung or broke; and what such looks have cost.
//!
//! Pure: whoever calls says when. A reader that not even a signal ends is *lost*. Whoever can lose one can lose many:
//! so of each user's processes one is lost at most, and eight in all.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use crate::model::process::ProcessKey;

/// How long a process is left alone at first; twice as long each time.
const FIRST: Duration = Duration::from_secs(10);
/// At most.
const LONGEST: Duration = Duration::from_secs(600);
/// Readers that may be lost at a time, whoever's processes they were lost to.
const MOST_LOST: usize = 8;
/// Processes that are remembered: those beyond it are of users who are left alone as a whole.
const MOST: usize = 4096;
/// Looks that may hang or break within [`FIRST`] before all of a user's processes are left alone for a while.
const MOST_FAILURES: u32 = 3;

/// The user whose processes a look was for; absent where that is unknown.
type User = Option<u32>;

/// A process that is set aside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable {
    /// Which process: its tgid, and when it started.
    pub process: ProcessKey,
    /// Why, as a sentence without a full stop.
    pub why: String,
    /// Until when that counts, where nobody looks again: some time after it might be looked into.
    pub until: Instant,
}

/// What is set aside.
#[derive(Debug, Default)]
pub(super) struct Aside {
    processes: HashMap<u32, Rest>,
    users: HashMap<User, Rest>,
    /// The readers that are lost, and to whom.
    lost: HashMap<u32, User>,
}

#[derive(Debug)]
struct Rest {
    process: Option<ProcessKey>,
    until: Instant,
    pause: Duration,
    failures: u32,
    why: String,
}

impl Aside {
    /// Whether every process may be looked into now, whoever's it is: to look up whose it is takes three files.
    pub(super) fn lets_all(&self, now: Instant) -> bool {
        self.lost.is_empty()
            && self.processes.values().chain(self.users.values()).all(|rest| now >= rest.until)
    }

    /// Whether the process may be looked into now; an error says why not.
    pub(super) fn may_look(&self, process: ProcessKey, user: User, now: Instant) -> Result<(), String> {
        if self.lost.values().any(|lost| *lost == user) {
            return Err(format!(
                "{} keeps a look at its memory waiting, and no other is looked into until that ends",
                of(user)
            ));
        }
        // The host's own programs are not out to harm it.
        if self.lost.len() >= MOST_LOST && user != Some(0) {
            return Err(format!("{MOST_LOST} other processes keep looks at their memory waiting"));
        }
        let rests = |rest: &&Rest| now < rest.until;
        if let Some(rest) = self.users.get(&user).filter(rests) {
            return Err(rest.why.clone());
        }
        let is_it = |rest: &&Rest| rest.process.is_none_or(|known| known == process);
        match self.processes.get(&process.tgid).filter(is_it).filter(rests) {
            Some(rest) => Err(rest.why.clone()),
            None => Ok(()),
        }
    }

    /// A look at a process hung or broke. Gives for how long it is left alone.
    pub(super) fn failed(&mut self, process: ProcessKey, user: User, why: &str, now: Instant) -> Duration {
        let all = self.users.entry(user).or_insert_with(|| Rest::new(None, now));
        all.failures = if now.saturating_duration_since(all.until) > LONGEST { 1 } else { all.failures + 1 };
        if all.failures >= MOST_FAILURES {
            all.why = format!("looks at other processes of {} have failed: {why}", of(user));
            all.rest(now);
        }
        self.set_aside(process, why, now)
    }

    /// Leaves a process alone for a while: a look at it hung, be it at another one that belongs to it. Gives for how long.
    pub(super) fn set_aside(&mut self, process: ProcessKey, why: &str, now: Instant) -> Duration {
        if self.processes.len() >= MOST && !self.processes.contains_key(&process.tgid) {
            self.forget_rested(now);
        }
        let rest = self.processes.entry(process.tgid).or_insert_with(|| Rest::new(Some(process), now));
        if rest.process != Some(process) {
            *rest = Rest::new(Some(process), now);
        }
        why.clone_into(&mut rest.why);
        rest.rest(now)
    }

    /// A process was looked into without harm.
    pub(super) fn succeeded(&mut self, tgid: u32) {
        self.processes.remove(&tgid);
    }

    /// A reader could not be ended: it waits for what a process of this user has made it wait for.
    pub(super) fn lose(&mut self, reader: u32, user: User) {
        self.lost.insert(reader, user);
    }

    /// A reader has ended after all.
    pub(super) fn found(&mut self, reader: u32) {
        self.lost.remove(&reader);
    }

    /// How many readers are lost now.
    pub(super) fn lost(&self) -> usize {
        self.lost.len()
    }

    /// The processes that are set aside, or were until lately and have not been looked into since.
    pub(super) fn unreadable(&self) -> impl Iterator<Item = Unreadable> {
        self.processes.values().filter_map(|rest| {
            Some(Unreadable { process: rest.process?, why: rest.why.clone(), until: rest.until + rest.pause })
        })
    }

    /// Forgets those that could be looked into again: should they fail again, they begin anew.
    fn forget_rested(&mut self, now: Instant) {
        self.processes.retain(|_, rest| now < rest.until);
        self.users.retain(|_, rest| now < rest.until || rest.failures > 0);
    }
}

impl Rest {
    fn new(process: Option<ProcessKey>, now: Instant) -> Self {
        Self { process, until: now, pause: FIRST / 2, failures: 0, why: String::new() }
    }

    fn rest(&mut self, now: Instant) -> Duration {
        self.pause = (self.pause * 2).min(LONGEST);
        self.until = now + self.pause;
        self.pause
    }
}

fn of(user: User) -> String {
    user.map_or_else(|| "an unknown user".to_owned(), |uid| format!("uid {uid}"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::time::BootTime;

    fn process(tgid: u32) -> ProcessKey {
        ProcessKey { tgid, start: BootTime(u64::from(tgid) << 40) }
    }

    #[test]
    fn a_process_is_left_alone_for_ever_longer_and_the_others_are_not() {
        let (mut aside, start) = (Aside::default(), Instant::now());
        let mut now = start;
        for seconds in [10, 20, 40] {
            let pause = aside.failed(process(7), Some(1000), "it hangs", now);
            assert_eq!(pause, Duration::from_secs(seconds));
            assert_eq!(aside.may_look(process(7), Some(1000), now), Err("it hangs".to_owned()));
            assert!(aside.may_look(process(8), Some(1001), now).is_ok());
            now += pause;
            assert!(aside.processes[&7].until <= now);
            aside.users.clear();
        }
        assert_eq!(aside.unreadable().count(), 1);
        aside.succeeded(7);
        assert_eq!(aside.unreadable().count(), 0);
        assert_eq!(aside.failed(process(7), Some(1000), "it hangs", now), FIRST, "it begins anew");
        let another = ProcessKey { start: BootTime(1 << 50), ..process(7) };
        assert!(aside.may_look(another, Some(1000), now).is_ok(), "a pid alone is nobody");
    }

    #[test]
    fn who_has_lost_a_reader_loses_no_other_and_eight_are_the_most() {
        let (mut aside, now) = (Aside::default(), Instant::now());
        for user in 0..8 {
            assert!(aside.may_look(process(1), Some(1000 + user), now).is_ok());
            aside.lose(user, Some(1000 + user));
            assert!(aside.may_look(process(1), Some(1000 + user), now).is_err());
        }
        assert_eq!(aside.lost(), 8);
        assert!(aside.may_look(process(1), Some(33), now).is_err());
        assert!(aside.may_look(process(1), Some(0), now).is_ok(), "the host's own are looked into");
        aside.found(3);
        assert!(aside.may_look(process(1), Some(33), now).is_ok());
        assert!(aside.may_look(process(1), Some(1003), now).is_ok());
        assert!(aside.may_look(process(1), Some(1004), now).is_err());
    }

    #[test]
    fn a_user_whose_processes_fail_one_after_the_other_is_left_alone_as_a_whole() {
        let (mut aside, now) = (Aside::default(), Instant::now());
        for tgid in 1..=3 {
            assert!(aside.may_look(process(tgid), Some(1000), now).is_ok());
            aside.failed(process(tgid), Some(1000), "it hangs", now);
        }
        let why = aside.may_look(process(4), Some(1000), now).unwrap_err();
        assert!(why.contains("uid 1000") && why.contains("it hangs"), "{why}");
        assert!(aside.may_look(process(4), Some(1001), now).is_ok());
        assert!(!aside.lets_all(now));
        assert!(aside.may_look(process(4), Some(1000), now + FIRST).is_ok());
        assert!(aside.lets_all(now + FIRST * 4));
    }

    proptest! {
        /// Whatever fails in whatever order: never more readers are lost than may be, as long as it is asked first.
        #[test]
        fn no_order_of_failures_loses_more_than_may_be(
            looks in proptest::collection::vec((1_u32..40, 0_u32..12, any::<bool>(), any::<bool>()), 0..300)
        ) {
            let (mut aside, mut now) = (Aside::default(), Instant::now());
            for (reader, (tgid, user, hangs, is_lost)) in (0..).zip(looks) {
                now += Duration::from_secs(1);
                if aside.may_look(process(tgid), Some(user), now).is_err() {
                    prop_assert!(!aside.lets_all(now), "whom it does not let is not looked up");
                    continue;
                }
                if hangs {
                    aside.failed(process(tgid), Some(user), "it hangs", now);
                    if is_lost {
                        aside.lose(reader, Some(user));
                    }
                } else {
                    aside.succeeded(tgid);
                }
                prop_assert!(aside.lost() <= MOST_LOST + 1);
                let mut users: Vec<_> = aside.lost.values().collect();
                users.sort_unstable();
                users.dedup();
                prop_assert_eq!(users.len(), aside.lost());
            }
        }
    }
}
