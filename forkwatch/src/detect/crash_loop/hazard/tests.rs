//! Deaths that are a loop, and deaths that are none.

use super::*;
use crate::model::{event::Origin, time::BootTime};

fn exit(status: ExitStatus, lifetime: u64) -> Exit {
    let process = ProcessKey { tgid: 2, start: BootTime(0) };
    Exit {
        origin: Origin::default(),
        at: BootTime(0),
        process,
        parent_tgid: 1,
        kind: CloneKind::Copying,
        comm: "x".into(),
        status,
        lifetime,
    }
}

#[test]
fn ends_that_were_asked_for_or_mean_something_else_do_not_count() {
    for (code, milliseconds, counts) in [
        (0, 5, false),
        (1, 5, true),
        (3, 5, true),
        (126, 5, false),
        (127, 900, false),
        (143, 5, false),
        (155, 5, false),
        (255, 5, false),
        (255, 900, true),
    ] {
        let exit = exit(ExitStatus::Code(code), milliseconds * 1_000_000);
        assert_eq!(is_crash(&exit), counts, "code {code} after {milliseconds} ms");
    }
    for (number, counts) in
        [(6, true), (7, true), (9, true), (11, true), (15, false), (13, false), (1, false)]
    {
        assert_eq!(is_crash(&exit(ExitStatus::Signal { number, core_dumped: false }, 5)), counts, "{number}");
    }
    let shared = Exit { kind: CloneKind::SharedMemory, ..exit(ExitStatus::Code(1), 5) };
    assert!(!is_crash(&shared));
}

const LOOP: Succession = Succession { seen: true, well: 0, replaced_at_once: true, young: true };

fn judged(exe: &str, cmdline: &[&str], how: ExitStatus) -> Judgement {
    judged_of(LOOP, exe, cmdline, how)
}

fn judged_of(succession: Succession, exe: &str, cmdline: &[&str], how: ExitStatus) -> Judgement {
    let program = Program {
        comm: "x".into(),
        exe: Some(exe.into()),
        cmdline: cmdline.iter().map(|argument| (*argument).to_owned()).collect(),
        ..Program::default()
    };
    judge(&LoopCase {
        parent: ProcessKey { tgid: 1, start: BootTime(0) },
        program: &program,
        program_name: &crate::model::program_name::program_name(&program),
        how,
        count: 7,
        lifetime: 2_100_000_000,
        history: HistoryFacts { window_ns: 42_000_000_000, ends: Vec::new() },
        succession,
    })
}

#[test]
fn what_the_parent_is_decides_what_a_failing_child_means() {
    let code = ExitStatus::Code(1);
    let crash = ExitStatus::Signal { number: 11, core_dumped: true };
    for (exe, cmdline, how, clean) in [
        ("/usr/bin/bash", &["bash", "./configure"][..], code, true),
        ("/usr/bin/dash", &["sh", "-c", "while :; do (exit 1); done"], code, true),
        ("/usr/bin/python3.11", &["python3", "-m", "pytest"], crash, true),
        ("/usr/lib/postgresql/15/bin/postgres", &["postgres"], code, true),
        ("/usr/lib/postgresql/15/bin/postgres", &["postgres"], crash, false),
        ("/usr/bin/python3.11", &["gunicorn: master [app]"], code, false),
        ("/usr/sbin/php-fpm8.2 (deleted)", &["php-fpm: master process"], crash, false),
    ] {
        assert_eq!(judged(exe, cmdline, how) == Judgement::Clean, clean, "{exe} {cmdline:?} {how:?}");
    }
}

#[test]
fn the_summary_says_how_many_ended_how_and_how_fast() {
    let crash = ExitStatus::Signal { number: 11, core_dumped: true };
    for (how, expected) in [
        (
            ExitStatus::Code(70),
            "7 ended with code 70 (EX_SOFTWARE: an internal error) within 42 s, after a life of \
         2.1 s (the median)",
        ),
        (ExitStatus::Code(3), "7 ended with code 3 within 42 s, after a life of 2.1 s (the median)"),
        (
            crash,
            "7 were killed by SIGSEGV, leaving core dumps within 42 s, after a life of 2.1 s (the median)",
        ),
    ] {
        let Judgement::Unsafe(verdict) = judged("/usr/bin/server", &["server"], how) else {
            panic!("{how:?}")
        };
        assert_eq!(verdict.summary, format!("server (pid 1) keeps forking children that die: {expected}"));
    }
}

#[test]
fn what_may_be_jobs_is_never_certain() {
    let (code, crash) = (ExitStatus::Code(1), ExitStatus::Signal { number: 11, core_dumped: true });
    let killed = ExitStatus::Signal { number: 9, core_dumped: false };
    let (server, runner) = ("/usr/bin/gunicorn", "/usr/bin/runner");
    let slow = Succession { young: false, ..LOOP };
    let gaps = Succession { replaced_at_once: false, ..LOOP };
    let unseen = Succession { seen: false, ..LOOP };
    let well = |well| Succession { well, ..LOOP };
    let (certain, strong) = (Some(Certainty::Certain), Some(Certainty::Strong));
    let information = Some(Certainty::Heuristic);
    for (succession, exe, how, expected) in [
        (LOOP, server, code, certain),
        (LOOP, server, crash, certain),
        (LOOP, runner, crash, strong),
        (LOOP, runner, code, strong),
        (unseen, server, code, strong),
        (slow, server, code, strong),
        (gaps, server, crash, strong),
        (slow, runner, code, information),
        (gaps, runner, code, information),
        (well(1), runner, code, information),
        (well(2), runner, code, None),
        (well(9), runner, crash, strong),
        (LOOP, server, killed, certain),
        (LOOP, runner, killed, information),
        (well(9), runner, killed, information),
        (well(9), server, code, strong),
    ] {
        let told = match judged_of(succession, exe, &[exe], how) {
            Judgement::Unsafe(verdict) => {
                let quiet = verdict.certainty == Certainty::Heuristic && how == code;
                assert_eq!(verdict.severity == Severity::Info, quiet, "{}", verdict.summary);
                Some(verdict.certainty)
            }
            _ => None,
        };
        assert_eq!(told, expected, "{succession:?} {exe} {how:?}");
    }
    let recycled = judged("/usr/bin/uwsgi", &["uwsgi"], ExitStatus::Code(30));
    assert_eq!(recycled, Judgement::Clean, "uWSGI's way to end a worker");
}
