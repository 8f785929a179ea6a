//! Background threads that a child lacks.

use super::*;
use crate::model::{
    finding::{Certainty, Severity},
    resolution::Resolution,
};

const LOST: HazardId = HazardId::new("lost-threads");

fn seen(at: BootTime, comms: &[&str], percent: u64) -> ThreadsSeen {
    ThreadsSeen {
        at,
        comms: comms.iter().map(|comm| (*comm).into()).collect(),
        ran: at.0 / 100 * percent,
        moved: Some(0),
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
