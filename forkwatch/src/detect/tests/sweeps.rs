//! When all processes are looked at.

use std::time::Duration;

use super::*;

const INTERVAL: Duration = Duration::from_secs(10);

/// A host that is swept, and has answered for the first time at 0.
fn swept(zombies: Vec<Swept>) -> Timeline {
    let mut timeline = Timeline::with(Settings { sweep_interval: Some(INTERVAL), ..Settings::default() });
    timeline.silent = true;
    timeline.at(0);
    assert_eq!(timeline.asked(), [Request::Sweep { mark: None }]);
    timeline.outputs.clear();
    answer(&mut timeline, 9, zombies);
    timeline
}

fn answer(timeline: &mut Timeline, mark: u64, zombies: Vec<Swept>) {
    let at = timeline.now;
    let sweep =
        Sweep { at, took: MILLI, mark, processes: 1, unexeced: Vec::new(), zombies, waits: Vec::new() };
    timeline.evidence(&Evidence::Sweep { seen: Some(Box::new(sweep)) });
}

fn zombie() -> Swept {
    Swept { process: process(CHILD), comm: "job".into(), uid: None, parent: Some(process(PARENT)) }
}

#[test]
fn a_host_on_which_nothing_is_forked_is_left_alone() {
    let timeline = swept(Vec::new());
    assert_eq!(timeline.asked(), [Request::NextFork { mark: 9 }]);
    assert_eq!(timeline.core.deadline(), None);
}

#[test]
fn the_next_fork_brings_a_sweep_but_not_too_soon() {
    let mut timeline = swept(Vec::new());
    timeline.at(3000).evidence(&Evidence::NextFork);
    timeline.at(9999);
    assert_eq!(timeline.asked().len(), 1, "within the interval");
    timeline.at(10_000);
    assert_eq!(timeline.asked()[1], Request::Sweep { mark: Some(9) });
    timeline.outputs.clear();
    answer(&mut timeline, 12, Vec::new());
    assert_eq!(timeline.asked(), [Request::NextFork { mark: 12 }]);
    // Long after: what was forked is let exec or end first.
    timeline.at(100_000).evidence(&Evidence::NextFork);
    timeline.at(100_999);
    assert_eq!(timeline.asked().len(), 1);
    timeline.at(101_000);
    assert_eq!(timeline.asked()[1], Request::Sweep { mark: Some(12) });
}

#[test]
fn a_fork_that_nobody_waits_for_changes_nothing() {
    let mut timeline = swept(Vec::new());
    timeline.at(20_000).evidence(&Evidence::NextFork).evidence(&Evidence::NextFork);
    assert_eq!(timeline.core.deadline(), Some(ms(21_000)));
    let mut never = Timeline::new();
    never.evidence(&Evidence::NextFork);
    assert_eq!(never.core.deadline(), None);
}

#[test]
fn what_has_ended_and_is_not_fetched_is_looked_at_without_forks() {
    let mut timeline = swept(vec![zombie()]);
    assert_eq!(timeline.asked(), []);
    timeline.at(10_000);
    assert_eq!(timeline.asked(), [Request::Sweep { mark: None }]);
}

#[test]
fn a_sweep_without_an_answer_is_asked_for_again() {
    let mut timeline = Timeline::with(Settings { sweep_interval: Some(INTERVAL), ..Settings::default() });
    timeline.silent = true;
    timeline.at(60_000);
    assert_eq!(timeline.asked().len(), 4);
    // One that saw nothing tells no mark, from which forks could be told.
    timeline.outputs.clear();
    timeline.evidence(&Evidence::Sweep { seen: None }).at(89_999);
    assert_eq!(timeline.asked(), []);
    timeline.at(90_000);
    assert_eq!(timeline.asked(), [Request::Sweep { mark: None }]);
}
