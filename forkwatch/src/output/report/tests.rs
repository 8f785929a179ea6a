use super::*;
use crate::{
    model::{
        facts::{LockFacts, Proof},
        resolution::Resolution,
        stack::{Frame, Stack},
    },
    output::samples,
};

const HAZARDS: [Introduced; 2] = [
    Introduced {
        id: "multithreaded-fork",
        title: "threads",
        what: "Threads.",
        link: "https://example.org/t",
    },
    Introduced { id: "orphaned-lock", title: "locks", what: "Locks.", link: "https://example.org/l" },
];

fn seen(finding: &Finding) -> Seen {
    let (mut collecting, seen) = Collecting::new();
    collecting.finding(finding).unwrap();
    drop(collecting);
    seen.take()
}

/// What a test looks at in a report in which this was seen, and everything fails.
fn reported<T>(seen: &Seen, look: impl FnOnce(&Report<'_>) -> T) -> T {
    let context = samples::context();
    let command = ["pytest".to_owned(), "-n 4".to_owned()];
    look(&Report {
        context: &context,
        command: &command,
        end: CommandEnd::Code(0),
        took: Duration::from_secs(2),
        seen,
        hazards: &HAZARDS,
        fails: &|found| !found.is_withdrawn(),
    })
}

/// A finding whose thread waits in a script.
fn scripted(frames: &[(&str, u32)]) -> Finding {
    let frame = |(module, line): &(&str, u32)| Frame {
        module: Some((*module).to_owned()),
        line: Some(*line),
        ..Frame::default()
    };
    let mut finding = samples::finding();
    finding.facts.lock = Some(Box::new(LockFacts {
        proof: Proof::Owner,
        address: "0x1".to_owned(),
        mapping: None,
        symbol: None,
        owner: None,
        waiting_thread: 1,
        waiting_threads: 1,
        waited_ns: 1,
        operation: 0,
        value: 2,
        words: None,
        parent_words: None,
        held_at_fork: None,
        stack: None,
        script: Some(Stack { frames: frames.iter().map(frame).collect(), missing: None }),
        blocks: Vec::new(),
    }));
    finding
}

#[test]
fn a_later_state_replaces_the_first_and_repeats_are_counted() {
    let (mut collecting, seen) = Collecting::new();
    let first = samples::finding();
    let confirmed = Finding { state: State::Confirmed, summary: "worse".to_owned(), ..first.clone() };
    let again = Finding { repeats: 3, summary: "again".to_owned(), ..first.clone() };
    let end = Finding { state: State::Resolved(Resolution::KilledByParent), ..first.clone() };
    for finding in [&first, &confirmed, &again] {
        collecting.finding(finding).unwrap();
    }
    collecting.resolution(&end).unwrap();
    let seen = seen.borrow();
    let [found] = seen.found.as_slice() else { panic!("{:?}", seen.found) };
    assert_eq!((found.finding.summary.as_str(), found.repeats), ("worse", 3));
    assert!(!found.is_withdrawn());
    drop(seen);
    collecting.resolution(&Finding { state: State::Resolved(Resolution::Woke), ..first }).unwrap();
    assert!(collecting.0.borrow().found.iter().all(Found::is_withdrawn));
}

#[test]
fn only_so_many_are_kept_and_the_rest_is_counted() {
    let (mut collecting, seen) = Collecting::new();
    for number in 1..=1010 {
        collecting.finding(&Finding { number, ..samples::finding() }).unwrap();
    }
    assert_eq!((seen.borrow().found.len(), seen.borrow().left_out), (MOST_FOUND, 10));
}

#[test]
fn the_place_is_in_the_code_of_the_program_if_there_is_any() {
    let installed = ("/usr/lib/python3.11/threading.py", 5);
    assert_eq!(place(&scripted(&[installed, ("/srv/app.py", 7)])), Some(("/srv/app.py", 7)));
    assert_eq!(place(&scripted(&[installed])), Some(installed));
    assert_eq!(place(&samples::finding()), None);
}

/// Names come from strangers, and are no part of a report's syntax.
#[test]
fn hostile_text_is_text_in_every_report() {
    let mut finding = scripted(&[("/srv/a,b:c.py", 7)]);
    finding.summary = "]]></failure>\u{1b}[31m\u{0}\n::error::x %".to_owned();
    let seen = seen(&finding);
    reported(&seen, |report| {
        let xml = junit(report).unwrap();
        let read = quick_junit::Report::deserialize_from_str(&xml).expect("well-formed");
        assert_eq!(read.test_suites.iter().map(|suite| suite.test_cases.len()).sum::<usize>(), HAZARDS.len());
        assert!(!xml.contains('\u{1b}') && !xml.contains('\0'), "{xml}");
        let lines = github(report);
        assert_eq!(lines.lines().count(), 1, "{lines}");
        assert!(lines.contains("file=/srv/a%2Cb%3Ac.py,line=7,"), "{lines}");
        assert!(lines.contains("%0A::error::x %25"), "{lines}");
        let text = serde_json::to_string(&sarif(report)).unwrap();
        assert!(text.contains("file:///srv/a,b%3Ac.py"), "{text}");
    });
}

#[test]
fn what_is_withdrawn_fails_nothing() {
    let mut seen = seen(&samples::finding());
    seen.found[0].end = Some(Finding { state: State::Resolved(Resolution::Execed), ..samples::finding() });
    reported(&seen, |report| {
        assert_eq!(document(report).failures, 0);
        assert!(!junit(report).unwrap().contains("<failure"));
        assert_eq!(github(report), "");
        assert_eq!(sarif(report)["runs"][0]["results"][0]["suppressions"].as_array().map(Vec::len), Some(1));
    });
}
