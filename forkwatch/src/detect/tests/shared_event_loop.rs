//! `shared-event-loop`: one epoll instance in which two processes wait.

use super::*;
use crate::model::{
    event_loop::{EmptiedLoop, SharedLoop, Watched},
    finding::{Certainty, Severity},
    inventory::{Instance, Waiting, Whereabouts},
    resolution::Resolution,
    stack::Frame,
};

const SHARED_LOOP: HazardId = HazardId::new("shared-event-loop");
const SIBLING: u32 = 4251;

fn asyncio() -> Vec<Frame> {
    let frame = |function: &str, module: &str, line| Frame {
        function: Some(function.to_owned()),
        module: Some(module.to_owned()),
        line: Some(line),
        ..Frame::default()
    };
    let base = "/usr/lib/python3.11/asyncio/base_events.py";
    vec![
        frame("select", "/usr/lib/python3.11/selectors.py", 468),
        frame("_run_once", base, 1884),
        frame("run_forever", base, 607),
        frame("<module>", "/srv/app.py", 12),
    ]
}

/// Two processes wait in one instance that watches so many descriptors, so many of them from outside.
fn shared(watched: u32, outside: u32, script: Vec<Frame>) -> LoopSeen {
    let waiting = |tid| Waiting { thread: SeenThread { tid, comm: "python".into() }, epoll: Some(6) };
    let waits = waiting(CHILD);
    LoopSeen::Shared(Box::new(SharedLoop {
        at: ms(1000),
        comm: "python".into(),
        uid: Some(33),
        program: program("gunicorn"),
        waits,
        other_waits: waiting(PARENT),
        instance: Instance { fd: 6, watched, outside },
        is_ring: false,
        whereabouts: Whereabouts {
            thread: waits.thread,
            start: None,
            native: Vec::new(),
            script,
            ends_at_forks: false,
        },
    }))
}

/// PARENT forks CHILD, which is seen so beside it.
fn forked(seen: LoopSeen) -> Timeline {
    let mut timeline = Timeline::new();
    timeline.loops.insert((CHILD, PARENT), seen);
    timeline.fork(plain());
    timeline
}

fn looks(timeline: &Timeline) -> usize {
    timeline.count(|output| matches!(output, Output::Ask(Request::SharedLoop { .. })))
}

#[test]
fn a_known_loop_that_runs_in_both_is_certain_and_over_with_the_child() {
    let mut timeline = forked(shared(3, 2, asyncio()));
    timeline.at(999);
    assert_eq!(timeline.findings(), Vec::<&Finding>::new());
    timeline.at(1000);
    let finding = timeline.only_finding().clone();
    assert_eq!(finding.hazard, SHARED_LOOP);
    assert_eq!(
        finding.summary,
        "gunicorn (pid 4242) and its forked child 4250 both run on in one asyncio loop: each takes wake-ups and \
         events that are meant for the other, and timers fire in both"
    );
    assert_eq!((finding.certainty, finding.severity), (Certainty::Certain, Severity::Critical));
    assert_eq!((finding.state, finding.parent), (State::Confirmed, process(PARENT)));
    assert_eq!((finding.child, finding.child_uid), (process(CHILD), Some(33)));
    assert_eq!(
        finding.facts.notes,
        [
            "threads 4250 and 4242 slept in epoll descriptor 6 at the same moment",
            "of the 3 descriptors that it watches, 1 can be set off by nobody but the program itself",
            "the child went into the loop at <module> (/srv/app.py:12)",
        ]
    );
    assert!(finding.remedy.text.contains("asyncio.run"), "{}", finding.remedy.text);
    timeline.at(100_000).exit(CHILD);
    let states = timeline.states();
    assert_eq!(states[1..], [(SHARED_LOOP, State::Resolved(Resolution::Exited), 1)]);
}

#[test]
fn a_loop_of_the_programs_own_is_suspected() {
    let mut timeline = forked(shared(2, 1, Vec::new()));
    timeline.at(1000);
    let finding = timeline.only_finding();
    assert_eq!((finding.certainty, finding.severity), (Certainty::Heuristic, Severity::Warning));
    assert_eq!(finding.state, State::Suspected);
    assert!(finding.summary.contains("both wait in one epoll instance"), "{}", finding.summary);
    assert!(finding.remedy.text.contains("after the fork"), "{}", finding.remedy.text);
}

#[test]
fn a_known_loop_without_wake_ups_is_information() {
    let mut timeline = forked(shared(2, 2, asyncio()));
    timeline.at(1000);
    let finding = timeline.only_finding();
    assert_eq!((finding.certainty, finding.severity), (Certainty::Heuristic, Severity::Info));
    assert_eq!(finding.state, State::Suspected);
}

#[test]
fn two_that_wait_in_one_ring_are_reported() {
    let LoopSeen::Shared(seen) = shared(0, 0, Vec::new()) else { unreachable!() };
    let mut timeline = forked(LoopSeen::Shared(Box::new(SharedLoop { is_ring: true, ..*seen })));
    timeline.at(1000);
    let finding = timeline.only_finding();
    assert_eq!((finding.certainty, finding.severity), (Certainty::Strong, Severity::Critical));
    assert!(finding.summary.contains("both wait in one io_uring"), "{}", finding.summary);
    assert!(finding.remedy.text.contains("io_uring_ring_dontfork"), "{}", finding.remedy.text);
}

#[test]
fn servers_that_share_sockets_on_purpose_are_silent() {
    let mut timeline = forked(shared(2, 2, Vec::new()));
    timeline.at(600_000);
    assert_eq!(timeline.findings(), Vec::<&Finding>::new());
}

#[test]
fn a_loop_that_is_apart_is_silent_and_looked_at_ever_less_often() {
    let mut timeline = forked(LoopSeen::Apart);
    timeline.at(255_999);
    assert_eq!(looks(&timeline), 8);
    timeline.at(3_600_000);
    assert_eq!(timeline.findings(), Vec::<&Finding>::new());
    assert!(looks(&timeline) <= 8 + 28, "{}", looks(&timeline));
    timeline.exec(exec_of(CHILD, PARENT, &[]));
    let before = looks(&timeline);
    timeline.at(7_200_000);
    assert_eq!(looks(&timeline), before);
}

#[test]
fn one_that_begins_later_is_found_later() {
    let mut timeline = forked(LoopSeen::Apart);
    timeline.at(10_000);
    timeline.loops.insert((CHILD, PARENT), shared(2, 1, asyncio()));
    timeline.at(20_000);
    assert_eq!(timeline.only_finding().hazard, SHARED_LOOP);
}

#[test]
fn children_that_share_the_loop_of_an_idle_parent_are_found() {
    let mut timeline = forked(LoopSeen::Held(6));
    timeline.loops.insert((SIBLING, PARENT), LoopSeen::Held(6));
    timeline.loops.insert((SIBLING, CHILD), shared(2, 1, asyncio()));
    timeline.at(500);
    timeline.loops.insert((CHILD, SIBLING), shared(2, 1, asyncio()));
    timeline.fork(fork_of(PARENT, SIBLING)).at(1499);
    assert_eq!(timeline.findings(), Vec::<&Finding>::new());
    timeline.at(60_000);
    let finding = timeline.only_finding();
    assert_eq!(finding.at, ms(1500));
    assert!(
        finding.summary.starts_with("4250 and 4251, forked by gunicorn (pid 4242), both run on in one"),
        "{}",
        finding.summary
    );
    assert_eq!((finding.child, finding.parent), (process(SIBLING), process(PARENT)));
}

#[test]
fn children_in_instances_of_different_numbers_are_not_compared() {
    let mut timeline = forked(LoopSeen::Held(6));
    timeline.loops.insert((SIBLING, PARENT), LoopSeen::Held(7));
    timeline.loops.insert((SIBLING, CHILD), shared(2, 1, asyncio()));
    timeline.fork(fork_of(PARENT, SIBLING)).at(60_000);
    assert_eq!(timeline.findings(), Vec::<&Finding>::new());
}

#[test]
fn the_end_of_the_other_ends_the_finding() {
    let mut timeline = forked(shared(2, 1, asyncio()));
    timeline.at(5000);
    timeline.loops.insert((CHILD, PARENT), LoopSeen::Left);
    timeline.at(60_000);
    let states = timeline.states();
    assert_eq!(states[1..], [(SHARED_LOOP, State::Resolved(Resolution::Cleared), 1)]);
    let before = looks(&timeline);
    timeline.at(600_000);
    assert_eq!(looks(&timeline), before);
}

#[test]
fn what_cannot_be_compared_is_undecided_once() {
    let mut timeline = forked(LoopSeen::Unreadable("no".to_owned()));
    timeline.at(600_000);
    let undecided =
        |output: &Output| matches!(output, Output::Undecided { hazard, .. } if *hazard == SHARED_LOOP);
    assert_eq!((timeline.count(undecided), looks(&timeline)), (1, 1));
    assert_eq!(timeline.findings(), Vec::<&Finding>::new());
}

#[test]
fn a_forker_whose_loop_was_emptied_is_told_once_and_hangs_on_without_the_child() {
    let waits = Waiting { thread: SeenThread { tid: PARENT, comm: "server".into() }, epoll: Some(4) };
    let (comm, program) = ("server".into(), program("server"));
    let emptied = EmptiedLoop { at: ms(1000), comm, uid: None, program, waits };
    let mut timeline = forked(LoopSeen::Emptied(Box::new(emptied)));
    timeline.at(600_000).exit(CHILD);
    let finding = timeline.only_finding();
    assert_eq!((finding.at, finding.hazard), (ms(1000), SHARED_LOOP));
    assert_eq!((finding.certainty, finding.severity), (Certainty::Strong, Severity::Critical));
    assert_eq!(
        finding.summary,
        "server (pid 4242) waits for good in an epoll instance that watches nothing any more: what a forked child, such \
         as 4250, removes from the instance that it inherits is removed for both"
    );
    assert_eq!(finding.facts.notes, ["thread 4242 sleeps in epoll descriptor 4 without a time limit"]);
}

#[test]
fn a_child_that_waits_for_no_events_and_sleeps_on_is_left_alone() {
    let asleep = Evidence::FellAsleep { seen: Some(vec![process(CHILD)]) };
    for (seen, least, most) in [(LoopSeen::Apart, 0, 0), (LoopSeen::Held(6), 4, 6)] {
        let mut timeline = forked(seen);
        timeline.at(2000).evidence(&asleep).at(20_000).outputs.clear();
        timeline.at(600_000);
        assert!((least..=most).contains(&looks(&timeline)), "{}", looks(&timeline));
        timeline.evidence(&asleep).outputs.clear();
        timeline.at(750_000);
        assert!(looks(&timeline) >= 1, "it did something meanwhile");
    }
}

#[test]
fn signals_that_the_loop_of_the_forker_is_told_of_are_reported_once() {
    let mut timeline = Timeline::new();
    let told = ForeignWakeUp {
        at: ms(1000),
        comm: "python".into(),
        uid: Some(33),
        program: program("gunicorn"),
        signals: SignalSet::of(&[1, 15]),
        descriptor: 8,
        epoll: 6,
    };
    timeline.wake_ups.insert(CHILD, told);
    timeline.fork(plain()).at(600_000);
    let finding = timeline.only_finding();
    assert_eq!(
        (finding.hazard, finding.certainty, finding.state),
        (SHARED_LOOP, Certainty::Heuristic, State::Suspected)
    );
    let begins = "SIGHUP, SIGTERM to the forked child 4250 are probably handled by the asyncio loop of gunicorn (pid 4242)";
    assert!(finding.summary.starts_with(begins), "{}", finding.summary);
    assert!(finding.remedy.text.contains("set_wakeup_fd(-1)"), "{}", finding.remedy.text);
}

/// PARENT sleeps in an instance that watches these, and that CHILD has too.
fn resting(switches: u64, numbers: &[u32], script: Option<Vec<Frame>>) -> RestingLoop {
    let thread = SeenThread { tid: PARENT, comm: "python".into() };
    let watched = |number: &u32| Watched { number: *number, inode: Some(u64::from(*number) + 100) };
    RestingLoop {
        at: ms(1000),
        comm: "python".into(),
        uid: Some(33),
        program: program("gunicorn"),
        waits: Waiting { thread, epoll: Some(6) },
        switches,
        threads: 1,
        is_held: true,
        watched: numbers.iter().map(watched).collect(),
        whereabouts: script.map(|script| Whereabouts {
            thread,
            start: None,
            native: Vec::new(),
            script,
            ends_at_forks: false,
        }),
    }
}

/// What is found where PARENT is seen so, and then so.
fn found(first: RestingLoop, second: RestingLoop) -> Vec<Finding> {
    let mut timeline = Timeline::new();
    timeline.resting.insert(PARENT, first);
    timeline.fork(plain()).at(1500).resting.insert(PARENT, second);
    timeline.at(600_000).findings().into_iter().cloned().collect()
}

#[test]
fn what_goes_from_the_loop_of_a_sleeping_forker_its_child_has_taken() {
    let findings = found(resting(70, &[4, 5, 8], None), resting(70, &[4], None));
    let [finding] = findings.as_slice() else { panic!("{findings:#?}") };
    assert_eq!((finding.hazard, finding.certainty), (SHARED_LOOP, Certainty::Strong));
    assert!(
        finding.summary.starts_with("gunicorn (pid 4242) slept while 2 descriptors"),
        "{}",
        finding.summary
    );
    assert_eq!(
        finding.facts.notes,
        [
            "thread 4242 slept in epoll descriptor 6 all the while",
            "open in pid 4242 still, and no longer watched: 5, 8",
        ]
    );
    assert!(finding.remedy.text.contains("EPOLL_CTL_DEL"), "{}", finding.remedy.text);
}

#[test]
fn what_the_forker_may_have_done_itself_is_silent() {
    let before = || resting(70, &[4, 5], None);
    // It woke, or had another thread, or more was added; or the child never had the instance.
    let awoke = resting(71, &[4], None);
    let threads = RestingLoop { threads: 2, ..resting(70, &[4], None) };
    for after in [awoke, threads, resting(70, &[4, 5, 8], None), before()] {
        assert_eq!(found(before(), after), []);
    }
    assert_eq!(found(RestingLoop { is_held: false, ..before() }, resting(70, &[4], None)), []);
}

#[test]
fn a_known_loop_without_the_wake_up_that_it_always_has_was_closed_by_a_child() {
    let closed = resting(70, &[4], Some(asyncio()));
    let findings = found(closed.clone(), closed);
    let [finding] = findings.as_slice() else { panic!("{findings:#?}") };
    assert_eq!((finding.hazard, finding.certainty), (SHARED_LOOP, Certainty::Strong));
    let begins = "The asyncio loop of gunicorn (pid 4242) no longer watches its own wake-up";
    assert!(finding.summary.starts_with(begins), "{}", finding.summary);
    assert!(finding.remedy.text.contains("asyncio.run"), "{}", finding.remedy.text);
    // Of a loop of the program's own nobody knows what it watches.
    let own = resting(70, &[4], Some(Vec::new()));
    assert_eq!(found(own.clone(), own), []);
}
