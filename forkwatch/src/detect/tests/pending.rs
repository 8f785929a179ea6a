//! Signals that were pending at the fork.

use super::*;
use crate::model::finding::{Certainty, Severity};

#[test]
fn pending_signals_are_named() {
    let mut timeline = Timeline::new();
    timeline.fork(pending(&[10, 15])).at(1000);
    let finding = timeline.only_finding();
    assert_eq!(
        finding.summary,
        "gunicorn (pid 4242) forked 4250 while SIGUSR1, SIGTERM were pending and blocked; Linux clears the pending \
         signals of a new child, so only the parent will ever see them"
    );
    assert_eq!((finding.hazard, finding.state), (HazardId::new("pending-signals"), State::Confirmed));
    assert_eq!((finding.certainty, finding.severity), (Certainty::Certain, Severity::Info));
    assert_eq!(finding.facts.signals, SignalSet::of(&[10, 15]));
}

#[test]
fn pending_signals_count_without_the_parent_too() {
    let mut timeline = Timeline::new();
    timeline.parents.clear();
    timeline.fork(pending(&[15])).at(1000);
    let finding = timeline.only_finding();
    assert_eq!((finding.program_name.as_str(), &finding.program.exe), ("uid 1000's python", &None));
}

#[test]
fn signals_that_only_glibc_held_back_stay_silent() {
    let fork = Fork { blocked: ALL_BLOCKED, ..pending(&[15]) };
    let mut timeline = Timeline::new();
    timeline.fork(fork.clone()).at(5000);
    assert_eq!(timeline.findings().len(), 0);
    assert_eq!(timeline.lives_on().len(), 1);

    let mut held = parent_seen("gunicorn", &[]);
    held.pending = SignalSet::of(&[15, 12]);
    timeline.parents.insert(PARENT, held);
    timeline.exit(CHILD).fork(fork.clone()).at(10_000);
    assert_eq!(timeline.only_finding().facts.signals, SignalSet::of(&[15]));

    timeline.parents.clear();
    timeline.exit(CHILD).fork(fork).at(15_000);
    assert_eq!(timeline.count(|output| matches!(output, Output::Undecided { .. })), 1);
}

#[test]
fn a_shell_that_waits_for_its_children_is_silent() {
    let mut timeline = Timeline::new();
    timeline.fork(pending(&[17])).at(5000);
    assert_eq!(timeline.findings().len(), 0);
}

#[test]
fn one_fork_may_be_unsafe_twice() {
    let mut timeline = Timeline::new();
    timeline.fork(Fork { threads: 3, ..pending(&[15]) }).at(2000).exit(CHILD);
    let hazards: Vec<_> = timeline.states().iter().map(|(hazard, _, number)| (*hazard, *number)).collect();
    let (threads, signals) = (HazardId::new("multithreaded-fork"), HazardId::new("pending-signals"));
    assert_eq!(hazards, [(threads, 1), (signals, 2), (threads, 1), (signals, 2)]);
}
