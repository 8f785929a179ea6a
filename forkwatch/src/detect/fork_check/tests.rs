use super::*;
use crate::model::{
    connection::Peer,
    inventory::{
        Connection, Contended, Database, DatabaseKind, Events, FileLock, FileLockKind, Instance, Listener,
        Memory, OpenFile, Unknown, Waiting, Whereabouts,
    },
    process::Program,
    signals::SignalSet,
    stack::Frame,
    thread::SeenThread,
};

fn thread(comm: &str) -> SeenThread {
    SeenThread { tid: 7, comm: comm.into() }
}

fn with_threads(comms: &[&str]) -> Inventory {
    Inventory {
        threads: comms.iter().map(|comm| thread(comm)).collect(),
        thread_count: comms.len().try_into().unwrap(),
        ..Inventory::default()
    }
}

fn of_program(exe: &str, inventory: Inventory) -> Inventory {
    let name = exe.rsplit('/').next().unwrap();
    let program = Program {
        comm: name.into(),
        exe: Some(exe.into()),
        cmdline: vec![name.to_owned()],
        ..Program::default()
    };
    Inventory { program, ..inventory }
}

fn judged(inventory: &Inventory) -> (Verdict, Vec<(&'static str, Weight)>) {
    let Assessment { verdict, reasons } = assess(inventory);
    (verdict, reasons.iter().map(|reason| (reason.id, reason.weight)).collect())
}

fn file(path: &str) -> OpenFile {
    OpenFile { fd: 5, path: path.to_owned() }
}

fn tcp(address: &str) -> Peer {
    Peer::Tcp(address.to_owned())
}

#[test]
fn a_process_with_nothing_is_safe() {
    assert_eq!(judged(&Inventory::default()), (Verdict::Safe, vec![]));
}

#[test]
fn another_thread_makes_it_unsafe_unless_it_is_made_for_forks() {
    assert_eq!(judged(&with_threads(&["flush"])), (Verdict::Unsafe, vec![("threads", Weight::Unsafe)]));
    assert_eq!(judged(&with_threads(&["jemalloc_bg_thd"])), (Verdict::Safe, vec![("threads", Weight::Info)]));
    assert_eq!(judged(&with_threads(&["jemalloc_bg_thd", "flush"])).0, Verdict::Unsafe);
    // More threads than are listed: those that are not may be anything.
    let unlisted = Inventory { thread_count: 2, ..with_threads(&["jemalloc_bg_thd"]) };
    assert_eq!(judged(&unlisted).0, Verdict::Unsafe);
}

#[test]
fn what_servers_do_by_design_is_information() {
    let redis = Inventory {
        events: Events { epoll: 1, waiting: vec![waiting("redis-server")], ..Events::default() },
        ..with_threads(&["bio_close_file"])
    };
    let (verdict, reasons) = judged(&of_program("/usr/bin/redis-server", redis.clone()));
    assert_eq!((verdict, reasons.len()), (Verdict::Safe, 2));
    assert_eq!(judged(&of_program("/usr/bin/other", redis)).0, Verdict::Unsafe);
}

fn waiting(comm: &str) -> Waiting {
    Waiting { thread: thread(comm), epoll: Some(5) }
}

/// An instance that a thread waits in, which watches so much of others.
fn waited_in(outside: u32) -> Events {
    Events {
        epoll: 1,
        instances: vec![Instance { fd: 5, watched: 1 + outside, outside }],
        waiting: vec![waiting("app")],
        ..Events::default()
    }
}

/// A process whose main thread is in these calls of a script.
fn in_script(events: Events, calls: &[(&str, &str)]) -> Inventory {
    let frame = |(function, module): &(&str, &str)| Frame {
        function: Some((*function).to_owned()),
        module: Some((*module).to_owned()),
        ..Frame::default()
    };
    let script = calls.iter().map(frame).collect();
    let at =
        Whereabouts { thread: thread("app"), start: None, native: Vec::new(), script, ends_at_forks: false };
    Inventory { events, whereabouts: vec![at], ..Inventory::default() }
}

fn started_by(library: &str, comms: &[&str]) -> Inventory {
    let at = |thread: &SeenThread| Whereabouts {
        thread: *thread,
        start: Some(library.to_owned()),
        native: Vec::new(),
        script: Vec::new(),
        ends_at_forks: false,
    };
    let seen = with_threads(comms);
    Inventory { whereabouts: seen.threads.iter().map(at).collect(), ..seen }
}

#[test]
fn a_loop_counts_as_running_where_somebody_waits_in_it_for_others() {
    let with = |events| judged(&Inventory { events, ..Inventory::default() });
    let idle = Events { epoll: 1, ..Events::default() };
    assert_eq!(with(idle.clone()), (Verdict::Risky, vec![("event-loop", Weight::Warning)]));
    assert_eq!(with(waited_in(1)), (Verdict::Unsafe, vec![("event-loop", Weight::Unsafe)]));
    // It waits for nobody but itself.
    assert_eq!(with(waited_in(0)), (Verdict::Risky, vec![("event-loop", Weight::Warning)]));
    // What was not looked into may be anything, and so may an io_uring instance.
    let unseen = Events { instances: Vec::new(), ..waited_in(0) };
    assert_eq!(with(unseen).0, Verdict::Unsafe);
    let ring = Waiting { epoll: None, ..waiting("app") };
    assert_eq!(with(Events { io_uring: 1, waiting: vec![ring], ..Events::default() }).0, Verdict::Unsafe);
    // An eventfd or a signalfd alone is no loop.
    assert_eq!(with(Events { eventfd: 1, signalfd: 1, ..Events::default() }).0, Verdict::Safe);
}

#[test]
fn a_loop_runs_where_its_code_does_whether_it_waits_or_not() {
    let base = "/usr/lib/python3.11/asyncio/base_events.py";
    let busy = [("work", "/srv/app.py"), ("_run_once", base), ("run_forever", base)];
    let idle = Events { epoll: 1, ..Events::default() };
    for (events, does) in [(idle.clone(), "is busy"), (waited_in(0), "waits"), (Events::default(), "is busy")]
    {
        let seen = in_script(events, &busy);
        assert_eq!(judged(&seen), (Verdict::Unsafe, vec![("event-loop", Weight::Unsafe)]));
        let what = assess(&seen).reasons.remove(0).what;
        assert_eq!(what, format!("an event loop runs (asyncio): thread 7 (app) {does} in its run_forever"));
    }
    // The same without the loop's calls: one that has ended, or was only made.
    let ended = [("work", "/srv/app.py"), ("<module>", "/srv/app.py")];
    assert_eq!(judged(&in_script(idle, &ended)).0, Verdict::Risky);
    assert_eq!(judged(&in_script(Events::default(), &ended)).0, Verdict::Safe);
}

#[test]
fn gevent_renews_its_loop_and_its_idle_threads() {
    let warned = (Verdict::Risky, vec![("event-loop", Weight::Warning)]);
    let seen = Inventory { has_gevent: true, events: waited_in(3), ..Inventory::default() };
    assert_eq!(judged(&seen), warned);
    let hub = [("Hub.run", "/venv/lib/python3.11/site-packages/gevent/hub.py")];
    assert_eq!(judged(&in_script(waited_in(3), &hub)), warned);
    let pool = [("get", "/venv/gevent/_threading.py"), ("run", "/venv/gevent/threadpool.py")];
    let mut seen = in_script(Events::default(), &pool);
    (seen.threads, seen.thread_count) = (vec![thread("app")], 1);
    assert_eq!(judged(&seen), (Verdict::Risky, vec![("threads", Weight::Warning)]));
}

#[test]
fn servers_that_fork_out_of_their_loop_by_design_are_safe() {
    let master = Inventory { events: waited_in(1), ..Inventory::default() };
    let informed = (Verdict::Safe, vec![("event-loop", Weight::Info)]);
    for exe in ["/usr/bin/uwsgi-core", "/usr/sbin/php-fpm8.2", "/usr/lib/systemd/systemd"] {
        assert_eq!(judged(&of_program(exe, master.clone())), informed, "{exe}");
    }
    // Of a thread that an application started there nothing is known.
    let threads = Inventory { events: waited_in(1), ..with_threads(&["metrics-push"]) };
    assert_eq!(judged(&of_program("/usr/bin/uwsgi-core", threads)).0, Verdict::Unsafe);
    let forker = [("main", "/usr/lib/python3.11/multiprocessing/forkserver.py")];
    assert_eq!(judged(&in_script(waited_in(2), &forker)), informed);
}

#[test]
fn threads_are_judged_by_what_their_library_does_at_a_fork() {
    let judged = |library, comms: &[&str]| judged(&started_by(library, comms));
    let handled = (Verdict::Safe, vec![("threads", Weight::Info)]);
    assert_eq!(judged("/v/numpy.libs/libscipy_openblas64_-32a4b2a6.so", &["python", "python"]), handled);
    assert_eq!(judged("/opt/intel/lib/libiomp5.so", &["openmp_worker"]), handled);
    let left = (Verdict::Unsafe, vec![("threads", Weight::Unsafe)]);
    assert_eq!(judged("/usr/lib/x86_64-linux-gnu/libgomp.so.1.0.0", &["app"]), left);
    assert_eq!(judged("/usr/bin/python3.11", &["python"]), left);
    // One thread of another kind among them is enough.
    let mut mixed = started_by("/v/libopenblas.so.0", &["python"]);
    mixed.threads.push(SeenThread { tid: 8, comm: "flush".into() });
    mixed.thread_count = 2;
    let Assessment { verdict, reasons } = assess(&mixed);
    assert_eq!(verdict, Verdict::Unsafe);
    assert_eq!(reasons[0].what, "2 other threads run: python, flush; among them OpenBLAS's");
}

#[test]
fn a_thread_that_ends_before_each_fork_takes_its_loop_with_it() {
    let run = [("run_forever", "/usr/lib/python3.11/asyncio/base_events.py")];
    let loops = |ends_at_forks| {
        let mut seen = in_script(waited_in(1), &run);
        (seen.threads, seen.thread_count) = (vec![thread("app")], 1);
        seen.whereabouts[0].ends_at_forks = ends_at_forks;
        seen
    };
    assert_eq!(judged(&loops(true)), (Verdict::Safe, vec![("threads", Weight::Info)]));
    let left = vec![("threads", Weight::Unsafe), ("event-loop", Weight::Unsafe)];
    assert_eq!(judged(&loops(false)), (Verdict::Unsafe, left));
    // Another instance is another loop, and another thread stays.
    let mut two = loops(true);
    two.events.epoll = 2;
    assert_eq!(judged(&two).0, Verdict::Risky);
    two.events.waiting.push(Waiting { thread: SeenThread { tid: 8, comm: "app".into() }, epoll: Some(6) });
    assert_eq!(judged(&two).0, Verdict::Unsafe);
    let mut beside = loops(true);
    beside.threads.push(SeenThread { tid: 8, comm: "flush".into() });
    beside.thread_count = 2;
    assert_eq!(judged(&beside), (Verdict::Unsafe, vec![("threads", Weight::Unsafe)]));
}

#[test]
fn signals_held_back_and_a_held_mutex_make_it_unsafe() {
    let pending = Inventory { pending: SignalSet::of(&[10]), ..Inventory::default() };
    assert_eq!(judged(&pending), (Verdict::Unsafe, vec![("pending-signals", Weight::Unsafe)]));
    let contended = Contended { waiter: thread("main"), owner: thread("flush"), address: 0x7f10 };
    let held = Inventory { contended: vec![contended], ..with_threads(&["flush"]) };
    let reasons = assess(&held).reasons;
    assert_eq!(reasons[0].id, "contended-lock");
    assert!(reasons[0].what.contains("(flush) holds the mutex at 0x7f10"));
}

#[test]
fn connections_are_told_by_service_and_clients_apart() {
    let connection = |fd, address, accepted| Connection { fd, peer: tcp(address), accepted };
    let seen = Inventory {
        connections: vec![
            connection(4, "10.0.0.7:5432", false),
            connection(5, "10.0.0.8:6379", false),
            connection(6, "10.0.0.7:5432", false),
            connection(7, "10.0.0.9:51234", true),
        ],
        listeners: vec![Listener { fd: 3, address: tcp("0.0.0.0:8000") }],
        ..Inventory::default()
    };
    let Assessment { verdict, reasons } = assess(&seen);
    assert_eq!(verdict, Verdict::Risky);
    let told: Vec<&str> = reasons.iter().map(|reason| reason.what.as_str()).collect();
    assert_eq!(
        told,
        [
            "connected to PostgreSQL: 10.0.0.7:5432 x2",
            "connected to Redis: 10.0.0.8:6379",
            "serves 1 connection of clients",
            "listens on 0.0.0.0:8000",
        ]
    );
}

#[test]
fn files_are_told_by_what_a_fork_does_to_them() {
    let seen = Inventory {
        databases: vec![Database { file: file("/srv/\u{1b}[2Ja.sqlite3"), kind: DatabaseKind::Sqlite }],
        file_locks: vec![
            FileLock { file: file("/run/a.pid"), kind: FileLockKind::Posix },
            FileLock { file: file("/run/a.lock"), kind: FileLockKind::Flock },
        ],
        devices: vec![file("/dev/nvidia0")],
        memory: Some(Memory { anonymous: 3 << 30, page_tables: 6 << 20 }),
        ..Inventory::default()
    };
    let Assessment { verdict, reasons } = assess(&seen);
    assert_eq!(verdict, Verdict::Risky);
    let ids: Vec<&str> = reasons.iter().map(|reason| reason.id).collect();
    assert_eq!(ids, ["database", "posix-lock", "flock", "device", "memory"]);
    assert_eq!(reasons[0].what, "SQLite has /srv/\\x1b[2Ja.sqlite3 open");
    assert!(reasons.iter().all(|reason| reason.remedy.link.starts_with("http") && reason.why.ends_with('.')));
}

#[test]
fn what_could_hide_something_unsafe_leaves_it_undecided() {
    let unknown = |what| vec![Unknown { what, why: "Permission denied".to_owned(), denied: true }];
    let with = |what, inventory| judged(&Inventory { unknown: unknown(what), ..inventory }).0;
    assert_eq!(with(Subject::Descriptors, Inventory::default()), Verdict::Undecided);
    assert_eq!(with(Subject::Calls, Inventory::default()), Verdict::Undecided);
    assert_eq!(with(Subject::Stacks, Inventory::default()), Verdict::Undecided);
    // Whose loop it is, is known by other means.
    let gevent = Inventory { has_gevent: true, events: waited_in(0), ..Inventory::default() };
    assert_eq!(with(Subject::Stacks, gevent), Verdict::Risky);
    let master =
        of_program("/usr/bin/uwsgi-core", Inventory { events: waited_in(0), ..Inventory::default() });
    assert_eq!(with(Subject::Stacks, master), Verdict::Safe);
    assert_eq!(with(Subject::Memory, Inventory::default()), Verdict::Safe);
    assert_eq!(with(Subject::Descriptors, with_threads(&["flush"])), Verdict::Unsafe);
}
