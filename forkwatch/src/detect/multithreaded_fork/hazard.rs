//! `multithreaded-fork`: the child of a multi-threaded process lives on without exec.

use crate::{
    core::{EarlierFork, ForkCase, Judgement, Verdict},
    detect::{Hazard, WITH_CHILD, thread_names::name_threads},
    model::{
        detector::{Aspect, DetectorState, Reach, Wanted},
        event::Fork,
        finding::{Certainty, Facts, HazardId, Remedy, Severity, State},
        program_name::bare_name,
    },
    remedy::ecosystem,
};

pub(crate) static HAZARD: Hazard = Hazard {
    id: HazardId::new("multithreaded-fork"),
    title: "A multi-threaded process forked, and the child lives on",
    what: "fork copies the whole memory of a process, but only the thread that called it. A lock that another \
           thread held at that moment is copied as held, and nobody in the child is left to release it: the \
           child hangs as soon as it wants that lock, be it the allocator's, a logger's or a connection \
           pool's. Whatever those threads did (sending metrics, renewing leases) also silently stops in the \
           child. POSIX therefore allows such a child nothing but async-signal-safe calls until it execs.",
    detection: "The kernel side counts the live threads of the parent at each copying fork. 100 ms later the \
                parent's threads are listed; those that lived at the fork and live still are named. If the \
                child has neither exec'd nor ended by the end of the grace (1 s that it could have run in), \
                the fork is reported. The parent's memory tells what its threads are called in its program and where \
                they are: for CPython 3.7 to 3.15 the name of the `threading.Thread` and the line of the script, for \
                CRuby 2.6 to 4.0 the line, for up to 8 other threads the innermost function outside of the C library. That is read at most once in 10 s \
                of one parent, and only for a child that lives on. Of a parent that has ended by then, as one does that \
                becomes a daemon, the kernel's count is taken, and of one that forks twice for it that of the first fork.",
    certainty: Certainty::Heuristic,
    certainty_reason: "That the fork happened so is certain. Whether it does harm depends on what the threads \
                       held at that moment and on what the child does, so it is a risk, and suspected until a \
                       child is seen to hang.",
    state: State::Suspected,
    severity: Severity::Warning,
    look_alikes: &[
        "A child that execs or exits within the grace: subprocess calls, shells, node, build tools.",
        "vfork, posix_spawn and clone with shared memory: nothing is copied.",
        "Threads that were just ending at the fork, or that a fork handler stops: gone 100 ms later.",
        "io_uring workers: the kernel lists them as threads, but they run no code of the program.",
        "Redis, Valkey and KeyDB saving in the background fork by design: reported as information.",
        "A child that is stopped or that never got a CPU: looked at again later.",
    ],
    remedies: ecosystem::remedies,
    links: &[
        "https://man7.org/linux/man-pages/man2/fork.2.html",
        "https://man7.org/linux/man-pages/man3/pthread_atfork.3.html",
    ],
    watches: "forks of processes with threads whose child lives on without exec",
    sees: &[(Aspect::Executable, Wanted::Helps)],
    without_sight: Some((
        Reach::Partial,
        DetectorState::Limited,
        "without CAP_SYS_PTRACE the executables of other users' processes stay unknown: their programs are named by their command lines",
    )),
    needs: &[],
    knows_threads: true,
    tells_who_hangs: false,
    ends: WITH_CHILD,
};

/// Servers that save in a forked child on purpose, with threads that take no part in it.
pub(crate) const BY_DESIGN: [&str; 3] = ["redis-server", "valkey-server", "keydb-server"];

pub(super) fn concerns(fork: &Fork, earlier: Option<&EarlierFork>) -> bool {
    fork.threads > 1 || earlier.is_some()
}

pub(super) fn judge(case: &ForkCase<'_>) -> Judgement {
    // `held-locks` tells of this fork, and says more.
    if case.held.is_some_and(|held| !held.locks.is_empty()) {
        return Judgement::Clean;
    }
    // A forker that was alone is to blame for nothing. But if it has ended, its child is what was to become of the
    // process that forked it beside threads.
    if case.fork.threads <= 1 {
        return if case.parent_ended {
            case.earlier.map_or(Judgement::Clean, |earlier| of_twice_forked(case, earlier))
        } else {
            Judgement::Clean
        };
    }
    let Some(parent) = case.parent else {
        return if case.parent_ended { of_daemon(case) } else { Judgement::Undecided };
    };
    if parent.thread_count == 0 {
        return Judgement::Clean;
    }
    let by_design = BY_DESIGN.contains(&bare_name(case.program).as_str());
    let count = parent.thread_count;
    let others = if count == 1 { "another thread".to_owned() } else { format!("{count} other threads") };
    let mut summary = format!(
        "{} (pid {}) forked {} while {others} ran ({}); the child lives on without exec, and any lock they held \
         stays locked in it",
        case.program_name,
        case.fork.parent.tgid,
        case.fork.child.tgid,
        name_threads(&parent.threads, case.occupations),
    );
    if by_design {
        summary.push_str("; this server does so by design, to save its data in the background");
    }
    Judgement::Unsafe(Box::new(Verdict {
        state: HAZARD.state,
        certainty: HAZARD.certainty,
        severity: if by_design { Severity::Info } else { HAZARD.severity },
        summary,
        facts: Facts {
            threads: parent.threads.clone(),
            thread_count: Some(count),
            occupations: case.occupations.to_vec(),
            age: Some(case.age()),
            notes: notes(case.fork),
            ..Facts::default()
        },
        remedy: remedy(case),
    }))
}

/// The parent has ended since, as of whoever becomes a daemon: the kernel's count at the fork is all that is known of its
/// threads. A thread that was joined does not count there (`do_exit`, kernel/exit.c, counts it out before it wakes who
/// joins it).
fn of_daemon(case: &ForkCase<'_>) -> Judgement {
    let others = Others::of(case.fork.threads);
    let summary = format!(
        "{} (pid {}) forked {} while {} ran, and ended at once, as a program that becomes a daemon does: {}",
        case.program_name,
        case.fork.parent.tgid,
        case.fork.child.tgid,
        others.ran,
        others.left("child"),
    );
    left_by_daemon(case, &others, summary)
}

/// The child of a child that ended at once: what has become a daemon by two forks, the first of which left threads
/// behind.
fn of_twice_forked(case: &ForkCase<'_>, earlier: &EarlierFork) -> Judgement {
    let (others, middle) = (Others::of(earlier.threads), case.fork.parent.tgid);
    let summary = format!(
        "{} (pid {}) forked {middle} while {} ran, which forked {} and ended at once, as a program that becomes a \
         daemon does: {}",
        earlier.comm,
        earlier.forker.tgid,
        others.ran,
        case.fork.child.tgid,
        others.left("daemon"),
    );
    left_by_daemon(case, &others, summary)
}

/// The threads beside that which called fork, for a sentence.
struct Others {
    count: u32,
    ran: String,
}

impl Others {
    /// Of a process with these many.
    fn of(threads: u32) -> Self {
        let count = threads.saturating_sub(1);
        let ran = if count == 1 { "another thread".to_owned() } else { format!("{count} other threads") };
        Self { count, ran }
    }

    fn left(&self, whom: &str) -> String {
        let (those_are, whoever) =
            if self.count == 1 { ("that thread is", "it") } else { ("those threads are", "they") };
        format!("{those_are} not in the {whom}, and any lock {whoever} held stays locked in it")
    }
}

fn left_by_daemon(case: &ForkCase<'_>, others: &Others, summary: String) -> Judgement {
    Judgement::Unsafe(Box::new(Verdict {
        state: HAZARD.state,
        certainty: HAZARD.certainty,
        severity: HAZARD.severity,
        summary,
        facts: Facts {
            thread_count: Some(others.count),
            age: Some(case.age()),
            notes: notes(case.fork),
            ..Facts::default()
        },
        remedy: Remedy {
            text: "Become a daemon first (daemon(3), Process.daemon, os.fork), and start threads, clients and \
                   libraries that have threads in the daemon. Under systemd do not become a daemon at all: run in the \
                   foreground with Type=simple or Type=notify."
                .to_owned(),
            link: "https://man7.org/linux/man-pages/man3/daemon.3.html".to_owned(),
        },
    }))
}

fn remedy(case: &ForkCase<'_>) -> Remedy {
    let threads = case.parent.map_or(&[][..], |parent| &parent.threads);
    ecosystem::advice(case.program, threads, case.occupations)
}

/// Who called fork, and whose child that was itself.
pub(crate) fn notes(fork: &Fork) -> Vec<String> {
    let mut notes = vec![format!("thread {} ({}) called fork", fork.parent_tid, fork.comm)];
    if fork.generation > 1 {
        notes.push(format!("the parent is itself a forked child: generation {}", fork.generation));
    }
    notes
}
