//! Connections that a fork left to two processes.

use super::*;
use crate::model::{
    connection::{Act, Caller, Engaged, Inherited, LibraryThread, Peer, SharedSocket, User},
    finding::{Certainty, Severity},
    observation::{Heir, Observation, SharerEnd, SocketUse},
    probe_request::ProbeRequest,
    resolution::Resolution,
    stack::{Frame, Stack, Stacks},
};

pub(super) const INODE: u64 = 777;
const SIBLING: u32 = 4260;

pub(super) fn sockets() -> Sockets {
    sockets_of(INODE)
}

pub(super) fn sockets_of(inode: u64) -> Sockets {
    let socket = SharedSocket {
        inode,
        peer: Peer::Tcp("10.0.0.7:5432".to_owned()),
        child_fd: 7,
        parent_fd: 7,
        accepted: false,
    };
    Sockets {
        at: BootTime(0),
        program: program("gunicorn"),
        shared: vec![socket],
        libraries: vec!["psycopg2".to_owned()],
        child_is_gone: false,
        of_child: Some(vec![inode]),
        of_parent: Some(vec![inode]),
        ended: Vec::new(),
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
    pub(super) fn uses(&mut self, tgid: u32, act: Act, bytes: u64) -> &mut Self {
        self.uses_of(PARENT, (tgid, INODE), act, bytes)
    }

    /// A process of this parent's family uses a connection.
    pub(super) fn uses_of(
        &mut self,
        parent: u32,
        (tgid, inode): (u32, u64),
        act: Act,
        bytes: u64,
    ) -> &mut Self {
        let at = self.now;
        let user = User { process: process(tgid), parent_tgid: parent, unexeced: tgid != parent };
        self.record(Observation::SocketUse(SocketUse {
            origin: Origin::default(),
            at,
            inode,
            user,
            tid: tgid,
            comm: "gunicorn".into(),
            act,
            bytes,
        }))
    }

    /// A child is born with the connection.
    pub(super) fn is_born(&mut self, child: u32) -> &mut Self {
        let heir = self.heir(child, (100, 200));
        self.record(Observation::Heir(heir))
    }

    fn heir(&self, child: u32, bytes: (u32, u32)) -> Heir {
        Heir {
            origin: Origin::default(),
            at: self.now,
            parent: process(PARENT),
            child: process(child),
            comm: "gunicorn".into(),
            sockets: vec![Inherited { inode: INODE, descriptor: 7, bytes: Some(bytes) }],
            more: false,
        }
    }

    /// The kernel counted bytes on the connection until the end of a child.
    pub(super) fn moved(&mut self, child: u32, bytes: (u32, u32)) -> &mut Self {
        let heir = self.heir(child, bytes);
        self.record(Observation::Moved(heir))
    }

    /// A process that shares ends, of which no other record tells.
    fn ends(&mut self, tgid: u32) -> &mut Self {
        let (at, process) = (self.now, process(tgid));
        self.record(Observation::SharerEnd(SharerEnd {
            origin: Origin::default(),
            at,
            process,
            execed: false,
        }))
    }

    pub(super) fn reported(&self) -> Vec<(HazardId, Certainty, u32)> {
        self.findings()
            .iter()
            .filter(|finding| !matches!(finding.state, State::Resolved(_)))
            .map(|finding| (finding.hazard, finding.certainty, finding.child.tgid))
            .collect()
    }
}

/// Two have used it.
const SHARED: [(HazardId, Certainty, u32); 1] =
    [(HazardId::new("shared-connection"), Certainty::Strong, CHILD)];

#[test]
fn a_connection_that_both_hold_is_watched_and_no_fault() {
    let timeline = sharing();
    assert_eq!(
        timeline.probe_requests(),
        [
            ProbeRequest::WatchSocket(INODE),
            ProbeRequest::Share(process(PARENT)),
            ProbeRequest::Share(process(CHILD)),
            ProbeRequest::Cover(process(PARENT)),
        ]
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
    let watched = |request: &ProbeRequest| matches!(request, ProbeRequest::WatchSocket(_));
    assert_eq!(timeline.probe_requests().into_iter().filter(watched).count(), 1023);
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

/// A thread that waits in a script for what psycopg2 is to bring, beside a pool's thread that stayed behind.
fn caller(tgid: u32, engaged: Engaged) -> Caller {
    let frame = |function: &str, module: &str, line| Frame {
        function: Some(function.to_owned()),
        module: Some(module.to_owned()),
        offset: None,
        line,
    };
    let script = vec![frame("load", "/srv/shop.py", Some(31)), frame("main", "/srv/shop.py", Some(12))];
    let native = vec![
        frame("poll", "/usr/lib/libc.so.6", None),
        frame("PQexec", "/usr/lib/libpq.so.5", None),
        frame("execute", "/venv/lib/python3.11/site-packages/psycopg2/_psycopg.so", None),
    ];
    let thread = SeenThread { tid: PARENT + 1, comm: "python".into() };
    Caller {
        at: BootTime(0),
        tid: tgid,
        engaged,
        script: Some(Stack { frames: script, missing: None }),
        stack: Stack { frames: native, missing: None },
        behind: vec![LibraryThread { library: "psycopg-pool".to_owned(), thread }],
    }
}

#[test]
fn the_code_that_uses_it_and_its_libraries_are_told() {
    let mut timeline = sharing();
    timeline.callers.insert(CHILD, caller(CHILD, Engaged::WithIt));
    timeline.uses(PARENT, Act::Sent, 100).uses(CHILD, Act::Sent, 200);
    assert_eq!(timeline.reported(), SHARED);
    let finding = timeline.findings()[0].clone();
    let connection = finding.facts.connection.unwrap();
    assert_eq!(connection.libraries, ["psycopg2", "libpq", "psycopg-pool"]);
    let [told] = connection.callers.as_slice() else { panic!("{:?}", connection.callers) };
    assert_eq!((told.pid, told.waits), (CHILD, true));
    assert_eq!(told.script.as_ref().unwrap().frames[0].line, Some(31));
    assert!(finding.remedy.text.starts_with("Open the pool in the child"), "{}", finding.remedy.text);
    let behind = format!("the threads of psycopg-pool stayed behind in {PARENT}");
    assert!(finding.facts.notes[0].starts_with(&behind), "{:?}", finding.facts.notes);
}

#[test]
fn a_script_that_ran_on_is_looked_at_again() {
    let mut timeline = sharing();
    let whole = caller(CHILD, Engaged::WithIt);
    let outer = whole.script.iter().flat_map(|script| script.frames.iter().skip(1).cloned()).collect();
    let script = Some(Stack { frames: outer, missing: Some("it ran on".to_owned()) });
    timeline.callers.insert(CHILD, Caller { script, ..whole.clone() });
    timeline.uses(PARENT, Act::Sent, 100).uses(CHILD, Act::Sent, 200);
    assert_eq!(timeline.reported(), [], "its next use is waited for");
    timeline.callers.insert(CHILD, whole.clone());
    timeline.at(3400).uses(CHILD, Act::Received, 200).at(6000);
    let callers = &timeline.findings()[0].facts.connection.as_ref().unwrap().callers;
    assert_eq!(callers.iter().map(|caller| &caller.script).collect::<Vec<_>>(), [&whole.script]);
}

#[test]
fn who_has_gone_on_is_looked_at_again_and_not_told_with_what_else_it_does() {
    let mut timeline = sharing();
    timeline.callers.insert(CHILD, caller(CHILD, Engaged::WithAnother));
    timeline.uses(PARENT, Act::Sent, 100).uses(CHILD, Act::Sent, 200);
    assert_eq!(timeline.reported(), [], "its next use is waited for");
    timeline.callers.insert(CHILD, caller(CHILD, Engaged::WithIt));
    timeline.at(3400).uses(CHILD, Act::Received, 200).uses(PARENT, Act::Received, 200);
    assert_eq!(timeline.reported(), SHARED);
    assert_eq!(timeline.findings()[0].facts.connection.as_ref().unwrap().callers.len(), 1);

    // There is none.
    let mut timeline = sharing();
    timeline.callers.insert(CHILD, caller(CHILD, Engaged::WithAnother));
    timeline.uses(PARENT, Act::Sent, 100).uses(CHILD, Act::Sent, 200).at(4100);
    assert_eq!(timeline.reported(), SHARED);
    let connection = timeline.findings()[0].facts.connection.clone().unwrap();
    // The pool's thread stayed behind all the same.
    assert_eq!((connection.callers.len(), connection.libraries.len()), (0, 2));

    // Or the child ends before.
    let mut timeline = sharing();
    timeline.callers.insert(CHILD, caller(CHILD, Engaged::WithAnother));
    timeline.uses(PARENT, Act::Sent, 100).uses(CHILD, Act::Sent, 200).exit(CHILD);
    assert_eq!(timeline.reported(), SHARED);
}

/// How often somebody was looked at.
fn looks(timeline: &Timeline) -> usize {
    timeline.count(|output| matches!(output, Output::Ask(Request::Caller { .. })))
}

#[test]
fn both_are_looked_at_at_once_and_an_answer_is_not_waited_for_for_ever() {
    let mut timeline = sharing();
    timeline.silent = true;
    timeline.uses(PARENT, Act::Sent, 100).uses(CHILD, Act::Sent, 200);
    assert_eq!(looks(&timeline), 2);
    assert_eq!(timeline.at(3499).reported(), []);
    assert_eq!(timeline.at(3500).reported(), SHARED);
}

#[test]
fn users_are_looked_at_a_few_times_only() {
    let mut timeline = sharing();
    for second in 4..40 {
        timeline.at(second * 1000).uses(CHILD, Act::Sent, 100).uses(CHILD, Act::Received, 4000);
    }
    assert_eq!(looks(&timeline), 4);
    let mut timeline = Timeline::with(Settings { stacks: Stacks::None, ..Settings::default() });
    timeline.sockets.insert(CHILD, sockets());
    timeline.fork(plain()).at(3000).outputs.clear();
    timeline.uses(CHILD, Act::Sent, 100);
    assert_eq!(looks(&timeline), 0, "stacks are not to be looked at");
}

#[test]
fn two_that_receive_are_reported() {
    let mut timeline = sharing();
    timeline.uses(CHILD, Act::Received, 10).uses(PARENT, Act::Received, 10);
    assert_eq!(timeline.reported(), SHARED);
}

#[test]
fn who_waits_for_the_other_is_not_surely_in_its_way() {
    // Each has its answer before the other asks, as under a lock.
    let mut timeline = sharing();
    for process in [PARENT, CHILD, PARENT, CHILD] {
        timeline.uses(process, Act::Sent, 100).uses(process, Act::Received, 4000);
        timeline.uses(process, Act::Received, 4000);
    }
    // They may come together any moment.
    assert_eq!(timeline.at(3900).reported(), []);
    assert_eq!(timeline.at(4100).reported(), SHARED);
    let told = |timeline: &Timeline| -> Vec<_> {
        timeline.findings().iter().map(|finding| (finding.state, finding.severity)).collect()
    };
    // Its library keeps to no lock of another process.
    let in_turn = (State::Suspected, Severity::Critical);
    assert_eq!(told(&timeline), [in_turn]);
    assert!(timeline.findings()[0].summary.contains("so far each had its answer before another asked"));
    // One asks while the other's answer is on its way.
    timeline.at(5000).uses(PARENT, Act::Sent, 100).uses(CHILD, Act::Sent, 100).at(6000);
    assert_eq!(told(&timeline), [in_turn, (State::Confirmed, Severity::Critical)]);
    assert!(timeline.findings()[1].summary.ends_with("unless they wait for one another"));
    // That is enough.
    timeline.uses(PARENT, Act::Sent, 100).uses(CHILD, Act::Sent, 100).at(9000);
    assert_eq!(timeline.findings().len(), 2);
    // A protocol of the program's own may have one.
    let mut timeline = Timeline::new();
    timeline.sockets.insert(CHILD, Sockets { libraries: Vec::new(), ..sockets() });
    timeline.fork(plain()).at(3000);
    for process in [PARENT, CHILD] {
        timeline.uses(process, Act::Sent, 100).uses(process, Act::Received, 4000);
    }
    assert_eq!(told(timeline.at(4100)), [(State::Suspected, Severity::Warning)]);
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
        timeline.record(Observation::SocketUse(SocketUse {
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
    // What the parent said may be its own farewell, for as long as that takes.
    timeline.at(4001);
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
fn a_client_that_a_child_alone_serves_is_missed_by_nobody() {
    let serving = || {
        let mut timeline = Timeline::new();
        let mut sockets = sockets();
        sockets.shared[0].accepted = true;
        timeline.sockets.insert(CHILD, sockets);
        timeline.fork(plain()).at(3000);
        timeline
    };
    let told = |mut timeline: Timeline| {
        timeline.uses(CHILD, Act::ShutDown, 0);
        timeline.findings().iter().map(|finding| (finding.state, finding.certainty)).collect::<Vec<_>>()
    };
    assert_eq!(told(serving()), [(State::Suspected, Certainty::Heuristic)]);
    let mut timeline = serving();
    timeline.uses(PARENT, Act::Received, 100);
    assert_eq!(told(timeline), [(State::Confirmed, Certainty::Certain)]);
}

#[test]
fn watching_ends_when_nobody_shares_any_more() {
    let mut timeline = sharing();
    timeline.at(4000).outputs.clear();
    timeline.exit(CHILD);
    // The parent's next child is watched from its first instruction.
    assert_eq!(timeline.probe_requests(), [ProbeRequest::Unshare(process(CHILD))]);
    timeline.outputs.clear();
    timeline.ends(PARENT);
    assert_eq!(timeline.probe_requests(), [ProbeRequest::UnwatchSocket(INODE)]);
    assert_eq!(timeline.core.remembered(SHARED_CONNECTION), 0);
    timeline.at(63_000).outputs.clear();
    timeline.at(65_000);
    assert_eq!(timeline.probe_requests(), [ProbeRequest::Unshare(process(PARENT))]);
    // Another child holds it as well: only the one that left is let go.
    let mut timeline = sharing();
    timeline.sockets.insert(SIBLING, sockets());
    timeline.fork(fork_of(PARENT, SIBLING)).at(6000).outputs.clear();
    timeline.exec(exec_of(CHILD, PARENT, &[]));
    assert_eq!(timeline.probe_requests(), [ProbeRequest::Unshare(process(CHILD))]);
}

#[test]
fn the_end_of_the_child_resolves_the_finding() {
    let mut timeline = sharing();
    timeline.uses(PARENT, Act::Sent, 100).uses(CHILD, Act::Sent, 100).at(9000).exit(CHILD);
    let last = timeline.findings().last().map(|finding| (finding.hazard, finding.state));
    assert_eq!(last, Some((HazardId::new("shared-connection"), State::Resolved(Resolution::Exited))));
}

/// Children that are born two and three seconds after the start: a process of these tests has its start as tgid.
pub(super) const BORN: u32 = 2_000_000_000;
pub(super) const LATER: u32 = 3_000_000_000;

/// A child is born with a connection of its parent's, which it shares.
pub(super) fn born() -> Timeline {
    let mut timeline = Timeline::new();
    timeline.sockets.insert(BORN, sockets());
    timeline.at(2000).is_born(BORN);
    timeline
}

/// The same, and it has ended by the time that anybody looks.
fn born_and_gone() -> Timeline {
    let mut timeline = born();
    timeline.sockets.insert(BORN, Sockets { child_is_gone: true, ..sockets() });
    timeline
}

const CLOSED: [(HazardId, Certainty, u32); 1] =
    [(HazardId::new("shared-connection-closed"), Certainty::Strong, BORN)];
const USED: [(HazardId, Certainty, u32); 1] = [(HazardId::new("shared-connection"), Certainty::Strong, BORN)];

#[test]
fn what_a_child_is_born_with_is_watched_at_once() {
    let timeline = born();
    assert_eq!(
        timeline.probe_requests(),
        [
            ProbeRequest::WatchSocket(INODE),
            ProbeRequest::Share(process(PARENT)),
            ProbeRequest::Share(process(BORN))
        ]
    );
    let asked =
        |timeline: &Timeline| timeline.count(|output| matches!(output, Output::Ask(Request::Sockets { .. })));
    assert_eq!(asked(&timeline), 0);
    let mut timeline = timeline;
    timeline.at(2050);
    assert_eq!(asked(&timeline), 1);
}

#[test]
fn a_use_in_the_first_second_is_reported() {
    let mut timeline = born();
    timeline.at(2001).uses(BORN, Act::Sent, 200).at(2004).uses(PARENT, Act::Sent, 200);
    assert_eq!(timeline.reported(), USED);
    // What happened before it was known what the connection is counts, in its order.
    let turns = &timeline.findings()[0].facts.connection.as_ref().unwrap().turns;
    assert_eq!(turns.iter().map(|turn| turn.pid).collect::<Vec<_>>(), [BORN, PARENT]);
}

#[test]
fn a_farewell_in_the_first_second_is_told_however_short_the_child_lived() {
    for lived in [1, 3, 500, 950] {
        let mut timeline = born_and_gone();
        timeline.at(2000 + lived).uses(BORN, Act::Sent, 5).exit(BORN).at(9000);
        assert_eq!(timeline.reported(), CLOSED, "{lived} ms");
    }
}

#[test]
fn a_farewell_that_only_the_kernel_counted_is_told() {
    let mut timeline = born_and_gone();
    timeline.at(2001).moved(BORN, (5, 0)).exit(BORN).at(9000);
    assert_eq!(timeline.reported(), CLOSED);
    // An answer came too, or more was sent than a farewell has: the parent may have done that.
    for bytes in [(5, 60), (200, 0), (0, 60)] {
        let mut timeline = born_and_gone();
        timeline.at(2001).moved(BORN, bytes).exit(BORN).at(9000);
        assert_eq!(timeline.reported(), [], "{bytes:?}");
    }
    // The parent was seen to send.
    let mut timeline = born_and_gone();
    timeline.uses(PARENT, Act::Sent, 5).at(2001).moved(BORN, (5, 0)).exit(BORN).at(9000);
    assert_eq!(timeline.reported(), []);
}

#[test]
fn children_that_exec_or_end_at_once_are_nobodys() {
    for ends in [true, false] {
        let mut timeline = born();
        timeline.at(2004);
        if ends {
            timeline.exit(BORN);
        } else {
            timeline.exec(exec_of(BORN, PARENT, &[]));
        }
        timeline.at(9000);
        assert_eq!(timeline.count(|output| matches!(output, Output::Ask(Request::Sockets { .. }))), 0);
        let requests = timeline.probe_requests();
        for request in [
            ProbeRequest::UnwatchSocket(INODE),
            ProbeRequest::Unshare(process(BORN)),
            ProbeRequest::Unshare(process(PARENT)),
        ] {
            assert!(requests.contains(&request), "{requests:?} lacks {request:?}");
        }
        assert!(!requests.contains(&ProbeRequest::Cover(process(PARENT))));
        assert_eq!(timeline.core.remembered(SHARED_CONNECTION), 0);
    }
}

#[test]
fn a_forker_whose_children_do_not_keep_its_connections_is_left_alone_for_longer_each_time() {
    let mut timeline = Timeline::new();
    let nothing = Sockets { shared: Vec::new(), ..sockets() };
    let mut until = Vec::new();
    for (time, child) in [(2000, BORN), (3000, LATER)] {
        timeline.sockets.insert(child, nothing.clone());
        // It is looked at once more, to see whether a child has only closed its copy.
        timeline.at(time).is_born(child).at(time + 900);
        until.extend(timeline.probe_requests().into_iter().filter_map(|request| match request {
            ProbeRequest::Disregard { until, .. } => Some(until.0 / MILLI - time),
            _ => None,
        }));
        timeline.outputs.clear();
    }
    let rests: Vec<u64> = until.iter().map(|until| until / 1000).collect();
    assert_eq!(rests, [10, 20]);
    assert_eq!(timeline.core.remembered(SHARED_CONNECTION), 0);
}

#[test]
fn what_a_parent_did_before_a_child_was_born_is_no_rivalry() {
    // The first child keeps the connection open and is silent; the parent hands it over to the second.
    let mut timeline = born();
    timeline.at(2500).uses(PARENT, Act::Sent, 200).at(3000).is_born(LATER);
    timeline.at(3500).uses(LATER, Act::Sent, 200).at(9000);
    assert_eq!(timeline.reported(), []);
    timeline.uses(PARENT, Act::Sent, 200);
    assert_eq!(timeline.reported(), [(HazardId::new("shared-connection"), Certainty::Strong, LATER)]);
}

#[test]
fn the_next_child_of_a_covered_forker_is_judged_by_what_happens_from_its_birth_on() {
    let mut timeline = born();
    timeline.at(2500).uses(BORN, Act::Sent, 200).exit(BORN);
    assert!(timeline.probe_requests().contains(&ProbeRequest::Cover(process(PARENT))));
    // The first child alone used it; the second alone does.
    timeline.at(3000).is_born(LATER).at(3001).uses(LATER, Act::Sent, 200).at(9000);
    assert_eq!(timeline.reported(), []);
    timeline.uses(PARENT, Act::Sent, 200);
    assert_eq!(timeline.reported(), [(HazardId::new("shared-connection"), Certainty::Strong, LATER)]);
}

#[test]
fn nothing_is_left_of_children_that_nobody_could_look_at() {
    let mut timeline = born();
    timeline.sockets.clear();
    timeline.at(2001).uses(BORN, Act::Sent, 200);
    assert_eq!(timeline.count(|output| matches!(output, Output::Undecided { .. })), 1);
    timeline.exit(BORN).at(9000);
    assert_eq!((timeline.reported(), timeline.core.remembered(SHARED_CONNECTION)), (Vec::new(), 0));
}

#[test]
fn a_child_that_says_farewell_and_goes_on_is_told_as_such() {
    let mut timeline = born();
    timeline.at(2001).uses(BORN, Act::Sent, 5).at(2100);
    // It has closed its copy since.
    timeline.sockets.insert(BORN, Sockets { shared: Vec::new(), of_child: Some(vec![9]), ..sockets() });
    timeline.at(5000).uses(PARENT, Act::Sent, 200).at(9000);
    assert_eq!(timeline.reported(), CLOSED);
    let summary = &timeline.findings()[0].summary;
    assert!(summary.contains("said goodbye") && summary.contains("closed its copy"), "{summary}");
    // Who finds its connection ended closes it: it has missed it all the same. Where nobody wanted it, nobody has.
    for (is_used, expected) in [(true, CLOSED.to_vec()), (false, Vec::new())] {
        let mut timeline = born();
        timeline.at(2001).uses(BORN, Act::Sent, 5).at(2100);
        if is_used {
            timeline.uses(PARENT, Act::Sent, 200);
        }
        let neither =
            Sockets { shared: Vec::new(), of_child: Some(vec![9]), of_parent: Some(vec![9]), ..sockets() };
        timeline.sockets.insert(BORN, neither);
        timeline.at(9000);
        assert_eq!(timeline.reported(), expected);
    }
    // One that keeps it has used it.
    let mut timeline = born();
    timeline.at(2001).uses(BORN, Act::Sent, 5).at(5000).uses(PARENT, Act::Sent, 200).at(9000);
    assert_eq!(timeline.reported(), USED);
}

#[test]
fn a_parent_that_says_farewell_as_it_ends_is_told_where_its_child_uses_the_connection() {
    let farewell = |uses_before: bool, uses_after: bool| {
        let mut timeline = born();
        timeline.at(3000);
        if uses_before {
            timeline.uses(BORN, Act::Sent, 200).uses(BORN, Act::Received, 200);
        }
        timeline.at(6000).uses(PARENT, Act::Sent, 5).ends(PARENT).at(7500);
        if uses_after {
            timeline.uses(BORN, Act::Sent, 200);
        }
        timeline.at(9000);
        timeline
    };
    for (before, after) in [(true, false), (false, true), (true, true)] {
        let timeline = farewell(before, after);
        assert_eq!(timeline.reported(), CLOSED, "{before} {after}");
        assert!(timeline.findings()[0].summary.contains("its child"));
    }
    assert_eq!(farewell(false, false).reported(), []);
}

#[test]
fn a_server_that_accepts_and_forks_misses_nothing() {
    for act in [Act::Sent, Act::ShutDown] {
        let mut timeline = born();
        // The parent has not closed its copy yet when the child is looked at, but has by its end.
        timeline.at(2030);
        timeline.sockets.insert(BORN, Sockets { shared: Vec::new(), of_parent: Some(vec![]), ..sockets() });
        timeline.at(2100).uses(BORN, act, 5).exit(BORN).at(9000);
        assert_eq!(timeline.reported(), [], "{act:?}");
    }
}

#[test]
fn a_connection_that_ends_soon_after_a_child_has_closed_its_copy_was_probably_ended_by_it() {
    let closed = |ended: bool| {
        let shared = sockets().shared;
        let ended = if ended { shared } else { Vec::new() };
        Sockets { shared: Vec::new(), of_child: Some(vec![9]), ended, ..sockets() }
    };
    let mut timeline = Timeline::new();
    timeline.sockets.insert(BORN, closed(false));
    timeline.at(2000).is_born(BORN).at(2030);
    assert_eq!(timeline.reported(), []);
    timeline.sockets.insert(BORN, closed(true));
    timeline.at(2530);
    let suspected = [(CLOSED[0].0, Certainty::Heuristic, BORN)];
    assert_eq!(timeline.reported(), suspected);
    let finding = timeline.findings()[0];
    assert_eq!(finding.state, State::Suspected);
    assert!(finding.summary.contains("closed its copy"), "{}", finding.summary);
    timeline.at(60_000);
    assert_eq!(timeline.reported(), suspected);
    // One that the server leaves open, as a child should that needs none; and one that the parent has closed, too.
    for of_parent in [vec![INODE], vec![]] {
        let mut timeline = Timeline::new();
        timeline.sockets.insert(BORN, Sockets { of_parent: Some(of_parent), ..closed(false) });
        timeline.at(2000).is_born(BORN).at(60_000);
        assert_eq!(timeline.reported(), []);
    }
}

#[test]
fn a_child_that_closes_its_copy_because_another_child_has_its_answer_has_used_it() {
    let mut timeline = born();
    timeline.sockets.insert(LATER, sockets());
    timeline.at(3000).is_born(LATER).at(4000);
    timeline.uses(BORN, Act::Sent, 33).uses(BORN, Act::Received, 5).uses(LATER, Act::Sent, 33);
    timeline.sockets.insert(LATER, Sockets { shared: Vec::new(), of_child: Some(vec![9]), ..sockets() });
    timeline.at(9000);
    let reported: Vec<_> = timeline.reported().into_iter().map(|(hazard, ..)| hazard).collect();
    assert_eq!(reported, [USED[0].0]);
}

#[test]
fn a_child_that_crashes_right_after_a_farewell_has_said_it() {
    for (number, reported) in [(11, CLOSED.to_vec()), (9, Vec::new())] {
        let mut timeline = born();
        timeline.at(3000).uses(BORN, Act::Sent, 5);
        let status = ExitStatus::Signal { number, core_dumped: false };
        let exit = Exit { at: timeline.now, ..exit_of(BORN, status) };
        timeline.event(&Event::Exit(exit)).at(9000);
        assert_eq!(timeline.reported(), reported, "{number}");
    }
}
