//! `worker-killed-while-stuck`: a child was killed by its parent while it waited for a lock that nobody releases, or for a
//! thread that it does not have.

use std::time::Duration;

use crate::{
    core::Verdict,
    detect::Hazard,
    model::{
        detector::{Aspect, DetectorState, Observable, Reach, Wanted},
        finding::{Certainty, Facts, Finding, HazardId, Remedy, Severity, State},
        lasted::lasted,
        program_name::called,
        time::nanoseconds,
    },
    remedy::{ecosystem, remedy},
};

pub(crate) static HAZARD: Hazard = Hazard {
    id: HazardId::new("worker-killed-while-stuck"),
    title: "A child was killed while it waited for a lock that nobody releases, or for a thread that it lacks",
    what: "Servers kill a worker that has not answered for some time: gunicorn says \"WORKER TIMEOUT\", uWSGI \
           \"HARAKIRI\", Celery that a hard time limit was exceeded. That hides the fault: the log tells of slowness, \
           the request or task is lost, and the next worker gets stuck in the same way. This finding joins the kill \
           to the lock or thread that the worker was waiting for.",
    detection: "While a finding about a child is open, or it is suspected to wait for what a fork left locked or behind, \
                the kernel side reports the signals that are sent to it, and by whom. It counts when the child ends by a signal of \
                its parent, or exits within 5 s after its parent sent one that asks it to end.",
    certainty: Certainty::Certain,
    certainty_reason: "The kernel reports who sent the signal that ended the child. That the child was stuck is as \
                       sure as the finding that this one refers to: where that is a suspicion, so is this one.",
    state: State::Confirmed,
    severity: Severity::Warning,
    look_alikes: &[
        "A worker that the server stops while it waits for work: nothing was found about it before.",
        "The kernel's out-of-memory killer, an operator or a service manager: the finding about the lock says that \
         another killed it, and this one is not made.",
        "A signal of the parent that the child survives, such as one to reopen its logs.",
    ],
    remedies,
    links: &[
        "https://docs.gunicorn.org/en/stable/settings.html#timeout",
        "https://uwsgi-docs.readthedocs.io/en/latest/FAQ.html",
        "https://docs.celeryq.dev/en/stable/userguide/workers.html#time-limits",
    ],
    watches: "children that were killed while they waited for a lock that nobody releases",
    sees: &[(Aspect::Calls, Wanted::Each), (Aspect::Memory, Wanted::Each), (Aspect::Sharing, Wanted::Helps)],
    without_sight: Some((
        Reach::Programs,
        DetectorState::Limited,
        "without CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH it is not seen whether other users' processes waited for a lock when they were killed: only one's own are judged",
    )),
    needs: &[(Observable::Senders, DetectorState::Off, "who sends a signal cannot be watched")],
    knows_threads: false,
    tells_who_hangs: false,
    ends: &[],
};

/// How the users of an ecosystem know its killing of workers.
const TIME_LIMITS: [(&str, &str); 5] = [
    ("gunicorn", "gunicorn's worker timeout (--timeout)"),
    ("uWSGI", "uWSGI's harakiri"),
    ("Celery", "Celery's time limit (task_time_limit)"),
    ("Puma", "Puma's worker_timeout"),
    ("Unicorn and Pitchfork", "the server's timeout for a request"),
];

/// What to say of a stuck child that its parent has killed. `stuck` is the finding that says where it was stuck, and
/// `waited` for how long it had been.
pub(in crate::detect) fn judge(stuck: &Finding, signal: Option<&str>, waited: Duration) -> Verdict {
    let name = called(&stuck.program);
    let ecosystem = ecosystem::recognise(&stuck.program, &stuck.facts.threads).name();
    let limit = TIME_LIMITS.iter().find(|(whose, _)| *whose == ecosystem);
    let limit = limit.map_or_else(String::new, |(_, limit)| format!("; that was {limit}"));
    let by = signal.map_or_else(String::new, |signal| format!(" by {signal}"));
    let waited = lasted(nanoseconds(waited));
    let (number, parent, child) = (stuck.number, stuck.parent.tgid, stuck.child.tgid);
    // Of a repeat, or of one that was killed before it was reported, there is no number.
    let (explained, note) = if number == 0 {
        (String::new(), stuck.summary.clone())
    } else {
        (
            format!("; finding #{number} says what it was waiting for"),
            format!("finding #{number}: {}", stuck.summary),
        )
    };
    let killer = if stuck.parent == stuck.child {
        format!("The parent of {name} (pid {child}) killed it")
    } else {
        format!("{name} (pid {parent}) killed {child}")
    };
    // Of a suspicion no more than that is made here.
    let is_suspected = stuck.state == State::Suspected;
    let (state, certainty, had) = if is_suspected {
        (State::Suspected, stuck.certainty, "had waited as if stuck for")
    } else {
        (HAZARD.state, stuck.certainty, "had been stuck for")
    };
    let summary = format!("{killer}{by}, which {had} {waited}{limit}{explained}");
    Verdict {
        state,
        certainty,
        severity: HAZARD.severity,
        summary,
        facts: Facts {
            // What was reported already needs no repeating.
            lock: stuck.facts.lock.clone().filter(|_| number == 0),
            notes: vec![note],
            ..Facts::default()
        },
        remedy: Remedy {
            text: format!("{NO_LONGER_LIMIT} {}", stuck.remedy.text),
            link: stuck.remedy.link.clone(),
        },
    }
}

const NO_LONGER_LIMIT: &str = "Leave the time limit as it is: it frees what is stuck. Mend what the finding about the \
                               lock or thread names.";

fn remedies() -> Vec<(&'static str, Remedy)> {
    vec![(
        "any program",
        remedy(NO_LONGER_LIMIT, "https://man7.org/linux/man-pages/man3/pthread_atfork.3.html"),
    )]
}
