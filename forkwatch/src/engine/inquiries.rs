//! What outputs want to know beyond an event. What never waits is looked at on the spot; the rest is asked of the reader,
//! and waited for a moment at most. Both within a budget.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use super::budget::Budget;
use crate::model::{event::Event, particulars::Particulars};

/// How long an answer is waited for: everything that is to be told waits behind it.
const PATIENCE: Duration = Duration::from_millis(250);
/// Questions that may be open at once. The reader answers them before the core's.
const MOST_OPEN: usize = 64;

/// The questions of outputs.
pub(super) struct Inquiries {
    /// The number of the next question.
    next: u64,
    budget: Budget,
    /// What was found in this second: who cannot fork tries again and again.
    found: HashMap<Failure, Particulars>,
    open: Vec<Open>,
}

/// A failed call: its process and the error. The same have the same limit behind them.
type Failure = (u32, u32);

/// A question that was asked.
struct Open {
    asked: Instant,
    failure: Option<Failure>,
    /// Its number, and those of the same questions that came while it was open; none once the wait was given up.
    waiting: Vec<u64>,
    /// The number by which the reader knows it.
    number: u64,
}

/// What came of asking.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Inquiry {
    /// Nobody was asked.
    None,
    /// The answer comes under this number, or is given up.
    Open(u64),
    /// This is the answer, under this number.
    Answered(u64, Particulars),
}

impl Inquiry {
    /// The number that the answer has.
    pub(super) const fn number(&self) -> Option<u64> {
        match self {
            Self::None => None,
            Self::Open(number) | Self::Answered(number, _) => Some(*number),
        }
    }
}

impl Inquiries {
    pub(super) fn new(now: Instant) -> Self {
        Self { next: 0, budget: Budget::new(now), found: HashMap::new(), open: Vec::new() }
    }

    /// Finds out the particulars of an event. `look` says what is seen without waiting, if that is all there is to be known;
    /// `ask` has the reader asked under a number, and says whether it could.
    pub(super) fn ask(
        &mut self,
        event: &Event,
        now: Instant,
        look: impl FnOnce() -> Option<Particulars>,
        ask: impl FnOnce(u64) -> bool,
    ) -> Inquiry {
        if !Particulars::may_be_of(event) {
            return Inquiry::None;
        }
        if self.budget.is_renewed(now) {
            self.found.clear();
        }
        let number = self.next;
        let failure = match event {
            Event::CloneFailure(failure) => Some((failure.tgid, failure.errno)),
            _ => None,
        };
        if let Some(failure) = &failure {
            if let Some(found) = self.found.get(failure) {
                self.next += 1;
                return Inquiry::Answered(number, found.clone());
            }
            let is_same =
                |open: &&mut Open| open.failure.as_ref() == Some(failure) && !open.waiting.is_empty();
            if let Some(same) = self.open.iter_mut().find(is_same) {
                self.next += 1;
                same.waiting.push(number);
                return Inquiry::Open(number);
            }
        }
        if !self.budget.has_some() {
            return Inquiry::None;
        }
        let begun = Instant::now();
        let seen = look();
        self.budget.charge(begun.elapsed());
        if let Some(seen) = seen {
            self.next += 1;
            return Inquiry::Answered(number, seen);
        }
        if self.open.len() >= MOST_OPEN || !ask(number) {
            return Inquiry::None;
        }
        self.next += 1;
        self.open.push(Open { asked: now, failure, waiting: vec![number], number });
        Inquiry::Open(number)
    }

    /// Takes in an answer, which took so much time. Gives the numbers of the questions that it answers.
    pub(super) fn answered(&mut self, number: u64, took: Duration, particulars: &Particulars) -> Vec<u64> {
        self.budget.charge(took);
        let Some(place) = self.open.iter().position(|open| open.number == number) else { return Vec::new() };
        let Open { failure, waiting, .. } = self.open.swap_remove(place);
        if let Some(failure) = failure {
            self.found.insert(failure, particulars.clone());
        }
        waiting
    }

    /// Gives up what has been waited for long enough, and says what that is. What was asked stays open, since the reader
    /// has it still to answer.
    pub(super) fn overdue(&mut self, now: Instant) -> Vec<u64> {
        let overdue = self.open.iter_mut().filter(|open| open.asked + PATIENCE <= now);
        overdue.flat_map(|open| std::mem::take(&mut open.waiting)).collect()
    }

    /// When something is overdue next.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let waited_for = self.open.iter().filter(|open| !open.waiting.is_empty());
        waited_for.map(|open| open.asked + PATIENCE).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{
        event::{CloneFailure, CloneKind, Fork, Origin},
        limit::Cause,
        process::ProcessKey,
        signals::SignalSet,
        time::BootTime,
    };

    fn fork(threads: u32) -> Event {
        let key = ProcessKey { tgid: 7, start: BootTime(1) };
        Event::Fork(Fork {
            origin: Origin::default(),
            at: BootTime(2),
            kind: CloneKind::Copying,
            parent: key,
            parent_tid: 7,
            comm: "x".into(),
            uid: 0,
            cgroup: 0,
            threads,
            pending_thread: SignalSet::EMPTY,
            pending_shared: SignalSet::EMPTY,
            blocked: SignalSet::EMPTY,
            child: key,
            child_namespace_pid: 7,
            generation: 1,
            tracked: true,
        })
    }

    fn failure(tgid: u32) -> Event {
        Event::CloneFailure(CloneFailure {
            origin: Origin::default(),
            at: BootTime(2),
            tgid,
            tid: tgid,
            comm: "x".into(),
            uid: 0,
            cgroup: 0,
            errno: 11,
            duration: 1,
        })
    }

    /// Nothing is seen without the reader.
    const fn unseen() -> Option<Particulars> {
        None
    }

    const LITTLE: Duration = Duration::from_micros(50);

    fn limit() -> Particulars {
        Particulars::Limit(Cause::PidsMax.into())
    }

    #[test]
    fn only_what_can_be_answered_is_asked() {
        let now = Instant::now();
        let mut inquiries = Inquiries::new(now);
        assert_eq!(
            inquiries.ask(&fork(1), now, unseen, |_| panic!("there are no other threads")),
            Inquiry::None
        );
        assert_eq!(
            inquiries.ask(&fork(2), now, unseen, |_| false),
            Inquiry::None,
            "the reader's queue is full"
        );
        assert_eq!(inquiries.deadline(), None);
        assert_eq!(inquiries.ask(&fork(2), now, unseen, |_| true), Inquiry::Open(0));
        assert_eq!(inquiries.answered(0, LITTLE, &Particulars::ThreadNames(Vec::new())), [0]);
        assert_eq!(inquiries.deadline(), None);
    }

    #[test]
    fn what_is_seen_at_once_is_not_asked() {
        let now = Instant::now();
        let mut inquiries = Inquiries::new(now);
        let names = Particulars::ThreadNames(vec!["worker".into()]);
        let seen = inquiries.ask(&fork(2), now, || Some(names.clone()), |_| panic!("it is known"));
        assert_eq!((seen, inquiries.deadline()), (Inquiry::Answered(0, names), None));
    }

    #[test]
    fn the_same_failure_is_looked_at_once_a_second() {
        let now = Instant::now();
        let mut inquiries = Inquiries::new(now);
        assert_eq!(inquiries.ask(&failure(7), now, unseen, |_| true), Inquiry::Open(0));
        assert_eq!(
            inquiries.ask(&failure(7), now, unseen, |_| panic!("it is being asked")),
            Inquiry::Open(1)
        );
        assert_eq!(inquiries.ask(&failure(8), now, unseen, |_| true), Inquiry::Open(2));
        assert_eq!(inquiries.answered(0, LITTLE, &limit()), [0, 1]);
        let known = inquiries.ask(&failure(7), now, unseen, |_| panic!("it is known"));
        assert_eq!(known, Inquiry::Answered(3, limit()));
        let later = now + Duration::from_secs(1);
        assert_eq!(inquiries.ask(&failure(7), later, unseen, |_| true), Inquiry::Open(4));
    }

    #[test]
    fn nothing_is_waited_for_longer_than_there_is_patience() {
        let now = Instant::now();
        let mut inquiries = Inquiries::new(now);
        inquiries.ask(&fork(2), now, unseen, |_| true);
        inquiries.ask(&fork(2), now + LITTLE, unseen, |_| true);
        assert_eq!(inquiries.deadline(), Some(now + PATIENCE));
        assert_eq!(inquiries.overdue(now + PATIENCE), [0]);
        assert_eq!(inquiries.deadline(), Some(now + LITTLE + PATIENCE));
        assert_eq!(inquiries.answered(0, LITTLE, &Particulars::None), [0; 0], "nobody waits for it any more");
        assert_eq!(inquiries.overdue(now + 2 * PATIENCE), [1]);
        assert_eq!(inquiries.deadline(), None);
    }

    #[test]
    fn a_storm_is_asked_about_in_part() {
        let now = Instant::now();
        let mut inquiries = Inquiries::new(now);
        let asked =
            (0..1000).filter(|_| inquiries.ask(&fork(2), now, unseen, |_| true) != Inquiry::None).count();
        assert_eq!(asked, MOST_OPEN);
        // The reader has them still, though nobody waits.
        assert_eq!(inquiries.overdue(now + PATIENCE).len(), MOST_OPEN);
        assert_eq!(inquiries.ask(&fork(2), now + PATIENCE, unseen, |_| true), Inquiry::None);
        for number in 0..1000 {
            inquiries.answered(number, Duration::from_millis(1), &Particulars::None);
        }
        assert_eq!(
            inquiries.ask(&fork(2), now + PATIENCE, unseen, |_| true),
            Inquiry::None,
            "no time is left"
        );
        let later = now + Duration::from_secs(1);
        assert!(inquiries.ask(&fork(2), later, unseen, |_| true) != Inquiry::None);
    }
}
