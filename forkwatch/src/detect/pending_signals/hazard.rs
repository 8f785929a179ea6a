//! `pending-signals`: signals were pending and blocked at the fork.

use crate::{
    core::{EarlierFork, ForkCase, Judgement, Verdict},
    detect::{Hazard, WITH_CHILD},
    model::{
        detector::{Aspect, DetectorState, Reach, Wanted},
        event::Fork,
        finding::{Certainty, Facts, HazardId, Remedy, Severity, State},
        signals::SignalSet,
    },
    remedy::remedy,
};

pub(crate) static HAZARD: Hazard = Hazard {
    id: HazardId::new("pending-signals"),
    title: "Signals were pending and blocked at the fork",
    what: "A signal that arrives while it is blocked waits. Linux starts a child with no signal waiting, so a \
           signal that was sent just before the fork reaches the parent alone, once the parent unblocks it. A \
           child that was to see it too (a request to stop, to reload, to rotate a log) never does.",
    detection: "At each copying fork the kernel side reads which signals are pending and blocked, for the \
                forking thread and for its process. If the child lives on past the grace, they are reported by \
                name.",
    certainty: Certainty::Certain,
    certainty_reason: "The kernel clears the child's pending set in copy_process(), so the signal cannot reach \
                       the child. Whether the child was meant to have it is not known, so it is information.",
    state: State::Confirmed,
    severity: Severity::Info,
    look_alikes: &[
        "glibc blocks every signal for a moment in posix_spawn, pthread_create and newer fork: what is pending \
         then counts only if it is still pending 100 ms later.",
        "SIGCHLD: it tells of the parent's children, which are not the child's.",
        "A signal that is pending and not blocked: the kernel delivers it first and starts the fork again.",
        "A child that execs or exits within the grace.",
    ],
    remedies,
    links: &["https://man7.org/linux/man-pages/man2/fork.2.html"],
    watches: "forks with signals pending and blocked whose child lives on without exec",
    sees: &[(Aspect::Executable, Wanted::Helps)],
    without_sight: Some((
        Reach::Partial,
        DetectorState::Limited,
        "without CAP_SYS_PTRACE the executables of other users' processes stay unknown: their programs are named by their command lines",
    )),
    needs: &[],
    knows_threads: false,
    tells_who_hangs: false,
    ends: WITH_CHILD,
};

/// SIGCHLD, which shells block around every fork.
const PARENTS_OWN: [u32; 1] = [17];

fn pending(fork: &Fork) -> SignalSet {
    fork.pending().without(SignalSet::of(&PARENTS_OWN))
}

pub(super) fn concerns(fork: &Fork, _earlier: Option<&EarlierFork>) -> bool {
    !fork.pending().is_empty() && !pending(fork).is_empty()
}

pub(super) fn judge(case: &ForkCase<'_>) -> Judgement {
    let signals = match (case.fork.blocked.is_all_blockable(), case.parent) {
        (false, _) => pending(case.fork),
        (true, Some(parent)) => pending(case.fork).and(parent.pending),
        (true, None) => return Judgement::Undecided,
    };
    if signals.is_empty() {
        return Judgement::Clean;
    }
    let one = signals.numbers().count() == 1;
    Judgement::Unsafe(Box::new(Verdict {
        state: HAZARD.state,
        certainty: HAZARD.certainty,
        severity: HAZARD.severity,
        summary: format!(
            "{} (pid {}) forked {} while {signals} {} pending and blocked; Linux clears the pending signals of \
             a new child, so only the parent will ever see {}",
            case.program_name,
            case.fork.parent.tgid,
            case.fork.child.tgid,
            if one { "was" } else { "were" },
            if one { "it" } else { "them" },
        ),
        facts: Facts { signals, age: Some(case.age()), ..Facts::default() },
        remedy: advice(),
    }))
}

fn advice() -> Remedy {
    remedy(
        "Take pending signals in before the fork (unblock them, or sigtimedwait with no timeout left), or have \
         the parent send on to its children what it receives after the fork.",
        "https://man7.org/linux/man-pages/man7/signal.7.html",
    )
}

fn remedies() -> Vec<(&'static str, Remedy)> {
    vec![("any program", advice())]
}
