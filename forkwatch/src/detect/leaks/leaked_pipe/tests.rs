//! The rule against made-up looks at the host.

use super::*;
use crate::model::{
    leak::{Held, Rest},
    process::Program,
    time::BootTime,
};

const INODE: u64 = 5;

fn key(tgid: u32) -> ProcessKey {
    ProcessKey { tgid, start: BootTime(0) }
}

fn sleeper(tgid: u32, end: End, fds: &[(u32, Access)]) -> Holder {
    Holder {
        process: key(tgid),
        comm: "\x1b[2J".into(),
        uid: None,
        executable: Some("server".to_owned()),
        parent: None,
        reparented: false,
        unexeced: true,
        held: fds.iter().map(|(fd, access)| Held { fd: *fd, access: *access }).collect(),
        rest: Rest {
            threads: 1,
            switches: 3,
            stopped: false,
            caught: SignalSet::EMPTY,
            doing: "read".to_owned(),
            pipe: Some(PipeWait { inode: INODE, end }),
        },
        service: None,
        awaits: false,
        awaited_by: None,
        wrote: None,
    }
}

fn reader(tgid: u32) -> Holder {
    sleeper(tgid, End::Read, &[(3, Access::Read), (4, Access::Write)])
}

fn judged_of(first: Vec<Holder>, second: Vec<Holder>, stuck: &[ProcessKey]) -> Judgement {
    let holders = |holders| Holders {
        at: BootTime(0),
        complete: true,
        hidden: Vec::new(),
        holders,
        elsewhere: false,
        listener: None,
        program: Program::default(),
    };
    judge(&PipeCase {
        process: key(1),
        forker: Some(key(9)),
        inode: INODE,
        waited: Duration::from_secs(90),
        first: &holders(first),
        second: &holders(second),
        stuck,
        program_name: "server",
    })
}

/// The same at both looks.
fn judged(holders: Vec<Holder>) -> Judgement {
    judged_of(holders.clone(), holders, &[])
}

fn certainty(judgement: Judgement) -> Certainty {
    match judgement {
        Judgement::Unsafe(verdict) => verdict.certainty,
        other => panic!("{other:?}"),
    }
}

#[test]
fn readers_that_wait_for_each_other_wait_for_ever() {
    assert_eq!(certainty(judged(vec![reader(1)])), Certainty::Strong);
    assert_eq!(certainty(judged(vec![reader(1), reader(2), reader(3)])), Certainty::Strong);
    // Another that only reads changes nothing, whatever it does.
    let mut idle = sleeper(4, End::Read, &[(3, Access::Read)]);
    idle.rest.pipe = None;
    assert_eq!(certainty(judged(vec![reader(1), idle])), Certainty::Strong);
}

#[test]
fn writers_that_wait_for_each_other_wait_for_ever() {
    let writer = |tgid| sleeper(tgid, End::Write, &[(3, Access::Read), (4, Access::Write)]);
    assert_eq!(certainty(judged(vec![writer(1), writer(2)])), Certainty::Strong);
    let mut handler = writer(2);
    handler.rest.caught = SignalSet::of(&[15]);
    assert_eq!(certainty(judged(vec![writer(1), handler])), Certainty::Strong);
    // Who waits to read the same pipe does not wait to write it.
    assert_eq!(judged(vec![writer(1), reader(2)]), Judgement::Clean);
}

#[test]
fn whoever_could_still_write_clears_it() {
    let mut parent = sleeper(2, End::Read, &[(4, Access::Write)]);
    parent.rest.pipe = None;
    assert_eq!(judged(vec![reader(1), parent.clone()]), Judgement::Clean);
    let mut elsewhere = reader(2);
    elsewhere.rest.pipe = Some(PipeWait { inode: INODE + 1, end: End::Read });
    assert_eq!(judged(vec![reader(1), elsewhere]), Judgement::Clean);
    // Proven stuck for another reason, it will not write either.
    let both = vec![reader(1), parent];
    assert_eq!(certainty(judged_of(both.clone(), both, &[key(2)])), Certainty::Strong);
}

#[test]
fn orphans_at_the_lock_that_the_reader_holds_give_a_suspicion() {
    let orphan = |holder: Holder| Holder { reparented: true, ..holder };
    let at_lock = || {
        let mut holder = orphan(reader(2));
        holder.rest.pipe = None;
        holder.rest.doing = "futex".to_owned();
        holder
    };
    assert_eq!(certainty(judged(vec![orphan(reader(1)), at_lock()])), Certainty::Heuristic);
    // Their parent lives, one is another program by now, has a second thread, or ran meanwhile.
    assert_eq!(judged(vec![reader(1), at_lock()]), Judgement::Clean);
    let mut busy = at_lock();
    busy.rest.threads = 2;
    for other in [Holder { reparented: false, ..at_lock() }, Holder { unexeced: false, ..at_lock() }, busy] {
        assert_eq!(judged(vec![orphan(reader(1)), other]), Judgement::Clean);
    }
    let mut moved = at_lock();
    moved.rest.switches += 1;
    let reader = || orphan(reader(1));
    assert_eq!(judged_of(vec![reader(), at_lock()], vec![reader(), moved], &[]), Judgement::Clean);
}

#[test]
fn handlers_may_wake_a_reader() {
    let with = |signals: &[u32], executable: &str| {
        let mut reader = reader(1);
        reader.rest.caught = SignalSet::of(signals);
        reader.executable = Some(executable.to_owned());
        judged(vec![reader])
    };
    assert_eq!(with(&[15], "server"), Judgement::Clean);
    assert_eq!(with(&[2], "server"), Judgement::Clean);
    assert_eq!(certainty(with(&[2, 32, 33], "python3.11")), Certainty::Strong);
    assert_eq!(with(&[2, 15], "python3.11"), Judgement::Clean);
}

#[test]
fn nothing_is_concluded_from_what_moved_or_may_not() {
    let mut moved = reader(1);
    moved.rest.switches += 1;
    assert_eq!(judged_of(vec![reader(1)], vec![moved], &[]), Judgement::Clean);
    assert_eq!(judged_of(vec![reader(1)], vec![reader(1), reader(2)], &[]), Judgement::Clean);
    let mut stopped = reader(1);
    stopped.rest.stopped = true;
    assert_eq!(judged(vec![stopped]), Judgement::Clean);
    let opened = sleeper(1, End::Read, &[(3, Access::Both)]);
    assert_eq!(judged(vec![opened]), Judgement::Clean);
    // Nobody holds the write end: its end is being told this moment.
    assert_eq!(judged(vec![sleeper(1, End::Read, &[(3, Access::Read)])]), Judgement::Clean);
    assert_eq!(judged(Vec::new()), Judgement::Clean);
}

#[test]
fn hostile_names_are_made_safe() {
    let Judgement::Unsafe(verdict) = judged(vec![reader(1)]) else { panic!() };
    assert_eq!(verdict.facts.leak.unwrap().holders[0].name, "\\x1b[2J");
}
