//! A made-up session that the tests of all outputs share.

use std::path::PathBuf;

use super::Context;
use crate::model::{
    child_end::{ChildEnd, Sender, SentBy},
    event::{
        CloneFailure, CloneKind, Event, Exec, Exit, ExitStatus, Fork, ForkOfExec, LossReason, Lost, Origin,
        Thread,
    },
    finding::{Certainty, Facts, Finding, HazardId, Remedy, Severity, State},
    limit::{Cause, Limit},
    process::{Comm, ProcessKey, Program},
    provenance::{Executable, Namespace, Provenance},
    rescued::{RescueReport, Rescued},
    resolution::Resolution,
    signals::SignalSet,
    stack::Frame,
    standing::{Reason, Standing, Verdict, Weight},
    thread::{Occupation, SeenThread},
    time::BootTime,
    worker::{Exited, Ready, Stopping, WorkSource, WorkerChange, WorkerEvent, WorkerState, WorkersServer},
};

pub(crate) const START: u64 = 100_000_000_000;

pub(crate) fn context() -> Context {
    Context {
        host_name: Some("h1".to_owned()),
        boot_id: Some("0ec2b5e1-5a3e-4b0f-9d5a-2f6f1c3a9b77".to_owned()),
        wall_offset: 1_789_041_600_000_000_000,
        pid_max: Some(1 << 22),
        began: BootTime(START),
    }
}

pub(crate) fn at(milliseconds: u64) -> BootTime {
    BootTime(START + milliseconds * 1_000_000)
}

pub(crate) fn key(tgid: u32, milliseconds: u64) -> ProcessKey {
    ProcessKey { tgid, start: at(milliseconds) }
}

fn origin(sequence: u64) -> Origin {
    Origin { cpu: 1, sequence }
}

pub(crate) fn fork(milliseconds: u64, parent: u32, comm: &str, child: u32) -> Fork {
    Fork {
        origin: origin(milliseconds),
        at: at(milliseconds),
        kind: CloneKind::Copying,
        parent: key(parent, 0),
        parent_tid: parent,
        comm: comm.into(),
        uid: 1000,
        cgroup: 4242,
        threads: 1,
        pending_thread: SignalSet::EMPTY,
        pending_shared: SignalSet::EMPTY,
        blocked: SignalSet::EMPTY,
        child: key(child, milliseconds),
        child_namespace_pid: child,
        generation: 1,
        tracked: true,
    }
}

pub(crate) fn exec(milliseconds: u64, tgid: u32, forked: u64, comm: &str) -> Exec {
    let since = (milliseconds - forked) * 1_000_000;
    Exec {
        origin: origin(milliseconds),
        at: at(milliseconds),
        process: key(tgid, forked),
        from_tid: tgid,
        comm: comm.into(),
        uid: 1000,
        cgroup: 4242,
        parent_tgid: 4100,
        blocked: SignalSet::EMPTY,
        fork: Some(ForkOfExec { kind: CloneKind::Copying, since, blocked: SignalSet::EMPTY }),
    }
}

pub(crate) fn exit(milliseconds: u64, tgid: u32, forked: u64, comm: &str, status: ExitStatus) -> Exit {
    Exit {
        origin: origin(milliseconds),
        at: at(milliseconds),
        process: key(tgid, forked),
        parent_tgid: 4100,
        kind: CloneKind::Copying,
        comm: comm.into(),
        status,
        lifetime: (milliseconds - forked) * 1_000_000,
    }
}

pub(crate) fn unsafe_fork() -> Fork {
    Fork {
        threads: 4,
        parent_tid: 4107,
        pending_shared: SignalSet::of(&[15]),
        blocked: SignalSet::of(&[15, 17]),
        child_namespace_pid: 7,
        generation: 2,
        ..fork(1500, 4100, "gunicorn", 4244)
    }
}

pub(crate) fn finding() -> Finding {
    let threads = [(4101, "grpc_global_tim"), (4102, "pymongo_server_"), (4103, "\x1b[31mred")]
        .map(|(tid, comm)| SeenThread { tid, comm: comm.into() });
    Finding {
        at: at(2600),
        number: 1,
        hazard: HazardId::new("multithreaded-fork"),
        state: State::Suspected,
        certainty: Certainty::Certain,
        severity: Severity::Warning,
        summary:
            "gunicorn forked 4244 while 3 other threads ran, and the child lives on without exec: locks that \
                  those threads held stay locked in it for good."
                .to_owned(),
        parent: key(4100, 0),
        program: Program {
            comm: "gunicorn".into(),
            exe: Some(PathBuf::from("/usr/bin/python3.11")),
            cmdline: ["gunicorn", "--preload", "app:app"].map(str::to_owned).to_vec(),
            unit: Some("gunicorn.service".to_owned()),
            container: Some("3f1c9a7d".repeat(8)),
            cgroup: Some("/system.slice/gunicorn.service".to_owned()),
            uid: Some(33),
            provenance: Some(Provenance {
                namespaces: Some(vec![Namespace::Mount]),
                executable: Executable::Host,
                login: None,
            }),
        },
        program_name: "gunicorn".to_owned(),
        child: key(4244, 1500),
        child_comm: Comm::new(b"gunicorn"),
        child_uid: None,
        facts: Facts {
            threads: threads.to_vec(),
            thread_count: Some(3),
            occupations: vec![Occupation {
                tid: 4102,
                name: Some("pymongo_server_monitor_thread".to_owned()),
                at: Some(Frame {
                    function: Some("target".to_owned()),
                    module: Some("/srv/venv/lib/python3.11/site-packages/pymongo/monitor.py".to_owned()),
                    line: Some(74),
                    ..Frame::default()
                }),
                queue: None,
            }],
            signals: SignalSet::EMPTY,
            age: Some(1_100_000_000),
            notes: vec!["preload_app is set".to_owned()],
            ..Facts::default()
        },
        remedy: Remedy {
            text: "Start threads and clients in post_fork or post_worker_init, or drop --preload.".to_owned(),
            link: "https://docs.gunicorn.org/en/stable/settings.html#post-fork".to_owned(),
        },
        repeats: 0,
    }
}

pub(crate) fn resolved() -> Finding {
    Finding { at: at(9000), state: State::Resolved(Resolution::Killed), ..finding() }
}

pub(crate) fn thread() -> Thread {
    Thread {
        origin: origin(3),
        at: at(1400),
        tgid: 4100,
        parent_tid: 4100,
        comm: "gunicorn".into(),
        tid: 4107,
        threads: 4,
    }
}

pub(crate) fn clone_failure() -> CloneFailure {
    CloneFailure {
        origin: origin(4),
        at: at(3000),
        tgid: 4300,
        tid: 4300,
        comm: Comm::new(b"b\xffmb"),
        uid: 1000,
        cgroup: 4242,
        errno: 11,
        duration: 12_345,
    }
}

pub(crate) fn limit() -> Limit {
    Limit { cause: Cause::PidsMax, cgroup: Some("/system.slice/x.service".to_owned()) }
}

pub(crate) fn lost() -> Lost {
    Lost { at: at(3100), since: at(3050), count: 1_234_567, reason: LossReason::PlainShed }
}

/// One of each kind of event.
pub(crate) fn events() -> Vec<Event> {
    vec![
        Event::Fork(unsafe_fork()),
        Event::Exec(Exec {
            from_tid: 4299,
            blocked: SignalSet::of(&[15]),
            ..exec(1250, 4250, 1248, "postgres")
        }),
        Event::Exit(exit(1300, 4251, 1290, "sh", ExitStatus::Code(3))),
        Event::Exit(exit(1310, 4252, 1290, "crash", ExitStatus::Signal { number: 11, core_dumped: true })),
        Event::Thread(thread()),
        Event::CloneFailure(clone_failure()),
        Event::Lost(lost()),
    ]
}

pub(crate) fn standing(tgid: u32) -> Standing {
    let reason =
        Reason { id: "threads".to_owned(), weight: Weight::Unsafe, what: "3 other threads run".to_owned() };
    Standing {
        at: at(5),
        process: key(tgid, 0),
        program: finding().program,
        verdict: Verdict::Unsafe,
        reasons: vec![reason],
        children: 2,
        stuck: vec![4244],
        unseen: 0,
    }
}

pub(crate) fn rescued(tgid: u32) -> Rescued {
    let report = RescueReport {
        pid: tgid,
        start_ns: at(0).0,
        name: "worker".to_owned(),
        uid: Some(33),
        unit: Some("app.service".to_owned()),
        released: true,
        went_on: true,
        reason: None,
        lock: None,
        by_uid: 0,
    };
    Rescued { at: at(6), report }
}

/// Something that has happened to a worker of gunicorn's.
pub(crate) fn worker(seconds: u64, pid: u32, change: WorkerChange) -> WorkerEvent {
    WorkerEvent {
        at: at(seconds * 1000),
        change,
        worker: key(pid, 4000),
        comm: "gunicorn".into(),
        server: WorkersServer {
            master: key(4100, 1000),
            name: "gunicorn".to_owned(),
            known: true,
            class: Some("gthread".to_owned()),
            unit: Some("shop.service".to_owned()),
            uid: Some(33),
        },
        slot: None,
        replaces: None,
    }
}

/// The life of a worker, which another took the place of: forked, ready, asked to end, ended; and the other's.
pub(crate) fn lives_of_workers() -> Vec<WorkerEvent> {
    let sender = || Some(Sender { pid: 4100, name: "gunicorn".to_owned() });
    let signal = "SIGABRT".to_owned();
    let source = WorkSource::Listener("127.0.0.1:8000".to_owned());
    let end = ChildEnd {
        exit_code: None,
        meaning: None,
        signal: Some("SIGKILL".to_owned()),
        core_dumped: false,
        sent_by: Some(SentBy::Parent),
        sender: sender(),
        since_signal_ns: Some(1_000_000),
    };
    let exited = Exited {
        end: Some(end),
        lifetime: 41_000_000_000,
        state: WorkerState::Stopping,
        last: Some((at(44_000), "waited in futex at get (pool.py:9)".to_owned())),
        stuck: Some("4242 waits for a lock".to_owned()),
        said: Vec::new(),
    };
    let forked = || WorkerChange::Forked { seen: true, state: WorkerState::Starting };
    vec![
        worker(4, 4242, forked()),
        worker(5, 4242, WorkerChange::Ready(Ready { after: 712_000_000, exact: true, source })),
        worker(
            44,
            4242,
            WorkerChange::Stopping(Stopping { signal, sent_by: SentBy::Parent, sender: sender() }),
        ),
        worker(45, 4242, WorkerChange::Exited(Box::new(exited))),
        WorkerEvent { replaces: Some(4242), ..worker(46, 4299, forked()) },
        WorkerEvent { replaces: Some(4242), ..worker(46, 4299, WorkerChange::Replaced { gap: 9_000_000 }) },
    ]
}
