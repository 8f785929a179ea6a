//! `server-setup`: a server lacks an option.

use super::*;
use crate::model::{
    finding::Severity,
    worker::WorkSource,
    worker_look::{Who, WorkerLook, WorkerSeen},
};

const SETUP: HazardId = HazardId::new("server-setup");

/// uWSGI (PARENT) with these options forks CHILD, which waits for connections.
fn uwsgi(options: &str) -> Timeline {
    let cmdline = format!("uwsgi -p 2 --wsgi-file a.py {options}");
    let program = Program {
        cmdline: cmdline.split_ascii_whitespace().map(str::to_owned).collect(),
        exe: Some("/usr/bin/uwsgi".into()),
        ..program("uwsgi")
    };
    let who = Who { program, loaded: Vec::new() };
    let look = WorkerLook::Alive {
        comm: "uwsgi".into(),
        threads: 2,
        sources: vec![WorkSource::Listener("0.0.0.0:80".to_owned())],
        doing: "epoll_wait".to_owned(),
        place: None,
    };
    let worker = WorkerSeen { process: process(CHILD), who: Some(who.clone()), look };
    let mut timeline = Timeline::with(Settings { workers: true, ..Settings::default() });
    timeline.workers = Some(WorkersSeen {
        at: BootTime(0),
        master: Some(who),
        listens: true,
        children: Vec::new(),
        workers: vec![worker],
    });
    timeline.fork(plain());
    timeline
}

#[test]
fn a_missing_option_is_told_once() {
    let mut timeline = uwsgi("--enable-threads");
    timeline.at(60_000);
    let finding = timeline.only_finding();
    assert_eq!((finding.hazard, finding.severity), (SETUP, Severity::Info));
    assert_eq!(
        finding.summary,
        "uWSGI (pid 4242) runs without a master process: no worker that ends is replaced"
    );
    assert_eq!((finding.parent, finding.child), (process(PARENT), process(PARENT)));
}

#[test]
fn threads_that_never_run_are_told() {
    let mut timeline = uwsgi("--master");
    timeline.at(60_000);
    assert!(timeline.only_finding().summary.contains("without enable-threads"));
}

#[test]
fn a_server_that_has_its_options_or_a_file_of_them_is_left_alone() {
    for options in ["--master --enable-threads", "--master --threads 2", "--ini uwsgi.ini"] {
        assert_eq!(uwsgi(options).at(60_000).findings(), Vec::<&Finding>::new(), "{options}");
    }
}
