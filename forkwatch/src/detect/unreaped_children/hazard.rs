//! `unreaped-children`: children have ended, and their parent does not wait for them.

use std::time::Duration;

use crate::{
    core::Verdict,
    detect::Hazard,
    model::{
        finding::{Certainty, Facts, HazardId, Remedy, Severity, State},
        lasted::lasted,
        process::ProcessKey,
        resolution::Resolution,
        seen::Swept,
        time::nanoseconds,
    },
    remedy::remedy,
};

pub(crate) static HAZARD: Hazard = Hazard {
    id: HazardId::new("unreaped-children"),
    title: "Children have ended, and their parent does not wait for them",
    what: "A process that has ended stays in the process table, with its pid, until its parent fetches how it ended. \
           A parent that never does so fills the table: when the limit of processes of its user, its cgroup or the \
           host is reached, fork fails for everybody there. A parent that loses the news of its children also tends \
           not to replace them. Often the thread that fetched them was lost at a fork, or SIGCHLD is blocked, or a \
           container runs its program as pid 1, which inherits children that it knows nothing of.",
    detection: "All processes are looked over from time to time. One that has ended, and has been seen so by looks \
                at least 60 s apart, counts for its parent.",
    certainty: Certainty::Certain,
    certainty_reason: "The kernel lists the process as ended and not waited for, with its parent. Whether the parent \
                       waits for it some time is not known: one that fetches its children late, and not in \
                       growing number, does no harm.",
    state: State::Confirmed,
    severity: Severity::Warning,
    look_alikes: &[
        "Fewer than five, and not growing: reported as information.",
        "A child that is fetched within a minute.",
        "A parent that is stopped, by a signal or a debugger: it cannot wait. Looked at again later.",
        "Threads that have ended before their process.",
    ],
    remedies,
    links: &[
        "https://man7.org/linux/man-pages/man2/wait.2.html",
        "https://man7.org/linux/man-pages/man7/pid_namespaces.7.html",
    ],
    watches: "children that have ended and that their parent does not wait for",
    sees: &[],
    without_sight: None,
    needs: &[],
    knows_threads: false,
    tells_who_hangs: false,
    ends: &[Resolution::Cleared],
};

/// So many are too many, also where they do not grow in number.
const MANY: usize = 5;

/// Children of one process that nobody waits for.
pub(super) struct NeglectCase<'a> {
    /// The process that does not wait for its children.
    pub(super) parent: ProcessKey,
    /// The name that its program goes by in metrics.
    pub(super) program_name: &'a str,
    /// How many ended children it has not waited for.
    pub(super) count: usize,
    /// How many there were at the first report.
    pub(super) before: usize,
    /// The one that has been seen longest.
    pub(super) oldest: Swept,
    /// For how long.
    pub(super) age: Duration,
}

/// How much such a number matters.
pub(super) const fn severity(count: usize, before: usize) -> Severity {
    if count >= MANY || before > 0 && count > before { HAZARD.severity } else { Severity::Info }
}

/// The verdict.
pub(super) fn judge(case: &NeglectCase<'_>) -> Verdict {
    let age = lasted(nanoseconds(case.age));
    let Swept { process, comm, .. } = case.oldest;
    let children = if case.count == 1 {
        "a child that has".to_owned()
    } else {
        format!("{} children that have", case.count)
    };
    let mut summary = format!(
        "{} (pid {}) has not waited for {children} ended: {}{comm} (pid {}) for {age} at least",
        case.program_name,
        case.parent.tgid,
        if case.count == 1 { "" } else { "the first of them, " },
        process.tgid,
    );
    if case.before > 0 && case.count > case.before {
        summary.push_str("; there are ever more of them");
    }
    Verdict {
        state: HAZARD.state,
        certainty: HAZARD.certainty,
        severity: severity(case.count, case.before),
        summary,
        facts: Facts {
            notes: vec![format!("processes that nobody has waited for: {}", case.count)],
            ..Facts::default()
        },
        remedy: advice(case.parent.tgid == 1),
    }
}

fn advice(init: bool) -> Remedy {
    if init {
        remedy(
            "Run an init as pid 1 that waits for whatever it inherits: docker run --init, or tini.",
            "https://docs.docker.com/reference/cli/docker/container/run/#init",
        )
    } else {
        remedy(
            "Call waitpid for every child, when SIGCHLD comes and once more after each start: signals of the same \
             kind merge. A parent that never wants to know can ignore SIGCHLD (SA_NOCLDWAIT), and the kernel waits \
             for it. If it did wait before, look whether a lost thread did that, or whether it hangs. In a \
             container whose program runs as pid 1, run an init there: docker run --init.",
            "https://man7.org/linux/man-pages/man2/wait.2.html",
        )
    }
}

fn remedies() -> Vec<(&'static str, Remedy)> {
    vec![("any program", advice(false)), ("pid 1", advice(true))]
}
