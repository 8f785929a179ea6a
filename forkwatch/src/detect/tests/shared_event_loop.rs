//! `shared-event-loop`: one epoll instance in which two processes wait.

use super::*;
use crate::model::{
    evidence::{EmptiedLoop, SharedLoop},
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
        whereabouts: Whereabouts { thread: waits.thread, start: None, native: Vec::new(), script },
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
