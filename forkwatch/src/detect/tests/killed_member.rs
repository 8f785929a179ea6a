//! When a family of which a member was killed is looked at.

use super::*;
use crate::model::family::{Member, SharedKind, SharedLock, Waiter};

fn looks(timeline: &Timeline) -> usize {
    timeline.count(|output| matches!(output, Output::Ask(Request::Family { .. })))
}

fn member(tgid: u32, lock: Option<SharedLock>) -> Member {
    let thread = SeenThread { tid: tgid, comm: "worker".into() };
    let call = if lock.is_some() { "futex" } else { "wait4" }.to_owned();
    let main = Waiter { thread, switches: 5, call, endless: lock.is_some(), shared: lock, script: None };
    Member {
        process: process(tgid),
        comm: "worker".into(),
        uid: Some(33),
        stopped: false,
        threads: vec![main],
    }
}

/// A family in which one waits for a mutex whose owner has ended, or for nothing.
fn family(waits: bool) -> Family {
    let kind = SharedKind::Mutex { owner: CHILD, lives: Some(false) };
    let lock = waits.then(|| SharedLock { place: (0, 1, 2, 64), file: "/dev/shm/state".to_owned(), kind });
    Family {
        at: BootTime(0),
        program: program("server"),
        forker: member(PARENT, None),
        children: vec![member(5000, lock)],
        whole: true,
        out_of_memory: None,
    }
}

/// A child that lives on, and is killed after 10 s, with what its family shows.
fn bereft(family: Family) -> Timeline {
    let mut timeline = Timeline::new();
    timeline.families.insert(PARENT, family);
    timeline.fork(plain()).at(10_000).kill(CHILD);
    timeline
}

#[test]
fn what_two_looks_see_is_told_once() {
    let mut timeline = bereft(family(true));
    timeline.at(16_900);
    assert_eq!((looks(&timeline), timeline.findings().len()), (1, 0));
    timeline.at(17_000);
    let finding = timeline.only_finding();
    assert_eq!(finding.hazard, HazardId::new("abandoned-semaphore"));
    assert_eq!((finding.parent, finding.child), (process(PARENT), process(CHILD)));
    assert_eq!(finding.facts.end.as_ref().and_then(|end| end.signal.as_deref()), Some("SIGKILL"));
    timeline.at(3_600_000);
    assert_eq!(timeline.findings().len(), 1);
}

#[test]
fn a_family_that_wants_nothing_is_let_be_after_some_minutes() {
    let mut timeline = bereft(family(false));
    timeline.at(3_600_000);
    assert_eq!((looks(&timeline), timeline.findings().len()), (7, 0));
    assert_eq!(timeline.core.remembered(KILLED_MEMBER), 0);
    // What it comes to want only later is told as well.
    let mut timeline = bereft(family(false));
    timeline.at(60_000).families.insert(PARENT, family(true));
    timeline.at(130_000);
    assert_eq!(timeline.only_finding().hazard, HazardId::new("abandoned-semaphore"));
}

#[test]
fn one_that_left_with_a_code_is_missed_as_well() {
    let mut timeline = Timeline::new();
    timeline.families.insert(PARENT, family(true));
    timeline.fork(plain()).at(10_000).leave(CHILD, 3).at(20_000);
    let finding = timeline.only_finding();
    assert_eq!(finding.hazard, HazardId::new("abandoned-semaphore"));
    assert!(finding.summary.contains("it exited with code 3"), "{}", finding.summary);
}

#[test]
fn who_exits_well_or_is_never_known_to_live_on_leaves_nobody_waiting() {
    let mut timeline = Timeline::new();
    timeline.families.insert(PARENT, family(true));
    timeline.fork(plain()).at(10_000).exit(CHILD);
    timeline.fork(fork_of(PARENT, 4260)).at(10_500).kill(4260);
    timeline.at(600_000);
    assert_eq!((looks(&timeline), timeline.findings().len()), (0, 0));
}

#[test]
fn a_family_that_loses_one_after_the_other_is_not_looked_at_after_each() {
    let mut timeline = Timeline::new();
    timeline.families.insert(PARENT, family(false));
    for child in 6000..6060 {
        timeline.fork(fork_of(PARENT, child));
    }
    timeline.at(10_000);
    for child in 6000..6060 {
        timeline.kill(child);
        let now = timeline.now.0 / MILLI;
        timeline.at(now + 5000);
    }
    assert!((10..=20).contains(&looks(&timeline)), "{}", looks(&timeline));
}

#[test]
fn a_parent_that_has_ended_is_forgotten() {
    let mut timeline = Timeline::new();
    timeline.fork(plain()).at(10_000).kill(CHILD);
    timeline.at(20_000);
    assert_eq!((looks(&timeline), timeline.core.remembered(KILLED_MEMBER)), (1, 0));
}
