use crate::model::{
    connection::Peer,
    inventory::{Subject, Unknown},
    process::{ProcessKey, Program},
    server::{Details, Doing, Futex, Hidden, Member, Memory, Open, Socket, State, Target, Thread, Wait},
    thread::SeenThread,
    time::BootTime,
};

use super::*;

const SECOND: u64 = 1_000_000_000;

fn program(cmdline: &[&str]) -> Program {
    Program {
        comm: "gunicorn".into(),
        exe: Some("/usr/bin/python3.11".into()),
        cmdline: cmdline.iter().map(|word| (*word).to_owned()).collect(),
        uid: Some(0),
        unit: Some("web.service".to_owned()),
        ..Program::default()
    }
}

fn thread(tid: u32, name: &str, call: &str, on: &[u32]) -> Thread {
    Thread {
        thread: SeenThread { tid, comm: "python3".into() },
        name: Some(name.to_owned()),
        at: None,
        doing: Some(Doing::Waits(Wait { call: call.to_owned(), on: on.to_vec(), futex: None })),
        since: Some(12 * SECOND),
    }
}

fn socket(fd: u32, inode: u64, address: &str) -> Socket {
    Socket { fd, inode, peer: Peer::Tcp(address.to_owned()), accepted: false }
}

fn member(pid: u32, forked: bool, threads: Vec<Thread>, connections: Vec<Socket>) -> Member {
    let log = Some(Target { link: "/var/log/app.log".to_owned(), peer: None });
    let details = Details {
        thread_count: u32::try_from(threads.len()).unwrap(),
        threads,
        open: Some(Open {
            count: 9,
            limit: Some(10),
            connections,
            listeners: vec![socket(5, 50, "0.0.0.0:8000")],
            output: log.clone(),
            errors: log,
            awaited: Vec::new(),
        }),
        memory: Some(Memory { resident: 40 << 20, shared: 30 << 20, copied: 10 << 20 }),
        hidden: None,
    };
    Member {
        process: ProcessKey { tgid: pid, start: BootTime(u64::from(pid) * SECOND) },
        parent: if forked { 100 } else { 1 },
        program: program(&["python3", "/venv/bin/gunicorn", "-w", "2", "app:app"]),
        loaded: Vec::new(),
        forked,
        state: State::Sleeping,
        details: Some(Box::new(details)),
    }
}

/// A gunicorn whose master has a connection and a thread, and of whose two workers one has the connection, too.
fn gunicorn() -> Tree {
    let database = || vec![socket(7, 70, "10.0.0.7:5432")];
    let main = |pid, call, on: &[u32]| thread(pid, "MainThread", call, on);
    Tree {
        at: BootTime(300 * SECOND),
        members: vec![
            member(
                100,
                false,
                vec![main(100, "select", &[]), thread(101, "heartbeat", "futex", &[])],
                database(),
            ),
            member(110, true, vec![main(110, "accept4", &[5])], database()),
            member(
                120,
                true,
                vec![main(120, "accept4", &[5]), thread(121, "heartbeat", "futex", &[])],
                Vec::new(),
            ),
        ],
        whole: true,
    }
}

fn told(tree: &Tree, pid: u32, inventory: &Inventory) -> Document {
    let of = tree.members.iter().find(|member| member.process.tgid == pid).unwrap();
    let asked = Process {
        key: of.process,
        comm: of.program.comm,
        parent: of.parent,
        unexeced: of.forked,
        workers: 0,
    };
    let first = tree.members.first().unwrap();
    let master = (of.process != first.process).then_some(inventory);
    Document::new(&Looked { asked: &asked, tree, inventory, master })
}

#[test]
fn a_worker_is_told_with_what_it_shares_and_what_it_lacks() {
    let text = text::text(&told(&gunicorn(), 110, &Inventory::default()));
    for line in [
        "  set       workers 2\n",
        "  listens   0.0.0.0:8000\n",
        "  PID     ROLE             AGE     THR OPEN  OWN MEM   DOES\n",
        "  100     master           3 min   2   9!    10 MiB    sleeps\n",
        "> 110     worker           3 min   1   9!    10 MiB    awaits connections\n",
        "pid 110, worker, sleeping, for 3 min\n",
        "  does      awaits connections (accept4) on 0.0.0.0:8000, for 12 s\n",
        "  lacks     threads of the master: heartbeat\n",
        "  open      9 of 10 descriptors: it will soon get no more\n",
        "  memory    40 MiB, of which 30 MiB are shared and 10 MiB copied or new since\n            the fork\n",
        "  connected 10.0.0.7:5432 (PostgreSQL), open in 100, too\n",
        "  output    /var/log/app.log, shared by 100, 120, too\n",
        "A fork of the master now (pid 100) would be safe.\n",
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
    assert!(text.starts_with("gunicorn (pid 100, uid 0, web.service"), "{text}");
    assert!(text.contains("): 2 workers\n"), "{text}");
    assert!(text.lines().all(|line| line.len() <= 80 && line == line.trim_end()), "{text}");
}

#[test]
fn a_thread_that_the_master_has_too_is_told() {
    let text = text::text(&told(&gunicorn(), 120, &Inventory::default()));
    assert!(
        text.contains("  thread    heartbeat (the master has one, too): awaits a wake-up, for 12 s\n"),
        "{text}"
    );
    assert!(!text.contains("lacks"), "{text}");
}

#[test]
fn a_process_of_no_server_is_told_alone() {
    let mut tree = gunicorn();
    tree.members.truncate(1);
    for member in &mut tree.members {
        member.program = Program { comm: "job".into(), uid: Some(0), ..Program::default() };
    }
    let document = told(&tree, 100, &Inventory::default());
    let text = text::text(&document);
    assert!(text.starts_with("job (pid 100, uid 0) belongs to no server: "), "{text}");
    assert!(text.contains("A fork now (pid 100) would be safe.\n"), "{text}");
    assert!(!text.contains("PID"), "{text}");
}

#[test]
fn what_could_not_be_seen_is_said() {
    let mut tree = gunicorn();
    let denied = || "Permission denied (os error 13)".to_owned();
    for member in &mut tree.members {
        let hidden = Some(Hidden { why: denied(), denied: true });
        member.details = Some(Box::new(Details { hidden, ..Details::default() }));
    }
    let unknown = vec![Unknown { what: Subject::Descriptors, why: denied(), denied: true }];
    let document = told(&tree, 110, &Inventory { unknown, ..Inventory::default() });
    assert!(document.is_denied());
    let text = text::text(&document);
    assert!(
        text.contains("  unknown   threads, descriptors or memory: Permission denied (os error 13);\n"),
        "{text}"
    );
    assert!(text.contains("> 110     worker           3 min   0   ?     ?         ?\n"), "{text}");
    assert!(text.contains("is undecided: not all could be looked at.\n"), "{text}");
}

#[test]
fn the_document_is_as_its_schema_says() {
    let document = serde_json::to_value(told(&gunicorn(), 110, &Inventory::default())).unwrap();
    let schema = schema();
    jsonschema::validate(&schema, &document).unwrap();
    assert_eq!(document.pointer("/schema").unwrap(), "forkwatch.inspect/1");
    assert_eq!(
        document.pointer("/processes/1/connections/0/shared_with").unwrap(),
        &serde_json::json!([100])
    );
    assert_eq!(document.pointer("/processes/1/lacks_threads/0").unwrap(), "heartbeat");
}

#[test]
fn threads_that_wait_for_one_lock_are_told_together() {
    let waits = |tid: u32, address, is_mutex| {
        let mut waiting = thread(tid, &format!("worker-{tid}"), "futex", &[]);
        if let Some(Doing::Waits(wait)) = &mut waiting.doing {
            wait.futex = Some(Futex { address, is_mutex });
        }
        waiting
    };
    let threads = vec![
        waits(100, 0x1000, true),
        waits(101, 0x1000, true),
        waits(102, 0x2000, false),
        waits(103, 0x1000, true),
        waits(104, 0x2000, false),
        waits(105, 0x3000, true),
    ];
    let tree = Tree {
        at: BootTime(300 * SECOND),
        members: vec![member(100, false, threads, Vec::new())],
        whole: true,
    };
    let family = Family::new(&tree, tree.members.first().unwrap().process);
    let told = process(family.processes.first().unwrap());
    let told = told.split_whitespace().collect::<Vec<_>>().join(" ");
    for words in [
        "queue 3 threads wait for one lock at 0x1000, the first for 12 s: worker-100, worker-101, worker-103",
        "queue 2 threads wait for one wake-up, of a lock, a semaphore or a condition, at 0x2000",
    ] {
        assert!(told.contains(words), "no {words:?} in {told}");
    }
    assert!(!told.contains("0x3000"), "one thread is no queue: {told}");
}
