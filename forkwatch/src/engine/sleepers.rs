//! The other question that the kernel side answers: which children fell asleep.

use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};

use crate::{
    health::Pulse,
    model::{evidence::Evidence, process::ProcessKey},
};

/// Of the time, what passes over all tasks may take: one part in so many. Somebody may have threads without number.
const SHARE: u32 = 60;
/// Where passes are farther apart than this, a child that begins to wait is looked at late. They are asked for each second.
const LATE: Duration = Duration::from_secs(3);

/// The question, and when the next pass may be.
#[derive(Default)]
pub(crate) struct Sleepers {
    pulse: Pulse,
    is_late: bool,
    is_asked: bool,
    is_answered: bool,
    not_before: Option<Instant>,
}

impl Sleepers {
    /// Tells the pulse where passes are late, or refused.
    pub(crate) fn new(pulse: Pulse) -> Self {
        Self { pulse, ..Self::default() }
    }

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
        let before = own_cpu_time();
        let seen = pass();
        // Not by the clock: on a busy host the thread is made to wait in between.
        let took = own_cpu_time().saturating_sub(before);
        let apart = took * SHARE;
        self.not_before = Some(begin + apart);
        self.told(seen.is_none(), apart);
        let says_nothing = self.is_answered && seen.as_ref().is_some_and(Vec::is_empty);
        self.is_answered = true;
        (!says_nothing).then_some(Evidence::FellAsleep { seen })
    }

    /// Takes in whether a pass was refused, and how far apart they are.
    fn told(&mut self, is_refused: bool, apart: Duration) {
        let is_late = is_refused || apart > LATE;
        if is_late != std::mem::replace(&mut self.is_late, is_late) {
            self.pulse.tell_sleepers(is_late);
            match (is_late, is_refused) {
                // Whoever refused has said so.
                (true, true) => {}
                (true, false) => tracing::warn!(
                    "a look at all tasks takes {:?}: children that begin to wait are looked at every {} s only",
                    apart / SHARE,
                    apart.as_secs()
                ),
                (false, _) => tracing::info!("children that begin to wait are looked at each second again"),
            }
        }
    }
}

/// What this thread has had of a CPU; a pass runs in whoever reads it.
fn own_cpu_time() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map_or(Duration::ZERO, Duration::from)
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
        const LONG: Duration = Duration::from_millis(5);
        let (mut sleepers, begin) = (Sleepers::default(), Instant::now());
        sleepers.ask();
        let slow = || {
            let before = own_cpu_time();
            while own_cpu_time().saturating_sub(before) < LONG {}
            None
        };
        assert_eq!(sleepers.look(slow), Some(told(None)));
        assert!(sleepers.not_before.unwrap() >= begin + LONG * SHARE);
        sleepers.not_before = Some(Instant::now() + Duration::from_secs(3600));
        sleepers.ask();
        assert_eq!(sleepers.look(|| unreachable!("it is too early")), None);
    }

    #[test]
    fn passes_that_are_refused_or_far_apart_are_told() {
        let pulse = Pulse::default();
        let mut sleepers = Sleepers::new(pulse.clone());
        let mut is_late_after = |is_refused, apart| {
            sleepers.told(is_refused, apart);
            pulse.sleepers_are_late()
        };
        assert!(!is_late_after(false, Duration::from_millis(20)));
        assert!(is_late_after(false, LATE * 2), "somebody has a million threads");
        assert!(!is_late_after(false, Duration::from_millis(20)), "they are gone");
        assert!(is_late_after(true, Duration::from_millis(20)));
    }

    #[test]
    fn a_pass_that_is_refused_is_told() {
        let pulse = Pulse::default();
        let mut sleepers = Sleepers::new(pulse.clone());
        sleepers.ask();
        sleepers.look(|| Some(Vec::new()));
        assert!(!pulse.sleepers_are_late());
        sleepers.not_before = None;
        sleepers.ask();
        sleepers.look(|| None);
        assert!(pulse.sleepers_are_late());
    }
}
