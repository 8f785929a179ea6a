//! Heartbeats, shared between the parts of a watch and those who vouch for them.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::{sync::Notify, time::timeout_at};

use super::{Failing, Health, Part, Questions};
use crate::model::process::ProcessKey;

/// The heartbeats of one watch. Clones share everything.
#[derive(Clone, Debug, Default)]
pub struct Pulse(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    known: Mutex<Known>,
    /// Rung when a part is asked.
    ring: Notify,
    evidence: Notify,
    http: Notify,
    /// Rung when any part has answered.
    answered: Notify,
}

#[derive(Debug, Default)]
struct Known {
    health: Health,
    questions: Questions,
    looks: Looks,
    /// Whether it is told late, or not at all, which children fall asleep.
    sleepers_are_late: bool,
}

/// What has become of looks into processes that hung or broke.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Looks {
    /// Processes that are not looked into, and until when that counts.
    pub unreadable: Vec<(ProcessKey, Instant)>,
    /// Readers that cannot be ended now.
    pub lost: usize,
    /// Readers that were started in place of another.
    pub replaced: u64,
}

impl Pulse {
    /// Asks every part to show that it works, waits for the answers, at most so long, and gives those parts that do
    /// not work. One that is known to be silent already is not waited for again.
    pub async fn round(&self, patience: Duration) -> Vec<Failing> {
        let began = Instant::now();
        for part in Part::ALL {
            if self.known().health.ask(part, began) {
                self.bell(part).notify_one();
            }
        }
        loop {
            let answered = self.0.answered.notified();
            let now = Instant::now();
            {
                let known = self.known();
                if !known.health.is_awaited(now, patience) {
                    return known.health.failing(now, patience);
                }
            }
            let passed = timeout_at((began + patience).into(), answered).await.is_err();
            if passed {
                return self.known().health.failing(Instant::now(), patience);
            }
        }
    }

    /// Ready when this part is asked to show that it works. To be waited for by that part alone.
    pub async fn asked(&self, part: Part) {
        self.bell(part).notified().await;
    }

    /// This part works: it has done what it was asked to.
    pub fn works(&self, part: Part) {
        self.known().health.works(part);
        self.0.answered.notify_waiters();
    }

    /// This part was asked, and says that it cannot do its work.
    pub fn is_unable(&self, part: Part, why: &'static str) {
        self.known().health.is_unable(part, why);
        self.0.answered.notify_waiters();
    }

    /// A question was put to the evidence: this is its number.
    pub fn question(&self) -> u64 {
        self.known().questions.asked(Instant::now())
    }

    /// The question of that number has no room, and is not answered.
    pub fn let_go(&self, question: u64) {
        self.known().questions.answered(question);
    }

    /// The evidence has answered the question of that number.
    pub fn answer(&self, question: u64) {
        let mut known = self.known();
        known.questions.answered(question);
        known.health.moves(Part::Evidence);
        drop(known);
        self.0.answered.notify_waiters();
    }

    /// Notes what has become of looks.
    pub fn looks(&self, looks: Looks) {
        self.known().looks = looks;
    }

    /// What has become of looks.
    pub fn looks_so_far(&self) -> Looks {
        self.known().looks.clone()
    }

    /// Notes whether it is told late, or not at all, which children fall asleep.
    pub fn tell_sleepers(&self, are_late: bool) {
        self.known().sleepers_are_late = are_late;
    }

    /// Whether it is told late, or not at all, which children fall asleep.
    pub fn sleepers_are_late(&self) -> bool {
        self.known().sleepers_are_late
    }

    /// The parts that do not work, as far as is known: nobody is asked.
    pub fn failing(&self, patience: Duration) -> Vec<Failing> {
        self.known().health.failing(Instant::now(), patience)
    }

    /// How many questions the evidence has not answered, and for how long the oldest.
    pub fn backlog(&self) -> (usize, Duration) {
        let known = self.known();
        (known.questions.unanswered(), known.questions.lag(Instant::now()))
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn bell(&self, part: Part) -> &Notify {
        match part {
            Part::Ring => &self.0.ring,
            Part::Evidence => &self.0.evidence,
            Part::Http => &self.0.http,
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time;

    use super::{super::How, *};

    /// A part that does as it is asked.
    fn answer(pulse: &Pulse, part: Part) -> tokio::task::JoinHandle<()> {
        let pulse = pulse.clone();
        tokio::spawn(async move {
            loop {
                pulse.asked(part).await;
                pulse.works(part);
            }
        })
    }

    #[tokio::test]
    async fn a_round_ends_when_every_part_has_answered() {
        let pulse = Pulse::default();
        let _parts = Part::ALL.map(|part| answer(&pulse, part));
        for _ in 0..3 {
            let round = time::timeout(Duration::from_secs(60), pulse.round(Duration::from_secs(600)));
            assert_eq!(round.await.unwrap(), []);
        }
    }

    #[tokio::test]
    async fn each_part_that_hangs_or_has_ended_is_named_within_the_patience() {
        const PATIENCE: Duration = Duration::from_millis(50);
        for hung in Part::ALL {
            let pulse = Pulse::default();
            let parts = Part::ALL.map(|part| answer(&pulse, part));
            assert_eq!(pulse.round(PATIENCE * 100).await, []);
            for (part, task) in Part::ALL.into_iter().zip(&parts) {
                if part == hung {
                    task.abort();
                }
            }
            let failing = pulse.round(PATIENCE).await;
            assert_eq!(failing.iter().map(|failing| failing.part).collect::<Vec<_>>(), [hung]);
            // That is known by now: who asks again gets the answer at once, though the patience be an hour.
            let began = Instant::now();
            let again = pulse.round(PATIENCE).await;
            assert!(
                matches!(again.as_slice(), [Failing { how: How::Silent(since), .. }] if *since >= PATIENCE)
            );
            assert!(began.elapsed() < PATIENCE, "it was waited for again");
            // And when it goes on, all is well.
            pulse.works(hung);
            let _again = answer(&pulse, hung);
            assert_eq!(pulse.round(PATIENCE * 100).await, []);
        }
    }

    #[tokio::test]
    async fn the_evidence_goes_on_as_long_as_it_answers_anything() {
        let pulse = Pulse::default();
        let _others = [Part::Ring, Part::Http].map(|part| answer(&pulse, part));
        let first = pulse.question();
        pulse.question();
        assert_eq!(pulse.backlog().0, 2);
        let (failing, ()) = tokio::join!(pulse.round(Duration::from_secs(60)), async {
            pulse.asked(Part::Evidence).await;
            pulse.answer(first);
        });
        assert_eq!((failing.len(), pulse.backlog().0), (0, 1));
    }
}
