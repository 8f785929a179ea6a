//! Children that carry locks of threads that they do not have.

use super::*;
use crate::{
    core::suppress::SuppressRule,
    model::{
        finding::{Certainty, Severity},
        held_lock::{AtFork, HeldAtFork, LockKind, LostOwner, PlainLock},
        lock::Mapping,
        resolution::Resolution,
        thread::Occupation,
    },
};

const HELD: HazardId = HazardId::new("held-locks");
const THREADS: HazardId = HazardId::new("multithreaded-fork");

fn lock(object: u64, kind: LockKind, name: Option<&str>, mapping: &str) -> HeldLock {
    HeldLock {
        object,
        address: object,
        kind,
        owner: LostOwner::named(4243, "writer".into()),
        name: name.map(str::to_owned),
        mapping: Mapping { name: mapping.to_owned(), offset: 0, shared: false },
        from_before: true,
        untouched: false,
    }
}

fn buffer() -> HeldLock {
    lock(0x1000, LockKind::Buffer, Some("standard output's buffer"), "")
}

fn registry() -> HeldLock {
    lock(0x2000, LockKind::Mutex, Some("registry"), "/usr/lib/libfoo.so")
}

fn alive_with(locks: &[HeldLock]) -> HeldLocksSeen {
    HeldLocksSeen::Alive(Box::new(carries(locks)))
}

/// PARENT, with another thread, forks CHILD, which carries these.
fn forked(locks: &[HeldLock]) -> Timeline {
    let mut timeline = Timeline::new();
    timeline.parents.insert(PARENT, parent_seen("gunicorn", &["writer"]));
    timeline.held.insert(CHILD, alive_with(locks));
    timeline.fork(threaded(2));
    timeline
}

fn of(timeline: &Timeline, hazard: HazardId) -> Vec<&Finding> {
    timeline.findings().into_iter().filter(|finding| finding.hazard == hazard).collect()
}

/// When it was looked for locks, and whether all of the memory was searched.
fn looks(timeline: &Timeline) -> Vec<bool> {
    let look = |output: &Output| match output {
        Output::Ask(Request::HeldLocks { places, .. }) => Some(places.is_none()),
        _ => None,
    };
    timeline.outputs.iter().filter_map(look).collect()
}

#[test]
fn one_finding_tells_of_the_locks_and_of_the_threads() {
    let mut timeline = forked(&[buffer(), registry()]);
    timeline.at(19);
    assert_eq!(looks(&timeline), Vec::<bool>::new());
    timeline.at(20);
    assert_eq!(looks(&timeline), [true]);
    let child = process(CHILD);
    timeline.at(10_000);
    assert_eq!(looks(&timeline), [true, false], "the second look is at what the first has found");
    let finding = timeline.only_finding();
    assert_eq!(finding.hazard, HELD);
    assert_eq!(
        finding.summary,
        "gunicorn (pid 4242) forked 4250, which carries 2 locks that threads hold which do not exist in it \
         (standard output's buffer: thread writer (4243); `registry` in libfoo.so: thread writer (4243)): the child hangs as \
         soon as it needs one of them"
    );
    assert_eq!((finding.state, finding.certainty), (State::Suspected, Certainty::Strong));
    assert_eq!((finding.severity, finding.child), (Severity::Warning, child));
    assert_eq!((finding.facts.thread_count, finding.facts.held.len()), (Some(1), 2));
    timeline.exit(CHILD);
    assert_eq!(of(&timeline, HELD)[1].state, State::Resolved(Resolution::Exited));
    timeline.assert_forgotten();
}

#[test]
fn of_one_lock_it_is_told_as_one() {
    let mut timeline = forked(&[registry()]);
    timeline.at(2000);
    let finding = timeline.only_finding();
    assert!(finding.summary.contains("which carries a lock that a thread holds which does not exist in it"));
}

/// CPython's threads bear the program's name for the kernel.
#[test]
fn an_owner_is_called_as_its_program_calls_it() {
    let occupation =
        |tid, name: &str| Occupation { tid, name: Some(name.to_owned()), ..Occupation::default() };
    for (tid, comm, called) in [
        (5000, "writer", "thread metrics-flusher (5000)"),
        // Of others nothing is known; nor where the tid is another thread's, outside of a pid namespace.
        (5001, "writer", "thread writer (5000)"),
        (5000, "python", "thread writer (5000)"),
    ] {
        let mut timeline =
            forked(&[HeldLock { owner: LostOwner::named(5000, "writer".into()), ..registry() }]);
        timeline.parents.insert(PARENT, parent_seen("gunicorn", &[comm]));
        timeline.occupations.insert(PARENT, vec![occupation(tid, "metrics-flusher")]);
        timeline.at(10_000);
        let finding = timeline.only_finding();
        assert!(finding.summary.contains(called), "{}", finding.summary);
        let name = finding.facts.held[0].owner.name.as_deref().unwrap_or_default();
        assert!(called.contains(name), "{name}");
    }
}

#[test]
fn what_was_made_anew_is_not_told() {
    let mut timeline = forked(&[registry(), buffer()]);
    timeline.at(500).held.insert(CHILD, alive_with(&[buffer()]));
    timeline.at(2000);
    let finding = timeline.only_finding();
    assert_eq!((finding.hazard, finding.facts.held.len()), (HELD, 1));
    // Nothing is left of it.
    let mut timeline = forked(&[registry()]);
    timeline.at(500).held.insert(CHILD, alive_with(&[]));
    timeline.at(2000);
    assert_eq!(timeline.only_finding().hazard, THREADS);
}

#[test]
fn without_held_locks_the_threads_are_told() {
    let mut timeline = forked(&[]);
    timeline.at(10_000);
    assert_eq!(timeline.only_finding().hazard, THREADS);
    assert_eq!(looks(&timeline), [true]);
    for seen in [HeldLocksSeen::Gone, HeldLocksSeen::Execed, HeldLocksSeen::Unreadable("no".to_owned())] {
        let mut timeline = forked(&[]);
        timeline.held.insert(CHILD, seen.clone());
        timeline.at(10_000);
        assert_eq!(timeline.only_finding().hazard, THREADS, "{seen:?}");
        let undecided =
            |output: &Output| matches!(output, Output::Undecided { hazard, .. } if *hazard == HELD);
        assert_eq!(timeline.count(undecided), usize::from(matches!(seen, HeldLocksSeen::Unreadable(_))));
    }
}

#[test]
fn a_child_that_execs_or_ends_is_not_told_of() {
    for (until, looked) in [(10, 0), (500, 1)] {
        let mut timeline = forked(&[buffer()]);
        timeline.at(until).exec(exec_of(CHILD, PARENT, &[]));
        timeline.at(10_000);
        assert_eq!((timeline.findings().len(), looks(&timeline).len()), (0, looked));
        timeline.assert_forgotten();
        let mut timeline = forked(&[buffer()]);
        timeline.at(until).exit(CHILD);
        timeline.at(10_000);
        assert_eq!((timeline.findings().len(), looks(&timeline).len()), (0, looked));
        timeline.assert_forgotten();
    }
}

#[test]
fn a_process_of_one_thread_leaves_nothing_behind() {
    let mut timeline = forked(&[buffer()]);
    timeline.held.insert(CHILD + 1, alive_with(&[buffer()]));
    timeline.fork(fork_of(PARENT, CHILD + 1)).at(10_000);
    assert_eq!(looks(&timeline).len(), 2);
    assert_eq!(timeline.only_finding().child, process(CHILD));
}

#[test]
fn a_daemon_that_forks_twice_carries_them_on() {
    let mut timeline = forked(&[]);
    let daemon = CHILD + 1;
    timeline.held.insert(daemon, alive_with(&[registry()]));
    timeline.at(1).fork(Fork { generation: 2, ..fork_of(CHILD, daemon) });
    timeline.at(2).exit(CHILD);
    timeline.at(10_000);
    let finding = timeline.only_finding();
    assert_eq!((finding.hazard, finding.child), (HELD, process(daemon)));
    // What it forks later is a matter of its own.
    timeline.fork(Fork { generation: 3, ..fork_of(daemon, daemon + 1) }).at(20_000);
    timeline.only_finding();
}

#[test]
fn without_a_forker_to_look_at_the_locks_are_told_all_the_same() {
    let mut timeline = forked(&[registry()]);
    timeline.parents.clear();
    timeline.at(10_000);
    let finding = timeline.only_finding();
    assert_eq!((finding.hazard, finding.facts.thread_count), (HELD, None));
}

#[test]
fn siblings_are_looked_at_where_the_first_had_locks() {
    let mut timeline = forked(&[buffer()]);
    let sibling = |tgid| Fork { threads: 2, ..fork_of(PARENT, tgid) };
    for (milliseconds, tgid) in [(1, CHILD + 1), (2, CHILD + 2), (500, CHILD + 3)] {
        timeline.held.insert(tgid, alive_with(&[buffer()]));
        timeline.at(milliseconds).fork(sibling(tgid));
    }
    timeline.at(30);
    assert_eq!(looks(&timeline), [true, false, false]);
    // The search has taken 0.1 ms, so that another may come 5 ms later.
    timeline.at(520);
    assert_eq!(looks(&timeline), [true, false, false, true]);
    timeline.at(10_000);
    let told: u64 = of(&timeline, HELD).iter().map(|finding| finding.repeats.max(1)).sum();
    assert_eq!(told, 1, "the others are summed up");
    // Where nothing was found, nothing is looked at again so soon.
    let mut timeline = forked(&[]);
    timeline.at(1).fork(sibling(CHILD + 1));
    timeline.at(10_000);
    assert_eq!(looks(&timeline), [true]);
    timeline.exit(CHILD).exit(CHILD + 1).exit(PARENT);
    timeline.assert_forgotten();
}

#[test]
fn a_sibling_waits_for_the_search_of_another() {
    let mut timeline = forked(&[buffer()]);
    timeline.held.insert(CHILD + 1, alive_with(&[buffer()]));
    timeline.silent = true;
    timeline.at(1).fork(Fork { threads: 2, ..fork_of(PARENT, CHILD + 1) });
    timeline.at(100);
    assert_eq!(looks(&timeline), [true]);
    // The search has taken 2 ms: another may come 100 ms later.
    let held = HeldLocks { at: ms(100), took: 2_000_000, ..carries(&[buffer()]) };
    timeline.silent = false;
    let child = process(CHILD);
    timeline.evidence(&Evidence::HeldLocks { child, seen: HeldLocksSeen::Alive(Box::new(held)) });
    timeline.at(160);
    assert_eq!(looks(&timeline), [true, false]);
    // Where that is never answered, it is searched itself.
    let mut timeline = forked(&[buffer()]);
    timeline.silent = true;
    timeline.at(1).fork(Fork { threads: 2, ..fork_of(PARENT, CHILD + 1) });
    timeline.at(2100);
    assert_eq!(looks(&timeline), [true, true]);
}

#[test]
fn the_fork_is_judged_though_nobody_answers() {
    let mut timeline = forked(&[buffer()]);
    timeline.at(20);
    timeline.silent = true;
    timeline.at(1000);
    let child = process(CHILD);
    timeline.evidence(&Evidence::Child { child, seen: alive(ms(1000)) });
    timeline.evidence(&Evidence::Parent {
        child,
        seen: Some(parent_seen("gunicorn", &["writer"])),
        ended: false,
    });
    assert_eq!(timeline.findings(), Vec::<&Finding>::new());
    timeline.at(20_000);
    // What was not seen twice is not told.
    assert_eq!(timeline.only_finding().hazard, THREADS);
    assert_eq!(looks(&timeline).len(), 4);
}

#[test]
fn an_answer_after_the_grace_is_enough() {
    let mut timeline = forked(&[buffer()]);
    timeline.silent = true;
    timeline.at(1100).silent = false;
    let child = process(CHILD);
    timeline.evidence(&Evidence::Child { child, seen: alive(ms(1100)) });
    timeline.evidence(&Evidence::Parent {
        child,
        seen: Some(parent_seen("gunicorn", &["writer"])),
        ended: false,
    });
    assert_eq!(timeline.findings(), Vec::<&Finding>::new());
    let held = HeldLocks { at: ms(1100), ..carries(&[buffer()]) };
    timeline.evidence(&Evidence::HeldLocks { child, seen: HeldLocksSeen::Alive(Box::new(held)) });
    assert_eq!(timeline.only_finding().hazard, HELD);
}

/// Workers are forked one after the other: what is known of a lock must be known of it in each of them.
#[test]
fn locks_without_an_owner_are_looked_at_in_siblings_too() {
    let plain = |held| PlainLock { object: 0x3000, address: 0x9000, held, held_in_parent: Some(held) };
    let seen = |held| HeldLocks { plain: vec![plain(held)], ..carries(&[]) };
    let mut timeline = forked(&[]);
    timeline.held.insert(CHILD, HeldLocksSeen::Alive(Box::new(seen(false))));
    timeline.held.insert(CHILD + 1, HeldLocksSeen::Alive(Box::new(seen(true))));
    timeline.at(1).fork(Fork { threads: 2, ..fork_of(PARENT, CHILD + 1) }).at(60);
    let places = |output: &Output| match output {
        Output::Ask(Request::HeldLocks { places, .. }) => Some(places.clone()),
        _ => None,
    };
    let asked: Vec<_> = timeline.outputs.iter().filter_map(places).collect();
    assert_eq!(asked.len(), 2);
    assert_eq!(asked[1].as_ref().map(|places| places.plain.as_slice()), Some(&[0x3000][..]));
    let told = [CHILD, CHILD + 1].map(|child| timeline.core.at_fork(process(child), 0x9000));
    assert_eq!(told, [Some(AtFork::Free), Some(AtFork::Held)]);
    timeline.at(10_000);
    assert_eq!(looks(&timeline).len(), 2, "nothing more is to be learnt of them");
}

#[test]
fn what_the_child_carries_is_known_to_every_detector() {
    let mut timeline = forked(&[HeldLock { address: 0x9000, from_before: false, ..buffer() }, registry()]);
    timeline.at(20);
    let child = process(CHILD);
    assert_eq!(timeline.core.held_at_fork(child, 0x9000), Some(HeldAtFork::Strong));
    assert_eq!(timeline.core.held_at_fork(child, 0x2000), Some(HeldAtFork::Sure));
    assert_eq!(timeline.core.held_at_fork(child, 0x1000), None);
    timeline.at(60_000);
    assert_eq!(timeline.core.held_at_fork(child, 0x2000), Some(HeldAtFork::Sure));
    timeline.exit(CHILD);
    assert_eq!(timeline.core.held_at_fork(child, 0x2000), None);
}

#[test]
fn a_rule_of_the_operator_silences_it() {
    let rule: SuppressRule =
        serde_json::from_value(serde_json::json!({ "hazard": "held-locks", "reason": "known" })).unwrap();
    let mut timeline = Timeline::with(Settings { suppress: vec![rule], ..Settings::default() });
    timeline.parents.insert(PARENT, parent_seen("gunicorn", &["writer"]));
    timeline.held.insert(CHILD, alive_with(&[buffer()]));
    timeline.fork(threaded(2)).at(10_000);
    assert_eq!(timeline.findings(), Vec::<&Finding>::new());
    assert_eq!(timeline.count(|output| matches!(output, Output::Suppressed { .. })), 1);
}
