//! Programs that start with signals blocked.

use super::*;
use crate::model::finding::{Certainty, Severity};

const PROGRAM: u32 = 4300;
const TERM: &[u32] = &[15];

/// PARENT starts PROGRAM with signals blocked, and PROGRAM keeps them so.
fn start(timeline: &mut Timeline, exec: Exec) {
    let mut seen = execed_seen("worker", &exec.blocked.numbers().collect::<Vec<_>>());
    seen.parent = Some((process(exec.parent_tgid), program("launcher")));
    timeline.programs.insert(exec.process.tgid, seen);
    timeline.exec(exec);
}

fn forked_with(blocked: &[u32]) -> Exec {
    let fork = ForkOfExec { kind: CloneKind::Vfork, since: MILLI, blocked: SignalSet::of(blocked) };
    Exec { fork: Some(fork), ..exec_of(PROGRAM, PARENT, &[1, 15]) }
}

#[test]
fn a_program_that_keeps_signals_blocked_is_reported_after_a_second_look() {
    let mut timeline = Timeline::new();
    start(&mut timeline, forked_with(TERM));
    timeline.at(999);
    assert_eq!(timeline.outputs, []);
    timeline.at(9999);
    assert_eq!(timeline.findings().len(), 0, "it may unblock them yet");
    timeline.at(10_000);
    let finding = timeline.only_finding();
    assert_eq!(
        finding.summary,
        "launcher (pid 4242) started worker (pid 4300) with SIGHUP, SIGTERM blocked, which it has not unblocked \
         since; a request to end does not reach it as long as it blocks them"
    );
    assert_eq!((finding.hazard, finding.state), (HazardId::new("blocked-signals"), State::Confirmed));
    assert_eq!((finding.certainty, finding.severity), (Certainty::Strong, Severity::Warning));
    assert_eq!((finding.parent, finding.child), (process(PARENT), process(PROGRAM)));
    assert_eq!(
        finding.facts.notes,
        ["SIGTERM: blocked by the forker at the fork", "SIGHUP: blocked between fork and exec"]
    );
    // Whatever becomes of the program: the finding stands.
    timeline.exit(PROGRAM).at(15_000);
    timeline.only_finding();
}

#[test]
fn what_does_not_stay_blocked_stays_silent() {
    for (blocked, awaited) in [(&[][..], &[][..]), (&[15], &[15]), (&[10], &[])] {
        let mut timeline = Timeline::new();
        start(&mut timeline, exec_of(PROGRAM, PARENT, &[10, 15]));
        let seen = timeline.programs.get_mut(&PROGRAM).unwrap();
        (seen.blocked, seen.awaited) = (SignalSet::of(blocked), Some(SignalSet::of(awaited)));
        timeline.at(5000);
        assert_eq!(
            timeline.outputs,
            [Output::Ask(Request::Execed { process: process(PROGRAM) })],
            "{blocked:?} {awaited:?}"
        );
    }
}

#[test]
fn a_program_that_unblocks_once_it_is_set_up_is_silent() {
    let mut timeline = Timeline::new();
    start(&mut timeline, exec_of(PROGRAM, PARENT, TERM));
    timeline.at(5000).programs.get_mut(&PROGRAM).unwrap().blocked = SignalSet::EMPTY;
    timeline.at(60_000);
    assert_eq!((timeline.findings().len(), timeline.asked().len()), (0, 2));
}

#[test]
fn a_short_lived_program_is_silent() {
    let mut timeline = Timeline::new();
    timeline.exec(exec_of(PROGRAM, PARENT, TERM)).at(5000);
    assert_eq!(timeline.outputs, [Output::Ask(Request::Execed { process: process(PROGRAM) })]);
}

#[test]
fn other_signals_are_nobodys_business() {
    let mut timeline = Timeline::new();
    timeline.exec(exec_of(PROGRAM, PARENT, &[10, 12, 13, 28])).at(5000);
    assert_eq!(timeline.outputs, []);
}

#[test]
fn without_sigterm_it_is_information() {
    let mut timeline = Timeline::new();
    start(&mut timeline, exec_of(PROGRAM, PARENT, &[17]));
    timeline.at(10_000);
    assert_eq!(timeline.only_finding().severity, Severity::Info);
}

#[test]
fn heirs_of_a_mask_are_not_to_blame() {
    let mut timeline = Timeline::new();
    start(&mut timeline, exec_of(PROGRAM, PARENT, TERM));
    timeline.at(12_000);
    timeline.only_finding();
    // By vfork and exec, by fork and exec, and through a worker that never execs.
    start(&mut timeline, exec_of(4301, PROGRAM, TERM));
    timeline.fork(fork_of(PROGRAM, 4302));
    start(&mut timeline, exec_of(4302, PROGRAM, TERM));
    timeline.fork(fork_of(PROGRAM, 4303)).at(12_100).fork(fork_of(4303, 4304));
    start(&mut timeline, exec_of(4304, 4303, TERM));
    start(&mut timeline, exec_of(4305, 4304, TERM));
    timeline.at(29_000);
    timeline.only_finding();
    // What an heir blocks on top is its own.
    start(&mut timeline, exec_of(4306, 4305, &[1, 15]));
    timeline.at(40_000);
    assert_eq!(timeline.findings().len(), 1, "the same program again is a repeat");
    timeline.at(100_000);
    assert_eq!(timeline.findings()[1].facts.signals, SignalSet::of(&[1]));
    assert_eq!(timeline.findings()[1].parent, process(4305));
}

#[test]
fn another_process_with_the_pid_of_an_heir_is_to_blame() {
    let mut timeline = Timeline::new();
    timeline.exec(exec_of(PROGRAM, PARENT, TERM)).at(2000);
    let again = ProcessKey { tgid: PROGRAM, start: ms(2000) };
    timeline.fork(Fork { child: again, ..fork_of(PARENT, PROGRAM) });
    start(&mut timeline, exec_of(4301, PROGRAM, TERM));
    timeline.at(15_000);
    assert_eq!(timeline.only_finding().parent.tgid, PROGRAM);
}

#[test]
fn a_second_exec_is_judged_once() {
    let mut timeline = Timeline::new();
    start(&mut timeline, exec_of(PROGRAM, PARENT, TERM));
    timeline.at(5);
    start(&mut timeline, Exec { fork: None, ..exec_of(PROGRAM, PARENT, TERM) });
    timeline.at(15_000);
    timeline.only_finding();
    start(&mut timeline, Exec { fork: None, ..exec_of(PROGRAM, PARENT, TERM) });
    timeline.at(200_000);
    timeline.only_finding();
    assert_eq!(timeline.asked().len(), 2);
}

#[test]
fn a_wrapper_that_unblocks_before_its_own_exec_is_silent() {
    let mut timeline = Timeline::new();
    start(&mut timeline, exec_of(PROGRAM, PARENT, TERM));
    timeline.at(5).exec(Exec { fork: None, ..exec_of(PROGRAM, PARENT, &[]) }).at(5000);
    assert_eq!(timeline.outputs, []);
}

#[test]
fn an_exec_without_a_fork_may_be_an_earlier_programs_doing() {
    let mut timeline = Timeline::new();
    start(&mut timeline, Exec { fork: None, ..exec_of(PROGRAM, PARENT, TERM) });
    timeline.at(10_000);
    let summary = &timeline.only_finding().summary;
    assert!(summary.contains("or by a program that ran before in that process"), "{summary}");
}

#[test]
fn a_forker_that_is_gone_is_remembered_from_the_fork() {
    let mut timeline = Timeline::new();
    timeline.programs.insert(CHILD, execed_seen("worker", TERM));
    timeline.fork(plain()).at(1).exec(exec_of(CHILD, PARENT, TERM)).at(12_000);
    assert_eq!(
        (timeline.only_finding().parent, timeline.only_finding().program_name.as_str()),
        (process(PARENT), "uid 1000's python")
    );

    timeline.programs.insert(PROGRAM, execed_seen("worker", TERM));
    timeline.exec(exec_of(PROGRAM, PARENT, TERM)).at(24_000);
    timeline.only_finding();
    assert_eq!(timeline.count(|output| matches!(output, Output::Undecided { .. })), 1);
}

#[test]
fn masks_with_everything_in_them_count_if_they_stay() {
    let mut timeline = Timeline::new();
    let fork = ForkOfExec { kind: CloneKind::Vfork, since: MILLI, blocked: ALL_BLOCKED };
    start(&mut timeline, Exec { blocked: ALL_BLOCKED, fork: Some(fork), ..exec_of(PROGRAM, PARENT, &[]) });
    timeline.at(10_000);
    let finding = timeline.only_finding();
    assert_eq!(finding.facts.signals, SignalSet::of(&[1, 2, 3, 15, 17]));
    assert_eq!(finding.facts.notes, Vec::<String>::new(), "glibc's mask tells nothing of the forker's");
}

#[test]
fn questions_about_programs_are_given_up_too() {
    let mut timeline = Timeline::new();
    timeline.silent = true;
    timeline.exec(exec_of(PROGRAM, PARENT, TERM)).at(60_000);
    assert_eq!(timeline.asked().len(), 3);
    assert_eq!(timeline.count(|output| matches!(output, Output::Dropped(_))), 1);
    assert_eq!(timeline.core.deadline(), None);
}

#[test]
fn a_suppress_rule_may_name_either_program() {
    for (comm, silenced) in [("launcher", true), ("worker", true), ("other", false)] {
        let rule = format!("comm = \"{comm}\"\nreason = \"tested\"");
        let suppress = vec![toml::from_str(&rule).unwrap()];
        let mut timeline = Timeline::with(Settings { suppress, ..Settings::default() });
        start(&mut timeline, exec_of(PROGRAM, PARENT, TERM));
        timeline.at(10_000);
        assert_eq!(timeline.findings().is_empty(), silenced, "{comm}");
    }
}
