//! A forked child whose signals are told to the event loop of its forker.

use crate::{
    core::Verdict,
    model::{
        event_loop::ForeignWakeUp,
        finding::{Certainty, Facts, Severity, State},
        process::ProcessKey,
        program_name::called,
        time::nanoseconds,
    },
    remedy::remedy,
};

/// The verdict. That the child writes to the socket of the loop follows from its handlers, if it has not taken the descriptor
/// back (`signal.set_wakeup_fd(-1)`) and left its handlers as they were. Which of both it is cannot be seen.
pub(super) fn judge_wake_up(child: ProcessKey, forker: ProcessKey, told: &ForeignWakeUp) -> Verdict {
    let (name, child_pid, forker) = (called(&told.program), child.tgid, forker.tgid);
    let ForeignWakeUp { signals, descriptor, epoll, .. } = told;
    let (are, each) =
        if signals.names().len() == 1 { ("is", "a signal") } else { ("are", "one of these signals") };
    Verdict {
        state: State::Suspected,
        certainty: Certainty::Heuristic,
        severity: Severity::Warning,
        summary: format!(
            "{signals} to the forked child {child_pid} {are} probably handled by the asyncio loop of {name} (pid {forker}): \
             the child inherited its signal handlers and its wake-up socket. Unless the child has called \
             signal.set_wakeup_fd(-1), whoever sends {each} to it stops or reloads its parent, and the child goes on"
        ),
        facts: Facts {
            age: Some(nanoseconds(told.at.since(child.start))),
            signals: *signals,
            notes: vec![format!(
                "the handlers write to descriptor {descriptor} of the child; epoll descriptor {epoll} of pid {forker} watches the \
                 other end"
            )],
            ..Facts::default()
        },
        remedy: remedy(
            "Call signal.set_wakeup_fd(-1) first thing in the child, and set the handlers of its signals anew \
             (signal.signal(signal.SIGTERM, signal.SIG_DFL)). Or start workers by multiprocessing's method spawn or \
             forkserver. Python 3.12 and later take the wake-up back in a forked child themselves.",
            "https://docs.python.org/3/library/signal.html#signal.set_wakeup_fd",
        ),
    }
}
