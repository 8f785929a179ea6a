//! What a question about a process may cost: bytes, calls and processor time. A process decides itself how much there is
//! to be seen of it: a million symbols, twenty thousand mappings. So every loop over what it shows spends from the budget
//! of the question, and ends when that is used up. What was found until then is not told: the half of a table names
//! the wrong function.
//!
//! A budget is the thread's: whoever reads need not be handed one. Outside of a question nothing is counted.

use std::{cell::RefCell, fmt, io, time::Duration};

use nix::time::{ClockId, clock_gettime};

/// What may be spent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Limits {
    /// Bytes that are read.
    pub(super) bytes: u64,
    /// Reads, and turns of loops that read nothing.
    pub(super) steps: u64,
    /// Time of a processor.
    pub(super) time: Duration,
}

/// For a question of the running watch. A program of two million symbols takes a fifth of it.
pub(super) const EVIDENCE: Limits =
    Limits { bytes: 256 * 1024 * 1024, steps: 400_000, time: Duration::from_secs(1) };

/// For all that is told of one process to somebody who waits for it, and for what is asked about the whole host.
pub(super) const LARGE: Limits =
    Limits { bytes: 1024 * 1024 * 1024, steps: 2_000_000, time: Duration::from_secs(4) };

/// The clock is asked once in so many steps, and once in so many bytes.
const STEPS_BETWEEN: u64 = 256;
const BYTES_BETWEEN: u64 = 256 * 1024;

/// Why a question was given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Exceeded {
    Bytes,
    Steps,
    Time,
}

impl fmt::Display for Exceeded {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self {
            Self::Bytes => "there is more to be read",
            Self::Steps => "there are more steps to be made",
            Self::Time => "it needs more time of a processor",
        };
        write!(formatter, "looking took too much: {what} than one process is granted")
    }
}

impl From<Exceeded> for io::Error {
    fn from(why: Exceeded) -> Self {
        Self::other(why.to_string())
    }
}

/// What has been spent, and what may be.
struct Meter {
    limits: Limits,
    bytes: u64,
    steps: u64,
    /// The thread's time when the question began.
    began: Duration,
    /// What was spent when the clock was asked last.
    asked_at: (u64, u64),
    exceeded: Option<Exceeded>,
    /// How often somebody has asked for more since.
    refused: u64,
}

thread_local! {
    static OPEN: RefCell<Option<Meter>> = const { RefCell::new(None) };
}

/// Answers a question within these limits. One that is asked while answering another spends from that one's.
pub(super) fn question<T>(limits: Limits, answer: impl FnOnce() -> T) -> T {
    let opened = OPEN.with_borrow_mut(|open| {
        let is_first = open.is_none();
        open.get_or_insert_with(|| Meter::new(limits));
        is_first
    });
    let _closes = opened.then(|| Closes);
    answer()
}

/// Closes the question, however its answer ends.
struct Closes;

impl Drop for Closes {
    fn drop(&mut self) {
        OPEN.with_borrow_mut(|open| *open = None);
    }
}

/// Does a part of the work with half of what is left, so that something remains for the others. An error says that it
/// was not enough, whatever was found.
pub(super) fn part<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    question(EVIDENCE, || {
        let whole = OPEN.with_borrow_mut(|open| open.as_mut().map(Meter::halve));
        let done = work();
        let exceeded = OPEN.with_borrow_mut(|open| {
            let meter = open.as_mut()?;
            let exceeded = meter.exceeded.or_else(|| meter.time_is_up());
            if let Some((limits, before)) = whole {
                (meter.limits, meter.exceeded) = (limits, before);
            }
            exceeded
        });
        exceeded.map_or(Ok(done), |why| Err(why.to_string()))
    })
}

/// What the question under way has used up: then what was found is not all there is.
pub(super) fn exceeded() -> Option<Exceeded> {
    OPEN.with_borrow(|open| open.as_ref()?.exceeded)
}

/// Spends a read of so many bytes.
pub(super) fn read(bytes: usize) -> Result<(), Exceeded> {
    spend(bytes as u64, 1)
}

/// Spends some turns of a loop that reads nothing.
pub(super) fn steps(count: u64) -> Result<(), Exceeded> {
    spend(0, count)
}

fn spend(bytes: u64, steps: u64) -> Result<(), Exceeded> {
    OPEN.with_borrow_mut(|open| open.as_mut().map_or(Ok(()), |meter| meter.spend(bytes, steps)))
}

impl Meter {
    fn new(limits: Limits) -> Self {
        let began = thread_time();
        Self { limits, bytes: 0, steps: 0, began, asked_at: (0, 0), exceeded: None, refused: 0 }
    }

    /// Returns what there was before.
    fn halve(&mut self) -> (Limits, Option<Exceeded>) {
        let before = self.limits;
        let half = |limit: u64, spent: u64| spent.saturating_add(limit.saturating_sub(spent) / 2);
        let time = thread_time().saturating_sub(self.began);
        self.limits = Limits {
            bytes: half(before.bytes, self.bytes),
            steps: half(before.steps, self.steps),
            time: time.saturating_add(before.time.saturating_sub(time) / 2),
        };
        (before, self.exceeded)
    }

    fn spend(&mut self, bytes: u64, steps: u64) -> Result<(), Exceeded> {
        if let Some(why) = self.exceeded {
            self.refused = self.refused.saturating_add(1);
            return Err(why);
        }
        self.bytes = self.bytes.saturating_add(bytes);
        self.steps = self.steps.saturating_add(steps);
        let (asked_bytes, asked_steps) = self.asked_at;
        let asks = self.bytes - asked_bytes >= BYTES_BETWEEN || self.steps - asked_steps >= STEPS_BETWEEN;
        self.exceeded = if self.bytes > self.limits.bytes {
            Some(Exceeded::Bytes)
        } else if self.steps > self.limits.steps {
            Some(Exceeded::Steps)
        } else if asks {
            self.asked_at = (self.bytes, self.steps);
            self.time_is_up()
        } else {
            None
        };
        self.exceeded.map_or(Ok(()), Err)
    }

    fn time_is_up(&self) -> Option<Exceeded> {
        (thread_time().saturating_sub(self.began) > self.limits.time).then_some(Exceeded::Time)
    }
}

/// How long this thread has run. Waiting for a file system does not count: that has a deadline of its own.
fn thread_time() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map(Duration::from).unwrap_or_default()
}

/// What a piece of work has spent in the end.
#[cfg(any(test, fuzzing))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Spent {
    /// Steps that were granted.
    pub(crate) steps: u64,
    /// Steps that it asked for after it was told that there are none left.
    pub(crate) refused: u64,
}

/// Does the work within limits, and tells what it has spent.
#[cfg(any(test, fuzzing))]
pub(super) fn measured(limits: Limits, work: impl FnOnce()) -> Spent {
    question(limits, || {
        work();
        OPEN.with_borrow(|open| {
            let spent = |meter: &Meter| Spent { steps: meter.steps, refused: meter.refused };
            open.as_ref().map(spent).unwrap_or_default()
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: Limits = Limits { bytes: 1000, steps: 10, time: Duration::from_secs(3600) };

    #[test]
    fn what_is_used_up_stays_used_up() {
        question(SMALL, || {
            assert_eq!(read(600), Ok(()));
            assert_eq!(read(600), Err(Exceeded::Bytes));
            assert_eq!(read(1), Err(Exceeded::Bytes));
            // A question within it is no way out.
            question(EVIDENCE, || assert_eq!(steps(1), Err(Exceeded::Bytes)));
        });
        question(SMALL, || assert_eq!(read(600), Ok(())));
        assert_eq!(read(usize::MAX), Ok(()), "outside of a question nothing is counted");
    }

    #[test]
    fn a_part_leaves_something_for_the_others() {
        question(SMALL, || {
            let found = part(|| steps(6).is_ok());
            assert_eq!(found, Err(Exceeded::Steps.to_string()));
            assert_eq!(part(|| steps(1).is_ok()), Ok(true));
            assert_eq!(steps(3), Ok(()));
            assert_eq!(steps(1), Err(Exceeded::Steps));
        });
    }

    #[test]
    fn time_of_the_processor_counts_and_waiting_does_not() {
        let limits = Limits { time: Duration::from_millis(20), steps: u64::MAX, bytes: 0 };
        question(limits, || {
            std::thread::sleep(Duration::from_millis(40));
            assert_eq!(steps(STEPS_BETWEEN), Ok(()));
            let mut granted = 0_u64;
            while steps(1).is_ok() {
                granted += 1;
            }
            assert!(granted > 0);
            assert_eq!(steps(1), Err(Exceeded::Time));
        });
        let spent = measured(SMALL, || while steps(5).is_ok() {});
        assert_eq!(spent, Spent { steps: 15, refused: 0 });
    }
}
