//! Connections that are over by the time that anybody looks, and children that use one after the other.

use super::{
    connections::{BORN, INODE, LATER, born, sockets},
    *,
};
use crate::model::{
    connection::{Act, Peer, SharedSocket},
    finding::{Certainty, Severity},
};

const USED: HazardId = HazardId::new("shared-connection");
const CLOSED: HazardId = HazardId::new("shared-connection-closed");

/// The parent holds it still, and it is over.
fn over(of_child: Vec<u64>) -> Sockets {
    let ended =
        vec![SharedSocket { inode: INODE, peer: Peer::Unknown, child_fd: 7, parent_fd: 7, accepted: false }];
    Sockets { shared: Vec::new(), of_child: Some(of_child), ended, ..sockets() }
}

/// The same, and the child has ended.
fn over_and_gone() -> Sockets {
    Sockets { child_is_gone: true, of_child: None, ..over(Vec::new()) }
}

#[test]
fn what_two_said_on_a_connection_that_was_reset_before_the_look_is_told() {
    // Both hold it still, or the child has closed its copy.
    for of_child in [vec![INODE], vec![9]] {
        let mut timeline = Timeline::new();
        timeline.sockets.insert(BORN, Sockets { ended: Vec::new(), ..over(of_child) });
        timeline.at(2000).is_born(BORN).at(2003).uses(BORN, Act::Sent, 171).uses(PARENT, Act::Sent, 171);
        timeline.at(2900);
        assert_eq!(timeline.reported(), [(USED, Certainty::Strong, BORN)]);
        let finding = timeline.findings()[0];
        assert!(finding.summary.contains("an unknown server"), "{}", finding.summary);
        assert_eq!(timeline.count(|output| matches!(output, Output::Shares(_))), 0);
    }
    // The parent, too, has closed what it found ended.
    let mut timeline = Timeline::new();
    let seen = Sockets { of_parent: Some(vec![]), ended: Vec::new(), ..over(vec![9]) };
    timeline.sockets.insert(BORN, seen);
    timeline.at(2000).is_born(BORN).at(2030);
    // Told late, but as of then.
    timeline.uses(BORN, Act::Sent, 171).uses(PARENT, Act::Sent, 171).at(9000);
    assert_eq!(timeline.reported(), [(USED, Certainty::Strong, BORN)]);
    // One that accepts and forks has closed its copy, and what one alone says is no fault.
    for (of_parent, other) in [(vec![], PARENT), (vec![INODE], BORN)] {
        let mut timeline = Timeline::new();
        let seen = Sockets { of_parent: Some(of_parent), ended: Vec::new(), ..over(vec![INODE]) };
        timeline.sockets.insert(BORN, seen);
        timeline.at(2000).is_born(BORN).at(2003).uses(BORN, Act::Sent, 171).uses(other, Act::Received, 171);
        timeline.at(9000);
        assert_eq!(timeline.reported(), []);
    }
}

#[test]
fn a_farewell_that_was_seen_on_a_connection_that_is_over_is_told() {
    let mut timeline = Timeline::new();
    timeline.sockets.insert(BORN, over(vec![9]));
    timeline.at(2000).is_born(BORN).at(2003).uses(BORN, Act::Sent, 27).at(9000);
    assert_eq!(timeline.reported(), [(CLOSED, Certainty::Strong, BORN)]);
}

/// A child uses a connection and ends; by then its parent sees this.
fn used_and_ended(seen: Sockets) -> Timeline {
    let mut timeline = born();
    timeline.at(2500).uses(BORN, Act::Sent, 61).uses(BORN, Act::Received, 100);
    timeline.sockets.insert(BORN, seen);
    timeline.at(4000).exit(BORN).at(9000);
    timeline
}

#[test]
fn a_connection_that_is_over_when_a_child_that_used_it_ends_was_probably_ended_by_it() {
    let timeline = used_and_ended(over_and_gone());
    assert_eq!(timeline.reported(), [(CLOSED, Certainty::Heuristic, BORN)]);
    assert_eq!(timeline.findings()[0].state, State::Suspected);
    // Another has used it since, and may have ended it.
    let mut timeline = born();
    timeline.at(2500).uses(BORN, Act::Sent, 61).uses(BORN, Act::Received, 100);
    timeline.sockets.insert(BORN, over_and_gone());
    timeline.at(4000).exit(BORN).uses(PARENT, Act::Sent, 200).at(9000);
    assert_eq!(timeline.reported(), []);
    // It goes on, as where the child leaves by _exit; or nobody has it any more.
    let gone = |of_parent| Sockets { child_is_gone: true, of_child: None, of_parent, ..sockets() };
    for of_parent in [Some(vec![INODE]), Some(vec![])] {
        assert_eq!(used_and_ended(gone(of_parent)).reported(), []);
    }
    // The end of a client, whose connection a server has not closed where it was left to a child.
    let mut client = sockets();
    client.shared[0].accepted = true;
    let mut timeline = Timeline::new();
    timeline.sockets.insert(BORN, client);
    timeline.at(2000).is_born(BORN).at(2500).uses(BORN, Act::Sent, 61).uses(BORN, Act::Received, 100);
    timeline.sockets.insert(BORN, over_and_gone());
    timeline.at(4000).exit(BORN).at(9000);
    assert_eq!(timeline.reported(), []);
}

/// A second child uses what a first has used; when it ends, its parent sees this.
fn one_after_the_other(first_is_seen: bool, seen: Sockets) -> Timeline {
    let mut timeline = born();
    timeline.at(2500);
    if first_is_seen {
        timeline.uses(BORN, Act::Sent, 200).uses(BORN, Act::Received, 200);
    } else {
        timeline.at(3000).moved(BORN, (200, 200));
    }
    let goes_on = Sockets { child_is_gone: true, of_child: None, ..sockets() };
    timeline.sockets.insert(BORN, goes_on);
    timeline.at(2900).exit(BORN).at(3000).is_born(LATER);
    timeline.sockets.insert(LATER, seen);
    timeline.at(3004).uses(LATER, Act::Received, 5).exit(LATER).at(9000);
    timeline
}

#[test]
fn children_that_use_a_connection_one_after_the_other_are_told_once_it_is_over() {
    let timeline = one_after_the_other(true, over_and_gone());
    assert_eq!(timeline.reported(), [(USED, Certainty::Strong, LATER)]);
    let finding = timeline.findings()[0];
    assert_eq!((finding.state, finding.severity), (State::Confirmed, Severity::Warning));
    let words = format!("Its child {BORN} used it, then its child {LATER}");
    assert!(finding.summary.contains(&words), "{}", finding.summary);
    // The first is known by its bytes alone; or the parent has closed it, for whatever reason.
    let heuristic = [(USED, Certainty::Heuristic, LATER)];
    assert_eq!(one_after_the_other(false, over_and_gone()).reported(), heuristic);
    let closed = Sockets { child_is_gone: true, of_child: None, of_parent: Some(vec![]), ..sockets() };
    assert_eq!(one_after_the_other(true, closed).reported(), heuristic);
    // A protocol in which that goes well.
    let goes_on = Sockets { child_is_gone: true, of_child: None, ..sockets() };
    assert_eq!(one_after_the_other(true, goes_on).reported(), []);
}

#[test]
fn a_farewell_whose_parent_closes_what_it_finds_ended_was_missed_where_another_tried() {
    for (tries, reported) in [(true, vec![(CLOSED, Certainty::Strong, BORN)]), (false, Vec::new())] {
        let mut timeline = born();
        timeline.at(3000).uses(BORN, Act::Sent, 27);
        timeline.silent = true;
        timeline.exit(BORN);
        if tries {
            timeline.at(3002).is_born(LATER).at(3004).uses(LATER, Act::Received, 5);
        }
        timeline.silent = false;
        let shared = Vec::new();
        let seen =
            Sockets { shared, child_is_gone: true, of_child: None, of_parent: Some(vec![]), ..sockets() };
        timeline.evidence(&Evidence::Sockets { child: process(BORN), seen: Some(Box::new(seen)) });
        timeline.at(9000);
        assert_eq!(timeline.reported(), reported, "{tries}");
    }
}
