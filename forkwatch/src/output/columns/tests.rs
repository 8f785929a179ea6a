//! What a reader sees; `FORKWATCH_BLESS=1` writes the snapshots anew.

use std::{fs, path::Path};

use proptest::prelude::*;

use super::*;
use crate::{
    model::{
        event::ForkOfExec,
        finding::{Severity, State},
        resolution::Resolution,
        signals::SignalSet,
    },
    output::samples::{
        START, at, clone_failure, context, exec, exit, finding, fork, key, limit, lost, resolved, thread,
        unsafe_fork,
    },
};

fn relative(width: Option<usize>, color: bool) -> Columns {
    Columns::new(Times::Since(BootTime(START)), width, 4_194_304, color)
}

/// `make` with vfork'd compilers, a shell pipeline, and a gunicorn with its findings.
fn session(columns: &Columns) -> String {
    let vforked = |fork: Fork| Event::Fork(Fork { kind: CloneKind::Vfork, ..fork });
    let after_vfork = |exec: Exec| {
        let kind = CloneKind::Vfork;
        Event::Exec(Exec { fork: exec.fork.map(|fork| ForkOfExec { kind, ..fork }), ..exec })
    };
    let mut second = finding();
    second.number = 2;
    second.severity = Severity::Critical;
    second.state = State::Confirmed;
    second.repeats = 12;
    second.facts.threads.truncate(1);
    second.facts.signals = SignalSet::of(&[15, 17]);
    let mut lines = vec![columns.header()];
    let mut event = |event: Event| lines.push(columns.event(&event, None));
    event(vforked(fork(3, 4100, "make", 4210)));
    event(after_vfork(exec(4, 4210, 3, "cc1")));
    event(Event::Fork(fork(20, 1203, "bash", 4211)));
    event(Event::Fork(fork(21, 1203, "bash", 4212)));
    event(Event::Exec(exec(22, 4211, 20, "grep")));
    event(Event::Exec(exec(23, 4212, 21, "sort")));
    event(Event::Fork(fork(25, 1203, "bash", 4213)));
    event(Event::Exit(exit(27, 4213, 25, "bash", ExitStatus::Code(0))));
    event(Event::Exec(Exec { fork: None, ..exec(30, 4213, 25, "env") }));
    event(Event::Thread(thread()));
    event(Event::Fork(unsafe_fork()));
    lines.push(columns.lives_on(at(2500), key(4244, 1500), &"gunicorn".into(), 1_000_000_000));
    lines.push(columns.finding(&finding()));
    lines.push(columns.event(&Event::CloneFailure(clone_failure()), Some(&limit())));
    let mut event = |event: Event| lines.push(columns.event(&event, None));
    event(Event::CloneFailure(clone_failure()));
    event(Event::Lost(lost()));
    event(Event::Fork(Fork {
        kind: CloneKind::SharedMemory,
        tracked: false,
        ..fork(3200, 4100, "日本語", 4_194_303)
    }));
    event(Event::Fork(Fork { kind: CloneKind::Kernel, ..fork(3300, 2, "\x1b[2Jhostile\n", 4300) }));
    event(Event::Exec(Exec {
        from_tid: 4299,
        blocked: SignalSet::of(&[15, 17]),
        ..exec(3305, 4300, 3300, "nginx")
    }));
    let status = ExitStatus::Signal { number: 11, core_dumped: true };
    event(Event::Exit(exit(9000, 4244, 1500, "gunicorn", status)));
    event(Event::Exit(exit(9001, 4245, 9000, "sh", ExitStatus::Code(3))));
    lines.push(columns.finding(&second));
    lines.push(columns.finding(&resolved()));
    lines.push(String::new());
    lines.join("\n")
}

fn assert_snapshot(name: &str, seen: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/output/columns").join(name);
    if std::env::var_os("FORKWATCH_BLESS").is_some() {
        fs::write(&path, seen).unwrap();
    }
    assert_eq!(seen, fs::read_to_string(path).unwrap(), "{name}");
}

#[test]
fn a_session_reads_as_it_did() {
    assert_snapshot("session-80.txt", &session(&relative(Some(80), false)));
    assert_snapshot("session-120.txt", &session(&relative(Some(120), false)));
    assert_snapshot("session-file.txt", &session(&relative(None, false)));
    let times = Times::Wall { context: context(), zone: TimeZone::UTC };
    assert_snapshot("session-wall.txt", &session(&Columns::new(times, Some(80), 32_768, false)));
}

#[test]
fn lines_fit_the_terminal() {
    for width in [80, 100, 132] {
        for line in session(&relative(Some(width), false)).lines() {
            assert!(line.width() <= width, "{width}: {line}");
        }
    }
}

#[test]
fn no_argument_passes_for_who_it_is() {
    let mut liar = finding();
    liar.program.cmdline = vec!["nginx (pid 1, uid 0)".to_owned(), "a\"b".to_owned()];
    let shown = relative(None, false).finding(&liar);
    assert!(shown.contains("program: \"nginx (pid 1, uid 0)\" \"a'b\" (pid 4100, uid 33,"), "{shown}");
}

#[test]
fn a_narrow_terminal_gets_eighty_columns() {
    assert_eq!(session(&relative(Some(20), false)), session(&relative(Some(80), false)));
}

#[test]
fn nothing_is_left_out_of_a_file() {
    assert!(session(&relative(Some(80), false)).contains('…'));
    assert!(!session(&relative(None, false)).contains('…'));
}

#[test]
fn colour_adds_nothing_but_colour() {
    let colored = session(&relative(Some(80), true));
    let plain: String = colored
        .split('\x1b')
        .enumerate()
        .map(|(index, part)| if index == 0 { part } else { part.split_once('m').unwrap().1 })
        .collect();
    assert_ne!(colored, plain);
    assert_eq!(plain, session(&relative(Some(80), false)));
}

#[test]
fn times_before_the_start_are_negative() {
    assert_eq!(Times::Since(at(1500)).show(at(250)), "-1.250s");
    assert_eq!(Times::Since(at(0)).show(at(3_600_000)), "+3600.000s");
}

#[test]
fn a_finding_that_became_unknown_says_only_what_is_new() {
    let summary = "4244 of gunicorn (pid 4100) can no longer be looked at, and whether it still hangs is unknown: \
                   cannot read /proc/4244/syscall";
    let unknown = Finding { state: State::Unknown, summary: summary.to_owned(), ..finding() };
    let block = relative(Some(80), false).finding(&unknown);
    assert_eq!(
        block.trim(),
        "+2.600s UNKNOWN multithreaded-fork #1\n           \
         4244 of gunicorn (pid 4100) can no longer be looked at, and whether\n           \
         it still hangs is unknown: cannot read /proc/4244/syscall"
    );
}

#[test]
fn counts_are_grouped() {
    let shown: Vec<String> = [0, 999, 1000, 1_234_567].into_iter().map(grouped).collect();
    assert_eq!(shown, ["0", "999", "1,000", "1,234,567"]);
}

#[test]
fn a_code_is_told_with_its_meaning_where_there_is_room() {
    let ended = |comm, code| Event::Exit(exit(9000, 4244, 1500, comm, ExitStatus::Code(code)));
    for (width, comm, code, end) in [
        (None, "gunicorn", 3, "code 3 after 7.5 s, gunicorn: a worker could not start"),
        (Some(80), "gunicorn", 3, "code 3 after 7.5 s …"),
        (Some(80), "celery", 70, "code 70 after 7.5 s …"),
        (Some(120), "x", 70, "code 70 after 7.5 s, EX_SOFTWARE: an internal error"),
        (None, "x", 3, "code 3 after 7.5 s"),
    ] {
        let line = relative(width, false).event(&ended(comm, code), None);
        assert!(line.ends_with(end), "{line}");
        assert!(line.width() <= width.unwrap_or(usize::MAX), "{line}");
    }
}

proptest! {
    #[test]
    fn nothing_that_a_program_chooses_reaches_the_terminal_raw(
        comm in proptest::collection::vec(any::<u8>(), 0..16),
        text in "[\\x00-\\x1f\\x7f-\\u{9f}\\u{202e}a\\\\ ]{0,20}",
    ) {
        let comm = Comm::new(&comm);
        let mut hostile = Finding { child_comm: comm, program_name: text.clone(), summary: text.clone(), ..finding() };
        hostile.program.cmdline = vec![text.clone()];
        hostile.program.unit = Some(text.clone());
        hostile.program.container = Some(text.clone());
        hostile.facts.notes = vec![text];
        hostile.facts.threads[0].comm = comm;
        let columns = relative(Some(80), false);
        let gone = Finding { state: State::Resolved(Resolution::Exited), ..hostile.clone() };
        let shown = [
            columns.event(&Event::Fork(Fork { comm, ..fork(1, 2, "", 3) }), None),
            columns.finding(&hostile).replace('\n', ""),
            columns.finding(&gone).replace('\n', ""),
        ];
        for text in shown {
            prop_assert!(!text.chars().any(|character| character.is_control() || character == '\u{202e}'), "{text:?}");
        }
    }
}
