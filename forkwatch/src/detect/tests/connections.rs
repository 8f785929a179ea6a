//! Connections that a fork left to two processes.

use super::*;
use crate::model::{
    connection::{Act, Peer, SharedSocket, User},
    event::SocketUse,
    finding::{Certainty, Severity},
    order::Order,
    resolution::Resolution,
};

const INODE: u64 = 777;
const SIBLING: u32 = 4260;

fn sockets() -> Sockets {
    sockets_of(INODE)
}

pub(super) fn sockets_of(inode: u64) -> Sockets {
    let socket =
        SharedSocket { inode, peer: Peer::Tcp("10.0.0.7:5432".to_owned()), child_fd: 7, parent_fd: 7 };
    Sockets {
        at: BootTime(0),
        program: program("gunicorn"),
        shared: vec![socket],
        libraries: vec!["psycopg2".to_owned()],
    }
}

/// A child that holds a connection of its parent's, three seconds after the fork.
fn sharing() -> Timeline {
    let mut timeline = Timeline::new();
    timeline.sockets.insert(CHILD, sockets());
    timeline.fork(plain()).at(3000);
    timeline
}

impl Timeline {
    fn uses(&mut self, tgid: u32, act: Act, bytes: u64) -> &mut Self {
        let at = self.now;
        let user = User { process: process(tgid), parent_tgid: PARENT, unexeced: tgid != PARENT };
        self.event(&Event::SocketUse(SocketUse {
            origin: Origin::default(),
            at,
            inode: INODE,
            user,
            tid: tgid,
            comm: "gunicorn".into(),
            act,
            bytes,
        }))
    }

    fn reported(&self) -> Vec<(HazardId, Certainty, u32)> {
        self.findings()
            .iter()
            .filter(|finding| !matches!(finding.state, State::Resolved(_)))
            .map(|finding| (finding.hazard, finding.certainty, finding.child.tgid))
            .collect()
    }

    fn ordered(&self) -> Vec<Order> {
        let order = |output: &Output| match output {
            Output::Order(order) => Some(*order),
            _ => None,
        };
        self.outputs.iter().filter_map(order).collect()
    }
}

const SHARED: [(HazardId, Certainty, u32); 1] =
    [(HazardId::new("shared-connection"), Certainty::Certain, CHILD)];

#[test]
fn a_connection_that_both_hold_is_watched_and_no_fault() {
    let timeline = sharing();
    assert_eq!(
        timeline.ordered(),
        [Order::WatchSocket(INODE), Order::Share(process(PARENT)), Order::Share(process(CHILD))]
    );
    assert_eq!(timeline.count(|output| matches!(output, Output::Shares(_))), 1);
    assert_eq!(timeline.reported(), []);
}

#[test]
fn connections_that_there_is_no_room_to_watch_are_told_too() {
    let mut timeline = sharing();
    let shared = (0..1100).flat_map(|inode| sockets_of(inode).shared).collect();
    let seen = Box::new(Sockets { shared, ..sockets() });
    timeline.outputs.clear();
    timeline.evidence(&Evidence::Sockets { child: process(CHILD), seen: Some(seen) });
    assert_eq!(timeline.count(|output| matches!(output, Output::Shares(_))), 1100);
    let watched = |order: &Order| matches!(order, Order::WatchSocket(_));
    assert_eq!(timeline.ordered().into_iter().filter(watched).count(), 1023);
}

#[test]
fn two_that_send_are_reported_with_their_turns() {
    let mut timeline = sharing();
    timeline.uses(PARENT, Act::Sent, 100).at(3500).uses(CHILD, Act::Sent, 200).uses(PARENT, Act::Sent, 100);
    assert_eq!(timeline.reported(), SHARED);
    let finding = timeline.findings()[0].clone();
    assert_eq!((finding.state, finding.severity), (State::Confirmed, Severity::Critical));
    assert!(finding.summary.contains("PostgreSQL at 10.0.0.7:5432"), "{}", finding.summary);
    let connection = finding.facts.connection.unwrap();
    let turns: Vec<(u32, u64)> =
        connection.turns.iter().map(|turn| (turn.pid, turn.after_ns / MILLI)).collect();
    assert_eq!(turns, [(PARENT, 0), (CHILD, 500)]);
    assert!(finding.remedy.text.contains("psycopg") || finding.remedy.text.contains("Connect"));
    timeline.at(9000).uses(CHILD, Act::Sent, 200);
    assert_eq!(timeline.reported(), SHARED);
}

#[test]
fn two_that_receive_are_reported() {
    let mut timeline = sharing();
    timeline.uses(CHILD, Act::Received, 10).uses(PARENT, Act::Received, 10);
    assert_eq!(timeline.reported(), SHARED);
}

#[test]
fn two_siblings_are_reported_though_the_parent_is_silent() {
    let mut timeline = sharing();
    timeline.uses(CHILD, Act::Sent, 100).uses(SIBLING, Act::Sent, 100);
    assert_eq!(timeline.reported().len(), 1);
    assert!(timeline.findings()[0].summary.contains(&SIBLING.to_string()));
}

#[test]
fn a_handover_is_silent() {
    let mut timeline = sharing();
    for second in 4..40 {
        timeline.at(second * 1000).uses(CHILD, Act::Sent, 100).uses(CHILD, Act::Received, 4000);
    }
    assert_eq!(timeline.reported(), []);
}

#[test]
fn strangers_and_exec_d_children_are_none_of_the_family() {
    let mut timeline = sharing();
    timeline.uses(CHILD, Act::Sent, 100);
    let at = timeline.now;
    for (tgid, parent_tgid, unexeced) in [(9000, 1, true), (9001, PARENT, false)] {
        let user = User { process: process(tgid), parent_tgid, unexeced };
        timeline.event(&Event::SocketUse(SocketUse {
            origin: Origin::default(),
            at,
            inode: INODE,
            user,
            tid: tgid,
            comm: "x".into(),
            act: Act::Sent,
            bytes: 100,
        }));
    }
    timeline.at(9000);
    assert_eq!(timeline.reported(), []);
}

#[test]
fn a_short_query_is_a_use_once_the_child_lives_on() {
    let mut timeline = sharing();
    timeline.uses(PARENT, Act::Sent, 14).at(4000).uses(CHILD, Act::Sent, 14);
    assert_eq!(timeline.reported(), []);
    timeline.at(5500);
    assert_eq!(timeline.reported(), SHARED);
    // Or as soon as it takes the answer.
    let mut timeline = sharing();
    timeline.uses(PARENT, Act::Sent, 14).uses(CHILD, Act::Sent, 14).uses(CHILD, Act::Received, 60);
    assert_eq!(timeline.reported(), SHARED);
}

#[test]
fn a_farewell_at_the_end_is_told_as_such() {
    let mut timeline = sharing();
    timeline.uses(PARENT, Act::Sent, 100).at(4000).uses(CHILD, Act::Sent, 5).at(4200).exit(CHILD).at(9000);
    assert_eq!(timeline.reported(), [(HazardId::new("shared-connection-closed"), Certainty::Strong, CHILD)]);
    // A child that was killed says none, and one that ends without a word is right.
    let mut timeline = sharing();
    timeline.at(4000).uses(CHILD, Act::Sent, 5).kill(CHILD).at(9000);
    assert_eq!(timeline.reported(), []);
    let mut timeline = sharing();
    timeline.exit(CHILD).at(9000);
    assert_eq!(timeline.reported(), []);
}

#[test]
fn a_shutdown_by_the_child_is_certain() {
    let mut timeline = sharing();
    timeline.uses(CHILD, Act::ShutDown, 0);
    assert_eq!(timeline.reported(), [(HazardId::new("shared-connection-closed"), Certainty::Certain, CHILD)]);
    let mut timeline = sharing();
    timeline.uses(PARENT, Act::ShutDown, 0);
    assert_eq!(timeline.reported(), []);
}

#[test]
fn watching_ends_when_nobody_shares_any_more() {
    let mut timeline = sharing();
    timeline.at(4000).outputs.clear();
    timeline.exit(CHILD);
    let orders = timeline.ordered();
    for order in
        [Order::UnwatchSocket(INODE), Order::Unshare(process(CHILD)), Order::Unshare(process(PARENT))]
    {
        assert!(orders.contains(&order), "{orders:?} lacks {order:?}");
    }
    assert_eq!(timeline.core.remembered(SHARED_CONNECTION), 0);
    // Another child holds it as well: only the one that left is let go.
    let mut timeline = sharing();
    timeline.sockets.insert(SIBLING, sockets());
    timeline.fork(fork_of(PARENT, SIBLING)).at(6000).outputs.clear();
    timeline.exec(exec_of(CHILD, PARENT, &[]));
    assert_eq!(timeline.ordered(), [Order::Unshare(process(CHILD))]);
}

#[test]
fn the_end_of_the_child_resolves_the_finding() {
    let mut timeline = sharing();
    timeline.uses(PARENT, Act::Sent, 100).uses(CHILD, Act::Sent, 100).at(9000).exit(CHILD);
    let last = timeline.findings().last().map(|finding| (finding.hazard, finding.state));
    assert_eq!(last, Some((HazardId::new("shared-connection"), State::Resolved(Resolution::Exited))));
}
