//! When what lies in a queue shows that nobody takes from it.

use crate::{
    core::Verdict,
    model::{
        finding::{Certainty, Facts, Remedy, Severity, State},
        process::{ProcessKey, Program},
        program_name::called,
        thread::{Occupation, SeenThread},
        time::BootTime,
    },
    remedy::{ecosystem, remedy},
};

/// So much must have been put, and never taken.
const LEAST: u64 = 10;
/// In so many looks in a row, after the first.
const LOOKS: u8 = 3;

/// What lies in a queue, from look to look.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Pile {
    /// What lay there first, and when; since then it was never less.
    first: Option<(u64, BootTime)>,
    length: u64,
    /// Looks in a row in which enough was put and nothing taken.
    looks: u8,
    is_lost: bool,
}

impl Pile {
    /// Takes in what lies there now; absent where there is no such queue any more.
    pub(super) fn seen(&mut self, length: Option<u64>, now: BootTime) {
        let Some(length) = length else {
            self.is_lost = true;
            return;
        };
        match self.first {
            Some((first, _)) if length >= self.length => {
                if length - first >= LEAST {
                    self.looks = self.looks.saturating_add(1);
                }
            }
            _ => (self.first, self.looks) = (Some((length, now)), 0),
        }
        self.length = length;
    }

    pub(super) const fn is_known(&self) -> bool {
        !self.is_lost
    }

    /// Whether something was put since the first look.
    pub(super) fn has_grown(&self) -> bool {
        self.first.is_some_and(|(first, _)| self.length > first)
    }

    /// Whether nobody takes from it.
    pub(super) const fn is_nobodys(&self) -> bool {
        self.looks >= LOOKS
    }
}

/// A child in which it piles up.
pub(super) struct Case<'a> {
    pub(super) parent: ProcessKey,
    pub(super) program: &'a Program,
    pub(super) child: ProcessKey,
    /// The thread of the parent that takes from the queue.
    pub(super) taker: &'a Occupation,
    pub(super) thread: SeenThread,
    pub(super) name: String,
    pub(super) pile: &'a Pile,
    pub(super) now: BootTime,
    /// Nanoseconds since the fork.
    pub(super) age: u64,
}

/// The verdict. That the child itself empties it later cannot be excluded.
pub(super) fn judge(case: &Case<'_>) -> Verdict {
    let Case { parent, program, child, taker, thread, name, pile, now, age } = case;
    let (first, since) = pile.first.unwrap_or((0, *now));
    let runs = taker.place().map_or_else(String::new, |place| format!(" ({place})"));
    let summary = format!(
        "{} (pid {}) forked {}, which lacks the thread {name} that {} has{runs}: what that takes from a queue piles up in \
         the child. It has put {} items there within {} s, and nobody has taken one",
        called(program),
        parent.tgid,
        child.tgid,
        parent.tgid,
        pile.length - first,
        now.since(since).as_secs(),
    );
    Verdict {
        state: State::Suspected,
        certainty: Certainty::Strong,
        severity: Severity::Warning,
        summary,
        facts: Facts {
            thread_count: Some(1),
            occupations: vec![(*taker).clone()],
            threads: vec![*thread],
            age: Some(*age),
            notes: vec![format!("{} items lie in the child's copy of the queue", pile.length)],
            ..Facts::default()
        },
        remedy: advice(case),
    }
}

fn advice(case: &Case<'_>) -> Remedy {
    let is_listener = |taker: &Occupation| {
        let at = taker.at.as_ref();
        at.and_then(|at| at.function.as_deref()).is_some_and(|function| function.ends_with("_monitor"))
            && at
                .and_then(|at| at.module.as_deref())
                .is_some_and(|file| file.ends_with("/logging/handlers.py"))
    };
    if is_of_executor(case.taker) {
        executor()
    } else if is_listener(case.taker) {
        listener()
    } else {
        ecosystem::recognise(case.program, &[case.thread]).remedy()
    }
}

fn is_of_executor(taker: &Occupation) -> bool {
    let file = taker.at.as_ref().and_then(|at| at.module.as_deref());
    file.is_some_and(|file| file.ends_with("/concurrent/futures/thread.py"))
}

/// What users of an executor have to change.
pub(in crate::detect::lost_threads) fn executor() -> Remedy {
    remedy(
        "Make the ThreadPoolExecutor in each child after the fork: one that has had idle threads takes these for alive in \
         the child, and starts no others. In gunicorn that is the hook post_fork, in Celery worker_process_init; \
         os.register_at_fork(after_in_child=...) serves any program.",
        "https://docs.python.org/3/library/concurrent.futures.html#threadpoolexecutor",
    )
}

/// What users of a `QueueListener` have to change.
pub(in crate::detect::lost_threads) fn listener() -> Remedy {
    remedy(
        "Start the QueueListener in each child after the fork, on a queue of the child's own: in gunicorn's post_fork, \
         Celery's worker_process_init, or os.register_at_fork(after_in_child=...). Or give children that are to log through \
         the parent a multiprocessing.Queue, from which the parent's listener takes.",
        "https://docs.python.org/3/howto/logging-cookbook.html#logging-to-a-single-file-from-multiple-processes",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pile(lengths: &[u64]) -> Pile {
        let mut pile = Pile::default();
        for (length, second) in lengths.iter().zip(1..) {
            pile.seen(Some(*length), BootTime(second * 1_000_000_000));
        }
        pile
    }

    #[test]
    fn what_only_grows_or_stays_full_is_nobodys() {
        assert!(pile(&[0, 10, 20, 30]).is_nobodys());
        assert!(pile(&[0, 500, 500, 500]).is_nobodys());
        assert!(pile(&[40, 40, 60, 60, 60]).is_nobodys());
    }

    #[test]
    fn what_is_taken_or_was_put_before_the_fork_is_not() {
        assert!(!pile(&[0, 10, 20]).is_nobodys(), "too few looks");
        assert!(!pile(&[0, 9, 9, 9, 9]).is_nobodys(), "too few items");
        assert!(!pile(&[50, 50, 50, 50, 50]).is_nobodys(), "nothing is put");
        assert!(!pile(&[0, 30, 10, 40, 20, 50]).is_nobodys(), "somebody takes");
        let mut gone = pile(&[0, 10]);
        gone.seen(None, BootTime(9));
        assert!(!gone.is_known() && pile(&[0]).is_known());
    }
}
