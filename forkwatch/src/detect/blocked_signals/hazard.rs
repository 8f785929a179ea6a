//! `blocked-signals`: a program was started with signals blocked that it should get.

use crate::{
    core::{Judgement, Verdict},
    detect::Hazard,
    model::{
        detector::{Aspect, DetectorState, Reach, Wanted},
        event::Exec,
        finding::{Certainty, Facts, HazardId, Remedy, Severity, State},
        process::ProcessKey,
        program_name::called,
        seen::ExecedSeen,
        signals::SignalSet,
    },
    remedy::remedy,
};

pub(crate) static HAZARD: Hazard = Hazard {
    id: HazardId::new("blocked-signals"),
    title: "A program was started with signals blocked",
    what: "The set of blocked signals survives exec. A program that is started with SIGTERM, SIGINT, SIGHUP or \
           SIGQUIT blocked does not react when it is asked to end: service managers wait for their timeout and \
           kill it. One with SIGCHLD blocked may never learn that its children ended. Few programs clear the \
           set when they start.",
    detection: "At each exec the kernel side reads the new program's blocked signals. One grace (1 s) later, and again \
                ten graces after the exec, the process is looked at: signals count that every one of its threads still \
                blocks both times and that it does not take in through signalfd or sigwait.",
    certainty: Certainty::Strong,
    certainty_reason: "The blocked set is kernel state, read at the start of the program and twice later. What \
                       the program was meant to do with the signals is not known: it may unblock them later still, or \
                       ask for them now and then (sigtimedwait).",
    state: State::Confirmed,
    severity: Severity::Info,
    look_alikes: &[
        "A program that ends within ten graces, or that sets its own mask by then: many do so once they are set up.",
        "A program that takes the signals in through signalfd or sigwait.",
        "A program that was itself started so and only passes the mask on: whoever set it is reported, not \
         its heirs.",
        "A second exec in the same process: judged once.",
    ],
    remedies,
    links: &[
        "https://man7.org/linux/man-pages/man7/signal.7.html",
        "https://man7.org/linux/man-pages/man2/sigprocmask.2.html",
    ],
    watches: "programs that start with signals blocked",
    sees: &[(Aspect::Details, Wanted::Helps)],
    without_sight: Some((
        Reach::Programs,
        DetectorState::Limited,
        "without CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH it is not seen which blocked signals other users' programs take in through signalfd: those are reported too",
    )),
    needs: &[],
    knows_threads: false,
    tells_who_hangs: false,
    ends: &[],
};

/// The signals that ask a program to end (SIGHUP, SIGINT, SIGQUIT, SIGTERM) or tell of its children (SIGCHLD).
pub const WATCHED: SignalSet = SignalSet(1 | 1 << 1 | 1 << 2 | 1 << 14 | 1 << 16);

const SIGTERM: u32 = 15;

/// A program that started with signals blocked, with what became known of it.
pub(super) struct ExecCase<'a> {
    /// The exec with which it started.
    pub(super) exec: &'a Exec,
    /// The signals that nobody before the forker is to blame for.
    pub(super) signals: SignalSet,
    /// What the process looked like some time later.
    pub(super) seen: &'a ExecedSeen,
    /// The process that forked it, and its name; absent where it was gone by then.
    pub(super) forker: Option<(ProcessKey, &'a str)>,
}

pub(super) fn judge(case: &ExecCase<'_>) -> Judgement {
    let signals = case.signals.and(case.seen.blocked);
    if signals.is_empty() {
        return Judgement::Clean;
    }
    // A program that takes its signals in through a signalfd must block them.
    let Some(awaited) = case.seen.awaited else { return Judgement::Undecided };
    let signals = signals.without(awaited);
    if signals.is_empty() {
        return Judgement::Clean;
    }
    let Some((forker, forker_name)) = case.forker else { return Judgement::Undecided };
    let deaf_to_sigterm = signals.contains(SIGTERM);
    let started = format!("{} (pid {})", called(&case.seen.program), case.exec.process.tgid);
    let forker = format!("{forker_name} (pid {})", forker.tgid);
    let mut summary = if case.exec.fork.is_some() {
        format!("{forker} started {started} with {signals} blocked, which it has not unblocked since")
    } else {
        // A later exec of the process, or its fork was not seen: the mask may be an earlier program's.
        format!(
            "{started} started with {signals} blocked, by {forker} or by a program that ran before in that process"
        )
    };
    if deaf_to_sigterm {
        summary.push_str("; a request to end does not reach it as long as it blocks them");
    }
    Judgement::Unsafe(Box::new(Verdict {
        state: HAZARD.state,
        certainty: HAZARD.certainty,
        severity: if deaf_to_sigterm { Severity::Warning } else { HAZARD.severity },
        summary,
        facts: Facts { signals, notes: notes(case, signals), ..Facts::default() },
        remedy: advice(),
    }))
}

/// Who blocked the signals: the forker had them blocked, or they were blocked on the way to exec.
fn notes(case: &ExecCase<'_>, signals: SignalSet) -> Vec<String> {
    // A mask with everything in it is glibc's own, for the moment of the fork, and tells nothing of the forker.
    let Some(fork) = case.exec.fork.filter(|fork| !fork.blocked.is_all_blockable()) else {
        return Vec::new();
    };
    let parts = [
        (signals.and(fork.blocked), "blocked by the forker at the fork"),
        (signals.without(fork.blocked), "blocked between fork and exec"),
    ];
    parts.into_iter().filter(|(set, _)| !set.is_empty()).map(|(set, how)| format!("{set}: {how}")).collect()
}

fn advice() -> Remedy {
    remedy(
        "Reset the mask in the child before exec: sigprocmask with an empty set, or posix_spawn with \
         POSIX_SPAWN_SETSIGMASK. Where the starter cannot be changed, start the program through \
         `env --default-signal`, which also unblocks.",
        "https://man7.org/linux/man-pages/man2/sigprocmask.2.html",
    )
}

fn remedies() -> Vec<(&'static str, Remedy)> {
    vec![("any program", advice())]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_watched_signals_are_those_of_the_text() {
        assert_eq!(WATCHED.to_string(), "SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGCHLD");
    }
}
