//! When all processes are looked at: at the start, and then once something was forked. A host where nothing happens is
//! let sleep.

use std::time::Duration;

use super::{Core, processes::Birth};
use crate::model::{evidence::Request, seen::Sweep, time::BootTime};

/// Of its own time, what sweeps may take: one part in so many. With thousands of children that somebody else forks, a
/// child that a sweep alone finds is still found in time.
const SHARE: u32 = 60;
/// How long after a sweep that failed the next one is, at least.
const AFTER_FAILURE: Duration = Duration::from_secs(30);
/// What was forked since the last sweep is let exec or end for so long.
const LET_DO: Duration = Duration::from_secs(1);

/// The look at all processes that is to come.
#[derive(Default)]
pub(super) struct Sweeps {
    next: Next,
    /// That of the last sweep.
    mark: Option<u64>,
    /// Whether the next is to look at everything, also where nothing was forked since the last.
    whole: bool,
}

/// When the next sweep comes.
#[derive(Clone, Copy, Default)]
enum Next {
    #[default]
    Never,
    At(BootTime),
    /// Some time after the next fork, and not before this.
    AfterFork(BootTime),
}

impl Sweeps {
    /// Begins, where nothing has begun yet.
    pub(super) fn begin(&mut self) {
        if matches!(self.next, Next::Never) {
            self.next = Next::At(BootTime(0));
        }
    }

    /// Has the next look at everything, or at what was forked since the last.
    pub(super) const fn look_at_all(&mut self, whole: bool) {
        self.whole = whole;
    }

    #[cfg(test)]
    pub(super) const fn looks_at_all(&self) -> bool {
        self.whole
    }

    /// When something is due, if that is known.
    pub(super) const fn deadline(&self) -> Option<BootTime> {
        match self.next {
            Next::At(due) => Some(due),
            Next::Never | Next::AfterFork(_) => None,
        }
    }

    /// Takes in that something was forked since the last sweep.
    pub(super) fn forked_again(&mut self, now: BootTime) {
        if let Next::AfterFork(earliest) = self.next {
            self.next = Next::At(earliest.max(now + LET_DO));
        }
    }
}

impl Core {
    /// Asks for a sweep if one is due.
    pub(super) fn sweep(&mut self) {
        let context = &mut self.context;
        let (Some(due), Some(interval)) = (context.sweeps.deadline(), context.settings.sweep_interval) else {
            return;
        };
        if due <= context.now {
            // Where no answer comes, the next is asked for all the same.
            context.sweeps.next = Next::At(context.now + interval * 2);
            let mark = context.sweeps.mark.filter(|_| !context.sweeps.whole);
            context.ask(Request::Sweep { mark });
        }
    }

    /// Plans the next sweep after one, of which the detectors know already, and follows what it found.
    pub(super) fn swept(&mut self, seen: Option<&Sweep>) {
        let context = &mut self.context;
        let now = context.now;
        let Some(interval) = context.settings.sweep_interval else { return };
        let pause = match seen {
            Some(sweep) => interval.max(Duration::from_nanos(sweep.took) * SHARE),
            None => interval.max(AFTER_FAILURE),
        };
        context.sweeps.mark = seen.map(|sweep| sweep.mark).or(context.sweeps.mark);
        context.sweeps.next = match context.sweeps.mark {
            // What else has changed cannot be told from forks.
            Some(mark) if !context.sweeps.whole => {
                context.ask(Request::NextFork { mark });
                Next::AfterFork(now + pause)
            }
            _ => Next::At(now + pause),
        };
        for swept in seen.into_iter().flat_map(|sweep| &sweep.unexeced) {
            let child = swept.process;
            if self.context.processes.get(child).is_some_and(|known| known.grace.is_some()) {
                continue;
            }
            self.replace(child);
            let (parent, uid) = (swept.parent, swept.uid);
            let birth = Birth {
                parent,
                comm: None,
                forking_tid: None,
                threads: None,
                uid,
                first_generation: false,
                earlier: None,
            };
            self.context.processes.enter(child, birth);
            self.lives(child, false);
        }
    }
}
