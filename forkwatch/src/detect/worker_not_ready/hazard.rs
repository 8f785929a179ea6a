//! `worker-not-ready`: a worker of a server has not waited for work a minute after its fork.

use crate::{
    core::Verdict,
    detect::{Hazard, WITH_CHILD_OR_CLEARED},
    model::{
        detector::{Aspect, DetectorState, Reach, Wanted},
        finding::{Certainty, Facts, HazardId, Remedy, Severity, State},
        lasted::lasted,
        process::escape,
        worker::WorkerEvent,
    },
    remedy::remedy,
};

pub(crate) static HAZARD: Hazard = Hazard {
    id: HazardId::new("worker-not-ready"),
    title: "A worker of a server has not waited for work a minute after its fork",
    what: "A worker is of use once it waits for work: at the socket or the queue that it has from its master. Before that \
           it imports the application, opens connections, warms caches and runs the server's hooks. If one of these \
           never ends, the worker exists and serves nobody, and the server answers with fewer workers than it has.",
    detection: "The threads of a new worker are looked at every 25 ms, for a minute (64 workers at a time; others less \
                often). It is ready once one of them waits in accept, poll, select or epoll for an inherited socket that \
                listens, or for an inherited queue. A worker that holds a connection that came in there is at work, and \
                ready too. Only servers are judged whose workers are known to wait in this way, or of which another \
                worker was ready.",
    certainty: Certainty::Heuristic,
    certainty_reason: "A worker may rightly take longer than a minute to start, and one that is busy without a pause from its \
                       first moment on never waits.",
    state: State::Suspected,
    severity: Severity::Info,
    look_alikes: &[
        "A worker that has taken in a connection and works on it.",
        "A worker that waits for its turn at a queue or socket that it shares with others.",
        "A child that is forked for one job or one client, such as PostgreSQL's and Resque's.",
        "A worker that was asked to end.",
    ],
    remedies,
    links: &[
        "https://docs.gunicorn.org/en/stable/settings.html#server-hooks",
        "https://uwsgi-docs.readthedocs.io/en/latest/ThingsToKnow.html",
    ],
    watches: "workers of servers that do not come to wait for work",
    sees: &[(Aspect::Calls, Wanted::Each), (Aspect::Descriptors, Wanted::Each)],
    without_sight: Some((
        Reach::Programs,
        DetectorState::Limited,
        "without CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH it is not seen what other users' workers wait for: only one's own are judged",
    )),
    needs: &[],
    knows_threads: false,
    tells_who_hangs: false,
    ends: WITH_CHILD_OR_CLEARED,
};

/// The verdict about a worker that did that when it was looked at last.
pub(super) fn judge(event: &WorkerEvent, doing: &str, after: u64) -> Verdict {
    let WorkerEvent { worker, server, slot, .. } = event;
    let slot = slot.as_ref().map_or_else(String::new, |slot| format!(" ({})", escape(slot)));
    let summary = format!(
        "{}{slot}, a worker of {} (pid {}), has not waited for work in the {} since its fork: it {}",
        worker.tgid,
        escape(&server.name),
        server.master.tgid,
        lasted(after),
        escape(doing),
    );
    Verdict {
        state: HAZARD.state,
        certainty: HAZARD.certainty,
        severity: HAZARD.severity,
        summary,
        facts: Facts { age: Some(after), ..Facts::default() },
        remedy: advice(),
    }
}

fn advice() -> Remedy {
    remedy(
        "See what the worker does (forkwatch inspect PID): an import, a connection or a hook that does not come to an end needs \
         a time limit.",
        "https://docs.gunicorn.org/en/stable/settings.html#server-hooks",
    )
}

fn remedies() -> Vec<(&'static str, Remedy)> {
    vec![
        ("any server", advice()),
        (
            "uWSGI",
            remedy(
                "Load the application in the master, not in each worker: leave out lazy-apps unless it needs that.",
                "https://uwsgi-docs.readthedocs.io/en/latest/ThingsToKnow.html",
            ),
        ),
    ]
}
