use std::{cell::RefCell, fs::File, io::BufReader, io::BufWriter, io::Write, rc::Rc};

use proptest::prelude::*;

use super::*;
use crate::{
    engine::{recorder::Recorder, replay::replay},
    model::{
        held_lock::{HeldLocks, HeldLocksSeen},
        seen::{ChildSeen, ParentSeen},
    },
    output::{
        columns::{ColumnLines, Look, Times},
        json::JsonLines,
        recording::Reader,
        samples,
        selection::{Selected, Selection},
        summary::Summary,
    },
};

/// What an output has written.
#[derive(Clone, Default)]
struct Written(Rc<RefCell<Vec<u8>>>);

impl Write for Written {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.borrow_mut().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Written {
    fn text(&self) -> String {
        String::from_utf8(self.0.borrow().clone()).unwrap()
    }
}

/// JSON lines, columns and a summary, and where they write.
fn outputs(context: &crate::output::Context) -> (Vec<Box<dyn Output>>, [Written; 3]) {
    let written = [Written::default(), Written::default(), Written::default()];
    let [json, columns, summary] = written.clone();
    let pid_max = context.pid_max.unwrap();
    let look = Look { times: Times::Since(context.began), pid_max, color: false };
    let outputs: Vec<Box<dyn Output>> = vec![
        Box::new(JsonLines::new(context, BufWriter::new(json))),
        Box::new(ColumnLines::new(columns, look, || None)),
        Box::new(Summary::new(summary)),
    ];
    (vec![Box::new(Selected::new(Selection::default(), outputs))], written)
}

/// What is written live, and what by a replay of its recording.
fn live_and_replayed(live: impl FnOnce(&mut Feed)) -> ([String; 3], [String; 3]) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("recording");
    let (context, settings) = (samples::context(), Settings::default());
    let recorder = Recorder::create(Some(&file), &settings, &context).unwrap();
    let mut feed = Feed::new(settings, recorder);
    let (told, written) = outputs(&context);
    feed.add(told);
    feed.begin().unwrap();
    live(&mut feed);
    feed.close(samples::at(60_000)).unwrap();
    feed.end().unwrap();
    drop(feed);
    let reader = Reader::new(BufReader::new(File::open(&file).unwrap())).unwrap();
    let (told, replayed) = outputs(&reader.header().context());
    replay(reader, Settings::default(), told).unwrap().unwrap();
    (written.map(|written| written.text()), replayed.map(|replayed| replayed.text()))
}

fn names(names: &[&str]) -> Particulars {
    Particulars::ThreadNames(names.iter().map(|name| (*name).into()).collect())
}

/// The forker, as a look at it finds it, and the child that lives on.
fn evidence() -> [Evidence; 2] {
    let fork = samples::unsafe_fork();
    let finding = samples::finding();
    let seen = ParentSeen {
        at: samples::at(1600),
        program: finding.program,
        thread_count: 3,
        threads: finding.facts.threads,
        pending: fork.pending(),
    };
    let alive = ChildSeen::Alive {
        at: samples::at(2600),
        comm: fork.comm,
        ran: Some(1_000_000_000),
        waited: Some(0),
        stopped: false,
    };
    [
        Evidence::Parent { child: fork.child, seen: Some(seen), ended: false },
        Evidence::Child { child: fork.child, seen: alive },
    ]
}

/// The child carries no locks: until that is known its fork is not judged.
fn no_locks() -> Evidence {
    let held = HeldLocks {
        at: samples::at(1600),
        whole: true,
        locks: Vec::new(),
        count: 0,
        plain: Vec::new(),
        searched: 1 << 20,
        skipped: 0,
        took: 1_000_000,
    };
    Evidence::HeldLocks { child: samples::unsafe_fork().child, seen: HeldLocksSeen::Alive(Box::new(held)) }
}

#[test]
fn a_fork_waits_for_the_names_of_its_threads_and_all_else_behind_it() {
    let (live, replayed) = live_and_replayed(|feed| {
        let [parent, child] = evidence();
        feed.standing(samples::standing(4100)).unwrap();
        feed.reported(&Event::Fork(samples::unsafe_fork()).into(), Some(0)).unwrap();
        feed.reported(&Event::CloneFailure(samples::clone_failure()).into(), Some(1)).unwrap();
        feed.evidence(samples::at(1600), &parent).unwrap();
        feed.evidence(samples::at(1600), &no_locks()).unwrap();
        feed.advance(samples::at(2550)).unwrap();
        feed.evidence(samples::at(2600), &child).unwrap();
        let occupations = samples::finding().facts.occupations;
        let seen = Evidence::Occupations { child: samples::unsafe_fork().child, seen: occupations };
        feed.evidence(samples::at(2600), &seen).unwrap();
        // Answers come in any order, or not at all.
        feed.particulars(1, &Particulars::Limit(samples::limit())).unwrap();
        feed.reported(&Event::Lost(samples::lost()).into(), None).unwrap();
        feed.particulars(0, &names(&["ticker", "flusher"])).unwrap();
        feed.reported(&Event::Fork(samples::fork(5000, 4100, "again", 4300)).into(), Some(2)).unwrap();
    });
    let actions: Vec<String> = live[0]
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
        .map(|line| line["event"]["action"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(
        actions[..4],
        ["assessment", "fork", "clone_failure", "finding"],
        "what happened later is told later: {actions:?}"
    );
    assert_eq!(actions[actions.len() - 2..], ["events_lost", "fork"]);
    let [json, columns, summary] = &live;
    assert!(json.contains("pymongo_server_monitor_thread: target (monitor.py:74)"), "{json}");
    assert!(json.contains(r#""thread_names":["ticker","flusher"]"#), "{json}");
    assert!(json.contains(r#""cause":"pids.max""#) && columns.contains("pids.max reached"), "{columns}");
    assert!(summary.contains("2 forks") && summary.contains("1 failed clone call"), "{summary}");
    assert_eq!(live, replayed);
}

#[test]
fn no_more_is_kept_than_fits() {
    let (live, replayed) = live_and_replayed(|feed| {
        feed.reported(&Event::Fork(samples::unsafe_fork()).into(), Some(0)).unwrap();
        for _ in 0..5000 {
            feed.reported(&Event::Thread(samples::thread()).into(), None).unwrap();
        }
        // Too late: it has been told.
        feed.particulars(0, &names(&["ticker"])).unwrap();
    });
    assert!(!live[0].contains("ticker"), "all of it was kept");
    assert_eq!(live[0].lines().count(), 5001);
    assert_eq!(live, replayed);
}

/// Something that a watch is fed.
#[derive(Clone, Debug)]
enum Input {
    Event(Event, bool),
    /// An answer to one of the questions so far.
    Answer(usize),
    Evidence(Box<Evidence>),
    Advance,
    Standing,
}

fn inputs() -> impl Strategy<Value = Input> {
    let events = samples::events();
    prop_oneof![
        4 => (proptest::sample::select(events), any::<bool>()).prop_map(|(event, asks)| Input::Event(event, asks)),
        2 => any::<usize>().prop_map(Input::Answer),
        2 => proptest::sample::select(evidence().to_vec()).prop_map(|evidence| Input::Evidence(Box::new(evidence))),
        1 => Just(Input::Advance),
        1 => Just(Input::Standing),
    ]
}

proptest! {
    #[test]
    fn a_replay_says_what_the_live_watch_said(inputs in proptest::collection::vec(inputs(), 0..40)) {
        let (live, replayed) = live_and_replayed(|feed| {
            let mut questions = 0;
            for (input, milliseconds) in inputs.into_iter().zip((2000_u64..).step_by(300)) {
                let now = samples::at(milliseconds);
                match input {
                    Input::Event(event, asks) => {
                        let question = (asks && feed.wants_particulars(&event)).then_some(questions);
                        questions += u64::from(question.is_some());
                        feed.reported(&event.into(), question).unwrap();
                    }
                    Input::Answer(which) if questions > 0 => {
                        let number = u64::try_from(which).unwrap() % questions;
                        feed.particulars(number, &names(&[&number.to_string()])).unwrap();
                    }
                    Input::Answer(_) => {}
                    Input::Evidence(evidence) => feed.evidence(now, &evidence).unwrap(),
                    Input::Advance => feed.advance(now).unwrap(),
                    Input::Standing => feed.standing(samples::standing(7)).unwrap(),
                }
            }
        });
        prop_assert_eq!(live, replayed);
    }
}
