//! `duplicated-random`: copies of one generator from which several children draw.

use super::*;
use crate::model::{
    finding::{Certainty, Severity},
    generator::{Ahead, GeneratorPlaces, Generators, GeneratorsSeen, Maker},
};

const SIBLING: u32 = 4251;
const PLACE: u64 = 0x7000_0014;

/// A child that has drawn so many numbers beyond the state that its forker is in.
fn drawn(maker: Maker, state: u64, numbers: u64) -> GeneratorsSeen {
    let ahead = Ahead { place: PLACE, maker, state, numbers };
    GeneratorsSeen::Compared(Box::new(Generators {
        at: ms(1000),
        comm: "python".into(),
        uid: Some(33),
        program: program("gunicorn"),
        places: GeneratorPlaces::of(&[PLACE]),
        ahead: if numbers > 0 { vec![ahead] } else { Vec::new() },
        skipped: 0,
    }))
}

/// PARENT forks CHILD and SIBLING, which are seen so beside it.
fn forked(one: GeneratorsSeen, other: GeneratorsSeen) -> Timeline {
    let mut timeline = Timeline::new();
    timeline.generators.insert(CHILD, one);
    timeline.generators.insert(SIBLING, other);
    timeline.fork(plain()).at(100).fork(fork_of(PARENT, SIBLING));
    timeline
}

fn looks(timeline: &Timeline) -> Vec<bool> {
    let whole = |output: &Output| match output {
        Output::Ask(Request::Generators { places, .. }) => Some(places.is_none()),
        _ => None,
    };
    timeline.outputs.iter().filter_map(whole).collect()
}

#[test]
fn two_that_have_drawn_from_one_state_are_found_once() {
    let mut timeline = forked(drawn(Maker::Python, 7, 2), drawn(Maker::Python, 7, 5));
    timeline.at(1100);
    let finding = timeline.only_finding().clone();
    assert_eq!(finding.hazard.name(), "duplicated-random");
    assert_eq!(
        finding.summary,
        "4250 and 4251, forked by gunicorn (pid 4242), draw the same random numbers: each has a copy of a \
         random.Random object, in the same state"
    );
    assert_eq!(
        (finding.certainty, finding.severity, finding.state),
        (Certainty::Strong, Severity::Warning, State::Suspected)
    );
    assert_eq!(
        finding.facts.notes,
        [
            "from a random.Random object (state at 0x70000014) 4250 has drawn 2 and 4251 has drawn 5 words since"
        ]
    );
    assert!(finding.remedy.text.contains("register_at_fork"));
    timeline.at(600_000);
    assert_eq!(timeline.findings().len(), 1);
    timeline.exit(SIBLING);
    assert!(matches!(timeline.findings().last().unwrap().state, State::Resolved(_)));
    timeline.exit(CHILD);
    timeline.assert_forgotten();
}

#[test]
fn of_numpy_another_change_is_advised() {
    let mut timeline = forked(drawn(Maker::Numpy, 7, 2), drawn(Maker::Numpy, 7, 5));
    timeline.at(1100);
    assert!(timeline.only_finding().remedy.text.contains("SeedSequence"));
}

#[test]
fn who_draws_alone_or_from_another_state_is_silent() {
    for other in [drawn(Maker::Python, 7, 0), drawn(Maker::Python, 8, 5), GeneratorsSeen::Gone] {
        let mut timeline = forked(drawn(Maker::Python, 7, 2), other);
        timeline.at(600_000);
        assert_eq!(timeline.findings(), Vec::<&Finding>::new());
    }
}

#[test]
fn the_forker_is_searched_once_and_those_without_generators_are_left_alone() {
    let mut timeline = forked(drawn(Maker::Python, 7, 0), drawn(Maker::Python, 7, 0));
    timeline.at(9000);
    let seen = looks(&timeline);
    assert_eq!(seen.iter().filter(|whole| **whole).count(), 1, "{seen:?}");
    assert!(seen.len() > 6, "{seen:?}");
    let mut timeline = forked(GeneratorsSeen::Unknown, GeneratorsSeen::Unknown);
    timeline.at(600_000);
    assert_eq!(looks(&timeline), [true]);
}

#[test]
fn who_sleeps_on_is_compared_when_it_has_done_something() {
    let mut timeline = forked(drawn(Maker::Python, 7, 0), drawn(Maker::Python, 7, 0));
    let asleep = Evidence::FellAsleep { seen: Some(vec![process(CHILD), process(SIBLING)]) };
    timeline.at(5000).evidence(&asleep).at(9000).outputs.clear();
    timeline.at(100_000);
    assert_eq!(looks(&timeline), [] as [bool; 0]);
    timeline.generators.insert(CHILD, drawn(Maker::Python, 7, 1));
    timeline.generators.insert(SIBLING, drawn(Maker::Python, 7, 1));
    timeline.evidence(&asleep);
    assert_eq!(timeline.findings().len(), 1, "at once");
}

#[test]
fn memory_that_was_not_searched_is_told() {
    let GeneratorsSeen::Compared(mut generators) = drawn(Maker::Python, 7, 0) else { unreachable!() };
    (generators.places, generators.skipped) = (GeneratorPlaces::default(), 5 << 30);
    let mut timeline = forked(GeneratorsSeen::Compared(generators), GeneratorsSeen::Unknown);
    timeline.at(60_000);
    let told = |output: &Output| matches!(output, Output::Undecided { why, .. } if why.contains("5120 MiB"));
    assert_eq!(timeline.count(told), 1);
}

#[test]
fn a_search_that_is_never_made_is_told() {
    let mut timeline = Timeline::new();
    timeline.silent = true;
    timeline.fork(plain()).at(1000);
    timeline.evidence(&Evidence::Child { child: process(CHILD), seen: alive(ms(1000)) });
    timeline.at(600_000);
    let told = |output: &Output| matches!(output, Output::Undecided { why, .. } if why.contains("no time"));
    assert_eq!((timeline.count(told), looks(&timeline)), (1, vec![true; 3]));
}
