//! Children that wait for threads which the fork left behind, and those that have threads and handlers.

use super::{
    locks::{LOCK, asked_by_parent, orphaned, place, stuck, wait, waiting, with_inventory},
    *,
};
use crate::model::{
    finding::{Certainty, Severity},
    held_lock::PlainLock,
    lock::{LockWait, Mapping, ThreadAt, Words},
    observation::Observation,
    resolution::Resolution,
    stack::{Frame, Stack},
};

const LOST: HazardId = HazardId::new("waits-for-lost-thread");

impl Timeline {
    fn of_lost(&self) -> Vec<&Finding> {
        self.findings().into_iter().filter(|finding| finding.hazard == LOST).collect()
    }
}

/// Calls of a script: functions and the files that they are in.
fn calls(calls: &[(&str, &str)]) -> Stack {
    let frame = |(function, file): &(&str, &str)| Frame {
        function: Some((*function).to_owned()),
        module: Some(format!("/usr/lib/python3.11/{file}")),
        line: Some(81),
        ..Frame::default()
    };
    Stack { frames: calls.iter().map(frame).collect(), missing: None }
}

const RESULT: [(&str, &str); 4] = [
    ("Condition.wait", "threading.py"),
    ("Future.result", "concurrent/futures/_base.py"),
    ("fetch", "tasks.py"),
    ("<module>", "tasks.py"),
];
const WORKER: [(&str, &str); 3] = [
    ("_worker", "concurrent/futures/thread.py"),
    ("Thread.run", "threading.py"),
    ("_bootstrap", "threading.py"),
];
const HEARTBEAT: [(&str, &str); 2] = [("beat", "app.py"), ("Thread.run", "threading.py")];

fn thread_at(tid: u32, script: &[(&str, &str)]) -> ThreadAt {
    let thread = SeenThread { tid, comm: "python".into() };
    ThreadAt { thread, stack: calls(&[("sem_wait", "libc.so.6")]), script: Some(calls(script)) }
}

/// A thread waits in these calls of a script, in a child with these others; the parent kept a worker of a pool.
fn place_at(script: &[(&str, &str)], others: &[&[(&str, &str)]]) -> Place {
    Place {
        stack: calls(&[("sem_wait", "libc.so.6"), ("lock_PyThread_acquire_lock", "python3.11")]),
        script: Some(calls(script)),
        others: others.iter().zip(4300..).map(|(script, tid)| thread_at(tid, script)).collect(),
        behind: vec![thread_at(PARENT, &[("main", "app.py")]), thread_at(5000, &WORKER)],
        ..place(&[])
    }
}

/// A semaphore that the child has made itself: a condition of Python's waits on one.
fn own_lock(threads: u32, caught: SignalSet, slept: Option<u64>) -> LocksSeen {
    let words = Words::from([0, 0, 0x31, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    let foreign = Some(Words::from([9; 12]));
    let wait = LockWait { words: Some(words), parent_words: foreign, slept, ..wait(0x189, 0, 1) };
    let LocksSeen::Alive(locks) = waiting(wait) else { unreachable!() };
    LocksSeen::Alive(Box::new(Locks { threads, caught, ..*locks }))
}

fn at_calls(seen: LocksSeen, place: Place) -> Timeline {
    let mut timeline = stuck(seen);
    timeline.places.insert(CHILD, place);
    timeline
}

const HANDLERS: SignalSet = SignalSet(1 << 14);

#[test]
fn a_result_that_a_lost_thread_would_bring_is_found_with_handlers_too() {
    for caught in [SignalSet::EMPTY, HANDLERS] {
        let mut timeline = at_calls(own_lock(1, caught, None), place_at(&RESULT, &[]));
        timeline.at(21_900);
        assert_eq!(timeline.of_lost().len(), 0, "not yet");
        timeline.at(30_000);
        let found = timeline.of_lost();
        assert_eq!(found.len(), 1);
        let finding = found[0];
        assert_eq!(
            (finding.state, finding.certainty, finding.severity),
            (State::Confirmed, Certainty::Strong, Severity::Critical)
        );
        for part in
            ["Future.result", "(5000) of the parent, now in _worker (thread.py:81)", "no other thread"]
        {
            assert!(finding.summary.contains(part), "{part}: {}", finding.summary);
        }
        assert_eq!(finding.facts.threads.iter().map(|thread| thread.tid).collect::<Vec<_>>(), [5000]);
        assert!(finding.facts.lock.as_ref().unwrap().script.is_some());
        assert_eq!(timeline.of_lock().len(), 0, "one finding, not two");
        // It is told once, and withdrawn when the child goes on.
        timeline.at(200_000).locks.insert(CHILD, busy(1));
        timeline.at(300_000);
        let states: Vec<State> = timeline.of_lost().iter().map(|finding| finding.state).collect();
        assert_eq!(states, [State::Confirmed, State::Resolved(Resolution::Woke)]);
    }
}

#[test]
fn a_module_that_a_lost_thread_was_importing_is_waited_for() {
    const IMPORTS: &str = "<frozen importlib._bootstrap>";
    let importing = [("_ModuleLock.acquire", IMPORTS), ("_find_and_load", IMPORTS), ("main", "app.py")];
    let loading = [("work", "slow.py"), ("_load_unlocked", IMPORTS), ("_find_and_load", IMPORTS)];
    let found = |place: Place, threads: u32| {
        let mut timeline = at_calls(own_lock(threads, HANDLERS, None), place);
        timeline.at(300_000);
        timeline.of_lost().into_iter().cloned().collect::<Vec<_>>()
    };
    let place = |others: &[&[(&str, &str)]]| {
        let behind = vec![thread_at(PARENT, &[("main", "app.py")]), thread_at(5000, &loading)];
        Place { behind, ..place_at(&importing, others) }
    };
    let alone = found(place(&[]), 1);
    assert_eq!((alone[0].state, alone[0].certainty), (State::Confirmed, Certainty::Strong));
    assert!(
        alone[0].summary.contains("waits for a module that another thread imports"),
        "{}",
        alone[0].summary
    );
    assert!(alone[0].summary.contains("(5000) of the parent, now in work (slow.py:81)"));
    assert_eq!(found(place(&[&HEARTBEAT]), 2)[0].state, State::Suspected);
    // One of its own threads imports it.
    assert_eq!(found(place(&[&loading]), 2), []);
}

#[test]
fn the_wait_is_as_old_as_the_kernel_says() {
    let mut timeline = at_calls(own_lock(1, HANDLERS, Some(60_000 * MILLI)), place_at(&RESULT, &[]));
    timeline.at(11_900);
    assert_eq!(timeline.of_lost().len(), 0, "it must be seen for half of the time");
    timeline.at(22_500);
    assert_eq!(timeline.of_lost().len(), 1);
    let waited = timeline.of_lost()[0].facts.lock.as_ref().unwrap().waited_ns;
    assert!(waited < 23_000 * MILLI, "no longer than the child has lived: {waited}");
}

#[test]
fn in_a_child_of_several_threads_one_of_its_own_may_bring_it() {
    let found = |others: &[&[(&str, &str)]]| {
        let mut timeline = at_calls(own_lock(2, HANDLERS, None), place_at(&RESULT, others));
        timeline.at(300_000);
        timeline.of_lost().iter().map(|finding| (finding.state, finding.certainty)).collect::<Vec<_>>()
    };
    assert_eq!(found(&[&HEARTBEAT]), [(State::Suspected, Certainty::Strong)]);
    assert_eq!(found(&[&HEARTBEAT, &WORKER]), []);
    assert_eq!(found(&[&[("_run_once", "asyncio/base_events.py")]]), []);
    // Of one that could not be seen nobody knows what it would bring.
    let mut place = place_at(&RESULT, &[&HEARTBEAT]);
    place.knows_others = false;
    let mut timeline = at_calls(own_lock(40, HANDLERS, None), place);
    timeline.at(300_000);
    assert_eq!(timeline.of_lost()[0].certainty, Certainty::Heuristic);
}

#[test]
fn whoever_may_be_parked_is_suspected_or_silent() {
    let wait = ("Condition.wait", "threading.py");
    let seen = |threads, caught, script: &[(&str, &str)]| {
        let mut timeline = at_calls(own_lock(threads, caught, None), place_at(script, &[]));
        timeline.at(300_000);
        let all = timeline.findings().into_iter().filter(|finding| [LOST, LOCK].contains(&finding.hazard));
        all.map(|finding| (finding.hazard, finding.state, finding.certainty)).collect::<Vec<_>>()
    };
    let none = SignalSet::EMPTY;
    let get = [wait, ("Queue.get", "queue.py"), ("main", "app.py")];
    assert_eq!(seen(1, none, &get), [(LOST, State::Confirmed, Certainty::Strong)]);
    assert_eq!(
        seen(1, HANDLERS, &get),
        [(LOST, State::Suspected, Certainty::Heuristic)],
        "a handler may put one"
    );
    assert_eq!(seen(3, none, &get), [], "a consumer of the child's own");
    let tasks = [wait, ("Queue.join", "queue.py"), ("main", "app.py")];
    assert_eq!(seen(1, HANDLERS, &tasks), [(LOST, State::Confirmed, Certainty::Strong)]);
    let condition = [wait, ("main", "app.py")];
    assert_eq!(seen(1, none, &condition), [(LOST, State::Suspected, Certainty::Strong)]);
    assert_eq!(seen(4, none, &condition), []);
    // Parked until somebody sets the event, or hands out work.
    for parked in [&[wait, ("Event.wait", "threading.py"), ("main", "app.py")][..], &WORKER] {
        for (threads, caught) in [(1, none), (1, HANDLERS), (4, HANDLERS)] {
            assert_eq!(seen(threads, caught, parked), [], "{parked:?}");
        }
    }
    // But not in a pool's own wait for a result.
    let pool = [wait, ("Event.wait", "threading.py"), ("ApplyResult.wait", "multiprocessing/pool.py")];
    assert_eq!(seen(1, HANDLERS, &pool), [(LOST, State::Confirmed, Certainty::Strong)]);
    // A line of the child's own script that wants what the child has made itself since the fork.
    assert_eq!(seen(1, HANDLERS, &[("main", "app.py")]), []);
    assert_eq!(seen(4, none, &[("main", "app.py")]), []);
}

#[test]
fn a_lock_that_one_of_several_threads_wants_is_suspected_after_a_minute() {
    let words = Words::from([0, 0, 0x31, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    let seen = |script: &[(&str, &str)]| {
        let LocksSeen::Alive(locks) =
            waiting(LockWait { words: Some(words), parent_words: Some(words), ..wait(0x189, 0, 1) })
        else {
            unreachable!()
        };
        let locks = Locks { threads: 5, caught: HANDLERS, ..*locks };
        at_calls(LocksSeen::Alive(Box::new(locks)), place_at(script, &[&WORKER]))
    };
    let mut timeline = seen(&[("application", "shop.py"), ("handle_request", "gthread.py")]);
    timeline.at(60_000);
    assert_eq!(timeline.of_lock().len(), 0);
    timeline.at(90_000);
    let found = timeline.of_lock();
    assert_eq!(found.len(), 1);
    // The parent had it at each look, or nothing at all: right after the fork there was no such lock.
    assert_eq!((found[0].state, found[0].certainty), (State::Suspected, Certainty::Heuristic));
    assert!(found[0].summary.contains("was there before the fork"), "{}", found[0].summary);
    // An idle worker of a pool.
    let mut idle = seen(&WORKER);
    idle.at(300_000);
    assert_eq!(idle.of_lock().len(), 0);
    let looks = idle.count(|output| matches!(output, Output::Ask(Request::Place { .. })));
    assert_eq!(looks, 1, "looked at once, for it has not moved since");
}

/// One of several threads waits in these calls for a lock that the parent has free now; right after the fork it was so.
fn among_others(script: &[(&str, &str)], held: bool, held_in_parent: Option<bool>) -> Timeline {
    let words = Words::from([0, 0, 0x31, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    let free = Words::from([0, 0, 0x31, 0, 1, 0, 0, 0, 0, 0, 0, 0]);
    let one = LockWait { words: Some(words), parent_words: Some(free), ..wait(0x189, 0, 1) };
    let plain = vec![PlainLock { object: 8, address: one.address, held, held_in_parent }];
    let LocksSeen::Alive(locks) = waiting(one) else { unreachable!() };
    let locks = Locks { threads: 5, caught: HANDLERS, ..*locks };
    let carries = HeldLocks { plain, ..carries(&[]) };
    let mut timeline = with_inventory(LocksSeen::Alive(Box::new(locks)), carries);
    timeline.places.insert(CHILD, place_at(script, &[&WORKER]));
    timeline
}

const REQUEST: [(&str, &str); 2] = [("application", "shop.py"), ("handle_request", "gthread.py")];

#[test]
fn a_lock_that_was_held_right_after_the_fork_is_found_in_time() {
    let mut timeline = among_others(&REQUEST, true, Some(true));
    timeline.at(6_900);
    assert_eq!(timeline.of_lock().len(), 0, "not yet");
    timeline.at(9_000);
    let found = timeline.of_lock();
    assert_eq!(found.len(), 1);
    let is = (found[0].state, found[0].certainty, found[0].severity);
    assert_eq!(is, (State::Confirmed, Certainty::Strong, Severity::Critical));
    let facts = found[0].facts.lock.as_ref().unwrap();
    assert_eq!((facts.proof.name(), facts.held_at_fork), ("held-at-fork", Some(true)));
    assert!(found[0].summary.contains("was held right after the fork"), "{}", found[0].summary);
}

#[test]
fn a_thread_that_is_parked_where_a_lock_was_held_is_left_alone() {
    let event = [("Condition.wait", "threading.py"), ("Event.wait", "threading.py"), ("main", "app.py")];
    for script in [&WORKER[..], &event] {
        let mut timeline = among_others(script, true, Some(true));
        timeline.at(300_000);
        assert_eq!(timeline.of_lock().len() + timeline.of_lost().len(), 0, "{script:?}");
    }
}

#[test]
fn a_lock_that_a_thread_of_the_child_has_taken_since_is_left_alone() {
    let mut timeline = among_others(&REQUEST, false, None);
    timeline.at(300_000);
    assert_eq!(timeline.of_lock().len(), 0);
    // Where it may have taken it before the look, both stories are told, and late.
    for held_in_parent in [Some(false), None] {
        let mut timeline = among_others(&REQUEST, true, held_in_parent);
        timeline.at(30_000);
        assert_eq!(timeline.of_lock().len(), 0);
        timeline.at(120_000);
        let found = timeline.of_lock();
        assert_eq!(found.iter().map(|finding| finding.state).collect::<Vec<_>>(), [State::Suspected]);
    }
}

/// A queue's own lock, not what the queue holds.
#[test]
fn whoever_enters_a_condition_wants_its_lock() {
    let put = [("Condition.__enter__", "threading.py"), ("Queue.put", "/queue.py"), ("main", "app.py")];
    let mut timeline = among_others(&put, true, Some(true));
    timeline.at(9_000);
    assert_eq!((timeline.of_lock().len(), timeline.of_lost().len()), (1, 0));
}

#[test]
fn what_was_parked_does_not_hide_what_hangs() {
    let mut timeline = at_calls(own_lock(1, HANDLERS, None), place_at(&WORKER, &[]));
    timeline.at(30_000);
    assert_eq!(timeline.of_lock().len(), 0);
    let (LocksSeen::Alive(parked), LocksSeen::Alive(hangs)) = (own_lock(2, HANDLERS, None), orphaned(3))
    else {
        unreachable!()
    };
    let waits = parked.waits.iter().cloned().chain(hangs.waits.iter().map(|wait| LockWait {
        tid: 4321,
        address: 0x7000_0810,
        ..wait.clone()
    }));
    let locks = Locks { waits: waits.collect(), ..*parked };
    timeline.locks.insert(CHILD, LocksSeen::Alive(Box::new(locks)));
    timeline.at(50_000);
    let found = timeline.of_lock();
    assert_eq!(found.iter().map(|finding| finding.certainty).collect::<Vec<_>>(), [Certainty::Certain]);
}

/// Celery's hard time limit, gunicorn's timeout: the kill says what the child was stuck in.
#[test]
fn a_kill_is_joined_to_the_wait_for_a_lost_thread() {
    for (seconds, number) in [(60, 1), (15, 0)] {
        let mut timeline = at_calls(own_lock(1, HANDLERS, None), place_at(&RESULT, &[]));
        timeline.at(seconds * 1000).record(Observation::Signal(asked_by_parent(ms(seconds * 1000), 9)));
        let killed = ExitStatus::Signal { number: 9, core_dumped: false };
        timeline.event(&Event::Exit(Exit { at: ms(seconds * 1000), ..exit_of(CHILD, killed) }));
        let killed = HazardId::new("worker-killed-while-stuck");
        let found: Vec<&Finding> =
            timeline.findings().into_iter().filter(|finding| finding.hazard == killed).collect();
        assert_eq!(found.len(), 1, "after {seconds} s");
        assert!(
            found[0].facts.notes.iter().any(|note| note.contains("Future.result")),
            "{:?}",
            found[0].facts
        );
        assert_eq!(timeline.of_lost().len(), 2 * number, "found, and resolved");
        // Of one that was not reported before, all there is to know is told with the kill.
        assert_eq!(found[0].facts.lock.is_some(), number == 0);
    }
}

#[test]
fn a_wait_that_nobody_could_describe_is_asked_about_again() {
    let mut timeline = stuck(own_lock(1, HANDLERS, None));
    timeline.places.clear();
    timeline.at(120_000);
    assert_eq!(timeline.of_lost().len(), 0);
    let undecided = |output: &Output| matches!(output, Output::Undecided { hazard: LOCK, .. });
    assert_eq!(timeline.count(undecided), 1, "told once");
    timeline.places.insert(CHILD, place_at(&RESULT, &[]));
    timeline.at(240_000);
    assert_eq!(timeline.of_lost().len(), 1);
}

/// Two threads begin to wait for a low-level lock one after the other, and the calls of the first could not be read.
#[test]
fn a_thread_that_was_left_alone_stands_in_the_queue_all_the_same() {
    let words = Words::from([0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0]);
    let libc = Mapping { name: "/usr/lib/libc.so.6".to_owned(), offset: 64, shared: false };
    let one = |tid, parent: Option<Words>| LockWait {
        tid,
        words: Some(words),
        parent_words: parent,
        mapping: Some(libc.clone()),
        ..wait(0x80, 2, 1)
    };
    let seen = |waits: Vec<LockWait>| {
        let LocksSeen::Alive(locks) = busy(3) else { unreachable!() };
        LocksSeen::Alive(Box::new(Locks { waits, python: false, ..*locks }))
    };
    // The parent could not be compared with yet.
    let mut timeline = at_calls(seen(vec![one(4301, None)]), Place { script: None, ..place(&[]) });
    timeline.at(60_000);
    assert_eq!(timeline.of_lock().len(), 0);
    let released = Some(Words::from([0; 12]));
    timeline.locks.insert(CHILD, seen(vec![one(4301, released), one(4302, released)]));
    timeline.at(300_000);
    let found = timeline.of_lock();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].facts.lock.as_ref().map(|lock| lock.waiting_threads), Some(2));
}

/// A thread that sleeps for a moment at a word of the program's, again and again.
fn spins() -> LocksSeen {
    let words = Words::from([0, 0, 0, 0, 25, 0, 0, 0, 0, 0, 0, 0]);
    let mapping = Some(Mapping { name: "/usr/bin/profiled".to_owned(), offset: 0x40, shared: false });
    waiting(LockWait {
        spins: true,
        words: Some(words),
        parent_words: Some(words),
        mapping,
        ..wait(128, 25, 0)
    })
}

fn in_function(name: &str) -> Place {
    Place { stack: calls(&[("syscall", "libc.so.6"), (name, "profiled"), ("main", "profiled")]), ..at_rest() }
}

fn at_rest() -> Place {
    Place { script: None, ..place(&[]) }
}

const SLOW_LOCK: &str = "absl::lts_20220623::base_internal::SpinLock::SlowLock()";

#[test]
fn a_child_that_spins_at_an_inherited_lock_is_suspected_however_often_it_is_seen_to_run() {
    let mut timeline = at_calls(spins(), in_function(SLOW_LOCK));
    for moment in 1..100 {
        timeline.locks.insert(CHILD, if moment % 3 == 0 { busy(1) } else { spins() });
        timeline.at(moment * 1000);
    }
    let found = timeline.of_lock();
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!((found[0].state, found[0].certainty), (State::Suspected, Certainty::Heuristic));
    assert!(found[0].summary.contains("spin lock"), "{}", found[0].summary);
    // It has got the lock.
    timeline.locks.insert(CHILD, busy(1));
    timeline.at(300_000);
    let states: Vec<State> = timeline.of_lock().iter().map(|finding| finding.state).collect();
    assert_eq!(states, [State::Suspected, State::Resolved(Resolution::Woke)]);
}

#[test]
fn who_sleeps_a_little_at_a_time_for_another_reason_is_left_alone() {
    let found = |seen, place| {
        let mut timeline = at_calls(seen, place);
        timeline.at(300_000);
        timeline.of_lock().len() + timeline.of_lost().len()
    };
    assert_eq!(found(spins(), in_function(SLOW_LOCK)), 1, "or this test tells nothing");
    assert_eq!(found(spins(), in_function("base::Timer::SleepUntilNextTick()")), 0);
    assert_eq!(found(spins(), at_rest()), 0);
    // A lock of the child's own.
    let LocksSeen::Alive(mut locks) = spins() else { unreachable!() };
    locks.waits[0].mapping = None;
    locks.waits[0].parent_words = Some(Words::from([9; 12]));
    assert_eq!(found(LocksSeen::Alive(locks), in_function(SLOW_LOCK)), 0);
}

/// A word of a program's own file at which so many of a child's threads wait, in this function.
fn in_file(threads: u32, waiters: u32, operation: u32, value: u32, function: &str) -> Timeline {
    let words = Words::from([0, 0, 0, 0, value, 0, 0, 0, 0, 0, 0, 0]);
    let mapping = Some(Mapping { name: "/usr/bin/server".to_owned(), offset: 0x40, shared: false });
    let one = |tid| LockWait {
        tid,
        words: Some(words),
        parent_words: Some(Words::from([0; 12])),
        mapping: mapping.clone(),
        ..wait(operation, value, 1)
    };
    let LocksSeen::Alive(locks) = busy(threads) else { unreachable!() };
    let waits = (0..waiters).map(|index| one(CHILD + index)).collect();
    let locks = Locks { waits, python: false, caught: HANDLERS, ..*locks };
    let stack = calls(&[("futex_wait", "libc.so.6"), (function, "server"), ("main", "server")]);
    at_calls(LocksSeen::Alive(Box::new(locks)), Place { stack, ..at_rest() })
}

#[test]
fn a_lock_whose_words_do_not_say_so_is_known_by_who_takes_it() {
    const WRITER: &str = "__pthread_rwlock_wrlock_full64";
    const GUARD: &str = "__cxa_guard_acquire";
    for (operation, value, function, expected) in [
        (0x189, 2, WRITER, 1),
        (0x0, 0x1_0100, GUARD, 1),
        (0x189, 2, "server::wait_for_work", 0),
        (0x0, 0x1_0100, "server::wait_for_work", 0),
    ] {
        let mut timeline = in_file(3, 1, operation, value, function);
        timeline.at(300_000);
        assert_eq!(timeline.of_lock().len(), expected, "{function}");
    }
}

#[test]
fn all_threads_at_one_condition_are_waiting_for_one_that_is_lost() {
    for (waiters, expected) in [(2, 0), (3, 1)] {
        let mut timeline = in_file(3, waiters, 0x189, 0, "pthread_cond_wait@@GLIBC_2.3.2");
        timeline.at(300_000);
        let found = timeline.of_lost();
        assert_eq!(found.len(), expected, "{waiters} of 3 wait");
        assert!(found.iter().all(|found| found.state == State::Suspected));
    }
}
