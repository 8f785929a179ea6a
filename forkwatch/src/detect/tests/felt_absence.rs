//! Threads of the program's own that a child lacks, and where that is felt.

use super::*;
use crate::model::{
    finding::{Certainty, Severity},
    lock::ThreadAt,
    stack::{Frame, Stack},
};

const LOST: HazardId = HazardId::new("lost-threads");

fn frame(function: &str, module: &str, line: Option<u32>) -> Frame {
    Frame { function: Some(function.to_owned()), module: Some(module.to_owned()), line, ..Frame::default() }
}

fn mailer() -> Occupation {
    let at = frame("mail", "/srv/shop.py", Some(6));
    Occupation { tid: 5000, name: Some("mailer".to_owned()), at: Some(at), queue: None }
}

fn thread(tid: u32, native: &str, script: Vec<Frame>) -> ThreadAt {
    ThreadAt {
        thread: SeenThread { tid, comm: "gunicorn".into() },
        stack: Stack { frames: vec![frame(native, "/lib/libc.so.6", None)], missing: None },
        script: Some(Stack { frames: script, missing: None }),
    }
}

fn seen(at: BootTime, handler: Vec<Frame>) -> ThreadsSeen {
    let server = "/venv/lib/python3.11/site-packages/gunicorn/workers/gthread.py";
    let main = thread(CHILD, "epoll_wait", vec![frame("run", server, Some(200))]);
    let request = thread(4251, "sem_wait", [handler, vec![frame("handle", server, Some(300))]].concat());
    ThreadsSeen { at, comms: vec!["gunicorn".into()], ran: 0, moved: Some(0), places: vec![main, request] }
}

fn waits(at: BootTime) -> ThreadsSeen {
    let queue = frame("get", "/usr/lib/python3.11/queue.py", Some(171));
    seen(at, vec![queue, frame("application", "/srv/shop.py", Some(11))])
}

fn works(at: BootTime) -> ThreadsSeen {
    let line = u32::try_from(at.0 / MILLI).unwrap();
    seen(at, vec![frame("application", "/srv/shop.py", Some(line))])
}

fn started_again(at: BootTime) -> ThreadsSeen {
    let mut seen = waits(at);
    seen.places.push(thread(4252, "sem_wait", vec![frame("mail", "/srv/shop.py", Some(6))]));
    seen
}

/// PARENT, with the mailer, forks CHILD, which looks so and falls asleep each second.
fn forked(look: fn(BootTime) -> ThreadsSeen) -> Timeline {
    let mut timeline = Timeline::new();
    timeline.parents.insert(PARENT, parent_seen("gunicorn", &["python"]));
    timeline.occupations.insert(PARENT, vec![mailer()]);
    timeline.threads.insert(CHILD, look);
    timeline.fork(threaded(2));
    for second in 2..60 {
        timeline.at(second * 1000).evidence(&Evidence::FellAsleep { seen: Some(vec![process(CHILD)]) });
    }
    timeline
}

fn lost(timeline: &Timeline) -> Vec<&Finding> {
    timeline.findings().into_iter().filter(|finding| finding.hazard == LOST).collect()
}

#[test]
fn a_request_that_waits_for_a_missing_thread_is_told_after_half_a_minute() {
    let timeline = forked(waits);
    let [finding] = lost(&timeline)[..] else { panic!("{:#?}", timeline.findings()) };
    assert_eq!(
        finding.summary,
        "gunicorn (pid 4242) forked 4250, which lacks the thread mailer that 4242 has (mail (shop.py:6)): thread 4251 \
         (gunicorn) of the child has waited in the same file for 30 s, in application (shop.py:11), probably for what \
         that thread would bring"
    );
    let is = (finding.state, finding.certainty, finding.severity);
    assert_eq!(is, (State::Suspected, Certainty::Heuristic, Severity::Warning));
    assert_eq!(finding.facts.threads.len(), 1);
}

#[test]
fn a_request_that_goes_on_and_a_thread_that_is_there_are_silent() {
    for look in [works as fn(_) -> _, started_again] {
        assert_eq!(lost(&forked(look)).len(), 0);
    }
}

#[test]
fn one_child_costs_a_look_in_ten_seconds() {
    let timeline = forked(works);
    let looks = timeline.asked().iter().filter(|request| matches!(request, Request::Threads { .. })).count();
    assert!((1..=6).contains(&looks), "{looks}");
}

/// PARENT, with a thread that takes from a queue, forks CHILD, in whose copy of it so much lies.
fn piles_up(look: fn(BootTime) -> Vec<Option<u64>>) -> Timeline {
    let mut timeline = Timeline::new();
    let mut parent = parent_seen("gunicorn", &["python"]);
    parent.program.cmdline = vec!["python3".to_owned(), "app.py".to_owned()];
    timeline.parents.insert(PARENT, parent);
    let at = frame("QueueListener._monitor", "/usr/lib/python3.11/logging/handlers.py", Some(1587));
    let listener = Occupation {
        tid: 5000,
        name: Some("Thread-1 (_monitor)".to_owned()),
        at: Some(at),
        queue: Some(0x7f00_0000_1000),
    };
    timeline.occupations.insert(PARENT, vec![listener]);
    timeline.backlogs.insert(CHILD, look);
    timeline.fork(threaded(2)).at(120_000);
    timeline
}

#[test]
fn records_that_pile_up_without_their_listener_are_told() {
    let timeline = piles_up(|now| vec![Some(now.0 / MILLI / 100)]);
    let [finding] = lost(&timeline)[..] else { panic!("{:#?}", timeline.findings()) };
    assert!(
        finding.summary.contains(
            "forked 4250, which lacks the thread Thread-1 (_monitor) that 4242 has (QueueListener._monitor \
             (handlers.py:1587)): what that takes from a queue piles up in the child. It has put 150 items there within \
             15 s"
        ),
        "{}",
        finding.summary
    );
    let is = (finding.state, finding.certainty, finding.severity);
    assert_eq!(is, (State::Suspected, Certainty::Strong, Severity::Warning));
    assert!(finding.remedy.text.contains("QueueListener"), "{}", finding.remedy.text);
}

#[test]
fn queues_that_are_emptied_or_not_used_are_silent_and_cost_ever_fewer_looks() {
    for look in
        [|_| vec![Some(0)], |_| vec![Some(70)], |now: BootTime| vec![Some(now.0 / MILLI / 1000 % 7 * 20)]]
    {
        assert_eq!(lost(&piles_up(look)).len(), 0);
    }
    let timeline = piles_up(|_| vec![Some(0)]);
    let looks = timeline.asked().iter().filter(|request| matches!(request, Request::Backlog { .. })).count();
    assert!(looks <= 6, "{looks}");
    assert_eq!(lost(&piles_up(|_| vec![None])).len(), 0);
}
