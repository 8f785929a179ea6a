//! A snapshot: what was there before is looked at twice, and nobody waits.

use std::time::Duration;

use super::{
    leaks::{LISTENER, PIPE, blocked, both_ends, daemon, holder, holders, moving, rest, searches},
    locks::{no_catcher, orphaned, orphaned_in, place},
    *,
};
use crate::model::{
    finding::Certainty,
    leak::{Access, Holder, Listener},
    lock::MemoryUsers,
    time::nanoseconds,
};

const SETTLE: u64 = 2000;
/// When the snapshot is taken.
const NOW: u64 = 3_600_000;

/// A snapshot of a host with these forked children of the parent's.
fn snapshot_of(children: impl IntoIterator<Item = u32>) -> Timeline {
    let settings = Settings {
        snapshot: true,
        sweep_interval: Some(Duration::from_secs(10)),
        leak_interval: Duration::from_millis(SETTLE),
        ..Settings::default()
    };
    let mut timeline = Timeline::with(settings);
    timeline.now = ms(NOW);
    let swept = |child| Swept {
        process: process(child),
        comm: "python".into(),
        uid: None,
        parent: Some(process(PARENT)),
    };
    let unexeced = children.into_iter().map(swept).collect();
    let sweep = Sweep {
        at: ms(NOW),
        took: MILLI,
        mark: 9,
        processes: 9,
        unexeced,
        zombies: Vec::new(),
        waits: Vec::new(),
    };
    timeline.evidence(&Evidence::Sweep { seen: Some(Box::new(sweep)) });
    timeline
}

fn snapshot(seen: LocksSeen) -> Timeline {
    let mut timeline = snapshot_of([CHILD]);
    timeline.locks.insert(CHILD, seen);
    timeline.places.insert(CHILD, place(&["emit", "handle"]));
    timeline
}

/// The same wait, which has lasted for so many seconds, as the kernel tells.
fn slept(seen: LocksSeen, seconds: u64) -> LocksSeen {
    let LocksSeen::Alive(mut locks) = seen else { unreachable!() };
    for wait in &mut locks.waits {
        wait.slept = Some(seconds * 1_000_000_000);
    }
    LocksSeen::Alive(locks)
}

impl Timeline {
    /// Has a detector look at once at all that it would look at later.
    fn look(&mut self, detector: usize) -> &mut Self {
        let mut out = Vec::new();
        self.core.hurry(detector, self.now, &mut out);
        self.take(out);
        self
    }

    /// The second look.
    fn look_again(&mut self, detector: usize) -> &mut Self {
        assert!(self.core.waits(detector), "nothing is suspect");
        self.now = self.now + Duration::from_millis(SETTLE);
        self.look(detector)
    }

    fn reasons(&self) -> Vec<&str> {
        let reasons = self.outputs.iter().filter_map(|output| match output {
            Output::Undecided { why, .. } => Some(why.as_str()),
            _ => None,
        });
        reasons.collect()
    }
}

#[test]
fn what_is_certain_is_reported_at_the_second_look() {
    let mut timeline = snapshot(orphaned(3));
    timeline.look(ORPHANED_LOCK);
    assert!(timeline.findings().is_empty() && timeline.core.waiting() == 0);
    timeline.look_again(ORPHANED_LOCK);
    let finding = timeline.only_finding();
    assert_eq!((finding.certainty, finding.state), (Certainty::Certain, State::Confirmed));
    assert_eq!(finding.facts.lock.as_ref().map(|lock| lock.waited_ns), Some(SETTLE * MILLI));
    assert_eq!(timeline.core.waiting(), 0);
}

#[test]
fn what_is_idle_is_looked_at_once() {
    let mut timeline = snapshot(busy(1));
    for detector in 0..timeline.core.detectors() {
        timeline.look(detector);
        assert!(!timeline.core.waits(detector), "{detector}");
    }
    assert_eq!(timeline.count(|output| matches!(output, Output::Ask(Request::Locks { .. }))), 1);
}

#[test]
fn how_long_a_wait_has_lasted_is_what_the_kernel_tells() {
    // Five seconds are enough where the parent's copy is held too.
    for (seconds, found) in [(30, true), (4, true), (2, false), (0, false)] {
        let mut timeline = snapshot(slept(no_catcher(), seconds));
        timeline.look(ORPHANED_LOCK);
        assert!(timeline.findings().is_empty(), "one look is enough");
        timeline.look_again(ORPHANED_LOCK);
        assert_eq!(timeline.findings().len(), usize::from(found), "{seconds} s");
        assert_eq!(timeline.core.waiting(), usize::from(!found), "{seconds} s");
        let waited = Duration::from_secs(seconds) + Duration::from_millis(SETTLE);
        let told =
            timeline.findings().first().and_then(|finding| Some(finding.facts.lock.as_ref()?.waited_ns));
        assert_eq!(told, found.then(|| nanoseconds(waited)));
    }
}

#[test]
fn a_thread_that_has_moved_between_the_looks_proves_nothing() {
    let mut timeline = snapshot(slept(orphaned(3), 60));
    timeline.look(ORPHANED_LOCK).locks.insert(CHILD, slept(orphaned(4), 60));
    timeline.look_again(ORPHANED_LOCK);
    assert!(timeline.findings().is_empty() && timeline.core.waiting() == 0);
}

#[test]
fn every_stuck_child_is_reported_by_itself() {
    let children = 10_000..12_000;
    let mut timeline = snapshot_of(children.clone());
    for child in children.clone() {
        timeline.locks.insert(child, orphaned_in(child));
        timeline.places.insert(child, place(&["emit", "handle"]));
    }
    timeline.look(ORPHANED_LOCK).look_again(ORPHANED_LOCK);
    let found: Vec<u32> = timeline.findings().iter().map(|finding| finding.child.tgid).collect();
    assert_eq!(found, children.collect::<Vec<_>>());
}

#[test]
fn what_cannot_be_judged_is_told_with_the_reason() {
    let mut timeline = snapshot(orphaned(3));
    let shared = Place { memory: Some(MemoryUsers::Shared(vec![77])), ..place(&["emit"]) };
    timeline.places.insert(CHILD, shared);
    timeline.look(ORPHANED_LOCK).look_again(ORPHANED_LOCK);
    assert_eq!(timeline.reasons(), ["its memory is used by process 77 too, which may release a lock"]);
    assert!(timeline.findings().is_empty() && timeline.core.waiting() == 0);

    let mut timeline = snapshot(LocksSeen::Unreadable("it is hidden".to_owned()));
    timeline.look(ORPHANED_LOCK);
    assert_eq!(timeline.reasons(), ["it is hidden"]);
}

#[test]
fn a_leaked_pipe_is_found_by_two_looks_at_once() {
    let children = [CHILD, CHILD + 1, CHILD + 2];
    let mut timeline = snapshot_of(children);
    timeline.descriptors.extend(children.map(|child| (child, blocked as fn(BootTime) -> Descriptors)));
    timeline.holders.insert(Object::Pipe(PIPE), holders(vec![both_ends()]));
    timeline.look(LEAKS);
    assert_eq!(searches(&timeline), 3, "no search is put off");
    timeline.look_again(LEAKS);
    assert_eq!((searches(&timeline), timeline.findings().len()), (6, 1), "the holder of both ends alone");

    let mut timeline = snapshot_of([CHILD]);
    timeline.descriptors.insert(CHILD, moving);
    timeline.holders.insert(Object::Pipe(PIPE), holders(vec![both_ends()]));
    timeline.look(LEAKS).look_again(LEAKS);
    assert!(timeline.findings().is_empty());
}

#[test]
fn programs_that_a_server_left_behind_are_looked_at_too() {
    let mut timeline = snapshot_of([]);
    assert!(timeline.asked().contains(&Request::Orphans));
    timeline.evidence(&Evidence::Orphans { seen: vec![process(CHILD)] });
    timeline.descriptors.insert(CHILD, daemon);
    let executable = Some("sleep".to_owned());
    let sleep = holder(CHILD, &[(3, Access::Both)], rest(9, "clock_nanosleep", None));
    let who = holders(vec![Holder { executable, unexeced: false, ..sleep }]);
    let listener = Some(Listener { address: "127.0.0.1:8000".to_owned(), queue: Some(0) });
    timeline.holders.insert(Object::Socket(LISTENER), Holders { listener, ..who });
    timeline.look(LEAKS).look_again(LEAKS);
    assert_eq!(timeline.only_finding().hazard.name(), "pinned-listener");
}
