//! When all processes are looked at: at the start, and then once something was forked. A host where nothing happens is
//! let sleep.

use std::time::Duration;

use super::{
    Output, Watch,
    living::{Birth, LONGEST, SHORTEST},
};
use crate::model::{
    evidence::{Request, Sweep},
    time::BootTime,
};

/// Of its own time, what sweeps may take: one part in so many. With thousands of children that somebody else forks, a
/// child that a sweep alone finds is still found in time.
const SHARE: u32 = 60;

/// The look at all processes that is to come.
#[derive(Default)]
pub(super) struct Sweeps {
    next: Next,
    /// That of the last sweep.
    mark: Option<u64>,
}

/// When it comes.
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

    /// When something is due, if that is known.
    pub(super) const fn deadline(&self) -> Option<BootTime> {
        match self.next {
            Next::At(due) => Some(due),
            Next::Never | Next::AfterFork(_) => None,
        }
    }
}

impl Watch {
    /// Asks for a sweep if one is due.
    pub(super) fn sweep(&mut self, now: BootTime, out: &mut Vec<Output>) {
        let (Some(due), Some(interval)) = (self.sweeps.deadline(), self.settings.sweep_interval) else {
            return;
        };
        if due <= now {
            // Where no answer comes, the next is asked for all the same.
            self.sweeps.next = Next::At(now + interval * 2);
            let mark = self.sweeps.mark.filter(|_| !self.sweeps_whole());
            out.push(Output::Ask(Request::Sweep { mark }));
        }
    }

    /// Takes in what a sweep found, and plans the next.
    pub(super) fn swept(&mut self, now: BootTime, seen: Option<&Sweep>, out: &mut Vec<Output>) {
        if let Some(sweep) = seen {
            self.unreaped(now, sweep, out);
        }
        let Some(interval) = self.settings.sweep_interval else { return };
        let pause = match seen {
            Some(sweep) => interval.max(Duration::from_nanos(sweep.took) * SHARE),
            None => interval.max(LONGEST),
        };
        self.sweeps.mark = seen.map(|sweep| sweep.mark).or(self.sweeps.mark);
        self.sweeps.next = match self.sweeps.mark {
            // Whether what has ended was fetched cannot be told from forks.
            Some(mark) if !self.sweeps_whole() => {
                out.push(Output::Ask(Request::NextFork { mark }));
                Next::AfterFork(now + pause)
            }
            _ => Next::At(now + pause),
        };
        for swept in seen.into_iter().flat_map(|sweep| &sweep.unexeced) {
            let process = swept.process;
            if self.is_child(process) {
                continue;
            }
            let birth = Birth {
                parent: swept.parent,
                forking_tid: None,
                threads: None,
                uid: swept.uid,
                first_generation: false,
            };
            self.lives(process, birth, false, now, out);
        }
    }

    /// Takes in that something was forked since the last sweep. What execs or ends soon is let do so first.
    pub(super) fn forked_again(&mut self, now: BootTime) {
        if let Next::AfterFork(earliest) = self.sweeps.next {
            self.sweeps.next = Next::At(earliest.max(now + SHORTEST));
        }
    }
}
