//! The rules against made-up families.

use super::*;
use crate::model::{
    child_end::SentBy,
    family::{SharedKind, SharedLock, Waiter},
    finding::{Certainty, State},
    process::Program,
    stack::{Frame, Stack},
    thread::SeenThread,
};

const SECOND_NS: u64 = 1_000_000_000;

fn key(tgid: u32) -> ProcessKey {
    ProcessKey { tgid, start: BootTime(0) }
}

fn frame(module: &str, function: &str) -> Frame {
    Frame {
        function: Some(function.to_owned()),
        module: Some(module.to_owned()),
        offset: None,
        line: Some(7),
    }
}

#[expect(clippy::unnecessary_wraps, reason = "it is what a waiter has")]
fn calls(list: &[(&str, &str)]) -> Option<Stack> {
    Some(Stack {
        frames: list.iter().map(|(module, function)| frame(module, function)).collect(),
        missing: None,
    })
}

const POOL: &str = "/usr/lib/python3.11/multiprocessing/pool.py";
const QUEUES: &str = "/usr/lib/python3.11/multiprocessing/queues.py";
const LOCKS: &str = "/usr/lib/python3.11/multiprocessing/synchronize.py";
const CONNECTION: &str = "/usr/lib/python3.11/multiprocessing/connection.py";
const PROCESS: &str = "/usr/lib/python3.11/multiprocessing/process.py";
const THREADING: &str = "/usr/lib/python3.11/threading.py";
const APP: &str = "/srv/app.py";

fn waiter(tid: u32, call: &str, script: Option<Stack>) -> Waiter {
    let thread = SeenThread { tid, comm: "python".into() };
    Waiter { thread, switches: 5, call: call.to_owned(), endless: call == "futex", shared: None, script }
}

fn member(tgid: u32, threads: Vec<Waiter>) -> Member {
    Member { process: key(tgid), comm: "python".into(), uid: Some(33), stopped: false, threads }
}

/// Waits for a task: reads the pipe, with the lock of the queue.
fn reader(tgid: u32) -> Member {
    let script = [
        (CONNECTION, "_recv"),
        (CONNECTION, "recv_bytes"),
        (QUEUES, "get"),
        (POOL, "worker"),
        (PROCESS, "run"),
        (APP, "<module>"),
    ];
    member(tgid, vec![waiter(tgid, "read", calls(&script))])
}

fn semaphore() -> SharedLock {
    SharedLock {
        place: (0, 25, 9, 0),
        file: "/dev/shm/sem.mp-1 (deleted)".to_owned(),
        kind: SharedKind::Semaphore,
    }
}

/// Waits for the lock of the queue.
fn queues(tgid: u32) -> Member {
    let script =
        [(LOCKS, "__enter__"), (QUEUES, "get"), (POOL, "worker"), (PROCESS, "run"), (APP, "<module>")];
    let main = Waiter { shared: Some(semaphore()), ..waiter(tgid, "futex", calls(&script)) };
    member(tgid, vec![main])
}

/// Works on a task.
fn busy(tgid: u32) -> Member {
    let script = [(APP, "job"), (POOL, "mapstar"), (POOL, "worker"), (PROCESS, "run"), (APP, "<module>")];
    member(tgid, vec![waiter(tgid, "clock_nanosleep", calls(&script))])
}

/// Waits for a result, with the threads of the pool.
fn master() -> Member {
    let waits = [
        (THREADING, "wait"),
        (THREADING, "wait"),
        (POOL, "wait"),
        (POOL, "get"),
        (POOL, "map"),
        (APP, "run"),
    ];
    let tasks = [(POOL, "_handle_tasks"), (THREADING, "run")];
    let results =
        [(CONNECTION, "_recv"), (CONNECTION, "recv"), (POOL, "_handle_results"), (THREADING, "run")];
    member(
        100,
        vec![
            waiter(100, "futex", calls(&waits)),
            waiter(101, "futex", calls(&tasks)),
            waiter(102, "read", calls(&results)),
        ],
    )
}

fn family(forker: Member, children: Vec<Member>) -> Family {
    let program =
        Program { comm: "python".into(), exe: Some("/usr/bin/python3.11".into()), ..Program::default() };
    Family { at: BootTime(0), program, forker, children, whole: true, out_of_memory: None }
}

fn killed(tgid: u32) -> Killed {
    let end = ChildEnd {
        exit_code: None,
        meaning: None,
        signal: Some("SIGKILL".to_owned()),
        core_dumped: false,
        sent_by: Some(SentBy::Unknown),
        sender: None,
        since_signal_ns: None,
    };
    Killed { child: key(tgid), comm: "python".into(), at: BootTime(0), end }
}

fn judged_of(first: &Family, second: &Family) -> Vec<(&'static str, Verdict)> {
    let dead = [killed(110)];
    let now = BootTime(20 * SECOND_NS);
    let case = Case { killed: &dead, forked: Some(BootTime(SECOND_NS)), first, second, now };
    judge(&case).into_iter().map(|(hazard, verdict)| (hazard.name(), verdict)).collect()
}

fn judged(seen: &Family) -> Vec<(&'static str, Verdict)> {
    judged_of(seen, seen)
}

fn names(found: &[(&'static str, Verdict)]) -> Vec<&'static str> {
    found.iter().map(|(name, _)| *name).collect()
}

#[test]
fn a_result_that_nobody_works_on_is_lost() {
    let found = judged(&family(master(), vec![reader(111), queues(112)]));
    assert_eq!(names(&found), ["lost-result"]);
    let verdict = &found[0].1;
    assert_eq!((verdict.certainty, verdict.state), (Certainty::Strong, State::Confirmed));
    assert_eq!(
        verdict.summary,
        "python3.11 (pid 100) waits in vain for a result of its multiprocessing pool: 110 was killed by SIGKILL, the task \
         that it had is lost, and all 2 workers have nothing to do"
    );
    assert_eq!(verdict.facts.notes, ["it waits in run (app.py:7)"]);
    let starved = Family { out_of_memory: Some(2), ..family(master(), vec![reader(111)]) };
    let told = judged(&starved)[0].1.facts.notes.last().cloned().unwrap_or_default();
    assert!(told.starts_with("the kernel has killed 2 processes of this control group"), "{told}");
}

#[test]
fn whoever_may_bring_the_result_clears_it() {
    let silent = |seen: &Family| assert_eq!(names(&judged(seen)), [""; 0], "{seen:#?}");
    silent(&family(master(), vec![reader(111), busy(112)]));
    silent(&family(master(), Vec::new()));
    // A worker that runs shows no calls.
    let mut running = busy(112);
    running.threads[0].script = Some(Stack::absent("it runs"));
    silent(&family(master(), vec![reader(111), running]));
    silent(&Family { whole: false, ..family(master(), vec![reader(111)]) });
    // Nobody waits, or not for ever.
    let mut timed = master();
    timed.threads[0].endless = false;
    silent(&family(timed, vec![reader(111)]));
    let mut idle = master();
    idle.threads[0].script = calls(&[(APP, "run")]);
    silent(&family(idle, vec![reader(111)]));
    // The next task is being made, or a result is being taken in.
    for (thread, inner) in [(1, "make"), (2, "callback")] {
        let mut at_work = master();
        if let Some(script) = &mut at_work.threads[thread].script {
            script.frames.insert(0, frame(APP, inner));
        }
        silent(&family(at_work, vec![reader(111)]));
    }
    // It has run between the looks.
    let seen = family(master(), vec![reader(111)]);
    let mut later = seen.clone();
    later.children[0].threads[0].switches += 1;
    assert_eq!(names(&judged_of(&seen, &later)), [""; 0]);
    let mut later = seen.clone();
    later.forker.threads[0].switches += 1;
    assert_eq!(names(&judged_of(&seen, &later)), [""; 0]);
    let mut later = seen.clone();
    later.forker.stopped = true;
    assert_eq!(names(&judged_of(&seen, &later)), [""; 0]);
}

#[test]
fn a_queue_at_whose_door_all_wait_is_left_locked() {
    let found = judged(&family(master(), vec![queues(111), queues(112)]));
    assert_eq!(names(&found), ["abandoned-semaphore"]);
    assert_eq!(found[0].1.certainty, Certainty::Strong);
    assert_eq!(
        found[0].1.summary,
        "All 2 children of python3.11 (pid 100) wait in vain for the lock of a multiprocessing queue: 110 was killed by \
         SIGKILL, and has left it locked, so that no task is taken any more"
    );
    // Another lock, another's lock, or the parent is inside of a queue.
    let mut other = queues(112);
    other.threads[0].shared = Some(SharedLock { place: (0, 25, 10, 0), ..semaphore() });
    assert_eq!(names(&judged(&family(master(), vec![queues(111), other]))), ["lost-result"]);
    let mut inside = master();
    inside.threads.push(waiter(103, "read", calls(&[(CONNECTION, "_recv"), (QUEUES, "get"), (APP, "feed")])));
    assert_eq!(names(&judged(&family(inside, vec![queues(111)]))), ["lost-result"]);
    let mut moved = family(master(), vec![queues(111)]);
    moved.children[0].threads[0].switches += 1;
    assert_eq!(names(&judged_of(&family(master(), vec![queues(111)]), &moved)), [""; 0]);
}

#[test]
fn a_lock_of_the_programs_own_is_suspected() {
    let waits = |tgid| {
        let script = calls(&[(LOCKS, "__enter__"), (APP, "work"), (PROCESS, "run")]);
        member(tgid, vec![Waiter { shared: Some(semaphore()), ..waiter(tgid, "futex", script) }])
    };
    let joins = || member(100, vec![waiter(100, "wait4", calls(&[(PROCESS, "join"), (APP, "main")]))]);
    let found = judged(&family(joins(), vec![waits(111), waits(112)]));
    assert_eq!(names(&found), ["abandoned-semaphore"]);
    assert_eq!((found[0].1.certainty, found[0].1.state), (Certainty::Heuristic, State::Suspected));
    assert!(found[0].1.summary.ends_with("unless their parent holds it"), "{}", found[0].1.summary);
    // A semaphore that hands out work is no lock as far as the calls say.
    let idle = |tgid| {
        let script = calls(&[(APP, "work"), (PROCESS, "run")]);
        member(tgid, vec![Waiter { shared: Some(semaphore()), ..waiter(tgid, "futex", script) }])
    };
    assert_eq!(names(&judged(&family(joins(), vec![idle(111), idle(112)]))), [""; 0]);
}

#[test]
fn a_mutex_whose_owner_has_ended_is_left_locked() {
    let waits = |lives, owner| {
        let lock = SharedLock { kind: SharedKind::Mutex { owner, lives }, ..semaphore() };
        member(111, vec![Waiter { shared: Some(lock), ..waiter(111, "futex", None) }])
    };
    let parent = || member(100, vec![waiter(100, "wait4", None)]);
    let found = judged(&family(parent(), vec![waits(Some(false), 110)]));
    assert_eq!(names(&found), ["abandoned-semaphore"]);
    assert_eq!(
        found[0].1.summary,
        "1 process waits in the family of python3.11 (pid 100) for a mutex in shared memory which 110 has left locked: it \
         was killed by SIGKILL"
    );
    for lives in [Some(true), None] {
        assert_eq!(names(&judged(&family(parent(), vec![waits(lives, 110)]))), [""; 0]);
    }
    let mut moved = family(parent(), vec![waits(Some(false), 110)]);
    moved.children[0].threads[0].switches += 1;
    assert_eq!(names(&judged_of(&family(parent(), vec![waits(Some(false), 110)]), &moved)), [""; 0]);
}

#[test]
fn a_worker_of_uwsgi_that_nobody_replaces_is_told() {
    let of = |name: &str, forked: Option<u64>, seconds: u64| {
        let program =
            Program { comm: name.into(), exe: Some(format!("/usr/bin/{name}").into()), ..Program::default() };
        let seen = Family { program, ..family(member(100, Vec::new()), vec![member(111, Vec::new())]) };
        let dead = [Killed { at: BootTime(SECOND_NS), ..killed(110) }];
        let forked = forked.map(|second| BootTime(second * SECOND_NS));
        let now = BootTime((seconds + 1) * SECOND_NS);
        let case = Case { killed: &dead, forked, first: &seen, second: &seen, now };
        judge(&case).into_iter().map(|(hazard, verdict)| (hazard.name(), verdict)).collect::<Vec<_>>()
    };
    let found = of("uwsgi", None, 12);
    assert_eq!(names(&found), ["worker-not-replaced"]);
    assert_eq!(
        found[0].1.summary,
        "uwsgi (pid 100) does not replace its worker 110, which SIGKILL has killed: it runs without a master, and 1 other \
         is left"
    );
    assert_eq!(names(&of("uwsgi", Some(0), 12)), ["worker-not-replaced"], "forked before");
    assert_eq!(names(&of("uwsgi", Some(2), 12)), [""; 0], "replaced");
    assert_eq!(names(&of("uwsgi", None, 9)), [""; 0], "it may yet be");
    assert_eq!(names(&of("jobs", None, 60)), [""; 0], "nobody knows that it ought to");
}
