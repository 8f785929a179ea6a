//! Children that wait for locks.

use std::time::Duration;

use super::*;
use crate::model::{
    event::CloneKind,
    finding::{Certainty, Severity},
    lock::{Holder, LockWait, MemoryUsers, Words},
    observation::{Observation, Signal},
    probe_request::ProbeRequest,
    resolution::Resolution,
    seen::{Sweep, Swept},
    stack::{Frame, Stack},
};

const OWNER: u32 = 5000;
pub(super) const LOCK: HazardId = HazardId::new("orphaned-lock");

/// The main thread of the child wants a mutex that a thread of the parent owns.
pub(super) fn orphaned(switches: u64) -> LocksSeen {
    let owner = SeenThread { tid: OWNER, comm: "metrics-flush".into() };
    let holder = Holder {
        named: OWNER,
        offset: 8,
        in_child: false,
        is_forker: Some(false),
        in_parent: Some(owner),
        is_from_before: true,
        is_older: Some(true),
    };
    let words = Words::from([0, 0, 0x31, 0, 2, 0, OWNER, 1, 0, 0, 0, 0]);
    waiting(LockWait { words: Some(words), holders: vec![holder], ..wait(0x80, 2, switches) })
}

/// The same of another child.
pub(super) fn orphaned_in(child: u32) -> LocksSeen {
    let LocksSeen::Alive(mut locks) = orphaned(3) else { unreachable!() };
    for wait in &mut locks.waits {
        wait.tid = child;
    }
    LocksSeen::Alive(locks)
}

/// The main thread of the child waits for a semaphore, and nobody is there to post it.
pub(super) fn no_catcher() -> LocksSeen {
    let words = Words::from([0, 0, 0x31, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    waiting(LockWait { words: Some(words), parent_words: Some(words), ..wait(0x189, 0, 1) })
}

pub(super) fn wait(operation: u32, value: u32, switches: u64) -> LockWait {
    LockWait {
        tid: CHILD,
        comm: "python".into(),
        address: 0x7000_0010,
        operation,
        value,
        switches,
        slept: None,
        spins: false,
        words: None,
        parent_words: None,
        mapping: None,
        holders: Vec::new(),
        parked: None,
    }
}

pub(super) fn waiting(wait: LockWait) -> LocksSeen {
    let LocksSeen::Alive(locks) = busy(1) else { unreachable!() };
    LocksSeen::Alive(Box::new(Locks { waits: vec![wait], ..*locks }))
}

/// A call within the C library.
fn in_library(function: &str) -> Frame {
    Frame {
        function: Some(function.to_owned()),
        module: Some("/usr/lib/x86_64-linux-gnu/libc.so.6".to_owned()),
        ..Frame::default()
    }
}

pub(super) fn place(functions: &[&str]) -> Place {
    let frame = |function: &&str| Frame {
        function: Some((*function).to_owned()),
        module: Some("/usr/lib/python3.11/threading.py".to_owned()),
        ..Frame::default()
    };
    Place {
        at: BootTime(0),
        program: program("gunicorn"),
        symbol: None,
        stack: Stack { frames: vec![in_library("__lll_lock_wait")], missing: None },
        script: Some(Stack { frames: functions.iter().map(frame).collect(), missing: None }),
        holder: None,
        others: Vec::new(),
        knows_others: true,
        behind: Vec::new(),
        blocks: Vec::new(),
        memory: Some(MemoryUsers::Alone),
    }
}

/// A fork beside a thread whose child is seen like that from the start.
pub(super) fn stuck(seen: LocksSeen) -> Timeline {
    let mut timeline = Timeline::new();
    timeline.locks.insert(CHILD, seen);
    timeline.places.insert(CHILD, place(&["emit", "handle"]));
    timeline.fork(threaded(2));
    timeline
}

/// The same of a child that was seen to carry this.
pub(super) fn with_inventory(seen: LocksSeen, carries: HeldLocks) -> Timeline {
    let mut timeline = Timeline::new();
    timeline.locks.insert(CHILD, seen);
    timeline.places.insert(CHILD, place(&["emit", "handle"]));
    timeline.held.insert(CHILD, HeldLocksSeen::Alive(Box::new(carries)));
    timeline.fork(threaded(2));
    timeline
}

impl Timeline {
    pub(super) fn of_lock(&self) -> Vec<&Finding> {
        self.findings().into_iter().filter(|finding| finding.hazard == LOCK).collect()
    }

    pub(super) fn probe_requests(&self) -> Vec<ProbeRequest> {
        self.outputs
            .iter()
            .filter_map(|output| match output {
                Output::Probe(request) => Some(*request),
                _ => None,
            })
            .collect()
    }

    /// How many children are stuck, as told last.
    fn stuck(&self) -> Option<u64> {
        self.outputs.iter().rev().find_map(|output| match output {
            Output::Stuck { hazard: LOCK, confirmed, .. } => Some(*confirmed),
            _ => None,
        })
    }
}

impl Timeline {
    /// How many children were stuck when they were last seen, and cannot be seen now, as told last.
    fn out_of_sight(&self) -> Option<u64> {
        self.outputs.iter().rev().find_map(|output| match output {
            Output::Stuck { hazard: LOCK, unknown, .. } => Some(*unknown),
            _ => None,
        })
    }
}

fn lock_states(timeline: &Timeline) -> Vec<State> {
    timeline.of_lock().iter().map(|finding| finding.state).collect()
}

#[test]
fn a_stuck_child_that_cannot_be_looked_at_is_unknown_until_it_can() {
    let mut timeline = stuck(orphaned(3));
    timeline.at(20_000).locks.insert(CHILD, LocksSeen::Unreadable("cannot read it".to_owned()));
    timeline.at(500_000);
    assert_eq!(lock_states(&timeline), [State::Confirmed, State::Unknown]);
    assert_eq!((timeline.stuck(), timeline.out_of_sight()), (Some(0), Some(1)));
    let unknown = timeline.of_lock()[1];
    assert!(unknown.summary.ends_with("is unknown: cannot read it"), "{}", unknown.summary);
    assert_eq!(unknown.number, timeline.of_lock()[0].number);
    assert!(timeline.core.hanging().is_empty(), "nothing is concluded from what is not seen");
    // It hangs still.
    timeline.locks.insert(CHILD, orphaned(3));
    timeline.at(600_000);
    assert_eq!(lock_states(&timeline), [State::Confirmed, State::Unknown, State::Confirmed]);
    assert_eq!((timeline.stuck(), timeline.out_of_sight()), (Some(1), Some(0)));
    // Its end is told as that of any other, also while it cannot be seen.
    timeline.locks.insert(CHILD, LocksSeen::Unreadable("cannot read it".to_owned()));
    timeline.at(900_000).exit(CHILD);
    assert_eq!(lock_states(&timeline).last(), Some(&State::Resolved(Resolution::Exited)));
    assert_eq!((timeline.stuck(), timeline.out_of_sight()), (Some(0), Some(0)));
}

#[test]
fn a_stuck_child_that_woke_unseen_is_withdrawn_when_it_is_seen() {
    let mut timeline = stuck(orphaned(3));
    timeline.at(20_000).locks.insert(CHILD, LocksSeen::Unreadable("cannot read it".to_owned()));
    timeline.at(200_000).locks.insert(CHILD, busy(1));
    timeline.at(300_000);
    assert_eq!(lock_states(&timeline).last(), Some(&State::Resolved(Resolution::Woke)));
    assert_eq!((timeline.stuck(), timeline.out_of_sight()), (Some(0), Some(0)));
}

#[test]
fn a_stuck_child_about_which_nobody_answers_is_unknown() {
    let mut timeline = stuck(orphaned(3));
    timeline.at(20_000).silent = true;
    timeline.at(900_000);
    assert_eq!((timeline.stuck(), timeline.out_of_sight()), (Some(0), Some(1)));
    assert_eq!(lock_states(&timeline), [State::Confirmed, State::Unknown]);
    timeline.silent = false;
    timeline.at(1_000_000);
    assert_eq!((timeline.stuck(), timeline.out_of_sight()), (Some(1), Some(0)));
}

#[test]
fn a_thread_that_is_back_in_its_wait_has_not_woken() {
    let mut timeline = stuck(orphaned(3));
    timeline.at(20_000);
    for round in 0..20 {
        // Each look but the next sees a handler that runs.
        timeline.locks.insert(CHILD, busy(1));
        let due = timeline.core.due(ORPHANED_LOCK, process(CHILD)).unwrap();
        timeline.at(due.0 / MILLI + 1).locks.insert(CHILD, orphaned(3 + round));
        timeline.at(due.0 / MILLI + 2_000);
    }
    assert_eq!(lock_states(&timeline), [State::Confirmed]);
    assert_eq!(timeline.stuck(), Some(1));
}

#[test]
fn a_thread_beyond_those_that_are_told_has_not_woken() {
    let mut timeline = stuck(orphaned(3));
    let many = |count: u32| {
        let LocksSeen::Alive(locks) = busy(200) else { unreachable!() };
        let waits = (0..count).map(|thread| LockWait { tid: 9000 + thread, ..wait(0x80, 2, 3) }).collect();
        LocksSeen::Alive(Box::new(Locks { waits, ..*locks }))
    };
    timeline.at(20_000).locks.insert(CHILD, many(64));
    timeline.at(200_000);
    assert_eq!((timeline.stuck(), timeline.out_of_sight()), (Some(0), Some(1)));
    timeline.locks.insert(CHILD, many(63));
    timeline.at(400_000);
    assert_eq!(lock_states(&timeline).last(), Some(&State::Resolved(Resolution::Woke)));
}

#[test]
fn a_lock_whose_owner_stayed_behind_is_reported_when_it_has_lasted() {
    let mut timeline = stuck(orphaned(3));
    timeline.at(3_900);
    assert_eq!(timeline.of_lock().len(), 0);
    timeline.at(5_000);
    let found = timeline.of_lock();
    assert_eq!(found.len(), 1);
    let finding = found[0];
    assert_eq!(
        (finding.state, finding.certainty, finding.severity),
        (State::Confirmed, Certainty::Certain, Severity::Critical)
    );
    assert!(finding.summary.contains("metrics-flush"), "{}", finding.summary);
    let lock = finding.facts.lock.as_deref().unwrap();
    assert!(lock.waited_ns >= 2_000 * MILLI, "{lock:?}");
    assert_eq!(lock.owner.as_ref().map(|owner| owner.id), Some(OWNER));
    assert_eq!(timeline.stuck(), Some(1));
    // It is told once, however long it lasts.
    timeline.at(500_000);
    assert_eq!(timeline.of_lock().len(), 1);
    assert_eq!(timeline.probe_requests(), [ProbeRequest::WatchSignals(process(CHILD))]);
}

#[test]
fn a_thread_that_moves_is_not_stuck() {
    let mut timeline = stuck(orphaned(1));
    for round in 1..100 {
        timeline.at(round * 1500).locks.insert(CHILD, orphaned(round));
    }
    assert_eq!(timeline.of_lock().len(), 0);
}

#[test]
fn a_lonely_wait_takes_more_patience() {
    let mut timeline = stuck(no_catcher());
    timeline.at(6_900);
    assert_eq!(timeline.of_lock().len(), 0);
    timeline.at(9_000);
    let finding = timeline.of_lock()[0];
    assert_eq!((finding.state, finding.certainty), (State::Confirmed, Certainty::Strong));
    assert!(finding.summary.contains("is held in the parent too"), "{}", finding.summary);
}

/// The same, with the parent's copy free: it has been released there since, or was never held.
fn free_in_parent() -> LocksSeen {
    let free = Words::from([0, 0, 0x31, 0, 1, 0, 0, 0, 0, 0, 0, 0]);
    let words = Words::from([0, 0, 0x31, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    waiting(LockWait { words: Some(words), parent_words: Some(free), ..wait(0x189, 0, 1) })
}

#[test]
fn a_lock_that_the_child_may_have_taken_itself_is_suspected_and_both_stories_are_told() {
    let mut timeline = stuck(free_in_parent());
    timeline.at(300_000);
    let found = timeline.of_lock();
    assert_eq!(
        found.iter().map(|finding| (finding.state, finding.certainty, finding.severity)).collect::<Vec<_>>(),
        [(State::Suspected, Certainty::Strong, Severity::Warning)]
    );
    let summary = &found[0].summary;
    assert!(summary.contains("held it at the fork") && summary.contains("took it itself"), "{summary}");
    assert!(!summary.contains("in vain"), "{summary}");
}

#[test]
fn a_copy_that_was_free_once_stays_doubtful() {
    let mut timeline = stuck(free_in_parent());
    timeline.at(5000).locks.insert(CHILD, no_catcher());
    timeline.at(300_000);
    assert_eq!(timeline.of_lock()[0].state, State::Suspected);
}

fn with_memory(memory: Option<MemoryUsers>) -> Place {
    Place { memory, ..place(&["emit", "handle"]) }
}

#[test]
fn a_child_whose_memory_another_uses_is_undecided_as_long_as_it_does() {
    let mut timeline = stuck(orphaned(3));
    timeline.places.insert(CHILD, with_memory(Some(MemoryUsers::Shared(vec![4444]))));
    timeline.at(300_000);
    assert_eq!(timeline.of_lock().len(), 0);
    assert_eq!(timeline.stuck(), None);
    let undecided = |output: &Output| matches!(output, Output::Undecided { hazard: LOCK, child, .. } if *child == process(CHILD));
    assert_eq!(timeline.count(undecided), 1, "told once");
    let looks = timeline.count(|output| matches!(output, Output::Ask(Request::Place { .. })));
    assert!((5..60).contains(&looks), "looked at again, ever less often: {looks}");
    // Nobody is said to have been stuck who is killed now.
    let killed = ExitStatus::Signal { number: 9, core_dumped: false };
    timeline.event(&Event::Exit(Exit { at: ms(300_000), ..exit_of(CHILD, killed) }));
    assert_eq!(timeline.of_lock().len(), 0);
}

#[test]
fn when_the_other_has_gone_the_child_is_judged() {
    let mut timeline = stuck(orphaned(3));
    timeline.places.insert(CHILD, with_memory(Some(MemoryUsers::Shared(vec![4444]))));
    timeline.at(30_000).places.insert(CHILD, with_memory(Some(MemoryUsers::Alone)));
    timeline.at(90_000);
    assert_eq!(timeline.of_lock().len(), 1);
}

#[test]
fn nothing_is_certain_of_memory_that_another_may_use_or_has_used() {
    let unknown = MemoryUsers::Unknown("no kcmp(2)".to_owned());
    for memory in [None, Some(unknown)] {
        let mut timeline = stuck(orphaned(3));
        timeline.places.insert(CHILD, with_memory(memory));
        timeline.at(60_000);
        assert_eq!(timeline.of_lock()[0].certainty, Certainty::Strong);
        assert!(!timeline.of_lock()[0].summary.contains("in vain"));
    }
    let mut timeline = stuck(orphaned(3));
    let clone = Fork { kind: CloneKind::SharedMemory, ..fork_of(CHILD, 9000) };
    timeline.at(3000).event(&Event::Fork(clone));
    timeline.exit(9000);
    timeline.at(60_000);
    assert_eq!(timeline.of_lock()[0].certainty, Certainty::Strong, "one that has ended may have taken it");
}

#[test]
fn a_child_that_wakes_withdraws_the_finding() {
    let mut timeline = stuck(orphaned(3));
    timeline.at(20_000).locks.insert(CHILD, busy(1));
    timeline.at(60_000);
    let ended: Vec<State> = timeline.of_lock().iter().map(|finding| finding.state).collect();
    assert_eq!(ended, [State::Confirmed, State::Resolved(Resolution::Woke)]);
    assert_eq!(timeline.stuck(), Some(0));
    // The fork's own finding stays open: that risk is still there, and who ends the child is told with it.
    assert_eq!(timeline.probe_requests(), [ProbeRequest::WatchSignals(process(CHILD))]);
    let resolved = timeline
        .findings()
        .iter()
        .filter(|finding| finding.hazard == HazardId::new("multithreaded-fork"))
        .count();
    assert_eq!(resolved, 1);
}

/// gunicorn sends SIGABRT to a worker that does not answer; its handler exits, which may take a second, until SIGKILL.
#[test]
fn a_child_that_leaves_its_wait_to_end_has_not_woken() {
    let mut timeline = stuck(orphaned(3));
    timeline.at(20_000).record(Observation::Signal(asked_by_parent(ms(20_000), 6)));
    timeline.locks.insert(CHILD, busy(1));
    timeline.at(22_000);
    assert_eq!(timeline.of_lock().len(), 1);
    timeline.record(Observation::Signal(asked_by_parent(ms(22_000), 9)));
    let killed = ExitStatus::Signal { number: 9, core_dumped: false };
    timeline.event(&Event::Exit(Exit { at: ms(22_000), ..exit_of(CHILD, killed) }));
    let how = Some(State::Resolved(Resolution::KilledByParent));
    assert_eq!(timeline.of_lock().last().map(|finding| finding.state), how);
    // One that lives on all the same has woken.
    let mut timeline = stuck(orphaned(3));
    timeline.at(20_000).record(Observation::Signal(asked_by_parent(ms(20_000), 15)));
    timeline.locks.insert(CHILD, busy(1));
    timeline.at(60_000);
    let how = Some(State::Resolved(Resolution::Woke));
    assert_eq!(timeline.of_lock().last().map(|finding| finding.state), how);
}

pub(super) fn asked_by_parent(at: BootTime, number: u32) -> Signal {
    let target = process(CHILD);
    Signal { origin: Origin::default(), at, number, target, sender_tgid: PARENT, comm: "gunicorn".into() }
}

#[test]
fn a_child_that_ends_resolves_the_finding() {
    let mut timeline = stuck(orphaned(3));
    timeline.at(20_000).exit(CHILD);
    let ended: Vec<State> = timeline.of_lock().iter().map(|finding| finding.state).collect();
    assert_eq!(ended, [State::Confirmed, State::Resolved(Resolution::Exited)]);
    assert_eq!(timeline.stuck(), Some(0));
}

#[test]
fn a_child_that_ends_unseen_resolves_it_too() {
    let mut timeline = stuck(orphaned(3));
    timeline.at(20_000).locks.insert(CHILD, LocksSeen::Gone);
    timeline.at(60_000);
    assert_eq!(
        timeline.of_lock().last().map(|finding| finding.state),
        Some(State::Resolved(Resolution::Ended))
    );
    assert_eq!(timeline.stuck(), Some(0));
}

#[test]
fn a_forker_without_threads_left_nobody_behind() {
    let mut timeline = Timeline::new();
    timeline.locks.insert(CHILD, no_catcher());
    timeline.fork(plain()).at(200_000);
    assert_eq!(timeline.of_lock().len(), 0);
}

#[test]
fn a_child_parked_at_an_event_of_its_own_is_silent() {
    let words = Words::from([0, 0, 0x31, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    let foreign = Words::from([9; 12]);
    let parked = waiting(LockWait { words: Some(words), parent_words: Some(foreign), ..wait(0x189, 0, 1) });
    let mut timeline = stuck(parked.clone());
    timeline.places.insert(CHILD, place(&["wait", "wait", "main"]));
    timeline.at(300_000);
    assert_eq!(timeline.of_lock().len(), 0);
    // Elsewhere it may wait for a thread that the fork left behind: a suspicion.
    let mut timeline = stuck(parked);
    timeline.places.insert(CHILD, place(&["result", "main"]));
    timeline.at(300_000);
    let found = timeline.of_lock();
    assert_eq!(
        found.iter().map(|finding| (finding.state, finding.severity)).collect::<Vec<_>>(),
        [(State::Suspected, Severity::Warning)]
    );
    assert_eq!(timeline.stuck(), Some(0));
}

#[test]
fn a_finding_is_made_though_nobody_can_look_at_the_place() {
    let mut timeline = stuck(orphaned(3));
    timeline.places.clear();
    timeline.at(60_000);
    let found = timeline.of_lock();
    assert_eq!(found.len(), 1);
    assert!(found[0].facts.lock.as_ref().unwrap().stack.as_ref().unwrap().missing.is_some());
}

#[test]
fn a_stopped_child_proves_nothing() {
    let LocksSeen::Alive(locks) = orphaned(3) else { unreachable!() };
    let mut timeline = stuck(LocksSeen::Alive(Box::new(Locks { stopped: true, ..*locks })));
    timeline.at(300_000);
    assert_eq!(timeline.of_lock().len(), 0);
}

#[test]
fn what_cannot_be_read_is_undecided() {
    let mut timeline = stuck(LocksSeen::Unreadable("no".to_owned()));
    timeline.at(60_000);
    let undecided = |output: &Output| matches!(output, Output::Undecided { hazard: LOCK, child, .. } if *child == process(CHILD));
    assert_eq!(timeline.count(undecided), 1);
}

#[test]
fn a_child_that_cannot_be_looked_at_for_a_while_is_judged_afterwards() {
    let mut timeline = stuck(LocksSeen::Unreadable("a look at it hung".to_owned()));
    timeline.at(10_000).locks.insert(CHILD, orphaned(3));
    timeline.at(60_000);
    assert_eq!(lock_states(&timeline), [State::Confirmed]);
}

#[test]
fn a_hang_from_before_the_watch_is_found_by_the_sweep() {
    let interval = Duration::from_secs(10);
    let mut timeline = Timeline::with(Settings { sweep_interval: Some(interval), ..Settings::default() });
    timeline.locks.insert(CHILD, orphaned(3));
    timeline.at(0);
    assert_eq!(timeline.asked(), [Request::Sweep { mark: None }]);
    let swept =
        Swept { process: process(CHILD), comm: "python".into(), uid: None, parent: Some(process(PARENT)) };
    let sweep = Sweep {
        at: ms(0),
        took: MILLI,
        mark: 9,
        processes: 1,
        unexeced: vec![swept],
        zombies: Vec::new(),
        waits: Vec::new(),
    };
    timeline.evidence(&Evidence::Sweep { seen: Some(Box::new(sweep)) }).at(30_000);
    assert_eq!(timeline.of_lock().len(), 1);
    // The kernel side has not streamed its fork, so it is told to report its end.
    let follow = ProbeRequest::Follow { child: process(CHILD), parent_tgid: PARENT };
    assert!(timeline.probe_requests().contains(&follow));
    assert!(timeline.asked().contains(&Request::NextFork { mark: 9 }));
}

/// A child that a sweep brings in, whose present parent has these other threads.
fn swept_beside(seen: LocksSeen, parent_threads: u32, adopted: bool) -> Finding {
    let LocksSeen::Alive(locks) = seen else { unreachable!() };
    let locks = Locks { parent_threads: Some(parent_threads), adopted, ..*locks };
    let interval = Some(Duration::from_secs(10));
    let mut timeline = Timeline::with(Settings { sweep_interval: interval, ..Settings::default() });
    timeline.locks.insert(CHILD, LocksSeen::Alive(Box::new(locks)));
    timeline.places.insert(CHILD, place(&["emit", "handle"]));
    let swept =
        Swept { process: process(CHILD), comm: "python".into(), uid: None, parent: Some(process(PARENT)) };
    let sweep = Sweep {
        at: ms(0),
        took: MILLI,
        mark: 9,
        processes: 1,
        unexeced: vec![swept],
        zombies: Vec::new(),
        waits: Vec::new(),
    };
    timeline.at(0).evidence(&Evidence::Sweep { seen: Some(Box::new(sweep)) }).at(90_000);
    timeline.of_lock()[0].clone()
}

#[test]
fn a_sweep_that_comes_before_the_record_of_the_fork_takes_nothing_from_it() {
    let mut timeline = stuck(no_catcher());
    let swept = Swept { process: process(CHILD), comm: "python".into(), uid: None, parent: None };
    let unexeced = vec![swept];
    let sweep =
        Sweep { at: ms(0), took: 1, mark: 1, processes: 2, unexeced, zombies: Vec::new(), waits: Vec::new() };
    timeline.evidence(&Evidence::Sweep { seen: Some(Box::new(sweep)) });
    timeline.at(90_000);
    let finding = timeline.of_lock()[0];
    assert!(finding.summary.starts_with("The child "), "{}", finding.summary);
}

#[test]
fn words_like_those_of_a_lock_prove_less_where_the_c_library_does_not_wait_for_it() {
    let certainty = |frames: Vec<Frame>| {
        let mut timeline = stuck(orphaned(3));
        let stack = Stack { frames, missing: None };
        timeline.places.insert(CHILD, Place { stack, ..place(&[]) });
        timeline.at(30_000);
        timeline.of_lock()[0].certainty
    };
    assert_eq!(
        certainty(vec![in_library("__lll_lock_wait"), in_library("pthread_mutex_lock")]),
        Certainty::Certain
    );
    // By syscall(2), by an instruction of the program's own, and where nobody could look.
    assert_eq!(certainty(vec![in_library("syscall")]), Certainty::Strong);
    let module = Some("/usr/bin/gate".to_owned());
    assert_eq!(certainty(vec![Frame { module, ..Frame::default() }]), Certainty::Strong);
    assert_eq!(certainty(Vec::new()), Certainty::Strong);
}

#[test]
fn only_what_was_seen_to_fork_or_holds_the_lock_is_blamed() {
    // The parent has the thread that holds the lock.
    let blamed = swept_beside(orphaned(3), 1, true);
    assert_eq!((blamed.parent, blamed.certainty), (process(PARENT), Certainty::Certain));
    // It had other threads: it may be.
    let doubtful = swept_beside(no_catcher(), 1, false);
    assert_eq!(doubtful.parent, process(PARENT));
    assert!(doubtful.summary.starts_with("Process "), "{}", doubtful.summary);
    assert!(doubtful.summary.contains("now a child of"), "{}", doubtful.summary);
    // It had none, or has taken the child over.
    for (threads, adopted) in [(0, false), (3, true)] {
        let unknown = swept_beside(no_catcher(), threads, adopted);
        assert_eq!(unknown.parent, process(CHILD));
        assert!(unknown.summary.contains("forked by an unknown process"), "{}", unknown.summary);
    }
}

#[test]
fn an_unanswered_child_is_given_up() {
    let mut timeline = stuck(orphaned(3));
    timeline.at(2500).silent = true;
    timeline.at(300_000);
    assert_eq!(timeline.count(|output| matches!(output, Output::Dropped(_))), 1);
    assert_eq!(timeline.core.followed(), 0);
}

#[test]
fn a_suspect_that_its_parent_kills_is_told_as_such() {
    let mut timeline = stuck(orphaned(3));
    timeline.at(3000);
    let at = timeline.now;
    timeline.record(Observation::Signal(asked_by_parent(at, 6)));
    let killed = ExitStatus::Signal { number: 6, core_dumped: false };
    timeline.event(&Event::Exit(Exit { at, ..exit_of(CHILD, killed) }));
    let states: Vec<(HazardId, State)> =
        timeline.findings().iter().map(|finding| (finding.hazard, finding.state)).collect();
    assert_eq!(
        states,
        [
            (HazardId::new("multithreaded-fork"), State::Suspected),
            (HazardId::new("worker-killed-while-stuck"), State::Confirmed),
            (HazardId::new("multithreaded-fork"), State::Resolved(Resolution::KilledByParent)),
        ]
    );
    let killed = timeline.findings()[1];
    assert!(killed.summary.contains("SIGABRT") && killed.summary.contains("gunicorn"), "{}", killed.summary);
}

#[test]
fn idle_children_are_looked_at_together() {
    let mut timeline = Timeline::new();
    for child in 0..20 {
        // Forked at different times.
        timeline.at(u64::from(child) * 137).fork(Fork { threads: 2, ..fork_of(PARENT, 10_000 + child) });
    }
    timeline.at(300_000);
    // Whether or not it has anything to do: each is a wake-up.
    let mut moments = Vec::new();
    while let Some(due) = timeline.core.deadline().filter(|due| *due < ms(360_000)) {
        moments.push(due);
        timeline.at(due.0.div_ceil(MILLI));
    }
    assert!((6..=60).contains(&moments.len()), "{moments:?}");
    let looks = timeline.count(|output| matches!(output, Output::Ask(Request::Locks { .. })));
    assert!(looks > 20 * 12, "{looks}");
}

#[test]
fn thousands_of_children_are_looked_at_in_turn() {
    let mut timeline = Timeline::new();
    for child in 10_000..12_000 {
        timeline.fork(Fork { threads: 2, ..fork_of(PARENT, child) });
    }
    let mut looks = Vec::new();
    for second in 1..60 {
        // From one full second to the next, at which most looks are.
        timeline.at(second * 1000 - 1).outputs.clear();
        timeline.at(second * 1000 + 998);
        looks.push(timeline.count(|output| matches!(output, Output::Ask(Request::Locks { .. }))));
    }
    assert!(looks.iter().all(|looks| *looks <= 1000), "{looks:?}");
    assert!(looks.iter().sum::<usize>() > 15_000, "{looks:?}");
    assert_eq!(timeline.core.followed(), 2000);
}

/// How often the child was looked at between two times, where it is told who falls asleep.
fn looks_of(timeline: &mut Timeline, until: u64) -> usize {
    timeline.outputs.clear();
    timeline.at(until);
    timeline.count(|output| matches!(output, Output::Ask(Request::Locks { .. })))
}

#[test]
fn who_falls_asleep_is_looked_at_at_once_and_who_sleeps_on_rarely() {
    let mut timeline = Timeline::new();
    timeline.fork(threaded(2)).at(2000);
    let told = |seen: Vec<ProcessKey>| Evidence::FellAsleep { seen: Some(seen) };
    timeline.evidence(&told(Vec::new())).at(600_000);
    assert!(looks_of(&mut timeline, 630_000) <= 2);
    timeline.outputs.clear();
    timeline.evidence(&told(vec![process(CHILD), process(CHILD + 1)]));
    assert_eq!(timeline.count(|output| matches!(output, Output::Ask(Request::Locks { .. }))), 1);
    // Where the kernel does not tell, it is looked at now and then, and nobody asks any more.
    timeline.evidence(&Evidence::FellAsleep { seen: None });
    assert!(looks_of(&mut timeline, 690_000) >= 5);
    assert_eq!(timeline.count(|output| matches!(output, Output::Ask(Request::FellAsleep))), 0);
}

/// A timeline in which it is told who falls asleep, with a child that was looked at.
fn told() -> Timeline {
    let mut timeline = Timeline::new();
    timeline.fork(threaded(2)).at(2000);
    timeline.evidence(&Evidence::FellAsleep { seen: Some(vec![process(CHILD)]) });
    timeline
}

#[test]
fn who_sleeps_on_is_not_looked_at() {
    let mut timeline = told();
    assert_eq!(looks_of(&mut timeline, 590_000), 0);
    // The record of its end may have been lost.
    assert_eq!(looks_of(&mut timeline, 640_000), 1);
    timeline.evidence(&Evidence::FellAsleep { seen: None });
    assert!(looks_of(&mut timeline, 700_000) >= 5, "it is not told any more");
}

#[test]
fn who_waits_or_is_stopped_is_looked_at_though_it_sleeps_on() {
    let words = Words::from([0, 0, 0x31, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    let foreign = Some(Words::from([9; 12]));
    let parked = waiting(LockWait { words: Some(words), parent_words: foreign, ..wait(0x189, 0, 1) });
    let LocksSeen::Alive(idle) = busy(1) else { unreachable!() };
    let stopped = LocksSeen::Alive(Box::new(Locks { stopped: true, ..*idle }));
    for seen in [parked, stopped] {
        let mut timeline = told();
        timeline.locks.insert(CHILD, seen);
        timeline.evidence(&Evidence::FellAsleep { seen: Some(vec![process(CHILD)]) });
        assert!(looks_of(&mut timeline, 100_000) >= 4);
    }
}

#[test]
fn a_look_that_may_have_come_too_early_is_made_again() {
    let mut timeline = told();
    timeline.silent = true;
    let asleep = Evidence::FellAsleep { seen: Some(vec![process(CHILD)]) };
    timeline.evidence(&asleep).evidence(&asleep);
    timeline.silent = false;
    timeline.evidence(&Evidence::Locks { child: process(CHILD), seen: busy(1) });
    assert_eq!(looks_of(&mut timeline, 4_000), 1, "it fell asleep while the look was on its way");
    assert_eq!(looks_of(&mut timeline, 500_000), 0);
}

#[test]
fn nobody_asks_who_fell_asleep_where_no_child_lives_on() {
    let mut timeline = Timeline::new();
    timeline.fork(threaded(2)).at(5000);
    let asked =
        |timeline: &Timeline| timeline.count(|output| matches!(output, Output::Ask(Request::FellAsleep)));
    assert_eq!(asked(&timeline), 4, "once a second, from when it is known to live on");
    timeline.exit(CHILD).outputs.clear();
    timeline.at(60_000);
    assert_eq!((asked(&timeline), timeline.core.deadline()), (0, None));
}
