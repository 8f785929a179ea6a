//! Who ended a child that was watched for signals.

use std::{collections::VecDeque, time::Duration};

use super::{Output, Watch, recent::Recent};
use crate::{
    hazard::worker_killed,
    model::{
        event::{Exit, ExitStatus, Signal},
        finding::{Finding, HazardId, Resolution},
        process::ProcessKey,
        time::BootTime,
    },
};

/// Most children that are watched.
const MOST_WATCHED: usize = 1024;
/// Signals to one child that are kept: the last ones.
const MOST_SIGNALS: usize = 16;
/// A child that exits so soon after it was asked to end did so because it was asked: gunicorn gives a worker that
/// does not answer SIGABRT, whose handler exits, and SIGKILL a second later.
const AFTERMATH: Duration = Duration::from_secs(5);
/// Signals that ask a process to end and that it can catch and then exit: SIGHUP, SIGINT, SIGQUIT, SIGABRT, SIGALRM,
/// SIGTERM. SIGUSR1 and SIGUSR2 mean something else to most servers.
const ASKS_TO_END: [u32; 6] = [1, 2, 3, 6, 14, 15];

/// The signals that were sent to the children that are watched.
pub(super) struct Signals(Recent<VecDeque<Signal>>);

impl Signals {
    pub(super) fn new() -> Self {
        Self(Recent::new(MOST_WATCHED))
    }

    /// Keeps what is sent to this child from now on: to be called with [`crate::model::order::Order::WatchSignals`].
    pub(super) fn watch(&mut self, child: ProcessKey) {
        let signals = self.0.remove(child).unwrap_or_default();
        self.0.insert(child, signals);
    }

    /// Forgets a child, and gives the signals that were sent to it.
    pub(super) fn take(&mut self, child: ProcessKey) -> VecDeque<Signal> {
        self.0.remove(child).unwrap_or_default()
    }

    /// Whether another process asked this child to end, a short time ago: it may clean up before it does, or try to.
    pub(super) fn ask_to_end(&mut self, child: ProcessKey, now: BootTime) -> bool {
        let Some(signals) = self.0.remove(child) else { return false };
        let asks = signals.iter().any(|signal| {
            ASKS_TO_END.contains(&signal.number)
                && signal.sender_tgid != 0
                && signal.sender_tgid != child.tgid
                && now.since(signal.at) <= AFTERMATH
        });
        self.0.insert(child, signals);
        asks
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
    pub(super) fn within_bounds(&self) -> bool {
        self.0.within_bounds()
    }
}

/// The signal that ended a process: of several the last that could have. One that the process sent to itself is not
/// it, where another process sent the same before: handlers often clean up, and then raise the signal again.
pub(super) fn fatal<'a>(exit: &Exit, signals: impl IntoIterator<Item = &'a Signal>) -> Option<&'a Signal> {
    let ended_it = |signal: &&Signal| match exit.status {
        ExitStatus::Signal { number, .. } => signal.number == u32::from(number),
        ExitStatus::Code(_) => {
            ASKS_TO_END.contains(&signal.number)
                && exit.at.since(signal.at) <= AFTERMATH
                && signal.sender_tgid != 0
        }
    };
    signals
        .into_iter()
        .filter(|signal| signal.target == exit.process && signal.at <= exit.at)
        .filter(|signal| signal.sender_tgid != exit.process.tgid)
        .filter(ended_it)
        .max_by_key(|signal| signal.at)
}

/// How a process ended, as far as the signals that were sent to it tell. The kernel itself is nobody: of its
/// out-of-memory killer it is known that a signal came, and not from whom.
pub(super) fn how_it_ended<'a>(
    exit: &Exit,
    signals: impl IntoIterator<Item = &'a Signal>,
    parent_tgid: u32,
) -> Resolution {
    match (fatal(exit, signals).map(|signal| signal.sender_tgid), exit.status) {
        (None, ExitStatus::Code(_)) => Resolution::Exited,
        (None | Some(0), _) => Resolution::Killed,
        (Some(sender), _) if sender == parent_tgid => Resolution::KilledByParent,
        (Some(_), _) => Resolution::KilledByOther,
    }
}

impl Watch {
    /// Says how a child ended that was stuck since that time, by the signals that were sent to it. Where its parent
    /// killed it, that is a finding of its own, joined to the one that says where it was stuck.
    pub(super) fn stuck_ended(
        &mut self,
        stuck: &Finding,
        since: BootTime,
        exit: &Exit,
        out: &mut Vec<Output>,
    ) -> Resolution {
        let signals = self.signals.take(exit.process);
        let how = how_it_ended(exit, &signals, exit.parent_tgid);
        if how == Resolution::KilledByParent {
            let verdict = worker_killed::judge(stuck, fatal(exit, &signals), exit.at.since(since));
            let hazard = HazardId::WorkerKilledWhileStuck;
            let parent = (stuck.parent, &stuck.program);
            let finding = verdict.finding(exit.at, hazard, parent, (exit.process, exit.comm));
            self.enter(Finding { program_name: stuck.program_name.clone(), ..finding }, None, out);
        }
        how
    }
}
