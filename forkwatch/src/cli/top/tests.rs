use std::{collections::HashMap, rc::Rc, sync::Arc};

use proptest::prelude::*;
use ratatui::{Terminal, backend::TestBackend, buffer::Cell};

use super::{
    draw::{Look, draw},
    keys::Action,
    survey::Looked,
    told::Told,
    view::{Over, Shown, View},
};
use crate::{
    api::{Brief, Kept, ServerDocument},
    cli::{daemon::servers, inspect::Family},
    model::{
        finding::{Finding, Severity, State},
        process::{Comm, ProcessKey, Program},
        resolution::Resolution,
        server::{Details, Member, Memory, State as Doing, Thread, Tree},
        stack::Frame,
        thread::SeenThread,
        worker::{Exited, Ready, WorkSource, WorkerChange, WorkerEvent, WorkerState, WorkersServer},
        worker_table::WorkerTable,
    },
    output::{
        json,
        samples::{at, context, finding, key},
    },
};

const SECOND: u64 = 1000;

fn happened(table: &mut WorkerTable, master: u32, name: &str, pid: u32, change: WorkerChange) {
    let server = WorkersServer {
        master: key(master, 0),
        name: name.to_owned(),
        known: true,
        class: Some("gthread".to_owned()),
        unit: Some("web.service".to_owned()),
        uid: Some(33),
    };
    table.take(&WorkerEvent {
        at: at(SECOND),
        change,
        worker: key(pid, SECOND),
        comm: Comm::new(name.as_bytes()),
        server,
        slot: None,
        replaces: None,
    });
}

/// Two servers: gunicorn with a ready worker, one that starts, and one that has ended; uWSGI with one worker.
fn table() -> WorkerTable {
    let mut table = WorkerTable::default();
    let ready = || {
        WorkerChange::Ready(Ready {
            after: 40_000_000,
            exact: true,
            source: WorkSource::Listener("0.0.0.0:8000".to_owned()),
        })
    };
    for pid in [101, 102, 103] {
        happened(
            &mut table,
            100,
            "gunicorn",
            pid,
            WorkerChange::Forked { seen: true, state: WorkerState::Starting },
        );
    }
    happened(&mut table, 100, "gunicorn", 101, ready());
    let exited = Exited {
        end: None,
        lifetime: 30_000_000_000,
        state: WorkerState::Ready,
        last: None,
        stuck: Some("worker 103 waits for a lock".to_owned()),
        said: Vec::new(),
    };
    happened(&mut table, 100, "gunicorn", 103, WorkerChange::Exited(Box::new(exited)));
    happened(
        &mut table,
        200,
        "uwsgi\x1b[31m",
        201,
        WorkerChange::Forked { seen: false, state: WorkerState::Unknown },
    );
    table
}

fn family() -> Family {
    let member = |pid, forked| Member {
        process: key(pid, SECOND),
        parent: 100,
        program: Program { comm: "gunicorn".into(), ..Program::default() },
        loaded: Vec::new(),
        forked,
        state: Doing::Sleeping,
        details: Some(Box::new(Details {
            threads: vec![Thread {
                thread: SeenThread { tid: pid, comm: "gunicorn".into() },
                name: None,
                at: Some(Frame {
                    function: Some("work".to_owned()),
                    module: Some("/srv/app.py".to_owned()),
                    line: Some(12),
                    ..Frame::default()
                }),
                doing: None,
                since: Some(12_000_000_000),
            }],
            thread_count: 1,
            memory: Some(Memory { resident: 40 << 20, shared: 30 << 20, copied: 10 << 20 }),
            ..Details::default()
        })),
    };
    let members = vec![member(100, false), member(101, true), member(102, true)];
    Family::new(&Tree { at: at(20 * SECOND), members, whole: true }, key(100, 0))
}

fn looked() -> Looked {
    Looked { at: context().timestamp(at(20 * SECOND)), family: family() }
}

fn found(number: u64, pid: u32) -> Finding {
    let child = key(pid, SECOND);
    Finding { number, child, severity: Severity::Critical, state: State::Confirmed, ..finding() }
}

fn brief(finding: &Finding) -> Brief {
    let at = format!("{:.3}", context().timestamp(finding.at));
    let brief = Brief::of(finding, at, |process| context().entity_id(process));
    Brief { id: finding.number.to_string(), ..brief }
}

fn all_servers() -> Vec<Arc<ServerDocument>> {
    let all = servers::servers(&table(), 0, usize::MAX, &context()).servers;
    all.into_iter().map(Arc::new).collect()
}

fn shown() -> Shown {
    Shown {
        servers: Arc::new(all_servers()),
        seen: HashMap::from([(key(100, 0), Rc::new(looked()))]),
        findings: Arc::new(vec![brief(&found(1, 102))]),
        now: context().timestamp(at(61 * SECOND)),
        forks: 7,
        ..Shown::default()
    }
}

fn view() -> View {
    let mut view = View::new(None);
    view.show(shown());
    view
}

fn screen(view: &mut View, width: u16, height: u16) -> String {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw(frame, view, Look { color: false })).unwrap();
    let buffer = terminal.backend().buffer().clone();
    let lines = buffer.content().chunks(usize::from(width));
    let text = |line: &[Cell]| line.iter().map(Cell::symbol).collect::<String>();
    lines.map(|line| text(line).trim_end().to_owned() + "\n").collect()
}

#[test]
fn servers_stand_above_their_workers_and_trouble_comes_first() {
    let text = screen(&mut view(), 150, 24);
    let order: Vec<usize> = ["-100", "  102", "  101", "-200", "  201"]
        .iter()
        .map(|line| text.find(&format!("\n{line}")).unwrap_or_else(|| panic!("no {line} in\n{text}")))
        .collect();
    assert!(order.is_sorted(), "{text}");
    for words in [
        "2 servers, 3 workers, 1 finding (1 critical), 7 forks",
        "2 workers: 1 starting; 1 ended",
        "in work (app.py:12)",
        "10 MiB",
        "1!",
        "critical multithreaded-fork",
    ] {
        assert!(text.contains(words), "no {words:?} in\n{text}");
    }
    assert!(!text.contains('\x1b'), "a hostile name stays text");
}

#[test]
fn every_size_shows_the_selected_line_and_nothing_is_written_beside() {
    for (width, height) in [(60, 12), (80, 24), (200, 50), (20, 4), (1, 1)] {
        let mut view = view();
        view.act(Action::Details);
        let text = screen(&mut view, width, height);
        assert!(text.lines().all(|line| line.chars().count() <= usize::from(width)), "{text}");
        if width >= 60 {
            assert!(text.contains("-100"), "{text}");
        }
    }
}

#[test]
fn workers_are_folded_in_and_out() {
    let mut view = view();
    view.act(Action::Move(1));
    view.act(Action::Fold);
    let text = screen(&mut view, 80, 24);
    assert!(text.contains("+100") && !text.contains("  101"), "{text}");
    assert!(text.contains("-200"), "the other one is as it was: {text}");
    view.act(Action::Fold);
    assert!(screen(&mut view, 80, 24).contains("  101"));
}

#[test]
fn only_lines_with_the_word_are_shown_with_the_server_that_they_belong_to() {
    let mut view = view();
    view.act(Action::Search);
    for letter in "starting".chars() {
        view.act(Action::Letter(letter));
    }
    view.act(Action::Enter);
    let text = screen(&mut view, 80, 24);
    assert!(text.contains("-100") && text.contains("  102"), "{text}");
    assert!(!text.contains("-200"), "{text}");
    view.act(Action::Back);
    assert!(screen(&mut view, 80, 24).contains("-200"));
}

#[test]
fn the_selection_stays_with_its_process_and_goes_on_when_that_has_ended() {
    let mut view = view();
    view.act(Action::Move(1));
    assert_eq!(view.selected().unwrap().1.process(), key(102, SECOND));
    view.act(Action::Sort);
    view.act(Action::Sort);
    assert_eq!(view.selected().unwrap().1.process(), key(102, SECOND), "in another order too");
    let mut later = shown();
    later.servers = Arc::new(all_servers().into_iter().filter(|server| server.master_pid != 100).collect());
    view.show(later);
    assert_eq!(view.selected().unwrap().1.master, key(200, 0));
    view.show(Shown::default());
    assert!(view.selected().is_none());
    assert!(screen(&mut view, 80, 24).contains("No server keeps workers here"));
}

#[test]
fn one_server_alone_is_shown_by_its_master_or_a_worker() {
    for pid in [key(100, 0), key(101, SECOND)] {
        let mut view = View::new(Some(pid));
        view.show(shown());
        let text = screen(&mut view, 80, 24);
        assert!(text.contains("-100") && !text.contains("-200"), "{text}");
    }
}

#[test]
fn a_pause_holds_what_is_shown() {
    let mut view = view();
    view.act(Action::Pause);
    view.show(Shown::default());
    let text = screen(&mut view, 80, 24);
    assert!(text.contains("PAUSED") && text.contains("-100"), "{text}");
}

#[test]
fn more_is_told_of_what_is_selected() {
    let mut view = view();
    view.act(Action::Move(1));
    view.act(Action::Details);
    let text = screen(&mut view, 80, 40);
    for words in
        ["process 102", "! gunicorn forked", "worker 103 waits for", "30 MiB are shared", "after 30 s"]
    {
        assert!(text.contains(words), "no {words:?} in\n{text}");
    }
    view.act(Action::Explain);
    assert!(matches!(&view.over, Over::Text { title, .. } if title == "multithreaded-fork"));
    view.act(Action::Back);
    view.act(Action::Switch);
    view.act(Action::Details);
    assert_eq!(view.wanted.as_deref(), Some("1"));
    let report = serde_json::to_value(json::finding(&context(), 0, &found(1, 102))).unwrap();
    view.tell(&Ok(Kept { brief: brief(&found(1, 102)), report, end: None }));
    let text = screen(&mut view, 80, 40);
    assert!(
        text.contains("  program: gunicorn --preload") && text.contains("      fix: Start threads"),
        "{text}"
    );
    assert_eq!(view.wanted, None);
    view.act(Action::Back);
    view.act(Action::Details);
    view.tell(&Err("there is no such finding".to_owned()));
    assert!(screen(&mut view, 80, 40).contains("cannot be had: there is no such finding."));
}

#[test]
fn a_click_selects_the_line_under_it() {
    let mut view = view();
    screen(&mut view, 80, 24);
    // Below the head and the titles of the columns.
    view.act(Action::Click(4));
    assert_eq!(view.selected().unwrap().1.process(), key(101, SECOND));
}

#[test]
fn a_finding_changes_in_its_place_and_the_end_of_an_unknown_one_is_not_shown() {
    let mut told = Told::default();
    let take = |told: &mut Told, finding: &Finding| told.take(finding, &context()).unwrap();
    let over = |number| Finding { state: State::Resolved(Resolution::Exited), ..found(number, 102) };
    take(&mut told, &over(9));
    assert!(told.findings().is_empty());
    for number in 1..=3 {
        take(&mut told, &found(number, 102));
    }
    take(&mut told, &over(2));
    let states: Vec<bool> = told.findings().iter().map(|brief| brief.state.is_open()).collect();
    assert_eq!(states, [true, false, true]);
    assert_eq!(told.find("2").unwrap().report["forkwatch"]["finding"]["state"], "confirmed");
    for number in 4..2000 {
        take(&mut told, &found(number, 102));
    }
    assert_eq!(told.findings().len(), 500);
    assert_eq!(told.findings().first().map(|brief| brief.id.clone()).as_deref(), Some("1999"));
    assert!(told.find("2").is_none());
}

fn actions() -> impl Strategy<Value = Action> {
    prop_oneof![
        (-30_isize..30).prop_map(Action::Move),
        (0_u16..60).prop_map(Action::Click),
        any::<char>().prop_map(Action::Letter),
        Just(Action::First),
        Just(Action::Last),
        Just(Action::Fold),
        Just(Action::Switch),
        Just(Action::Details),
        Just(Action::Explain),
        Just(Action::Sort),
        Just(Action::Search),
        Just(Action::Erase),
        Just(Action::Enter),
        Just(Action::Pause),
        Just(Action::Help),
        Just(Action::Back),
    ]
}

proptest! {
    #[test]
    fn no_keys_and_no_size_break_it(
        keys in prop::collection::vec((actions(), any::<bool>()), 0..40), width in 1_u16..150, height in 1_u16..60,
    ) {
        let mut view = view();
        for (action, is_gone) in keys {
            prop_assert!(view.act(action));
            view.show(if is_gone { Shown::default() } else { shown() });
            screen(&mut view, width, height);
        }
    }
}

#[test]
fn a_process_is_known_by_its_start_too() {
    let other = ProcessKey { start: at(5 * SECOND), ..key(102, SECOND) };
    let mut view = View::new(None);
    let about = brief(&Finding { child: other, ..found(1, 102) });
    view.show(Shown { findings: Arc::new(vec![about]), ..shown() });
    let text = screen(&mut view, 80, 24);
    assert!(!text.contains("1!"), "{text}");
}

#[test]
fn a_worker_that_a_summary_names_has_its_finding_too() {
    let summary = Brief { also_pids: vec![101, 102], ..brief(&found(1, 999)) };
    let mut view = View::new(None);
    view.show(Shown { findings: Arc::new(vec![summary.clone()]), ..shown() });
    let text = screen(&mut view, 80, 24);
    assert!(text.contains("2!") && text.matches("1!").count() == 2, "{text}");
    // Another process has got the pid since something was last said.
    let early = Brief { last_seen: "2000-01-01T00:00:00.000Z".to_owned(), ..summary };
    view.show(Shown { findings: Arc::new(vec![early]), ..shown() });
    let text = screen(&mut view, 80, 24);
    assert!(!text.contains("1!"), "{text}");
}

mod unchanged;
