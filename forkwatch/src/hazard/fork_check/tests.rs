use super::*;
use crate::model::{
    connection::Peer,
    evidence::SeenThread,
    inventory::{
        Connection, Contended, Database, DatabaseKind, Events, FileLock, FileLockKind, Listener, Memory,
        OpenFile, Unknown,
    },
    process::Program,
    signals::SignalSet,
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
        events: Events { epoll: 1, waiting: vec![thread("redis-server")], ..Events::default() },
        ..with_threads(&["bio_close_file"])
    };
    let (verdict, reasons) = judged(&of_program("/usr/bin/redis-server", redis.clone()));
    assert_eq!((verdict, reasons.len()), (Verdict::Safe, 2));
    assert_eq!(judged(&of_program("/usr/bin/other", redis)).0, Verdict::Unsafe);
}

#[test]
fn a_loop_counts_as_running_where_somebody_waits_in_it() {
    let idle = Events { epoll: 1, ..Events::default() };
    let running = Events { waiting: vec![thread("node")], ..idle.clone() };
    let with = |events| judged(&Inventory { events, ..Inventory::default() });
    assert_eq!(with(idle), (Verdict::Risky, vec![("event-loop", Weight::Warning)]));
    assert_eq!(with(running), (Verdict::Unsafe, vec![("event-loop", Weight::Unsafe)]));
    // An eventfd or a signalfd alone is no loop.
    assert_eq!(with(Events { eventfd: 1, signalfd: 1, ..Events::default() }).0, Verdict::Safe);
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
    assert_eq!(with(Subject::Memory, Inventory::default()), Verdict::Safe);
    assert_eq!(with(Subject::Descriptors, with_threads(&["flush"])), Verdict::Unsafe);
}
