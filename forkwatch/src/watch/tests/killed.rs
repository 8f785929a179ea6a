//! Who ended a child.

use super::*;
use crate::{
    model::{
        event::Signal,
        finding::{Certainty, Resolution, Severity},
    },
    watch::killed::how_it_ended,
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
    how_it_ended(&exit, signals, PARENT)
}

#[test]
fn the_signal_that_ended_it_tells_who_did() {
    const OTHER: u32 = 77;
    const KERNEL: u32 = 0;
    use Resolution::{Exited, Killed, KilledByOther, KilledByParent};
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
        ("soon after it was asked", code(0), &[signal(5000, 15, PARENT)], KilledByParent),
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
    Finding { number: 7, summary: "stuck".to_owned(), ..timeline.only_finding().clone() }
}

/// CHILD, stuck since 1 s, is killed at 31 s.
fn killed(timeline: &mut Timeline, name: &str, sender: u32) -> Resolution {
    let child = process(CHILD);
    timeline.watch.signals.watch(child);
    timeline.at(31_000).event(&Event::Signal(signal(31_000, 9, sender)));
    let exit = Exit { at: ms(31_000), ..exit_of(CHILD, by(9)) };
    let mut out = Vec::new();
    let how = timeline.watch.stuck_ended(&stuck(name), ms(1000), &exit, &mut out);
    timeline.take(out);
    how
}

#[test]
fn a_worker_that_its_server_kills_is_joined_to_what_it_was_stuck_on() {
    for (name, limit) in [
        ("gunicorn", "; that was gunicorn's worker timeout (--timeout)"),
        ("uwsgi", "; that was uWSGI's harakiri"),
        ("celery", "; that was Celery's time limit (task_time_limit)"),
        ("server", ""),
    ] {
        let mut timeline = Timeline::new();
        assert_eq!(killed(&mut timeline, name, PARENT), Resolution::KilledByParent);
        let finding = timeline.only_finding();
        assert_eq!(
            finding.summary,
            format!(
                "{name} (pid 4242) killed 4250 by SIGKILL, which had been stuck for 30 s{limit}; finding #7 says what \
                 it was waiting for"
            )
        );
        assert_eq!((finding.hazard, finding.state), (HazardId::WorkerKilledWhileStuck, State::Confirmed));
        assert_eq!((finding.certainty, finding.severity), (Certainty::Certain, Severity::Warning));
        assert_eq!(finding.facts.notes, ["finding #7: stuck"]);
        assert_eq!((finding.parent, finding.child), (process(PARENT), process(CHILD)));
    }
}

#[test]
fn a_kill_by_somebody_else_is_not_the_servers() {
    let mut timeline = Timeline::new();
    assert_eq!(killed(&mut timeline, "gunicorn", 77), Resolution::KilledByOther);
    assert_eq!(killed(&mut timeline, "gunicorn", 0), Resolution::Killed);
    assert_eq!(timeline.outputs, []);
}

#[test]
fn signals_to_children_that_are_not_watched_are_forgotten() {
    let mut timeline = Timeline::new();
    timeline.event(&Event::Signal(signal(0, 9, PARENT)));
    assert_eq!(timeline.watch.signals.take(process(CHILD)).len(), 0);
    timeline.watch.signals.watch(process(CHILD));
    for milliseconds in 0..100 {
        timeline.event(&Event::Signal(signal(milliseconds, 15, PARENT)));
    }
    let last: Vec<BootTime> =
        timeline.watch.signals.take(process(CHILD)).iter().map(|signal| signal.at).collect();
    assert_eq!((last.len(), last.last()), (16, Some(&ms(99))));
}
