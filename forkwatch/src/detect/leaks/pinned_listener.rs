//! `pinned-listener`: a listening socket is kept by a child of a server that is gone, and nobody accepts.
//!
//! To be held by an orphan is not enough: a daemon is an orphan too, and may be busy. So each holder must be one that
//! cannot accept. That is so of a program that has no code for it, of a child that is proven stuck, and, less surely,
//! of a child whose forker was seen beside it for some time and has ended since: a daemon's is gone at once.

use super::holders::{ListenerCase, SEES_LISTENERS, WITHOUT_SIGHT, is_free};
use crate::{
    core::{Judgement, Verdict},
    detect::{Hazard, WITH_CHILD_OR_CLEARED},
    model::{
        finding::{Certainty, HazardId, Remedy, Severity, State},
        leak::{Holder, Listener},
        process::ProcessKey,
    },
    remedy::remedy,
};

pub(crate) static HAZARD: Hazard = Hazard {
    id: HazardId::new("pinned-listener"),
    title: "A child keeps the listening socket of a server that is gone",
    what: "A listening socket lives for as long as anybody holds it. A child that inherits it and outlives the \
           server keeps the port taken: the kernel goes on accepting connections into the queue, where clients hang \
           with nobody to answer them, and the server that starts anew gets EADDRINUSE.",
    detection: "Children that live on without exec are looked at when they have slept for 2 s, and again when their \
                parent is seen to have ended, within some 30 s to 2 minutes. If the parent of one has ended and it \
                holds a listening socket, every process of the host is looked at twice, 30 s apart, for who else \
                holds it. It is reported if none of the holders accepts, or waits in a way that could lead to it. \
                `forkwatch scan` also finds programs that were started with the socket and cannot accept.",
    certainty: Certainty::Strong,
    certainty_reason: "That nobody accepted between the two looks is certain; that nobody is going to is concluded \
                       from what the holders do: one that sleeps may accept when it wakes. It is certain where the holder \
                       is a child that was proven stuck, or a program such as sleep(1) that cannot accept. Where \
                       process 1 may not be looked at, it may hold the socket too: certain becomes strong, and strong \
                       a suspicion unless connections wait.",
    state: State::Confirmed,
    severity: Severity::Warning,
    look_alikes: &[
        "Workers whose master lives, and workers that go on accepting after it has died.",
        "Daemons, whose parent ends at once on purpose.",
        "A worker that is busy with a connection that it accepted, or that has the socket in an epoll set.",
        "Sockets that a service manager holds or has passed on (LISTEN_FDS, inetd).",
        "Processes that wait for signals or messages: masters and brokers of descriptors do.",
        "A stopped or traced process, or a host on which not every process could be looked at: undecided.",
    ],
    remedies,
    links: &[
        "https://man7.org/linux/man-pages/man2/socket.2.html",
        "https://man7.org/linux/man-pages/man2/PR_SET_PDEATHSIG.2const.html",
    ],
    watches: "forked children that keep a listening socket and do not accept",
    sees: SEES_LISTENERS,
    without_sight: WITHOUT_SIGHT,
    needs: &[],
    knows_threads: false,
    tells_who_hangs: false,
    ends: WITH_CHILD_OR_CLEARED,
};

/// Programs without any code to accept a connection, or to start another program.
const CANNOT_ACCEPT: [&str; 14] =
    ["cat", "cp", "cut", "dd", "grep", "gzip", "head", "mv", "rm", "sleep", "sort", "tail", "tee", "yes"];

/// Programs that cannot accept either, and may start one that does.
const STARTS_OTHERS: [&str; 9] = ["bash", "dash", "find", "flock", "less", "sed", "sh", "timeout", "xargs"];

/// The verdict.
pub fn judge(case: &ListenerCase<'_>) -> Judgement {
    let (first, second) = (case.first, case.second);
    if !case.is_decided() {
        return Judgement::Undecided;
    }
    let (Some(before), Some(listener)) = (&first.listener, &second.listener) else { return Judgement::Clean };
    let holders: Vec<&Holder> = second.holders.iter().collect();
    if second.of(case.process).is_none() {
        return Judgement::Clean;
    }
    let idle: Option<Vec<Certainty>> = holders.iter().map(|holder| case.idle(holder)).collect();
    let Some(least) = idle.and_then(|idle| idle.into_iter().min()) else { return Judgement::Clean };
    let waiting = |listener: &Listener| listener.queue.is_some_and(|queue| queue > 0);
    let queued = waiting(before) && waiting(listener);
    // An init that may not be looked at may hold the socket too. It accepts only on those of its own units, and has not
    // where connections wait.
    let certainty = match least {
        least if case.knows_init() => least,
        Certainty::Certain => Certainty::Strong,
        Certainty::Strong if queued => Certainty::Strong,
        Certainty::Strong | Certainty::Heuristic => Certainty::Heuristic,
    };
    let is_suspected = certainty == Certainty::Heuristic;
    Judgement::Unsafe(Box::new(Verdict {
        state: if is_suspected { State::Suspected } else { HAZARD.state },
        certainty,
        severity: if queued { Severity::Critical } else { HAZARD.severity },
        summary: case.summary(listener, &holders),
        facts: case.facts(listener),
        remedy: advice(),
    }))
}

impl ListenerCase<'_> {
    /// How sure it is that a holder will not accept; absent where it might.
    fn idle(&self, now: &Holder) -> Option<Certainty> {
        let before = self.first.of(now.process)?;
        if !is_free(before) || !is_free(now) || !self.is_left_over(now) {
            return None;
        }
        if runs_one_of(&CANNOT_ACCEPT, now) || self.stuck.contains(&now.process) {
            return Some(Certainty::Certain);
        }
        let is_at_rest = self.rests(now) && self.is_heir(now);
        (is_at_rest || runs_one_of(&STARTS_OTHERS, now)).then_some(Certainty::Strong)
    }

    /// Whether nobody is left who started it and would use the socket: its parent is gone, or is itself left over.
    fn is_left_over(&self, holder: &Holder) -> bool {
        let holds = |parent: ProcessKey| self.second.of(parent).is_some();
        holder.reparented || holder.parent.is_some_and(holds)
    }

    /// Whether it got the socket from a server that lived on after the fork: the child itself, and others that the
    /// same process has taken in. A daemon's parent has ended at once, and a daemon may only be busy.
    fn is_heir(&self, holder: &Holder) -> bool {
        let child = self.second.of(self.process);
        self.forker_stayed
            && holder.unexeced
            && (holder.process == self.process
                || child.is_some_and(|child| child.parent.is_some() && child.parent == holder.parent))
    }

    fn summary(&self, listener: &Listener, holders: &[&Holder]) -> String {
        let pid = self.process.tgid;
        let who = match self.forker {
            Some(forker) => {
                format!("{pid}, a child of {} (pid {}) that has ended,", self.program_name, forker.tgid)
            }
            None => format!("{} (pid {pid}), which an ended server left behind,", self.program_name),
        };
        let others = match holders.len() {
            0 | 1 => String::new(),
            2 => " with another such process".to_owned(),
            more => format!(" with {} other such processes", more - 1),
        };
        let queue = match listener.queue {
            Some(0) | None => String::new(),
            Some(1) => "; a connection waits there for an answer".to_owned(),
            Some(count) => format!("; {count} connections wait there for an answer"),
        };
        format!(
            "{who} keeps {} listening{others}, and nobody accepts: it stays taken{queue}",
            listener.address
        )
    }
}

/// Whether it runs one of these programs, and did not merely fork from one.
fn runs_one_of(programs: &[&str], holder: &Holder) -> bool {
    let is_one = holder.executable.as_deref().is_some_and(|name| programs.contains(&name));
    is_one && !holder.unexeced
}

fn advice() -> Remedy {
    remedy(
        "Create listening sockets with SOCK_CLOEXEC, and close them in children that do not serve: each by itself, \
         or with close_range(3, ~0U, 0). Have children end with their server: PR_SET_PDEATHSIG, or \
         KillMode=control-group in the systemd unit.",
        "https://man7.org/linux/man-pages/man2/close_range.2.html",
    )
}

fn remedies() -> Vec<(&'static str, Remedy)> {
    vec![("any program", advice())]
}

#[cfg(test)]
mod tests;
