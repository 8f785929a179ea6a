//! `unflushed-output`: a child has output in a buffer from before the fork.

use super::*;
use crate::model::{
    finding::{Certainty, Severity},
    resolution::Resolution,
    unflushed::{ForkersCopy, Unflushed, UnflushedStream},
};

const UNFLUSHED: HazardId = HazardId::new("unflushed-output");

fn stream(fd: u32, path: &str, bytes: u64, forker: ForkersCopy) -> UnflushedStream {
    UnflushedStream { fd, path: path.to_owned(), bytes, forker }
}

/// PARENT forks CHILD, which has these.
fn forked(streams: Vec<UnflushedStream>) -> Timeline {
    let mut timeline = Timeline::new();
    let (comm, program) = ("booking".into(), program("booking"));
    let seen = Unflushed { at: BootTime(0), comm, program, streams };
    timeline.unflushed.insert(CHILD, UnflushedSeen::Unflushed(Box::new(seen)));
    timeline.fork(plain());
    timeline
}

#[test]
fn bytes_from_before_the_fork_are_suspected_and_over_with_the_child() {
    let mut timeline = forked(vec![stream(1, "/var/log/booked.log", 20, ForkersCopy::Written)]);
    timeline.at(999);
    assert_eq!(timeline.findings(), Vec::<&Finding>::new());
    timeline.at(1000);
    let finding = timeline.only_finding().clone();
    assert_eq!((finding.hazard, finding.state), (UNFLUSHED, State::Suspected));
    assert_eq!((finding.certainty, finding.severity), (Certainty::Heuristic, Severity::Warning));
    assert_eq!((finding.parent, finding.child), (process(PARENT), process(CHILD)));
    assert_eq!(
        finding.summary,
        "4250, forked by booking (pid 4242), has 20 bytes of standard output (/var/log/booked.log) in a buffer from \
         before the fork: they are written twice if it ends by exit, and not if it ends by _exit"
    );
    assert_eq!(
        finding.facts.notes,
        ["20 bytes of standard output (/var/log/booked.log), which 4242 has written"]
    );
    timeline.at(100_000).exit(CHILD);
    assert_eq!(timeline.states()[1..], [(UNFLUSHED, State::Resolved(Resolution::Exited), 1)]);
}

#[test]
fn several_streams_are_added_up_and_told_one_by_one() {
    let mut timeline = forked(vec![
        stream(1, "pipe:[7]", 1, ForkersCopy::Unwritten),
        stream(5, "/srv/a\u{1b}.log", 2, ForkersCopy::Unknown),
    ]);
    timeline.at(60_000);
    let finding = timeline.only_finding();
    assert!(finding.summary.contains("has 3 bytes of 2 streams in a buffer"), "{}", finding.summary);
    assert_eq!(
        finding.facts.notes,
        [
            "1 bytes of standard output (pipe:[7]), which 4242 has not written yet either",
            "2 bytes of /srv/a\\x1b.log"
        ]
    );
}

#[test]
fn a_child_without_any_is_silent_and_asked_about_once() {
    let mut timeline = Timeline::new();
    timeline.fork(plain()).at(600_000);
    assert_eq!(timeline.findings(), Vec::<&Finding>::new());
    let asked = |output: &Output| matches!(output, Output::Ask(Request::Unflushed { .. }));
    assert_eq!(timeline.count(asked), 1);
}

#[test]
fn a_child_that_execs_in_time_is_not_asked_about() {
    let mut timeline = Timeline::new();
    timeline.fork(plain()).at(500).exec(exec_of(CHILD, PARENT, &[])).at(600_000);
    assert_eq!(timeline.count(|output| matches!(output, Output::Ask(Request::Unflushed { .. }))), 0);
}

#[test]
fn memory_that_cannot_be_read_is_undecided() {
    let mut timeline = Timeline::new();
    timeline.unflushed.insert(CHILD, UnflushedSeen::Unreadable("no".to_owned()));
    timeline.fork(plain()).at(60_000);
    let undecided =
        |output: &Output| matches!(output, Output::Undecided { hazard, .. } if *hazard == UNFLUSHED);
    assert_eq!(timeline.count(undecided), 1);
}
