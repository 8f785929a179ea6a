//! `nobody-accepts`: a daemon listens, and the thread that accepted stayed behind at its fork.
//!
//! A daemon is an orphan on purpose, and one that does not accept may only be busy. But where its fork has left threads
//! behind, connections wait, and nobody who holds the socket has run from one look to the other, nobody is left who would.

use super::holders::{ListenerCase, SEES_LISTENERS, WITHOUT_SIGHT};
use crate::{
    core::{Judgement, Verdict},
    detect::{Hazard, WITH_CHILD_OR_CLEARED},
    model::{
        finding::{Certainty, HazardId, Remedy, Severity, State},
        leak::{Holder, Holders},
    },
    remedy::remedy,
};

pub(crate) static HAZARD: Hazard = Hazard {
    id: HazardId::new("nobody-accepts"),
    title: "A daemon listens, and the thread that accepted stayed behind at its fork",
    what: "Only the thread that calls fork comes along into the child. A program that has started the thread that accepts \
           connections, and then becomes a daemon, has the listening socket and nobody who accepts. The kernel goes on \
           taking connections into the queue, where clients hang.",
    detection: "Children that live on without exec are looked at when they have slept for 2 s. If the parent of one has \
                ended, and other threads ran when it forked, and it holds a listening socket, every process of the host is \
                looked at twice, 30 s apart, for who else holds it. It is reported if connections wait there both times, \
                and no holder has run in between, or waits in a way that could lead to an accept.",
    certainty: Certainty::Strong,
    certainty_reason: "That nobody accepts is certain. That nobody is going to is concluded from what the holders do, and \
                       from the threads that the fork left behind. Where process 1 may not be looked at, it is a \
                       suspicion.",
    state: State::Confirmed,
    severity: Severity::Critical,
    look_alikes: &[
        "A daemon that starts its threads after the fork, or accepts in the thread that forked.",
        "A daemon that is busy: it runs now and then.",
        "A daemon without clients: nobody waits for it.",
        "Sockets that a service manager holds or has passed on (LISTEN_FDS, inetd).",
    ],
    remedies,
    links: &[
        "https://man7.org/linux/man-pages/man2/fork.2.html",
        "https://man7.org/linux/man-pages/man3/daemon.3.html",
    ],
    watches: "daemons that listen, and whose thread that accepts stayed behind at the fork",
    sees: SEES_LISTENERS,
    without_sight: WITHOUT_SIGHT,
    needs: &[],
    knows_threads: false,
    tells_who_hangs: false,
    ends: WITH_CHILD_OR_CLEARED,
};

/// The verdict about a process whose fork left threads behind.
pub(super) fn judge(case: &ListenerCase<'_>) -> Judgement {
    let (first, second) = (case.first, case.second);
    if !case.is_decided() {
        return Judgement::Undecided;
    }
    let queue =
        |seen: &Holders| seen.listener.as_ref().and_then(|listener| listener.queue).unwrap_or_default();
    let (Some(listener), Some(child)) = (&second.listener, second.of(case.process)) else {
        return Judgement::Clean;
    };
    let is_idle = |now: &Holder| {
        let is_of_daemon = now.process == case.process || (now.unexeced && now.parent == child.parent);
        case.rests(now) && is_of_daemon && now.reparented
    };
    if queue(first) == 0 || queue(second) == 0 || !child.unexeced || !second.holders.iter().all(is_idle) {
        return Judgement::Clean;
    }
    let knows_init = case.knows_init();
    let waiting = match queue(second) {
        1 => "a connection waits".to_owned(),
        count => format!("{count} connections wait"),
    };
    Judgement::Unsafe(Box::new(Verdict {
        state: if knows_init { HAZARD.state } else { State::Suspected },
        certainty: if knows_init { HAZARD.certainty } else { Certainty::Heuristic },
        severity: HAZARD.severity,
        summary: format!(
            "{} (pid {}), forked beside other threads, listens at {}, and nobody accepts: {waiting} there, and a thread \
             that accepted before the fork has not come along",
            case.program_name, case.process.tgid, listener.address
        ),
        facts: case.facts(listener),
        remedy: advice(),
    }))
}

fn advice() -> Remedy {
    remedy(
        "Become a daemon first, and start threads afterwards: call daemon(), or fork, before the server is made. Or do not \
         fork at all, and let the service manager keep the program in the background (systemd: Type=simple).",
        "https://man7.org/linux/man-pages/man7/daemon.7.html",
    )
}

fn remedies() -> Vec<(&'static str, Remedy)> {
    vec![("any program", advice())]
}
