//! `escaped-child`: a forked process waits for its children where its forker waits for it.

use super::*;
use crate::model::{
    finding::{Certainty, Severity},
    resolution::Resolution,
    stack::Frame,
};

const ESCAPED: HazardId = HazardId::new("escaped-child");
const GRANDCHILD: u32 = 4300;

fn frame(function: &str, line: u32) -> Frame {
    Frame {
        function: Some(function.to_owned()),
        module: Some("/srv/jobs.py".to_owned()),
        line: Some(line),
        ..Frame::default()
    }
}

fn same_call() -> SameCall {
    let frames = vec![frame("job", 5), frame("main", 7), frame("<module>", 9)];
    SameCall {
        at: BootTime(0),
        comm: "python".into(),
        uid: Some(1000),
        program: program("python3.11"),
        frames,
    }
}

/// A fork by one that was forked itself.
fn by_child(child: u32) -> Fork {
    Fork { generation: 2, ..fork_of(CHILD, child) }
}

/// PARENT forks CHILD, which waits where its parent does.
fn escaped() -> Timeline {
    let mut timeline = Timeline::new();
    timeline.escaped.insert(CHILD, same_call());
    timeline.fork(plain()).at(1200);
    timeline
}

#[test]
fn a_child_that_forks_twice_where_its_parent_waits_for_it_is_told() {
    let mut timeline = escaped();
    timeline.fork(by_child(GRANDCHILD)).at(2000);
    assert_eq!(timeline.findings(), Vec::<&Finding>::new(), "a chain forks once in each link");
    timeline.exit(GRANDCHILD).at(2100).fork(by_child(GRANDCHILD + 1)).at(2200);
    let finding = timeline.only_finding().clone();
    assert_eq!((finding.hazard, finding.state), (ESCAPED, State::Suspected));
    assert_eq!((finding.certainty, finding.severity), (Certainty::Strong, Severity::Warning));
    assert_eq!((finding.parent, finding.child), (process(PARENT), process(CHILD)));
    assert_eq!(
        finding.summary,
        "python3.11 (pid 4242) forked 4250, which runs on in its parent's code instead of ending: it has forked, too, \
         and waits for its children in the call in which its parent waits for it, job (jobs.py:5). What comes next is \
         done in both"
    );
    assert_eq!(
        finding.facts.notes,
        [
            "4250 has forked twice, 4242 once",
            "around it both are in main (jobs.py:7), called by <module> (jobs.py:9)"
        ]
    );
    assert!(finding.remedy.text.contains("os._exit"), "{:?}", finding.remedy);
    timeline.at(100_000).exit(CHILD);
    assert_eq!(timeline.states()[1..], [(ESCAPED, State::Resolved(Resolution::Exited), 1)]);
}

#[test]
fn it_is_told_when_the_parent_goes_on_to_fork_after_its_end() {
    let mut timeline = escaped();
    timeline.fork(by_child(GRANDCHILD)).at(2000).exit(GRANDCHILD).exit(CHILD).at(2500);
    assert_eq!(timeline.findings(), Vec::<&Finding>::new());
    timeline.fork(fork_of(PARENT, CHILD + 1)).at(2600);
    assert_eq!(timeline.only_finding().child, process(CHILD));
}

#[test]
fn of_those_below_it_nothing_more_is_told() {
    let mut timeline = escaped();
    timeline.fork(by_child(GRANDCHILD)).fork(by_child(GRANDCHILD + 1)).at(2000);
    assert_eq!(timeline.findings().len(), 1);
    timeline.escaped.insert(GRANDCHILD, same_call());
    let below = |child| Fork { generation: 3, ..fork_of(GRANDCHILD, child) };
    timeline.fork(below(4400)).fork(below(4401)).at(9000);
    assert_eq!(timeline.findings().len(), 1);
}

#[test]
fn children_that_only_a_sweep_has_found_count() {
    let mut timeline = Timeline::new();
    timeline.escaped.insert(CHILD, same_call());
    timeline.fork(plain()).at(1500).fork(by_child(GRANDCHILD)).at(1600).fork(by_child(GRANDCHILD + 1));
    timeline.at(9000);
    assert_eq!(timeline.only_finding().hazard, ESCAPED);
}

/// Its record, and a look at the host that came before it.
#[test]
fn a_child_that_is_told_of_twice_counts_once() {
    let mut timeline = escaped();
    timeline.fork(by_child(GRANDCHILD)).fork(by_child(GRANDCHILD)).at(9000);
    assert_eq!(timeline.findings(), Vec::<&Finding>::new());
}

#[test]
fn a_worker_that_waits_elsewhere_is_silent_and_not_looked_at_for_ever() {
    let mut timeline = Timeline::new();
    timeline.fork(plain()).at(1200).fork(by_child(GRANDCHILD)).fork(by_child(GRANDCHILD + 1)).at(600_000);
    assert_eq!(timeline.findings(), Vec::<&Finding>::new());
    let asked = |output: &Output| matches!(output, Output::Ask(Request::Escaped { .. }));
    assert!((2..=16).contains(&timeline.count(asked)), "{}", timeline.count(asked));
}

#[test]
fn a_child_that_forks_nothing_is_not_asked_about() {
    let mut timeline = escaped();
    timeline.at(600_000);
    assert_eq!(timeline.count(|output| matches!(output, Output::Ask(Request::Escaped { .. }))), 0);
}
