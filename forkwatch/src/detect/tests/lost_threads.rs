//! Background threads that a child lacks.

use super::*;
use crate::model::{
    finding::{Certainty, Severity},
    lock::ThreadAt,
    resolution::Resolution,
    stack::{Frame, Stack},
};

const LOST: HazardId = HazardId::new("lost-threads");

fn seen(at: BootTime, comms: &[&str], percent: u64) -> ThreadsSeen {
    ThreadsSeen {
        at,
        comms: comms.iter().map(|comm| (*comm).into()).collect(),
        ran: at.0 / 100 * percent,
        moved: Some(0),
        places: Vec::new(),
    }
}

fn busy_alone(at: BootTime) -> ThreadsSeen {
    seen(at, &["python"], 5)
}

fn idle_alone(at: BootTime) -> ThreadsSeen {
    seen(at, &["python"], 0)
}

/// PARENT, with these threads besides, forks CHILD, which looks so.
fn forked(threads: &[&str], look: fn(BootTime) -> ThreadsSeen) -> Timeline {
    let mut timeline = Timeline::new();
    timeline.parents.insert(PARENT, parent_seen("gunicorn", threads));
    timeline.threads.insert(CHILD, look);
    timeline.fork(threaded(2));
    timeline
}

/// The findings of this hazard: each of these forks is also one beside threads.
fn lost(timeline: &Timeline) -> Vec<&Finding> {
    timeline.findings().into_iter().filter(|finding| finding.hazard == LOST).collect()
}

fn looks(timeline: &Timeline) -> usize {
    timeline.asked().iter().filter(|request| matches!(request, Request::Threads { .. })).count()
}

#[test]
fn a_child_that_works_without_its_exporter_is_reported() {
    let mut timeline = forked(&["OtelPeriodicExp", "NR-Harvest-Thre", "python"], busy_alone);
    timeline.at(89_999);
    assert_eq!(lost(&timeline).len(), 0);
    timeline.at(90_000);
    let [finding] = lost(&timeline)[..] else { panic!("{:#?}", timeline.findings()) };
    assert_eq!(
        finding.summary,
        "gunicorn (pid 4242) forked 4250, which works without the background threads that OpenTelemetry had at the \
         fork (OtelPeriodicExp, NR-Harvest-Thre): the child exports no metrics"
    );
    assert_eq!((finding.certainty, finding.severity), (Certainty::Strong, Severity::Warning));
    assert_eq!((finding.state, finding.child), (State::Confirmed, process(CHILD)));
    assert_eq!((finding.facts.thread_count, finding.facts.age), (Some(2), Some(90_000 * MILLI)));
    timeline.at(100_000).exit(CHILD);
    assert_eq!(lost(&timeline)[1].state, State::Resolved(Resolution::Exited));
    assert_eq!(looks(&timeline), 3);
}

#[test]
fn threads_that_serve_only_their_callers_are_information() {
    for comm in ["rdk:main", "event_engine", "tokio-rt-worker", "gdbus"] {
        let mut timeline = forked(&[comm], busy_alone);
        timeline.at(100_000);
        let [finding] = lost(&timeline)[..] else { panic!("{comm}") };
        assert_eq!((finding.certainty, finding.severity), (Certainty::Heuristic, Severity::Info));
        assert!(finding.summary.ends_with(", if it uses them at all"), "{}", finding.summary);
    }
}

#[test]
fn what_the_child_has_is_not_lost() {
    for (threads, look) in [
        // A fork handler started it again.
        (&["OtelPeriodicExp"][..], (|at| seen(at, &["python", "OtelPeriodicExp"], 50)) as fn(_) -> _),
        // It starts with the first work, which is seen at 60 s.
        (&["rdk:main"], |at| {
            seen(at, if at < ms(70_000) { &["python"] } else { &["python", "rdk:main"] }, 50)
        }),
        // Threads of no known library, or of one that starts them when it needs them.
        (
            &["python", "flush", "OtelBatchSpanRe", "sentry-sdk.Back", "pymongo_server_", "jemalloc_bg_thd"],
            busy_alone,
        ),
        // Gone in the parent too after 100 ms.
        (&[], busy_alone),
    ] {
        let mut timeline = forked(threads, look);
        timeline.at(9_000_000);
        assert_eq!(lost(&timeline).len(), 0, "{threads:?}");
    }
}

#[test]
fn a_child_that_does_nothing_is_forgotten_after_an_hour() {
    for look in [
        idle_alone as fn(_) -> _,
        // One heartbeat a second.
        |at: BootTime| ThreadsSeen { ran: at.0 / 10_000, moved: Some(at.0 / MILLI / 1000), ..idle_alone(at) },
        |at| ThreadsSeen { moved: None, ..idle_alone(at) },
    ] {
        let mut timeline = forked(&["OtelPeriodicExp"], look);
        timeline.at(9_000_000);
        assert_eq!((lost(&timeline).len(), looks(&timeline)), (0, 8));
        assert_eq!(timeline.core.remembered(LOST_THREADS), 0);
    }
}

#[test]
fn reading_and_writing_is_work_too() {
    let mut timeline =
        forked(&["OtelPeriodicExp"], |at| ThreadsSeen { moved: Some(at.0 / 10_000), ..idle_alone(at) });
    timeline.at(9_000_000);
    assert_eq!(lost(&timeline).len(), 1);
}

#[test]
fn work_that_comes_late_is_seen() {
    let look = |at: BootTime| ThreadsSeen { ran: at.0.saturating_sub(600_000 * MILLI), ..idle_alone(at) };
    let mut timeline = forked(&["OtelPeriodicExp"], look);
    timeline.at(9_000_000);
    assert_eq!(lost(&timeline).len(), 1);
}

#[test]
fn a_child_that_execs_or_ends_or_cannot_be_seen_is_silent() {
    let mut timeline = forked(&["OtelPeriodicExp"], busy_alone);
    timeline.at(29_000).exec(exec_of(CHILD, PARENT, &[])).at(9_000_000);
    assert_eq!((lost(&timeline).len(), looks(&timeline)), (0, 0));

    let mut timeline = forked(&["OtelPeriodicExp"], busy_alone);
    timeline.at(70_000).exit(CHILD).at(9_000_000);
    assert_eq!((lost(&timeline).len(), looks(&timeline)), (0, 2));

    let mut timeline = forked(&["OtelPeriodicExp"], busy_alone);
    timeline.threads.clear();
    timeline.at(9_000_000);
    assert_eq!((lost(&timeline).len(), looks(&timeline)), (0, 1));

    let mut timeline = forked(&["OtelPeriodicExp"], busy_alone);
    timeline.at(2000).silent = true;
    timeline.at(9_000_000);
    assert_eq!((lost(&timeline).len(), looks(&timeline)), (0, 3));
}

#[test]
fn a_program_is_told_once_a_day_about_the_same_threads() {
    let mut timeline = forked(&["OtelPeriodicExp"], busy_alone);
    timeline.threads.insert(5000, busy_alone);
    timeline.fork(Fork { child: process(5000), ..threaded(2) }).at(200_000);
    assert_eq!(lost(&timeline).len(), 1);
    let before = looks(&timeline);
    timeline.exit(5000).fork(Fork { child: process(5000), ..threaded(2) }).at(400_000);
    assert_eq!(looks(&timeline), before, "what would be no news is not looked at");

    // Another library's thread is news.
    timeline.parents.insert(PARENT, parent_seen("gunicorn", &["OtelPeriodicExp", "NR-Harvest-Thre"]));
    timeline.exit(5000).fork(Fork { child: process(5000), ..threaded(2) }).at(600_000);
    let threads: Vec<_> = lost(&timeline).iter().map(|finding| finding.facts.threads.len()).collect();
    assert_eq!(threads, [1, 1]);
}

#[test]
fn a_suppress_rule_may_name_the_thread() {
    let rule = "hazard = \"lost-threads\"\nthread = \"rdk:*\"\nreason = \"the workers never use Kafka\"";
    let suppress = vec![toml::from_str(rule).unwrap()];
    let mut timeline = Timeline::with(Settings { suppress, ..Settings::default() });
    timeline.parents.insert(PARENT, parent_seen("gunicorn", &["rdk:main", "rdk:broker1"]));
    timeline.threads.insert(CHILD, busy_alone);
    timeline.fork(threaded(3)).at(9_000_000);
    assert_eq!(lost(&timeline).len(), 0);
    let suppressed = |output: &Output| matches!(output, Output::Suppressed { hazard: LOST, .. });
    assert_eq!(timeline.count(suppressed), 1);
}

fn calls(calls: &[&str], file: &str) -> Stack {
    let frame = |function: &&str| Frame {
        function: Some((*function).to_owned()),
        module: Some(file.to_owned()),
        ..Frame::default()
    };
    Stack { frames: calls.iter().map(frame).collect(), missing: None }
}

/// A child that does nothing but sleep in these calls, below a line of its script if it has one.
fn asleep_in(at: BootTime, native: &[&str], script: Option<Stack>) -> ThreadsSeen {
    let thread = SeenThread { tid: CHILD, comm: "python".into() };
    let places = vec![ThreadAt { thread, stack: calls(native, "/srv/client"), script }];
    ThreadsSeen { places, ..idle_alone(at) }
}

fn flushes(at: BootTime) -> ThreadsSeen {
    let native = [
        "pthread_cond_timedwait",
        "cnd_timedwait_ms",
        "rd_kafka_q_serve",
        "rd_kafka_flush",
        "Producer_flush",
    ];
    asleep_in(at, &native, Some(calls(&["run", "_bootstrap"], "/srv/app.py")))
}

#[test]
fn a_child_that_waits_for_a_missing_thread_in_short_waits_is_reported() {
    let mut timeline = forked(&["rdk:main", "rdk:broker1"], flushes);
    timeline.at(34_999);
    assert_eq!(lost(&timeline).len(), 0, "seen once");
    timeline.at(35_000);
    let [finding] = lost(&timeline)[..] else { panic!("{:#?}", timeline.findings()) };
    assert_eq!(
        finding.summary,
        "gunicorn (pid 4242) forked 4250, which waits for the background threads that librdkafka had at the fork \
         (rdk:main, rdk:broker1): the child sends and fetches nothing through Kafka clients made before the fork; it is \
         in rd_kafka_flush, called by run (app.py)"
    );
    assert_eq!(
        (finding.state, finding.certainty, finding.severity),
        (State::Confirmed, Certainty::Strong, Severity::Warning)
    );
    assert_eq!(
        finding.facts.notes,
        ["thread 4250 (python) was seen in rd_kafka_flush twice, called by run (app.py)"]
    );
    timeline.at(500_000);
    assert_eq!(lost(&timeline).len(), 1, "once");
}

/// Whose functions have no names, as where its symbols are stripped.
fn polls_a_library(at: BootTime) -> ThreadsSeen {
    let frame = |module: &str| Frame { module: Some(module.to_owned()), ..Frame::default() };
    let frames = [frame("/usr/lib/libc.so.6"), frame("/app/confluent_kafka.libs/librdkafka-0cb94173.so.1")];
    let mut seen = asleep_in(at, &[], Some(calls(&["poll"], "/srv/app.py")));
    seen.places[0].stack = Stack { frames: frames.to_vec(), missing: Some("no further".to_owned()) };
    seen
}

#[test]
fn a_library_without_symbols_is_known_by_its_file() {
    let mut timeline = forked(&["rdk:main"], polls_a_library);
    timeline.at(35_000);
    let [finding] = lost(&timeline)[..] else { panic!("{:#?}", timeline.findings()) };
    assert!(
        finding.summary.ends_with("; it is in librdkafka, called by poll (app.py)"),
        "{}",
        finding.summary
    );
}

#[test]
fn who_falls_asleep_is_looked_at_sooner_but_not_all_the_time() {
    let mut timeline = forked(&["rdk:main"], flushes);
    let asleep = Evidence::FellAsleep { seen: Some(vec![process(CHILD)]) };
    timeline.at(5_000).evidence(&asleep);
    assert_eq!(looks(&timeline), 0, "a child may have begun a moment ago");
    timeline.at(11_000).evidence(&asleep);
    timeline.at(12_000).evidence(&asleep);
    assert_eq!(looks(&timeline), 1);
    timeline.at(16_000);
    assert_eq!((lost(&timeline).len(), looks(&timeline)), (1, 2));

    let mut timeline = forked(&["rdk:main"], idle_alone);
    for second in 11..29 {
        timeline.at(second * 1000).evidence(&asleep);
    }
    assert_eq!(looks(&timeline), 2, "every ten seconds");
    // What is seen only by its work is not looked at for it.
    let mut timeline = forked(&["OtelPeriodicExp"], idle_alone);
    timeline.at(12_000).evidence(&asleep);
    assert_eq!(looks(&timeline), 0);
}

#[test]
fn whoever_waits_for_something_else_is_silent() {
    for (threads, look) in [
        // For a client that the child has made itself, with threads of its own.
        (
            &["rdk:main", "rdk:broker3"][..],
            (|at| ThreadsSeen { comms: vec!["python".into(), "rdk:broker1".into()], ..flushes(at) })
                as fn(_) -> _,
        ),
        // For nothing of the library's.
        (&["rdk:main"], |at| asleep_in(at, &["epoll_wait", "main"], None)),
        // For a task that it runs itself while it waits.
        (&["tokio-rt-worker"], |at| {
            asleep_in(
                at,
                &["epoll_wait", "tokio::runtime::scheduler::current_thread::CoreGuard::block_on"],
                None,
            )
        }),
        // For another thing at each look.
        (&["rdk:main"], |at| {
            let call = if at.0 / MILLI % 10_000 < 5000 { "rd_kafka_poll" } else { "rd_kafka_flush" };
            asleep_in(at, &["pthread_cond_timedwait", call], None)
        }),
    ] {
        let mut timeline = forked(threads, look);
        timeline.at(9_000_000);
        assert_eq!(lost(&timeline).len(), 0, "{threads:?}");
    }
}

#[test]
fn what_waits_after_it_has_worked_is_told_of_all_the_same() {
    let mut timeline = forked(&["tokio-rt-worker"], busy_alone);
    timeline.at(95_000);
    assert_eq!(
        lost(&timeline).iter().map(|found| found.certainty).collect::<Vec<_>>(),
        [Certainty::Heuristic]
    );
    timeline.threads.insert(CHILD, |at| {
        asleep_in(
            at,
            &["syscall", "<tokio::runtime::scheduler::multi_thread::MultiThread>::block_on", "main"],
            None,
        )
    });
    timeline.evidence(&Evidence::FellAsleep { seen: Some(vec![process(CHILD)]) });
    assert_eq!(looks(&timeline), 3, "looked at a moment ago");
    timeline.at(101_000).evidence(&Evidence::FellAsleep { seen: Some(vec![process(CHILD)]) });
    timeline.at(110_000);
    // The same program again: it is counted, and told with the next summary.
    let told = |output: &Output| matches!(output, Output::Unsafe { hazard: LOST, .. });
    assert_eq!(timeline.count(told), 2);
}
