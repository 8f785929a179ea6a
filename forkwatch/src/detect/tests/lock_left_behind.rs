//! `lock-left-behind`: a child keeps a lock on a file, and another process waits for it.

use std::time::Duration;

use super::*;
use crate::model::{
    finding::{Certainty, Severity},
    inventory::{FileLockKind, OpenFile},
    left_lock::{CarriedLock, CarriedLocks, LockHolder, LockHolders, LockWait, LockWaiter, Taker},
    resolution::Resolution,
};

const LEFT: HazardId = HazardId::new("lock-left-behind");
const WAITER: u32 = 4300;

/// A lock by flock that was taken so, and processes that wait for it.
fn lock(taker: Taker, waiters: &[u32]) -> CarriedLock {
    let waiter = |tgid: &u32| LockWaiter { process: process(*tgid), comm: "php".into() };
    CarriedLock {
        file: OpenFile { fd: 5, path: "/run/update.lock".to_owned() },
        kind: FileLockKind::Flock,
        taker,
        waiters: waiters.iter().map(waiter).collect(),
    }
}

fn carries_all(locks: &[CarriedLock]) -> CarriedLocks {
    let (comm, program) = ("php".into(), program("php8.2"));
    CarriedLocks { at: BootTime(0), comm, program, in_background: false, locks: locks.to_vec() }
}

fn seen(lock: CarriedLock) -> CarriedLocksSeen {
    CarriedLocksSeen::Carried(Box::new(carries_all(&[lock])))
}

/// PARENT forks CHILD, which carries this.
fn forked(seen: CarriedLocksSeen) -> Timeline {
    let mut timeline = Timeline::new();
    timeline.carried.insert(CHILD, seen);
    timeline.fork(plain());
    timeline
}

fn looks(timeline: &Timeline) -> usize {
    timeline.count(|output| matches!(output, Output::Ask(Request::CarriedLocks { .. })))
}

#[test]
fn a_lock_of_an_ended_process_is_reported_once_somebody_has_waited_for_some_time() {
    let mut timeline = forked(seen(lock(Taker::Ended, &[WAITER])));
    timeline.at(5_999);
    assert_eq!(timeline.findings(), Vec::<&Finding>::new());
    timeline.at(6_000);
    let finding = timeline.only_finding().clone();
    assert_eq!((finding.hazard, finding.state), (LEFT, State::Confirmed));
    assert_eq!((finding.certainty, finding.severity), (Certainty::Strong, Severity::Warning));
    assert_eq!((finding.parent, finding.child), (process(PARENT), process(CHILD)));
    assert_eq!(
        finding.summary,
        "php8.2 (pid 4242) took a lock on /run/update.lock and has ended, but its forked child 4250 has the file open \
         and so keeps the lock: php (pid 4300) waits for it"
    );
    assert_eq!(
        finding.facts.notes,
        ["a lock by flock, which 4250 has by descriptor 5", "waited for since 5 s at least"]
    );
    assert!(finding.remedy.text.contains("pcntl_fork"), "{}", finding.remedy.text);
    timeline.at(100_000).exit(CHILD);
    assert_eq!(timeline.states()[1..], [(LEFT, State::Resolved(Resolution::Exited), 1)]);
}

#[test]
fn a_fork_that_a_sweep_found_before_its_record_was_read_is_known_as_any_other() {
    let mut timeline = Timeline::new();
    timeline.carried.insert(CHILD, seen(lock(Taker::Closed, &[WAITER])));
    let swept =
        Swept { process: process(CHILD), comm: "php".into(), uid: None, parent: Some(process(PARENT)) };
    let sweep = Sweep {
        at: ms(0),
        took: 1,
        mark: 1,
        processes: 2,
        unexeced: vec![swept],
        zombies: Vec::new(),
        waits: Vec::new(),
    };
    timeline
        .core
        .configure(Settings { sweep_interval: Some(Duration::from_secs(3600)), ..Settings::default() });
    timeline.evidence(&Evidence::Sweep { seen: Some(Box::new(sweep)) });
    timeline.fork(plain());
    timeline.at(60_000);
    let finding = timeline.only_finding();
    assert_eq!((finding.state, finding.certainty), (State::Confirmed, Certainty::Strong));
}

#[test]
fn a_taker_that_waits_for_its_own_lock_is_told_so() {
    let mut timeline = forked(seen(lock(Taker::Closed, &[PARENT])));
    timeline.at(60_000);
    let finding = timeline.only_finding();
    assert!(
        finding
            .summary
            .starts_with("php8.2 (pid 4242) took a lock on /run/update.lock and has closed the file"),
        "{}",
        finding.summary
    );
    assert!(finding.summary.ends_with(": it waits for its own lock"), "{}", finding.summary);
}

#[test]
fn a_child_in_the_background_may_keep_it_on_purpose() {
    let mut carried = carries_all(&[lock(Taker::Ended, &[WAITER, WAITER + 1])]);
    carried.in_background = true;
    let mut timeline = forked(CarriedLocksSeen::Carried(Box::new(carried)));
    timeline.at(60_000);
    let finding = timeline.only_finding();
    assert_eq!((finding.state, finding.certainty), (State::Suspected, Certainty::Heuristic));
    assert_eq!(finding.severity, Severity::Info);
    assert_eq!(finding.facts.notes[2], "4250 is in the background, and may keep it on purpose");
    assert!(finding.summary.ends_with("php (pid 4300) and another process wait for it"));
}

#[test]
fn what_the_taker_holds_and_what_nobody_waits_for_is_silent() {
    for lock in [
        lock(Taker::Holds, &[]),
        lock(Taker::Ended, &[]),
        lock(Taker::Closed, &[]),
        // A shell that has flock(1) take it.
        lock(Taker::Unknown, &[WAITER]),
        // It may be the child's own.
        CarriedLock { kind: FileLockKind::OpenFile, ..lock(Taker::Unknown, &[WAITER]) },
    ] {
        let mut timeline = forked(seen(lock.clone()));
        timeline.at(3_600_000);
        assert_eq!(timeline.findings(), Vec::<&Finding>::new(), "{lock:?}");
    }
}

#[test]
fn waits_that_are_over_in_time_are_silent() {
    let mut timeline = forked(seen(lock(Taker::Ended, &[WAITER])));
    for (at, waiter) in (3_000..60_000).step_by(2_000).zip(WAITER + 1..) {
        timeline.at(at);
        timeline.carried.insert(CHILD, seen(lock(Taker::Ended, &[waiter])));
    }
    assert_eq!(timeline.findings(), Vec::<&Finding>::new());
}

#[test]
fn a_lock_of_an_open_file_that_the_forker_had_is_suspected() {
    let of_file =
        |taker, waiters: &[u32]| CarriedLock { kind: FileLockKind::OpenFile, ..lock(taker, waiters) };
    let mut timeline = forked(seen(of_file(Taker::Holds, &[])));
    timeline.at(10_000);
    timeline.carried.insert(CHILD, seen(of_file(Taker::Unknown, &[WAITER])));
    timeline.at(60_000);
    let finding = timeline.only_finding();
    assert_eq!((finding.state, finding.certainty), (State::Suspected, Certainty::Heuristic));
    assert!(finding.summary.contains("that it may have got by a fork"), "{}", finding.summary);
    assert!(finding.facts.notes[0].starts_with("a lock by F_OFD_SETLK"));
}

#[test]
fn a_lock_that_is_free_again_clears_the_finding_and_can_be_found_anew() {
    let mut timeline = forked(seen(lock(Taker::Ended, &[WAITER])));
    timeline.at(10_000);
    timeline.carried.insert(CHILD, CarriedLocksSeen::None);
    timeline.at(30_000);
    assert_eq!(timeline.states()[1..], [(LEFT, State::Resolved(Resolution::Cleared), 1)]);
    let before = looks(&timeline);
    timeline.at(3_630_000);
    assert!(looks(&timeline) - before <= 3_600 / 128 + 8, "{}", looks(&timeline) - before);
}

#[test]
fn a_child_that_carries_none_is_looked_at_ever_less_often_and_not_after_its_exec() {
    let mut timeline = forked(CarriedLocksSeen::None);
    timeline.at(255_999);
    assert_eq!(looks(&timeline), 8);
    timeline.exec(exec_of(CHILD, PARENT, &[]));
    timeline.at(3_600_000);
    assert_eq!(looks(&timeline), 8);
}

#[test]
fn a_lock_that_is_left_is_looked_at_often() {
    let mut timeline = forked(seen(lock(Taker::Ended, &[])));
    timeline.at(600_000);
    timeline.carried.insert(CHILD, seen(lock(Taker::Ended, &[WAITER])));
    timeline.at(616_000);
    assert_eq!(timeline.only_finding().hazard, LEFT);
}

#[test]
fn what_cannot_be_read_is_undecided_once() {
    let mut timeline = forked(CarriedLocksSeen::Unreadable("no".to_owned()));
    timeline.at(600_000);
    let undecided = |output: &Output| matches!(output, Output::Undecided { hazard, .. } if *hazard == LEFT);
    assert_eq!((timeline.count(undecided), looks(&timeline)), (1, 1));
}

fn swept(waits: Vec<LockWait>, at: BootTime) -> Evidence {
    Evidence::Sweep { seen: Some(Box::new(Sweep { at, waits, ..Sweep::default() })) }
}

/// A shell's job that has the lock which process 500 took, and one that waits for it.
fn job_with(holder: LockHolder) -> Timeline {
    let mut timeline = Timeline::new();
    let holders =
        LockHolders { at: BootTime(0), waiter: "flock".into(), holders: vec![holder], complete: true };
    timeline.lock_holders.insert(WAITER, holders);
    let wait = LockWait { waiter: process(WAITER), taker: 500, place: "fe:00:5678".to_owned() };
    let at = timeline.now;
    timeline.evidence(&swept(vec![wait], at));
    timeline
}

fn job(tgid: u32) -> LockHolder {
    LockHolder {
        process: process(tgid),
        comm: "sleep".into(),
        program: program("sleep"),
        file: OpenFile { fd: 9, path: "/run/job.lock".to_owned() },
        parent: None,
        in_background: false,
        unexeced: false,
        older: tgid <= 500,
    }
}

fn searches(timeline: &Timeline) -> usize {
    timeline.count(|output| matches!(output, Output::Ask(Request::LockHolders { .. })))
}

#[test]
fn a_lock_that_a_job_in_the_background_keeps_is_suspected_until_nobody_waits() {
    let mut timeline = job_with(job(501));
    timeline.at(4_999);
    assert_eq!((timeline.findings(), searches(&timeline)), (Vec::new(), 0));
    timeline.at(5_000);
    let finding = timeline.only_finding();
    assert_eq!((finding.hazard, finding.state), (LEFT, State::Suspected));
    assert_eq!((finding.certainty, finding.severity), (Certainty::Heuristic, Severity::Warning));
    assert_eq!(finding.facts.notes[1], "4300 has waited for it for 5 s at least");
    assert!(finding.remedy.text.contains("9>&-"), "{}", finding.remedy.text);
    timeline.at(60_000);
    assert_eq!(timeline.findings().len(), 1);
    timeline.lock_holders.clear();
    timeline.at(80_000);
    assert_eq!(timeline.states()[1..], [(LEFT, State::Resolved(Resolution::Cleared), 1)]);
    let before = searches(&timeline);
    timeline.at(3_600_000);
    assert_eq!(searches(&timeline), before);
}

#[test]
fn a_shell_that_holds_its_lock_is_searched_for_ever_less_often_until_it_has_left_it() {
    let mut timeline = job_with(job(499));
    timeline.at(3_600_000);
    assert_eq!(timeline.findings(), Vec::<&Finding>::new());
    assert!(searches(&timeline) < 30, "{}", searches(&timeline));
    timeline.lock_holders.get_mut(&WAITER).unwrap().holders = vec![job(501)];
    timeline.at(3_800_000);
    assert_eq!(timeline.only_finding().child, process(501));
}

#[test]
fn a_child_that_its_taker_forked_is_told_of_once() {
    let mut timeline = forked(seen(lock(Taker::Ended, &[WAITER])));
    let holder = LockHolder { unexeced: true, older: false, ..job(CHILD) };
    let holders =
        LockHolders { at: BootTime(0), waiter: "php".into(), holders: vec![holder], complete: true };
    timeline.lock_holders.insert(WAITER, holders);
    let wait = LockWait { waiter: process(WAITER), taker: PARENT, place: "fe:00:5678".to_owned() };
    let at = timeline.now;
    timeline.evidence(&swept(vec![wait], at)).at(60_000);
    assert_eq!(timeline.findings().len(), 1);
}
