//! `server-setup`: a server lacks an option.

use super::*;
use crate::model::{
    connection::{Peer, SharedSocket},
    finding::Severity,
    inventory::Whereabouts,
    stack::Frame,
    worker::WorkSource,
    worker_look::{Who, WorkerLook, WorkerSeen},
};

const SETUP: HazardId = HazardId::new("server-setup");

/// uWSGI (PARENT) with these options forks CHILD, which waits for connections.
fn uwsgi(options: &str) -> Timeline {
    let mut timeline = server(&format!("uwsgi -p 2 --wsgi-file a.py {options}"));
    timeline.fork(plain());
    timeline
}

/// A server with this command line, whose worker CHILD waits for connections once it is forked.
fn server(cmdline: &str) -> Timeline {
    let cmdline: Vec<String> = cmdline.split_ascii_whitespace().map(str::to_owned).collect();
    let program = Program { cmdline: cmdline.clone(), ..program(&cmdline[0]) };
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
    let with = |own_threads_of_python| {
        let mut timeline = server("uwsgi -p 2 --wsgi-file a.py --master");
        let seen = Inheritance { own_threads_of_python, ..inheritance(&[], &[]) };
        timeline.inheritances.insert(CHILD, seen);
        timeline.fork(plain()).at(60_000);
        timeline
    };
    assert!(with(1).only_finding().summary.contains("without enable-threads"));
    // Threads that are not Python's run.
    assert_eq!(with(0).findings(), Vec::<&Finding>::new());
}

#[test]
fn a_server_that_has_its_options_or_a_file_of_them_is_left_alone() {
    for options in ["--master --enable-threads", "--master --threads 2", "--ini uwsgi.ini"] {
        assert_eq!(uwsgi(options).at(60_000).findings(), Vec::<&Finding>::new(), "{options}");
    }
}

/// What runs in a server that is a script of Python's.
fn script(name: &str) -> Program {
    let cmdline = vec!["python3".to_owned(), format!("/v/bin/{name}")];
    Program { exe: Some("/usr/bin/python3.11".into()), cmdline, ..program(name) }
}

const APPLICATION: &str = "/srv/app/metrics.py";

fn thread(tid: u32) -> SeenThread {
    SeenThread { tid, comm: "gunicorn".into() }
}

/// A worker beside a master with these threads, each in such a module, and with connections to these places.
fn inheritance(threads: &[(&str, &str)], peers: &[&str]) -> Inheritance {
    let (names, modules): (Vec<&str>, Vec<&str>) = threads.iter().copied().unzip();
    let occupation = |(name, tid): (&&str, u32)| Occupation {
        tid,
        name: Some((*name).to_owned()),
        ..Occupation::default()
    };
    let at = |(module, tid): (&&str, u32)| Whereabouts {
        thread: thread(tid),
        start: Some("/usr/bin/python3.11".to_owned()),
        native: Vec::new(),
        script: vec![Frame { module: Some((*module).to_owned()), ..Frame::default() }],
        ends_at_forks: false,
    };
    let socket = |(peer, fd): (&&str, u32)| SharedSocket {
        accepted: false,
        inode: fd.into(),
        peer: Peer::Tcp((*peer).to_owned()),
        child_fd: fd,
        parent_fd: fd,
    };
    Inheritance {
        at: BootTime(0),
        program: script("gunicorn"),
        comm: "gunicorn".into(),
        connections: peers.iter().zip(7..).map(socket).collect(),
        libraries: Vec::new(),
        threads: (5000..).take(names.len()).map(thread).collect(),
        occupations: names.iter().zip(5000..).map(occupation).collect(),
        whereabouts: modules.iter().zip(5000..).map(at).collect(),
        own_threads: Vec::new(),
        own_threads_of_python: 0,
        own_peers: Vec::new(),
    }
}

/// A server with such a worker, of whose fork nothing else is to be told.
fn found_with(cmdline: &str, seen: Inheritance) -> Timeline {
    let mut timeline = server(cmdline);
    let program = cmdline.split(' ').next().map_or(seen.program.clone(), script);
    timeline.inheritances.insert(CHILD, Inheritance { program, ..seen });
    timeline.fork(plain()).at(60_000);
    timeline
}

const POSTGRESQL: &str = "10.0.0.7:5432";
const GUNICORN: &str = "gunicorn -w 2 --preload app:app";

#[test]
fn a_worker_that_has_renewed_nothing_is_told_once() {
    let seen = inheritance(&[("metrics-push", APPLICATION)], &[POSTGRESQL]);
    let timeline = found_with(GUNICORN, seen);
    let finding = timeline.only_finding();
    assert_eq!((finding.hazard, finding.severity), (SETUP, Severity::Info));
    assert_eq!(
        finding.summary,
        "gunicorn (pid 4242) forked 4250, a worker that has renewed nothing: it has none of the threads that the master had \
         at the fork (metrics-push), and none of their names; and it holds the master's connection to PostgreSQL at \
         10.0.0.7:5432, and has none of its own there"
    );
    assert!(finding.remedy.text.contains("post_fork"));
    assert_eq!((finding.parent, finding.child), (process(PARENT), process(CHILD)));
    assert_eq!(timeline.count(|output| matches!(output, Output::Ask(Request::Inheritance { .. }))), 1);
}

#[test]
fn celery_is_judged_by_its_threads_alone() {
    let celery = "celery -A app worker --pool prefork";
    let threads = found_with(celery, inheritance(&[("metrics-push", APPLICATION)], &[POSTGRESQL]));
    assert!(threads.only_finding().summary.ends_with("(metrics-push), and none of their names"));
    assert!(threads.only_finding().remedy.text.contains("worker_process_init"));
    let connections = found_with(celery, inheritance(&[], &[POSTGRESQL]));
    assert_eq!(connections.findings(), Vec::<&Finding>::new());
}

#[test]
fn what_was_renewed_or_need_not_be_is_not_told() {
    let lost = || inheritance(&[("metrics-push", APPLICATION)], &[POSTGRESQL]);
    let renewed = |threads: &[&str], peers: &[&str]| Inheritance {
        own_threads: threads.iter().map(|name| (*name).to_owned()).collect(),
        own_peers: peers.iter().map(|peer| Peer::Tcp((*peer).to_owned())).collect(),
        ..lost()
    };
    let mut blas = inheritance(&[("python", "")], &[]);
    blas.whereabouts[0].script.clear();
    blas.whereabouts[0].start = Some("/v/libopenblas.so.0".to_owned());
    let mut ends = lost();
    ends.connections.clear();
    ends.whereabouts[0].ends_at_forks = true;
    let mut log = inheritance(&[], &["x"]);
    log.connections[0].peer = Peer::Unix("/run/systemd/journal/stdout".to_owned());
    let own = "/v/site-packages/gunicorn/ctl/server.py";
    for (case, seen) in [
        ("a thread", renewed(&["metrics-push"], &[])),
        (
            "one with another number",
            Inheritance {
                own_threads: vec!["Thread-2 (run)".to_owned()],
                ..inheritance(&[("Thread-1 (run)", APPLICATION)], &[])
            },
        ),
        ("a connection", renewed(&[], &[POSTGRESQL])),
        ("nothing inherited", inheritance(&[], &[])),
        ("OpenBLAS", blas),
        ("ends at forks", ends),
        ("the server's own", inheritance(&[("Thread-1 (_run_loop)", own)], &[])),
        ("the system's log", log),
    ] {
        assert_eq!(found_with(GUNICORN, seen).findings(), Vec::<&Finding>::new(), "{case}");
    }
    // Something else renewed says nothing of it.
    let other = renewed(&["worker-pool"], &["10.0.0.7:6379"]);
    assert_eq!(found_with(GUNICORN, other).findings().len(), 1);
    let puma = found_with("puma -w 2", lost());
    assert_eq!(puma.findings(), Vec::<&Finding>::new());
}

#[test]
fn what_was_found_about_the_fork_itself_is_not_told_again() {
    let mut timeline = server(GUNICORN);
    timeline.inheritances.insert(CHILD, inheritance(&[("metrics-push", APPLICATION)], &[POSTGRESQL]));
    timeline.fork(threaded(2)).at(60_000);
    assert_eq!(timeline.only_finding().hazard, HazardId::new("multithreaded-fork"));
}
