//! Who ended a child that was watched for signals.

use std::{collections::VecDeque, time::Duration};

use super::recent::Recent;
use crate::model::{
    child_end::ChildEnd,
    event::{Exit, ExitStatus},
    observation::Signal,
    process::ProcessKey,
    resolution::Resolution,
    time::{BootTime, nanoseconds},
};

/// Most children that are watched: as many as the kernel side has room for.
const MOST_WATCHED: usize = 1024;
/// Workers may not take all of that from those of which something was found.
const MOST_WORKERS: usize = 768;
/// Signals to one child that are kept: the last ones.
const MOST_SIGNALS: usize = 16;
/// A child that exits so soon after it was asked to end did so because it was asked: gunicorn gives a worker that
/// does not answer SIGABRT, whose handler exits, and SIGKILL a second later.
const AFTERMATH: Duration = Duration::from_secs(5);
/// An exit after a signal is told with it for so long: servers give their workers half a minute or a minute to end what
/// they do.
const TOLD_WITHIN: Duration = Duration::from_secs(120);
/// `SIGKILL`.
const SIGKILL: u8 = 9;
/// Signals that ask a process to end and that it can catch and then exit: SIGHUP, SIGINT, SIGQUIT, SIGABRT, SIGALRM,
/// SIGTERM. SIGUSR1 and SIGUSR2 mean something else to most servers.
const ASKS_TO_END: [u32; 6] = [1, 2, 3, 6, 14, 15];

/// Why the signals to a child are watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    /// A finding about it is open, and its end is to be told.
    Finding,
    /// It may hang, and who ends it then is to be told.
    Suspicion,
    /// It is a server's worker, and its life is told.
    Worker,
}

/// The signals that were sent to the children that are watched.
pub(super) struct Signals(Recent<Watched>);

/// A child that is watched.
#[derive(Default)]
struct Watched {
    has_finding: bool,
    is_suspect: bool,
    is_worker: bool,
    sent: VecDeque<Signal>,
}

impl Watched {
    const fn reason(&mut self, why: Why) -> &mut bool {
        match why {
            Why::Finding => &mut self.has_finding,
            Why::Suspicion => &mut self.is_suspect,
            Why::Worker => &mut self.is_worker,
        }
    }
}

impl Signals {
    pub(super) fn new() -> Self {
        Self(Recent::new(MOST_WATCHED))
    }

    /// Keeps what is sent to this child from now on, where there is room. Tells whether it did not before.
    pub(super) fn watch(&mut self, child: ProcessKey, why: Why) -> bool {
        if let Some(watched) = self.0.get_mut(child) {
            *watched.reason(why) = true;
            return false;
        }
        let most = if why == Why::Worker { MOST_WORKERS } else { MOST_WATCHED };
        if self.0.len() >= most {
            return false;
        }
        let mut watched = Watched::default();
        *watched.reason(why) = true;
        self.0.insert(child, watched);
        true
    }

    /// Keeps it no longer for this reason. Tells whether that was the last.
    pub(super) fn unwatch(&mut self, child: ProcessKey, why: Why) -> bool {
        let Some(watched) = self.0.get_mut(child) else { return false };
        *watched.reason(why) = false;
        !watched.has_finding && !watched.is_suspect && !watched.is_worker && self.forget(child)
    }

    /// Forgets a child. Tells whether it was watched.
    pub(super) fn forget(&mut self, child: ProcessKey) -> bool {
        self.0.remove(child).is_some()
    }

    /// The signals that were sent to a child, if it is watched.
    fn of(&self, child: ProcessKey) -> Option<&VecDeque<Signal>> {
        self.0.get(child).map(|watched| &watched.sent)
    }

    /// How a child ended, by the signals that were sent to it.
    pub(super) fn end(&self, exit: &Exit) -> ChildEnd {
        end_of(exit, self.of(exit.process).into_iter().flatten())
    }

    /// Whether another process asked this child to end, a short time ago: it may clean up before it does, or try to.
    pub(super) fn ask_to_end(&self, child: ProcessKey, now: BootTime) -> bool {
        self.of(child).into_iter().flatten().any(|signal| {
            ASKS_TO_END.contains(&signal.number)
                && signal.sender_tgid != 0
                && signal.sender_tgid != child.tgid
                && now.since(signal.at) <= AFTERMATH
        })
    }

    pub(super) fn sent(&mut self, signal: &Signal) {
        if self.0.is_empty() {
            return;
        }
        let Some(Watched { sent, .. }) = self.0.get_mut(signal.target) else { return };
        if sent.len() >= MOST_SIGNALS {
            sent.pop_front();
        }
        sent.push_back(signal.clone());
    }

    #[cfg(test)]
    pub(super) fn kept(&self, child: ProcessKey) -> usize {
        self.of(child).map_or(0, VecDeque::len)
    }

    #[cfg(test)]
    pub(super) fn within_bounds(&self) -> bool {
        self.0.within_bounds()
    }
}

/// The signal that ended a process: of several the last that could have, but of SIGKILL the first, which nothing
/// survives. One that the process sent to itself is not it, where another process sent the same before: handlers often
/// clean up, and then raise the signal again. Of a process that exited, the last that had asked it to within that time.
fn fatal<'a>(
    exit: &Exit,
    signals: impl IntoIterator<Item = &'a Signal>,
    within: Duration,
) -> Option<&'a Signal> {
    let own = exit.process.tgid;
    let to_it = |signal: &&Signal| signal.target == exit.process && signal.at <= exit.at;
    let to_it = signals.into_iter().filter(to_it);
    match exit.status {
        ExitStatus::Signal { number, .. } => {
            let same = to_it.filter(|signal| signal.number == u32::from(number));
            if number == SIGKILL {
                same.min_by_key(|signal| signal.at)
            } else {
                same.max_by_key(|signal| (signal.sender_tgid != own, signal.at))
            }
        }
        ExitStatus::Code(_) => to_it
            .filter(|signal| ASKS_TO_END.contains(&signal.number) && exit.at.since(signal.at) <= within)
            .filter(|signal| signal.sender_tgid != 0 && signal.sender_tgid != own)
            .max_by_key(|signal| signal.at),
    }
}

/// How a process ended, as far as the signals that were sent to it tell. The kernel itself is nobody: of its
/// out-of-memory killer it is known that a signal came, and not from whom.
pub(crate) fn end_of<'a>(exit: &Exit, signals: impl IntoIterator<Item = &'a Signal>) -> ChildEnd {
    ChildEnd::new(exit, fatal(exit, signals, TOLD_WITHIN))
}

/// The same in one word; `hung` says whether it could not have ended of its own accord, nor out of politeness.
pub fn how_it_ended(end: &ChildEnd, hung: bool) -> Resolution {
    let soon = end.since_signal_ns.is_some_and(|since| since <= nanoseconds(AFTERMATH));
    match end.resolution(soon) {
        Resolution::AskedByParent if hung => Resolution::KilledByParent,
        Resolution::AskedByOther if hung => Resolution::KilledByOther,
        how => how,
    }
}
