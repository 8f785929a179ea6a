//! Who ended a child.

use std::time::Duration;

use super::*;
use crate::{
    core::{end_of, how_it_ended},
    detect::worker_killed::hazard as worker_killed,
    model::{
        child_end::SentBy,
        finding::{Certainty, Severity},
        observation::{Observation, Signal},
        probe_request::ProbeRequest,
        resolution::Resolution,
    },
};

fn signal(milliseconds: u64, number: u32, sender_tgid: u32) -> Signal {
    let target = process(CHILD);
    Signal { origin: Origin::default(), at: ms(milliseconds), number, target, sender_tgid, comm: "x".into() }
}

fn by(number: u8) -> ExitStatus {
    ExitStatus::Signal { number, core_dumped: false }
}

fn ended(status: ExitStatus, signals: &[Signal]) -> Resolution {
    let exit = Exit { at: ms(10_000), ..exit_of(CHILD, status) };
    how_it_ended(&end_of(&exit, signals), false)
}

#[test]
fn the_signal_that_ended_it_tells_who_did() {
    const OTHER: u32 = 77;
    const KERNEL: u32 = 0;
    use Resolution::{AskedByParent, Exited, Killed, KilledByOther, KilledByParent};
    let code = ExitStatus::Code;
    for (what, status, signals, expected) in [
        ("uWSGI's harakiri, Celery's hard limit", by(9), &[signal(9999, 9, PARENT)][..], KilledByParent),
        ("gunicorn: the handler of SIGABRT exits", code(1), &[signal(9000, 6, PARENT)], KilledByParent),
        ("... or never runs", by(9), &[signal(9000, 6, PARENT), signal(9999, 9, PARENT)], KilledByParent),
        ("an operator's kill", by(9), &[signal(9999, 9, OTHER)], KilledByOther),
        (
            "an operator after the parent",
            by(9),
            &[signal(2000, 15, PARENT), signal(9999, 9, OTHER)],
            KilledByOther,
        ),
        (
            "both, the parent last",
            by(15),
            &[signal(2000, 15, OTHER), signal(9999, 15, PARENT)],
            KilledByParent,
        ),
        ("the out-of-memory killer", by(9), &[signal(9999, 9, KERNEL)], Killed),
        ("a fault of its own", by(11), &[signal(9999, 11, KERNEL)], Killed),
        ("abort()", by(6), &[signal(9999, 6, CHILD)], Killed),
        (
            "a handler that raises again",
            by(15),
            &[signal(9000, 15, PARENT), signal(9999, 15, CHILD)],
            KilledByParent,
        ),
        ("nobody was seen", by(9), &[], Killed),
        ("by itself", code(0), &[], Exited),
        ("long after it was asked", code(0), &[signal(4999, 15, PARENT)], Exited),
        ("soon after it was asked", code(0), &[signal(5000, 15, PARENT)], AskedByParent),
        (
            "SIGKILL, which nothing survives, from two",
            by(9),
            &[signal(9000, 9, PARENT), signal(9990, 9, OTHER)],
            KilledByParent,
        ),
        ("after a signal that asks for something else", code(0), &[signal(9999, 10, PARENT)], Exited),
        ("after its own child's end", code(0), &[signal(9999, 17, PARENT)], Exited),
        ("after its timer", code(0), &[signal(9999, 14, KERNEL)], Exited),
        ("a signal after the end", by(9), &[signal(10_001, 9, PARENT)], Killed),
    ] {
        assert_eq!(ended(status, signals), expected, "{what}");
    }
    let elsewhere = Signal { target: process(5000), ..signal(9999, 9, PARENT) };
    assert_eq!(ended(by(9), &[elsewhere]), Killed);
}

/// A finding that a child of this program is stuck.
fn stuck(name: &str) -> Finding {
    let mut timeline = Timeline::new();
    timeline.parents.insert(PARENT, parent_seen(name, &["flush"]));
    timeline.fork(threaded(2)).at(1000);
    let (number, state, summary) = (7, State::Confirmed, "stuck".to_owned());
    Finding { number, state, summary, ..timeline.only_finding().clone() }
}

/// CHILD, stuck since 1 s, is killed at 31 s. Gives how its finding ended, and what else was found.
fn killed(name: &str, sender: u32) -> (Resolution, Vec<Finding>) {
    let child = process(CHILD);
    let mut timeline = Timeline::new();
    timeline.fork(plain()).at(2000);
    timeline.core.suspect(child, &mut Vec::new());
    timeline.core.hang(child, stuck(name), ms(1000));
    timeline.core.keep_open(stuck(name));
    timeline.at(31_000).record(Observation::Signal(signal(31_000, 9, sender)));
    timeline.event(&Event::Exit(Exit { at: ms(31_000), ..exit_of(CHILD, by(9)) }));
    let (over, found): (Vec<_>, Vec<_>) = timeline
        .findings()
        .into_iter()
        .cloned()
        .partition(|finding| finding.hazard == HazardId::new("multithreaded-fork"));
    let [Finding { state: State::Resolved(how), .. }] = over[..] else { panic!("{over:#?}") };
    (how, found)
}

#[test]
fn a_worker_that_its_server_kills_is_joined_to_what_it_was_stuck_on() {
    for (name, limit) in [
        ("gunicorn", "; that was gunicorn's worker timeout (--timeout)"),
        ("uwsgi", "; that was uWSGI's harakiri"),
        ("celery", "; that was Celery's time limit (task_time_limit)"),
        ("server", ""),
    ] {
        let (how, found) = killed(name, PARENT);
        assert_eq!(how, Resolution::KilledByParent);
        let [finding] = &found[..] else { panic!("{found:#?}") };
        assert_eq!(
            finding.summary,
            format!(
                "{name} (pid 4242) killed 4250 by SIGKILL, which had been stuck for 30 s{limit}; finding #7 says what \
                 it was waiting for"
            )
        );
        assert_eq!(
            (finding.hazard, finding.state),
            (HazardId::new("worker-killed-while-stuck"), State::Confirmed)
        );
        // It is as sure as that finding.
        assert_eq!((finding.certainty, finding.severity), (Certainty::Heuristic, Severity::Warning));
        assert_eq!(finding.facts.notes, ["finding #7: stuck"]);
        assert_eq!((finding.parent, finding.child), (process(PARENT), process(CHILD)));
    }
}

#[test]
fn of_a_suspicion_no_more_is_made_than_it_is() {
    let suspicion = Finding { state: State::Suspected, certainty: Certainty::Strong, ..stuck("gunicorn") };
    let verdict = worker_killed::judge(&suspicion, Some("SIGABRT"), Duration::from_secs(30));
    assert_eq!((verdict.state, verdict.certainty), (State::Suspected, Certainty::Strong));
    assert!(verdict.summary.contains("had waited as if stuck for 30 s"), "{}", verdict.summary);
    let unknown = Finding { parent: process(CHILD), ..suspicion };
    let verdict = worker_killed::judge(&unknown, Some("SIGABRT"), Duration::from_secs(30));
    assert!(
        verdict.summary.starts_with("The parent of gunicorn (pid 4250) killed it"),
        "{}",
        verdict.summary
    );
}

#[test]
fn a_kill_by_somebody_else_is_not_the_servers() {
    assert_eq!(killed("gunicorn", 77), (Resolution::KilledByOther, Vec::new()));
    assert_eq!(killed("gunicorn", 0), (Resolution::Killed, Vec::new()));
}

#[test]
fn signals_to_children_that_are_not_watched_are_forgotten() {
    let mut timeline = Timeline::new();
    timeline.record(Observation::Signal(signal(0, 9, PARENT)));
    let exit = Exit { at: ms(100), ..exit_of(CHILD, by(15)) };
    assert_eq!(timeline.core.end(&exit).sent_by, Some(SentBy::Unknown));
    timeline.core.suspect(process(CHILD), &mut Vec::new());
    for milliseconds in 0..100 {
        timeline.record(Observation::Signal(signal(milliseconds, 15, PARENT)));
    }
    assert_eq!(timeline.core.signals_kept(process(CHILD)), 16);
    let end = timeline.core.end(&exit);
    assert_eq!((end.sent_by, end.since_signal_ns), (Some(SentBy::Parent), Some(MILLI)));
}

/// A worker of which nothing is known but that it was forked beside threads.
fn suspected(name: &str) -> Timeline {
    let mut timeline = Timeline::new();
    timeline.parents.insert(PARENT, parent_seen(name, &["flush"]));
    timeline.fork(threaded(2)).at(20_000);
    timeline
}

/// Ends it so at 31 s, after these signals; gives the last finding.
fn ends(timeline: &mut Timeline, signals: &[Signal], status: ExitStatus) -> Finding {
    timeline.at(31_000);
    for signal in signals {
        timeline.record(Observation::Signal(signal.clone()));
    }
    timeline.event(&Event::Exit(Exit { at: ms(31_000), ..exit_of(CHILD, status) }));
    timeline.findings().last().map(|finding| (*finding).clone()).unwrap()
}

#[test]
fn a_worker_that_was_signalled_never_ended_by_itself() {
    // gunicorn's SIGABRT, whose handler exits, after a hang of which nothing is proven.
    let mut timeline = suspected("gunicorn");
    assert_eq!(timeline.probe_requests(), [ProbeRequest::WatchSignals(process(CHILD))]);
    let over = ends(&mut timeline, &[signal(30_900, 6, PARENT)], ExitStatus::Code(1));
    assert_eq!(over.state, State::Resolved(Resolution::KilledByParent));
    assert_eq!(
        over.summary,
        "4250 of gunicorn (pid 4242) exited with code 1 after its parent x (pid 4242) had sent it SIGABRT"
    );
    assert_eq!(timeline.probe_requests().last(), Some(&ProbeRequest::UnwatchSignals(process(CHILD))));
    timeline.assert_forgotten();

    for (signals, status, how, part) in [
        (
            &[signal(30_000, 15, 77)][..],
            ExitStatus::Code(0),
            Resolution::AskedByOther,
            "exited with code 0, 1 s after x (pid 77) had sent it SIGTERM",
        ),
        (
            &[signal(3000, 15, PARENT)],
            ExitStatus::Code(30),
            Resolution::Exited,
            "exited with code 30, 28 s after its parent x (pid 4242) had sent it SIGTERM",
        ),
        (&[], ExitStatus::Code(3), Resolution::Exited, "code 3 (gunicorn: a worker could not start)"),
        (&[signal(30_999, 9, 0)], by(9), Resolution::Killed, "killed by SIGKILL, which the kernel sent"),
        (&[], by(11), Resolution::Killed, "killed by SIGSEGV; who sent it was not seen"),
        (
            &[signal(30_999, 9, 77)],
            by(9),
            Resolution::KilledByOther,
            "killed by SIGKILL, which x (pid 77) sent",
        ),
    ] {
        let over = ends(&mut suspected("gunicorn"), signals, status);
        assert_eq!(over.state, State::Resolved(how), "{}", over.summary);
        assert!(over.summary.contains(part) && !over.summary.contains("itself"), "{}", over.summary);
        assert!(over.facts.end.is_some());
    }
}

#[test]
fn signals_are_watched_for_as_long_as_a_finding_is_open() {
    let mut timeline = Timeline::new();
    timeline.fork(plain()).at(20_000);
    assert_eq!(timeline.probe_requests(), [], "nothing was found about it");
    let mut timeline = suspected("gunicorn");
    timeline.exec(exec_of(CHILD, PARENT, &[]));
    let child = process(CHILD);
    assert_eq!(
        timeline.probe_requests(),
        [ProbeRequest::WatchSignals(child), ProbeRequest::UnwatchSignals(child)]
    );
}
