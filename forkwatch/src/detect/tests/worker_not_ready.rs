//! `worker-not-ready`: a worker has not waited for work a minute after its fork.

use super::*;
use crate::model::{
    finding::{Certainty, Severity},
    resolution::Resolution,
    worker::WorkSource,
    worker_look::{Who, WorkerLook, WorkerSeen},
};

const NOT_READY: HazardId = HazardId::new("worker-not-ready");

/// What is seen of gunicorn (PARENT) and its worker (CHILD), which waits for this.
fn gunicorn(source: Option<WorkSource>) -> WorkersSeen {
    let words = ["/usr/bin/python3", "/usr/bin/gunicorn", "app:app"].map(str::to_owned).to_vec();
    let program = Program { cmdline: words, exe: Some("/usr/bin/python3".into()), ..program("python3") };
    let who = Who { program, loaded: Vec::new() };
    let look = WorkerLook::Alive {
        comm: "gunicorn".into(),
        threads: 1,
        sources: source.into_iter().collect(),
        doing: "connect".to_owned(),
        place: Some("connect (db.py:40)".to_owned()),
    };
    let worker = WorkerSeen { process: process(CHILD), who: Some(who.clone()), look };
    WorkersSeen {
        at: BootTime(0),
        master: Some(who),
        listens: true,
        children: Vec::new(),
        workers: vec![worker],
    }
}

fn forked(workers: bool, source: Option<WorkSource>) -> Timeline {
    let mut timeline = Timeline::with(Settings { workers, ..Settings::default() });
    timeline.workers = Some(gunicorn(source));
    timeline.fork(plain());
    timeline
}

fn listener() -> WorkSource {
    WorkSource::Listener("0.0.0.0:80".to_owned())
}

#[test]
fn a_worker_that_hangs_at_its_start_is_suspected_until_it_is_ready() {
    let mut timeline = forked(true, None);
    timeline.at(60_000);
    assert_eq!(timeline.findings(), Vec::<&Finding>::new());
    timeline.at(70_000);
    let finding = timeline.only_finding().clone();
    assert_eq!((finding.hazard, finding.state), (NOT_READY, State::Suspected));
    assert_eq!((finding.certainty, finding.severity), (Certainty::Heuristic, Severity::Info));
    assert!(
        finding
            .summary
            .starts_with("4250, a worker of gunicorn (pid 4242), has not waited for work in the 6")
            && finding.summary.ends_with("since its fork: it waited in connect at connect (db.py:40)"),
        "{}",
        finding.summary
    );
    timeline.workers = Some(gunicorn(Some(listener())));
    timeline.at(90_000);
    assert_eq!(timeline.states()[1..], [(NOT_READY, State::Resolved(Resolution::Cleared), 1)]);
}

#[test]
fn its_end_ends_the_finding() {
    let mut timeline = forked(true, None);
    timeline.at(70_000).exit(CHILD);
    assert_eq!(timeline.states()[1..], [(NOT_READY, State::Resolved(Resolution::Exited), 1)]);
}

#[test]
fn a_worker_that_waits_for_work_is_none() {
    assert_eq!(forked(true, Some(listener())).at(600_000).findings(), Vec::<&Finding>::new());
}

#[test]
fn where_workers_are_not_followed_nothing_is_asked() {
    assert_eq!(forked(false, None).at(600_000).findings(), Vec::<&Finding>::new());
}
