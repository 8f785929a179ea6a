//! Children that die one after the other.

use proptest::prelude::*;

use super::*;
use crate::model::{
    finding::{Certainty, Severity},
    probe_request::ProbeRequest,
    resolution::Resolution,
};

const SEGV: ExitStatus = ExitStatus::Signal { number: 11, core_dumped: true };
const KILL: ExitStatus = ExitStatus::Signal { number: 9, core_dumped: false };
const BOOT_FAILED: ExitStatus = ExitStatus::Code(3);

const NOTHING: [&Output; 0] = [];
const NO_FINDING: [&Finding; 0] = [];

impl Timeline {
    /// All but the requests to look at the good ends too.
    fn told(&self) -> Vec<&Output> {
        self.outputs.iter().filter(|output| !matches!(output, Output::Probe(_))).collect()
    }
}

/// A host on which PARENT runs this program, since long ago.
fn host(name: &str) -> Timeline {
    let mut timeline = Timeline::new();
    name_parent(&mut timeline, name);
    // So that every child is younger than the parent.
    timeline.at(1_000_000);
    timeline
}

fn name_parent(timeline: &mut Timeline, name: &str) {
    let seen = ProgramSeen { process: process(PARENT), program: program(name), stopped: false };
    timeline.named.insert(PARENT, seen);
}

/// A child of PARENT ends, so many milliseconds after the last thing that happened.
fn end(timeline: &mut Timeline, after: u64, tgid: u32, status: ExitStatus, lifetime: u64) {
    let now = timeline.now.0 / MILLI + after;
    timeline.at(now);
    let exit = Exit { at: timeline.now, lifetime: lifetime * MILLI, ..exit_of(tgid, status) };
    timeline.event(&Event::Exit(exit));
}

/// One worker after the other: each dies so long after the one before, and half of that after its own birth.
fn one_by_one(timeline: &mut Timeline, count: u32, period: u64, status: ExitStatus) {
    for tgid in 0..count {
        end(timeline, period, 5000 + tgid, status, period / 2);
    }
}

#[test]
fn workers_that_die_one_after_the_other_are_a_loop() {
    let mut timeline = host("gunicorn");
    one_by_one(&mut timeline, 5, 4000, BOOT_FAILED);
    assert_eq!(timeline.told(), NOTHING, "16 s are not long enough");
    one_by_one(&mut timeline, 2, 4000, BOOT_FAILED);
    let finding = timeline.only_finding();
    assert_eq!(
        finding.summary,
        "gunicorn (pid 4242) keeps forking children that die: 6 ended with code 3 (gunicorn: a worker could not start) within 20 s, \
         after a life of 2.0 s (the median)"
    );
    assert_eq!((finding.hazard, finding.state), (HazardId::new("crash-loop"), State::Confirmed));
    assert_eq!((finding.certainty, finding.severity), (Certainty::Certain, Severity::Warning));
    assert_eq!((finding.parent, finding.child), (process(PARENT), process(5000)));
    let history = finding.facts.history.as_ref().unwrap();
    assert_eq!(history.window_ns, 20_000 * MILLI);
    let [ends] = &history.ends[..] else { panic!("{history:?}") };
    assert_eq!((ends.how.as_str(), ends.count, ends.lifetime_ns), ("code 3", 6, 2000 * MILLI));
    assert_eq!(timeline.asked(), [Request::Program { tgid: PARENT }]);
    assert_eq!(timeline.count(|output| matches!(output, Output::Unsafe { .. })), 1);
}

#[test]
fn a_loop_is_over_when_nobody_has_died_for_five_minutes() {
    let mut timeline = host("gunicorn");
    one_by_one(&mut timeline, 30, 4000, SEGV);
    let last = timeline.now.0 / MILLI;
    timeline.at(last + 299_999);
    timeline.only_finding();
    timeline.at(last + 300_000);
    let over = timeline.findings()[1];
    assert_eq!((over.number, over.state), (1, State::Resolved(Resolution::Cleared)));
    assert_eq!(over.summary, "the children of gunicorn (pid 4242) have stopped dying one after the other");
    assert_eq!(timeline.core.deadline(), None);
}

#[test]
fn a_loop_is_over_when_its_parent_ends() {
    let mut timeline = host("gunicorn");
    one_by_one(&mut timeline, 30, 4000, SEGV);
    timeline.exit(PARENT);
    assert_eq!(timeline.findings()[1].state, State::Resolved(Resolution::Ended));
    timeline.at(10_000_000);
    assert_eq!(timeline.findings().len(), 2);
}

#[test]
fn a_fast_loop_and_one_of_many_workers_are_found_too() {
    let mut timeline = host("server");
    one_by_one(&mut timeline, 1000, 50, SEGV);
    assert_eq!(timeline.only_finding().facts.history.as_ref().unwrap().ends[0].count, 401);

    // Eight workers that die together every 10 s, as when all wait for the same thing that never comes.
    let mut timeline = host("uwsgi");
    for round in 0..4 {
        for worker in 0..8 {
            let wait = if worker == 0 { 10_000 } else { 10 };
            end(&mut timeline, wait, 5000 + 8 * round + worker, KILL, 9900);
        }
    }
    timeline.only_finding();
}

#[test]
fn the_odd_other_end_does_not_hide_a_loop() {
    let mut timeline = host("gunicorn");
    for round in 0..6 {
        one_by_one(&mut timeline, 3, 2000, SEGV);
        end(&mut timeline, 100, 6000 + round, BOOT_FAILED, 50);
    }
    let history = timeline.only_finding().facts.history.clone().unwrap();
    assert_eq!(history.ends.iter().map(|ends| ends.how.as_str()).collect::<Vec<_>>(), ["SIGSEGV", "code 3"]);
}

#[test]
fn workers_that_end_all_at_once_are_a_stop_or_a_reload() {
    for status in [KILL, SEGV, ExitStatus::Code(1)] {
        let mut timeline = host("gunicorn");
        // Two reloads within a minute: the workers of each were forked before any of them ended.
        for round in 0..2 {
            for worker in 0..16 {
                let wait = if worker == 0 { 25_000 } else { 50 };
                end(&mut timeline, wait, 5000 + 16 * round + worker, status, 24_000);
            }
        }
        timeline.at(9_000_000);
        assert_eq!(timeline.told(), NOTHING, "{status:?}");
    }
}

#[test]
fn a_burst_of_failing_children_is_silent() {
    let mut timeline = host("server");
    one_by_one(&mut timeline, 1900, 10, SEGV);
    timeline.at(9_000_000);
    assert_eq!(timeline.told(), NOTHING);
}

#[test]
fn rare_deaths_are_silent() {
    let mut timeline = host("gunicorn");
    one_by_one(&mut timeline, 200, 16_000, SEGV);
    assert_eq!(timeline.told(), NOTHING);
    // Children that live long and die of age.
    for tgid in 0..200 {
        end(&mut timeline, 5000, 5000 + tgid, SEGV, 60_000);
    }
    assert_eq!(timeline.told(), NOTHING);
}

#[test]
fn ends_of_many_kinds_are_no_loop() {
    let mut timeline = host("runner");
    for tgid in 0..200 {
        end(&mut timeline, 1000, 5000 + tgid, ExitStatus::Code(u8::try_from(1 + tgid % 20).unwrap()), 500);
    }
    assert_eq!(timeline.told(), NOTHING);
}

#[test]
fn ends_that_were_asked_for_are_silent() {
    for status in [
        ExitStatus::Code(0),
        ExitStatus::Code(143),
        ExitStatus::Code(127),
        ExitStatus::Code(155),
        ExitStatus::Signal { number: 15, core_dumped: false },
    ] {
        let mut timeline = host("celery");
        one_by_one(&mut timeline, 100, 1000, status);
        assert_eq!(timeline.told(), NOTHING, "{status:?}");
    }
}

#[test]
fn shells_test_runners_and_servers_of_sessions_are_silent() {
    for (name, status) in [
        ("bash", ExitStatus::Code(1)),
        ("dash", SEGV),
        ("make", ExitStatus::Code(2)),
        ("ctest", SEGV),
        ("postgres", ExitStatus::Code(1)),
        ("sshd", ExitStatus::Code(255)),
    ] {
        let mut timeline = host(name);
        one_by_one(&mut timeline, 300, 500, status);
        assert_eq!(timeline.findings().len(), 0, "{name}");
        assert_eq!(timeline.asked().len(), 1, "{name}: asked once for the whole run");
    }
    let mut timeline = host("postgres");
    one_by_one(&mut timeline, 60, 500, SEGV);
    timeline.only_finding();
}

#[test]
fn a_parent_that_is_gone_or_another_by_now_is_not_to_blame() {
    let mut timeline = host("gunicorn");
    timeline.named.clear();
    one_by_one(&mut timeline, 60, 500, SEGV);
    assert_eq!(timeline.findings().len(), 0);

    let mut timeline = host("gunicorn");
    let seen = timeline.named.get_mut(&PARENT).unwrap();
    seen.process.start = ms(1_010_000);
    one_by_one(&mut timeline, 30, 1000, SEGV);
    timeline.at(2_000_000);
    assert_eq!(timeline.findings().len(), 0, "the dead are older than this process");
}

#[test]
fn a_question_that_nobody_answers_is_put_again_and_no_more_often_than_every_ten_seconds() {
    let mut timeline = host("gunicorn");
    timeline.silent = true;
    one_by_one(&mut timeline, 100, 500, SEGV);
    assert_eq!(timeline.asked().len(), 3);
    timeline.silent = false;
    one_by_one(&mut timeline, 40, 500, SEGV);
    timeline.only_finding();
}

#[test]
fn loops_of_one_program_are_reported_once() {
    let mut timeline = host("gunicorn");
    one_by_one(&mut timeline, 60, 500, SEGV);
    timeline.at(2_000_000);
    one_by_one(&mut timeline, 60, 500, SEGV);
    assert_eq!(timeline.states().len(), 3, "a loop, its end, and the next");
}

#[test]
fn an_accepted_loop_is_counted_and_not_reported() {
    let suppress = vec![toml::from_str("hazard = \"crash-loop\"\nreason = \"tested\"").unwrap()];
    let mut timeline = Timeline::with(Settings { suppress, ..Settings::default() });
    name_parent(&mut timeline, "gunicorn");
    timeline.at(1_000_000);
    one_by_one(&mut timeline, 100, 500, SEGV);
    assert_eq!(timeline.count(|output| matches!(output, Output::Suppressed { .. })), 1);
    assert_eq!(timeline.findings().len(), 0);
}

/// Jobs that each live so long: of so many one ends with code 1, and the rest well.
fn jobs(timeline: &mut Timeline, count: u32, period: u64, of: u32, lifetime: u64) {
    for tgid in 0..count {
        let status = if tgid % of == 0 { ExitStatus::Code(1) } else { ExitStatus::Code(0) };
        end(timeline, period, 5000 + tgid, status, lifetime);
    }
}

#[test]
fn jobs_of_which_some_fail_are_silent() {
    // A pool that forks a worker anew after each task, and one child in eight that fails.
    let mut timeline = host("runner");
    jobs(&mut timeline, 200, 1000, 8, 900);
    assert_eq!(timeline.findings(), NO_FINDING);
    let parent = ProcessKey { tgid: PARENT, start: BootTime(0) };
    assert_eq!(
        timeline.probe_requests(),
        [ProbeRequest::WatchFamily(parent)],
        "its good ends are looked at, once"
    );
    // All of them, for a time: nothing but good ends tells.
    let mut timeline = host("runner");
    jobs(&mut timeline, 400, 500, 2, 400);
    assert_eq!(timeline.findings(), NO_FINDING);
}

#[test]
fn jobs_that_all_fail_are_information() {
    // A child every 8 s that ends with 1 after 4 s of work: nobody is forked in its place.
    let mut timeline = host("runner");
    for tgid in 0..30 {
        end(&mut timeline, 8000, 5000 + tgid, ExitStatus::Code(1), 4000);
    }
    let finding = timeline.only_finding();
    assert_eq!((finding.severity, finding.certainty), (Severity::Info, Certainty::Heuristic));
    assert_eq!(finding.state, State::Suspected);
    assert!(finding.summary.contains("workers or jobs"), "{}", finding.summary);
    assert!(!finding.remedy.text.contains("Stop"), "{}", finding.remedy.text);
    // Workers of a pool that last for a while, one after the other.
    let mut timeline = host("runner");
    for tgid in 0..40 {
        end(&mut timeline, 8000, 5000 + tgid, ExitStatus::Code(1), 31_900);
    }
    assert_eq!(timeline.only_finding().severity, Severity::Info);
}

#[test]
fn a_server_whose_workers_die_young_is_certain_beside_workers_that_live() {
    // Two of four workers fail to start again and again; the others serve, and end when they are told to.
    let mut timeline = host("gunicorn");
    for tgid in 0..20 {
        end(&mut timeline, 1000, 5000 + tgid, BOOT_FAILED, 400);
    }
    // Older than the run, so that it says nothing of those that are forked now.
    end(&mut timeline, 10, 6000, ExitStatus::Code(0), 500_000);
    for tgid in 20..40 {
        end(&mut timeline, 1000, 5000 + tgid, BOOT_FAILED, 400);
    }
    let finding = timeline.only_finding();
    assert_eq!((finding.severity, finding.certainty), (Severity::Warning, Certainty::Certain));
    assert!(finding.summary.contains("code 3 (gunicorn: a worker could not start)"), "{}", finding.summary);
}

#[test]
fn good_ends_are_looked_at_no_longer_when_nobody_dies() {
    let mut timeline = host("runner");
    one_by_one(&mut timeline, 2, 1000, SEGV);
    assert_eq!(timeline.probe_requests(), [], "two may be chance");
    one_by_one(&mut timeline, 1, 1000, SEGV);
    let parent = ProcessKey { tgid: PARENT, start: BootTime(0) };
    let last = timeline.now.0 / MILLI;
    timeline.at(last + 59_999);
    assert_eq!(timeline.probe_requests(), [ProbeRequest::WatchFamily(parent)]);
    timeline.at(last + 60_000);
    assert_eq!(
        timeline.probe_requests(),
        [ProbeRequest::WatchFamily(parent), ProbeRequest::UnwatchFamily(parent)]
    );
    assert_eq!(timeline.core.deadline(), None);
}

/// Whether these ends (when, after how long a life, how) give reason for a report at the last of them, told from all
/// of them at once.
fn may_be_a_loop(ends: &[(u64, u64, ExitStatus)]) -> bool {
    let counted: Vec<_> =
        ends.iter().filter(|(_, life, status)| *life < 60_000 && *status != BOOT_FAILED).collect();
    let Some((last, _, how)) = counted.last() else { return false };
    let same: Vec<_> = counted.iter().filter(|(_, _, status)| status == how).collect();
    let mut chain = 0;
    let mut died = 0;
    for (at, life, _) in &same {
        if at.saturating_sub(*life) >= died {
            (died, chain) = (*at, chain + 1);
        }
    }
    same.iter().filter(|(at, _, _)| last - at <= 60_000).count() >= 5
        && chain >= 3
        && last - same[0].0 >= 20_000
}

proptest! {
    #[test]
    fn whatever_is_reported_was_a_loop(
        ends in prop::collection::vec((0..12_000_u64, 1..30_000_u64, 0..8_u8), 0..60), base in 1..12_000_u64,
    ) {
        let mut timeline = host("server");
        let start = timeline.now.0 / MILLI;
        let mut seen = Vec::new();
        for (tgid, (wait, life, status)) in (5000..).zip(ends) {
            let status = match status { 0 => KILL, 1 => BOOT_FAILED, _ => SEGV };
            // BOOT_FAILED stands for an end that somebody asked for, which does not count.
            let told = if status == BOOT_FAILED { ExitStatus::Code(143) } else { status };
            end(&mut timeline, wait.min(base), tgid, told, life);
            seen.push((timeline.now.0 / MILLI - start, life, status));
            if !timeline.findings().is_empty() {
                prop_assert!(may_be_a_loop(&seen), "{seen:?}");
                break;
            }
        }
    }

    #[test]
    fn a_worker_that_dies_every_few_seconds_is_always_reported(
        gaps in prop::collection::vec(1000..12_000_u64, 40..41), share in 1..100_u64,
    ) {
        let mut timeline = host("server");
        for (tgid, gap) in (5000..).zip(gaps) {
            end(&mut timeline, gap, tgid, SEGV, gap * share / 100);
        }
        prop_assert_eq!(timeline.findings().len(), 1);
    }
}
