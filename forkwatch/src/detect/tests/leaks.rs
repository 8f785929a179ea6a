//! Descriptors that a fork left behind.

use std::collections::HashSet;

use super::*;
use crate::model::{
    finding::Certainty,
    leak::{Access, End, Held, Holder, Listener, PipeWait, Rest},
    resolution::Resolution,
};

pub(super) const PIPE: u64 = 77;
pub(super) const LISTENER: u64 = 88;

pub(super) fn rest(switches: u64, doing: &str, pipe: Option<PipeWait>) -> Rest {
    Rest { threads: 1, switches, stopped: false, caught: SignalSet::EMPTY, doing: doing.to_owned(), pipe }
}

fn reading() -> Rest {
    rest(5, "read", Some(PipeWait { inode: PIPE, end: End::Read }))
}

fn descriptors(at: BootTime, rest: Rest) -> Descriptors {
    let parent = Some(process(PARENT));
    Descriptors {
        at,
        parent,
        reparented: false,
        rest,
        holds_other_end: true,
        forker_holds: false,
        kept: Vec::new(),
        fed: Vec::new(),
        forker_awaits: None,
        listeners: Vec::new(),
    }
}

/// Sleeps in a read of a pipe whose write end it holds.
pub(super) fn blocked(at: BootTime) -> Descriptors {
    descriptors(at, reading())
}

/// The same, having run now and then.
pub(super) fn moving(at: BootTime) -> Descriptors {
    descriptors(at, Rest { switches: at.0, ..reading() })
}

/// Lives beside its parent for 40 seconds, and then sleeps without it.
fn orphaned(at: BootTime) -> Descriptors {
    let reparented = at > ms(40_000);
    let listeners = if reparented { vec![LISTENER] } else { Vec::new() };
    Descriptors { reparented, listeners, ..descriptors(at, rest(9, "pause", None)) }
}

/// Is an orphan from the start.
pub(super) fn daemon(at: BootTime) -> Descriptors {
    Descriptors { reparented: true, listeners: vec![LISTENER], ..descriptors(at, rest(9, "pause", None)) }
}

pub(super) fn holder(tgid: u32, fds: &[(u32, Access)], rest: Rest) -> Holder {
    Holder {
        process: process(tgid),
        comm: "worker".into(),
        uid: None,
        executable: Some("server".to_owned()),
        parent: Some(process(1)),
        reparented: true,
        unexeced: true,
        held: fds.iter().map(|(fd, access)| Held { fd: *fd, access: *access }).collect(),
        rest,
        service: None,
        awaits: false,
        awaited_by: None,
        wrote: None,
    }
}

pub(super) fn holders(holders: Vec<Holder>) -> Holders {
    Holders {
        at: BootTime(0),
        complete: true,
        hidden: Vec::new(),
        holders,
        elsewhere: false,
        listener: None,
        program: program("gunicorn"),
    }
}

pub(super) fn both_ends() -> Holder {
    holder(CHILD, &[(3, Access::Read), (4, Access::Write)], reading())
}

/// A child that sleeps so, and everybody who holds the pipe.
fn pipe_timeline(seen: fn(BootTime) -> Descriptors, who: Vec<Holder>) -> Timeline {
    let mut timeline = Timeline::new();
    timeline.descriptors.insert(CHILD, seen);
    timeline.holders.insert(Object::Pipe(PIPE), holders(who));
    timeline.fork(plain());
    timeline
}

fn listener_timeline(seen: fn(BootTime) -> Descriptors) -> Timeline {
    let mut timeline = Timeline::new();
    timeline.descriptors.insert(CHILD, seen);
    let child = holder(CHILD, &[(3, Access::Both)], rest(9, "pause", None));
    let listener = Some(Listener { address: "127.0.0.1:8000".to_owned(), queue: Some(0) });
    timeline.holders.insert(Object::Socket(LISTENER), Holders { listener, ..holders(vec![child]) });
    timeline.fork(plain());
    timeline
}

pub(super) fn searches(timeline: &Timeline) -> usize {
    timeline.asked().iter().filter(|request| matches!(request, Request::Holders { .. })).count()
}

#[test]
fn a_waiting_child_that_cannot_be_looked_at_is_unknown_and_has_not_ended() {
    let mut timeline = pipe_timeline(blocked, vec![both_ends()]);
    timeline.at(121_000);
    let unseen = |lives| Evidence::Descriptors { process: process(CHILD), seen: None, lives };
    timeline.evidence(&unseen(true)).evidence(&unseen(true));
    timeline.at(400_000);
    let states =
        |timeline: &Timeline| timeline.findings().iter().map(|found| found.state).collect::<Vec<_>>();
    assert_eq!(states(&timeline), [State::Confirmed, State::Unknown, State::Confirmed]);
    timeline.evidence(&unseen(true)).evidence(&unseen(false));
    assert_eq!(states(&timeline)[3..], [State::Unknown, State::Resolved(Resolution::Ended)]);
}

#[test]
fn a_reader_that_alone_holds_the_write_end_is_reported_after_two_searches() {
    let mut timeline = pipe_timeline(blocked, vec![both_ends()]);
    timeline.at(5900);
    assert_eq!((searches(&timeline), timeline.findings().len()), (1, 0));
    timeline.at(6100);
    assert_eq!(searches(&timeline), 2);
    let finding = timeline.only_finding();
    assert_eq!(
        finding.summary,
        "gunicorn (pid 4242) forked 4250, which waits until a signal ends it: it reads from a pipe whose write end nobody holds but \
         itself, so that neither data nor their end can come"
    );
    assert_eq!((finding.hazard, finding.certainty), (HazardId::new("leaked-pipe"), Certainty::Strong));
    assert_eq!((finding.parent, finding.child), (process(PARENT), process(CHILD)));
    let leak = finding.facts.leak.as_ref().unwrap();
    assert_eq!((leak.inode, leak.holders.len(), leak.holders[0].fd), (PIPE, 1, 4));
    timeline.at(3_600_000);
    assert_eq!((searches(&timeline), timeline.findings().len()), (2, 1));
}

#[test]
fn a_reader_that_runs_now_and_then_is_never_searched_for() {
    let mut timeline = pipe_timeline(moving, vec![both_ends()]);
    timeline.at(3_600_000);
    assert_eq!((searches(&timeline), timeline.findings().len()), (0, 0));
}

#[test]
fn where_another_could_write_the_host_is_searched_ever_less_often() {
    let idle = rest(3, "poll", None);
    let mut timeline = pipe_timeline(blocked, vec![both_ends(), holder(PARENT, &[(5, Access::Write)], idle)]);
    timeline.at(3_600_000);
    assert_eq!(timeline.findings().len(), 0);
    assert!((5..=9).contains(&searches(&timeline)), "{}", searches(&timeline));
    // The writer closes its end at last.
    timeline.holders.insert(Object::Pipe(PIPE), holders(vec![both_ends()]));
    timeline.at(7_200_000);
    assert_eq!(timeline.only_finding().hazard, HazardId::new("leaked-pipe"));
}

#[test]
fn a_holder_that_moves_between_the_searches_clears_the_suspicion() {
    let other = |switches| holder(4300, &[(4, Access::Write)], Rest { switches, ..reading() });
    let mut timeline = pipe_timeline(blocked, vec![both_ends(), other(7)]);
    timeline.at(5000);
    assert_eq!(searches(&timeline), 1);
    timeline.holders.insert(Object::Pipe(PIPE), holders(vec![both_ends(), other(8)]));
    timeline.at(7000);
    assert_eq!((searches(&timeline), timeline.findings().len()), (2, 0));
    // It stays where it is from now on: two more searches.
    timeline.at(300_000);
    assert_eq!(searches(&timeline), 4);
    assert!(timeline.only_finding().summary.contains("itself and another that waits likewise"));
}

#[test]
fn what_cannot_all_be_seen_is_undecided_and_told_once() {
    let mut timeline = pipe_timeline(blocked, Vec::new());
    timeline.holders.insert(Object::Pipe(PIPE), Holders { hidden: vec![17], ..holders(vec![both_ends()]) });
    timeline.at(3_600_000);
    assert_eq!(timeline.findings().len(), 0);
    assert_eq!(timeline.count(|output| matches!(output, Output::Undecided { .. })), 1);
}

#[test]
fn a_finding_ends_when_its_child_runs_and_when_it_ends() {
    let mut timeline = pipe_timeline(blocked, vec![both_ends()]);
    timeline.at(130_000);
    timeline.descriptors.insert(CHILD, moving);
    timeline.at(190_000);
    let cleared = State::Resolved(Resolution::Cleared);
    assert_eq!(
        timeline.states(),
        [(HazardId::new("leaked-pipe"), State::Confirmed, 1), (HazardId::new("leaked-pipe"), cleared, 1)]
    );

    let mut timeline = pipe_timeline(blocked, vec![both_ends()]);
    timeline.at(130_000).kill(CHILD).at(200_000);
    let killed = State::Resolved(Resolution::Killed);
    assert_eq!(timeline.states().last(), Some(&(HazardId::new("leaked-pipe"), killed, 1)));
    assert_eq!(timeline.core.remembered(LEAKS), 0);

    let mut timeline = pipe_timeline(blocked, vec![both_ends()]);
    timeline.at(130_000);
    timeline.descriptors.clear();
    timeline.at(200_000);
    let ended = State::Resolved(Resolution::Ended);
    assert_eq!(timeline.states().last(), Some(&(HazardId::new("leaked-pipe"), ended, 1)));
    assert_eq!(timeline.core.remembered(LEAKS), 0);
}

#[test]
fn a_listener_is_reported_once_its_server_has_ended() {
    let mut timeline = listener_timeline(orphaned);
    timeline.at(152_000);
    assert_eq!((searches(&timeline), timeline.findings().len()), (1, 0));
    timeline.at(154_000);
    let finding = timeline.only_finding();
    assert_eq!((finding.hazard, finding.certainty), (HazardId::new("pinned-listener"), Certainty::Strong));
    assert_eq!(
        finding.summary,
        "4250, a child of gunicorn (pid 4242) that has ended, keeps 127.0.0.1:8000 listening, and nobody accepts: it \
         stays taken"
    );
}

#[test]
fn a_daemon_whose_parent_was_gone_at_once_is_silent() {
    let mut timeline = listener_timeline(daemon);
    timeline.at(3_600_000);
    assert!(searches(&timeline) > 1);
    assert_eq!(timeline.findings().len(), 0);
}

#[test]
fn many_suspects_share_the_searches() {
    let mut timeline = Timeline::new();
    for child in 5000..5010 {
        timeline.descriptors.insert(child, blocked);
        timeline.fork(fork_of(PARENT, child));
    }
    timeline.at(4000);
    assert_eq!(searches(&timeline), 1);
    timeline.at(4450);
    assert_eq!(searches(&timeline), 2);
    timeline.at(60_000);
    let asked: HashSet<u32> = timeline
        .asked()
        .iter()
        .filter_map(|request| match request {
            Request::Holders { process, .. } => Some(process.tgid),
            _ => None,
        })
        .collect();
    assert_eq!(asked.len(), 10);
}

#[test]
fn questions_without_an_answer_are_given_up_here_too() {
    let mut timeline = pipe_timeline(blocked, vec![both_ends()]);
    timeline.at(2000);
    timeline.silent = true;
    timeline.at(1_000_000);
    assert_eq!(timeline.core.remembered(LEAKS), 0);
    assert_eq!(timeline.count(|output| *output == Output::Dropped(crate::core::Dropped::Unanswered)), 1);
}

impl Timeline {
    /// It is told, now and from now on, that these fell asleep.
    fn fell_asleep(&mut self, children: &[u32]) -> &mut Self {
        let seen = Some(children.iter().copied().map(process).collect());
        self.evidence(&Evidence::FellAsleep { seen })
    }

    fn looks(&self) -> usize {
        self.count(|output| matches!(output, Output::Ask(Request::Descriptors { .. })))
    }
}

/// Sleeps in a read of a pipe whose write end its parent holds too.
fn idle(at: BootTime) -> Descriptors {
    Descriptors { forker_holds: true, ..blocked(at) }
}

/// The same until its parent ends.
fn left(at: BootTime) -> Descriptors {
    let reparented = at > ms(40_000);
    Descriptors { reparented, forker_holds: !reparented, ..blocked(at) }
}

#[test]
fn children_at_rest_are_not_looked_at_by_the_clock_but_for_one() {
    let mut timeline = Timeline::new();
    let children: Vec<u32> = (5000..5100).collect();
    for child in &children {
        timeline.descriptors.insert(*child, |at| descriptors(at, rest(9, "pause", None)));
        timeline.fork(fork_of(PARENT, *child));
    }
    timeline.at(2000).fell_asleep(&children);
    timeline.at(30_000);
    assert_eq!(timeline.looks(), 100, "each once");
    timeline.at(3_600_000);
    assert!((120..140).contains(&timeline.looks()), "{}", timeline.looks());
    // Where this is told no more, the clock does it again.
    timeline.evidence(&Evidence::FellAsleep { seen: None }).at(3_800_000);
    assert!(timeline.looks() > 220, "{}", timeline.looks());
}

#[test]
fn who_runs_now_and_then_is_looked_at_once_it_rests() {
    let mut timeline = pipe_timeline(blocked, vec![both_ends()]);
    timeline.at(1500);
    for second in 2..60 {
        timeline.at(second * 1000).fell_asleep(&[CHILD]);
    }
    assert_eq!((timeline.looks(), timeline.findings().len()), (0, 0));
    timeline.at(69_000);
    assert_eq!(timeline.only_finding().hazard, HazardId::new("leaked-pipe"));
}

#[test]
fn an_idle_family_costs_no_search_and_is_found_soon_after_its_parent_ends() {
    let mut timeline = Timeline::new();
    let children: Vec<u32> = (5000..5004).collect();
    for child in &children {
        timeline.descriptors.insert(*child, left);
        timeline.fork(fork_of(PARENT, *child));
    }
    let both = |child: &u32| Holder { process: process(*child), ..both_ends() };
    let all = || children.iter().map(both);
    let parent = holder(PARENT, &[(5, Access::Write)], rest(3, "poll", None));
    timeline.holders.insert(Object::Pipe(PIPE), holders(all().chain([parent]).collect()));
    timeline.at(2000).fell_asleep(&children);
    timeline.at(29_000);
    assert_eq!(searches(&timeline), 0);
    timeline.at(40_000).holders.insert(Object::Pipe(PIPE), holders(all().collect()));
    assert!(searches(&timeline) <= 4, "one each, to be sure: {}", searches(&timeline));
    timeline.at(50_000);
    let found: HashSet<u32> = timeline.findings().iter().map(|found| found.child.tgid).collect();
    assert!(!found.is_empty());
    assert!(timeline.findings().iter().all(|found| found.hazard == HazardId::new("leaked-pipe")));
}

#[test]
fn a_parent_that_closes_its_end_at_last_is_noticed_soon() {
    let mut timeline = pipe_timeline(idle, vec![both_ends()]);
    timeline.at(2000).fell_asleep(&[CHILD]);
    timeline.at(29_000);
    assert_eq!(searches(&timeline), 0);
    timeline.descriptors.insert(CHILD, blocked);
    timeline.at(39_000);
    assert_eq!(timeline.only_finding().hazard, HazardId::new("leaked-pipe"));
}

#[test]
fn where_a_descriptor_may_be_on_its_way_that_is_said() {
    let mut timeline = pipe_timeline(blocked, Vec::new());
    timeline.holders.insert(Object::Pipe(PIPE), Holders { elsewhere: true, ..holders(vec![both_ends()]) });
    timeline.at(10_000);
    let notes = &timeline.only_finding().facts.notes;
    assert!(notes.iter().any(|note| note.contains("on its way through a Unix socket")), "{notes:?}");
}

/// A child at rest that could write to a pipe and has written nothing.
fn keeps(at: BootTime) -> Descriptors {
    Descriptors { holds_other_end: false, kept: vec![PIPE], ..descriptors(at, rest(9, "pause", None)) }
}

#[test]
fn a_pipe_that_is_kept_open_for_nothing_is_told_once_its_writer_has_ended() {
    let reads = || {
        let reader = holder(PARENT, &[(5, Access::Read)], rest(3, "read", None));
        Holder { awaits: true, wrote: Some(90), ..reader }
    };
    let keeper = || Holder { wrote: Some(0), ..holder(CHILD, &[(6, Access::Write)], rest(9, "pause", None)) };
    let writer = Holder { wrote: Some(5), ..holder(4260, &[(6, Access::Write)], rest(1, "write", None)) };
    let mut timeline = Timeline::new();
    timeline.descriptors.insert(CHILD, keeps);
    timeline.holders.insert(Object::Pipe(PIPE), holders(vec![reads(), writer, keeper()]));
    timeline.fork(plain()).fork(fork_of(PARENT, 4260)).at(60_000);
    assert_eq!((searches(&timeline), timeline.findings().len()), (1, 0));
    timeline.exit(4260).holders.insert(Object::Pipe(PIPE), holders(vec![reads(), keeper()]));
    timeline.at(70_000);
    let finding = timeline.only_finding();
    assert_eq!((finding.hazard, finding.certainty), (HazardId::new("leaked-pipe"), Certainty::Heuristic));
    assert_eq!(
        (finding.parent, finding.child, finding.state),
        (process(PARENT), process(CHILD), State::Suspected)
    );
    timeline.kill(CHILD).at(80_000);
    assert_eq!(
        timeline.findings().last().map(|found| found.state),
        Some(State::Resolved(Resolution::Killed))
    );
    assert_eq!(timeline.core.remembered(KEPT_PIPES), 0);
}

/// A child at rest that could write to the same pipe, and has written something.
fn feeds(at: BootTime) -> Descriptors {
    Descriptors { holds_other_end: false, fed: vec![PIPE], ..descriptors(at, rest(9, "read", None)) }
}

#[test]
fn a_writer_that_ended_before_anybody_saw_who_holds_the_pipe_is_remembered() {
    let run = |of_writer: fn(BootTime) -> Descriptors| {
        let reader = holder(PARENT, &[(5, Access::Read)], rest(3, "read", None));
        let reader = Holder { awaits: true, wrote: Some(90), ..reader };
        let keeper =
            Holder { wrote: Some(0), ..holder(CHILD, &[(6, Access::Write)], rest(9, "pause", None)) };
        let mut timeline = Timeline::new();
        timeline.descriptors.insert(4260, of_writer);
        timeline.descriptors.insert(CHILD, keeps);
        timeline.holders.insert(Object::Pipe(PIPE), holders(vec![reader, keeper]));
        timeline.fork(fork_of(PARENT, 4260)).fork(plain()).at(10_000);
        assert_eq!(timeline.findings().len(), 0);
        timeline.exit(4260).at(20_000);
        timeline.findings().len()
    };
    assert_eq!(run(feeds), 1);
    // It has written nothing, as far as anybody saw.
    assert_eq!(run(|at| descriptors(at, rest(9, "read", None))), 0);
}

#[test]
fn workers_that_have_not_written_yet_are_left_alone() {
    let mut timeline = Timeline::new();
    timeline.descriptors.insert(CHILD, keeps);
    let reader = Holder { awaits: true, ..holder(PARENT, &[(5, Access::Read)], rest(3, "read", None)) };
    let idle = Holder { wrote: Some(0), ..holder(CHILD, &[(6, Access::Write)], rest(9, "pause", None)) };
    timeline.holders.insert(Object::Pipe(PIPE), holders(vec![reader, idle]));
    timeline.fork(plain()).fork(fork_of(PARENT, 4260)).at(60_000);
    timeline.kill(4260).at(3_600_000);
    assert_eq!((searches(&timeline), timeline.findings().len()), (3, 0));
}

/// A daemon whose listener nobody accepts at, with this many connections waiting.
fn daemon_timeline(threads: u32, queue: u32) -> Timeline {
    let mut timeline = listener_timeline(daemon);
    if let Some(seen) = timeline.holders.get_mut(&Object::Socket(LISTENER)) {
        seen.listener = Some(Listener { address: "127.0.0.1:8000".to_owned(), queue: Some(queue) });
    }
    timeline.exit(CHILD);
    timeline.outputs.clear();
    timeline.fork(threaded(threads));
    timeline
}

fn told(timeline: &Timeline, hazard: &str) -> Vec<(Certainty, State)> {
    let of = timeline.findings().into_iter().filter(|found| found.hazard.name() == hazard);
    of.map(|found| (found.certainty, found.state)).collect()
}

#[test]
fn a_daemon_whose_acceptor_stayed_behind_is_told_while_clients_wait() {
    let mut timeline = daemon_timeline(2, 3);
    timeline.at(100_000);
    assert_eq!(told(&timeline, "nobody-accepts"), [(Certainty::Strong, State::Confirmed)]);
    let found =
        timeline.findings().into_iter().find(|found| found.hazard.name() == "nobody-accepts").unwrap();
    assert_eq!(
        found.summary,
        "gunicorn (pid 4250), forked beside other threads, listens at 127.0.0.1:8000, and nobody accepts: 3 connections \
         wait there, and a thread that accepted before the fork has not come along"
    );
    timeline.kill(CHILD);
    let last = told(&timeline, "nobody-accepts").last().map(|(_, state)| *state);
    assert_eq!(last, Some(State::Resolved(Resolution::Killed)));
    assert_eq!(told(&timeline, "pinned-listener"), []);
}

#[test]
fn daemons_without_clients_or_without_threads_before_the_fork_are_silent() {
    for (threads, queue) in [(2, 0), (1, 3)] {
        let mut timeline = daemon_timeline(threads, queue);
        timeline.at(3_600_000);
        assert_eq!(told(&timeline, "nobody-accepts"), [], "{threads} threads, {queue} waiting");
    }
    // It runs now and then.
    let mut timeline = daemon_timeline(2, 3);
    timeline.at(40_000);
    if let Some(seen) = timeline.holders.get_mut(&Object::Socket(LISTENER)) {
        seen.holders[0].rest.switches += 1;
    }
    timeline.at(64_500);
    assert_eq!(told(&timeline, "nobody-accepts"), []);
    // What init may hold too is a suspicion.
    let mut timeline = daemon_timeline(2, 3);
    if let Some(seen) = timeline.holders.get_mut(&Object::Socket(LISTENER)) {
        seen.hidden.push(1);
    }
    timeline.at(100_000);
    assert_eq!(told(&timeline, "nobody-accepts"), [(Certainty::Heuristic, State::Suspected)]);
}
