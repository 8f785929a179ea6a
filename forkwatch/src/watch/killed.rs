//! Who ended a child that was watched for signals.

use std::{collections::VecDeque, time::Duration};

use super::{Output, Watch, recent::Recent};
use crate::{
    hazard::worker_killed,
    model::{
        child_end::ChildEnd,
        event::{Exit, ExitStatus, Signal},
        finding::{Finding, HazardId, Resolution},
        order::Order,
        process::ProcessKey,
        time::{BootTime, nanoseconds},
    },
};

/// Most children that are watched: as many as the kernel side has room for.
const MOST_WATCHED: usize = 1024;
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

/// The signals that were sent to the children that are watched.
pub(super) struct Signals(Recent<VecDeque<Signal>>);

impl Signals {
    pub(super) fn new() -> Self {
        Self(Recent::new(MOST_WATCHED))
    }

    /// Keeps what is sent to this child from now on, where there is room. Tells whether it did not before.
    fn watch(&mut self, child: ProcessKey) -> bool {
        if self.0.contains(child) || self.0.len() >= MOST_WATCHED {
            return false;
        }
        self.0.insert(child, VecDeque::new());
        true
    }

    /// Forgets a child, and gives the signals that were sent to it, if it was watched.
    fn take(&mut self, child: ProcessKey) -> Option<VecDeque<Signal>> {
        self.0.remove(child)
    }

    /// The signals that were sent to a child, if it is watched.
    fn of(&self, child: ProcessKey) -> Option<&VecDeque<Signal>> {
        self.0.get(child)
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
        let Some(mut signals) = self.0.remove(signal.target) else { return };
        if signals.len() >= MOST_SIGNALS {
            signals.pop_front();
        }
        signals.push_back(signal.clone());
        self.0.insert(signal.target, signals);
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
pub(super) fn fatal<'a>(
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
pub(super) fn end_of<'a>(exit: &Exit, signals: impl IntoIterator<Item = &'a Signal>) -> ChildEnd {
    ChildEnd::new(exit, fatal(exit, signals, TOLD_WITHIN))
}

/// The same in one word.
pub(super) fn how_it_ended(end: &ChildEnd) -> Resolution {
    end.resolution(end.since_signal_ns.is_some_and(|since| since <= nanoseconds(AFTERMATH)))
}

impl Watch {
    /// Has the signals to a child told from now on, unless they are.
    pub(super) fn watch_signals(&mut self, child: ProcessKey, out: &mut Vec<Output>) {
        if self.signals.watch(child) {
            out.push(Output::Order(Order::WatchSignals(child)));
        }
    }

    /// Has them told no longer, unless a finding about it is open.
    pub(super) fn unwatch_signals(&mut self, child: ProcessKey, out: &mut Vec<Output>) {
        if !self.followed.contains(child) && self.signals.take(child).is_some() {
            out.push(Output::Order(Order::UnwatchSignals(child)));
        }
    }

    /// How a child ended, by the signals that were sent to it.
    pub(super) fn end(&mut self, exit: &Exit) -> ChildEnd {
        end_of(exit, self.signals.of(exit.process).into_iter().flatten())
    }

    /// Says how a child ended that was stuck since that time. Where its parent killed it, or had it end, that is a
    /// finding of its own, joined to the one that says where it was stuck.
    pub(super) fn stuck_ended(
        &mut self,
        stuck: &Finding,
        since: BootTime,
        exit: &Exit,
        out: &mut Vec<Output>,
    ) -> Resolution {
        let end = self.end(exit);
        // One that is stuck does not end out of politeness.
        let how = match how_it_ended(&end) {
            Resolution::AskedByParent => Resolution::KilledByParent,
            Resolution::AskedByOther => Resolution::KilledByOther,
            how => how,
        };
        if how == Resolution::KilledByParent {
            let mut verdict = worker_killed::judge(stuck, end.signal.as_deref(), exit.at.since(since));
            verdict.facts.end = Some(Box::new(end.of_program(&stuck.program_name)));
            let hazard = HazardId::WorkerKilledWhileStuck;
            let parent = (stuck.parent, &stuck.program);
            let finding = verdict.finding(exit.at, hazard, parent, (exit.process, exit.comm));
            self.enter(Finding { program_name: stuck.program_name.clone(), ..finding }, None, out);
        }
        how
    }
}
