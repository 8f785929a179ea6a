//! The rule against made-up looks at the host.

use super::super::holders::SIGIO;
use super::*;
use crate::model::{
    leak::{Access, Held, Holders, Rest, Service},
    process::Program,
    signals::SignalSet,
    time::BootTime,
};

fn key(tgid: u32) -> ProcessKey {
    ProcessKey { tgid, start: BootTime(0) }
}

fn orphan(tgid: u32) -> Holder {
    Holder {
        process: key(tgid),
        comm: "worker".into(),
        uid: None,
        executable: Some("server".to_owned()),
        parent: Some(key(100)),
        reparented: true,
        unexeced: true,
        held: vec![Held { fd: 5, access: Access::Both }],
        rest: Rest {
            threads: 1,
            switches: 3,
            stopped: false,
            caught: SignalSet::EMPTY,
            doing: "pause".to_owned(),
            pipe: None,
        },
        service: None,
        awaits: false,
        awaited_by: None,
        wrote: None,
    }
}

fn execed(tgid: u32, executable: &str) -> Holder {
    Holder { executable: Some(executable.to_owned()), unexeced: false, ..orphan(tgid) }
}

struct Look {
    stayed: bool,
    complete: bool,
    hidden: Vec<u32>,
    queue: Option<u32>,
    stuck: Vec<ProcessKey>,
}

const PLAIN: Look =
    Look { stayed: true, complete: true, hidden: Vec::new(), queue: Some(0), stuck: Vec::new() };

fn judged_as(look: &Look, first: Vec<Holder>, second: Vec<Holder>) -> Judgement {
    let holders = |holders| Holders {
        at: BootTime(0),
        complete: look.complete,
        hidden: look.hidden.clone(),
        holders,
        elsewhere: false,
        listener: Some(Listener { address: "/run/s".to_owned(), queue: look.queue }),
        program: Program::default(),
    };
    judge(&ListenerCase {
        process: key(1),
        forker: None,
        forker_stayed: look.stayed,
        inode: 7,
        first: &holders(first),
        second: &holders(second),
        stuck: &look.stuck,
        program_name: "server",
    })
}

fn judged(look: &Look, holders: Vec<Holder>) -> Judgement {
    judged_as(look, holders.clone(), holders)
}

fn certainty(judgement: Judgement) -> Certainty {
    match judgement {
        Judgement::Unsafe(verdict) => verdict.certainty,
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_heir_that_does_nothing_is_strong_with_clients_waiting_too() {
    assert_eq!(certainty(judged(&PLAIN, vec![orphan(1)])), Certainty::Strong);
    assert_eq!(certainty(judged(&PLAIN, vec![orphan(1), orphan(2)])), Certainty::Strong);
    // It may sleep before it accepts.
    assert_eq!(certainty(judged(&Look { queue: Some(2), ..PLAIN }, vec![orphan(1)])), Certainty::Strong);
    assert_eq!(certainty(judged(&Look { queue: None, ..PLAIN }, vec![orphan(1)])), Certainty::Strong);
}

#[test]
fn a_daemon_may_only_be_busy() {
    let unknown = Look { stayed: false, ..PLAIN };
    assert_eq!(judged(&unknown, vec![orphan(1)]), Judgement::Clean);
    let queued = Look { stayed: false, queue: Some(9), ..PLAIN };
    assert_eq!(judged(&queued, vec![orphan(1)]), Judgement::Clean);
    let stuck = Look { stayed: false, stuck: vec![key(1)], ..PLAIN };
    assert_eq!(certainty(judged(&stuck, vec![orphan(1)])), Certainty::Certain);
}

#[test]
fn a_program_that_cannot_accept_needs_no_history() {
    let unknown = Look { stayed: false, ..PLAIN };
    assert_eq!(certainty(judged(&unknown, vec![execed(1, "sleep")])), Certainty::Certain);
    // A shell that waits for its own child, which got the socket from it, may start a server when that has ended.
    let child = Holder { parent: Some(key(1)), reparented: false, ..execed(2, "sleep") };
    assert_eq!(certainty(judged(&unknown, vec![execed(1, "dash"), child])), Certainty::Strong);
    // Another program might accept, and one that forked from a shell is still that shell.
    assert_eq!(judged(&unknown, vec![execed(1, "nginx")]), Judgement::Clean);
    assert_eq!(judged(&unknown, vec![Holder { unexeced: true, ..execed(1, "dash") }]), Judgement::Clean);
}

#[test]
fn anybody_who_serves_clears_it() {
    let all = [Service::Standard, Service::Activated, Service::Waits, Service::Watched, Service::Connected];
    for service in all {
        let serves = Holder { service: Some(service), ..orphan(2) };
        assert_eq!(judged(&PLAIN, vec![orphan(1), serves.clone()]), Judgement::Clean, "{service:?}");
        // At either look.
        let (busy, idle) = (vec![orphan(1), serves], vec![orphan(1), orphan(2)]);
        assert_eq!(judged_as(&PLAIN, busy, idle), Judgement::Clean, "{service:?}");
        let cat = Holder { service: Some(service), ..execed(1, "cat") };
        assert_eq!(judged(&PLAIN, vec![cat]), Judgement::Clean, "{service:?}");
    }
}

#[test]
fn whoever_has_a_living_parent_moves_or_waits_for_signals_clears_it() {
    let master = Holder { parent: Some(key(50)), reparented: false, ..orphan(2) };
    assert_eq!(judged(&PLAIN, vec![orphan(1), master]), Judgement::Clean);
    let mut moved = orphan(1);
    moved.rest.switches += 1;
    assert_eq!(judged_as(&PLAIN, vec![orphan(1)], vec![moved]), Judgement::Clean);
    let mut told = orphan(1);
    told.rest.caught = SignalSet::of(&[SIGIO]);
    assert_eq!(judged(&PLAIN, vec![told]), Judgement::Clean);
    let mut stopped = execed(1, "sleep");
    stopped.rest.stopped = true;
    assert_eq!(judged(&PLAIN, vec![stopped]), Judgement::Clean);
    assert_eq!(judged(&PLAIN, vec![orphan(2)]), Judgement::Clean);
    let elsewhere = Holder { parent: Some(key(101)), ..orphan(2) };
    assert_eq!(certainty(judged(&PLAIN, vec![orphan(1), orphan(2)])), Certainty::Strong);
    assert_eq!(judged(&PLAIN, vec![orphan(1), elsewhere]), Judgement::Clean);
}

#[test]
fn a_host_that_cannot_all_be_seen_is_undecided() {
    assert_eq!(judged(&Look { complete: false, ..PLAIN }, vec![orphan(1)]), Judgement::Undecided);
}

#[test]
fn an_init_that_hides_makes_it_less_sure() {
    let hidden = |pid| Look { hidden: vec![pid], ..PLAIN };
    let of = |look: &Look, who: Holder| match judged(look, vec![who]) {
        Judgement::Unsafe(verdict) => (verdict.state, verdict.certainty, verdict.facts.notes.len()),
        other => panic!("{other:?}"),
    };
    assert_eq!(of(&hidden(1), orphan(1)), (State::Suspected, Certainty::Heuristic, 1));
    assert_eq!(of(&hidden(1), execed(1, "sleep")), (State::Confirmed, Certainty::Strong, 1));
    let queued = Look { queue: Some(2), ..hidden(1) };
    assert_eq!(of(&queued, orphan(1)), (State::Confirmed, Certainty::Strong, 1));
    assert_eq!(of(&PLAIN, orphan(1)), (State::Confirmed, Certainty::Strong, 0));
    // Any other might be the server.
    assert_eq!(judged(&hidden(7), vec![orphan(1)]), Judgement::Undecided);
}
