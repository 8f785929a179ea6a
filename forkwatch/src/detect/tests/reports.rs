//! First reports, repeats, and what the operator accepts.

use super::*;
use crate::{
    core::Output::Unsafe,
    model::{
        connection::{Act, Peer},
        resolution::Resolution,
    },
};

/// A fork by PARENT that will be reported.
fn unsafe_fork(timeline: &mut Timeline, child: u32) {
    timeline.fork(Fork { child: process(child), ..threaded(2) });
}

#[test]
fn who_waits_for_findings_of_his_programs_hears_each_and_of_others_none_more() {
    for (uid, told) in [(33, vec![0; 5]), (34, vec![0])] {
        let settings = Settings { tell_each_of: vec![uid], ..Settings::default() };
        let mut timeline = Timeline::with(settings);
        for parent in timeline.parents.values_mut() {
            parent.program.uid = Some(33);
        }
        for second in 0..5_u32 {
            timeline.at(u64::from(second) * 1000);
            unsafe_fork(&mut timeline, 5000 + second);
        }
        timeline.at(20_000);
        let repeats: Vec<u64> = timeline.findings().iter().map(|finding| finding.repeats).collect();
        assert_eq!(repeats, told, "somebody waits for those of {uid}; the program is 33's");
    }
}

#[test]
fn repeats_are_counted_and_summed_up_once_a_minute() {
    let mut timeline = Timeline::new();
    for second in 0..90 {
        timeline.at(second * 1000);
        unsafe_fork(&mut timeline, 5000 + u32::try_from(second).unwrap());
    }
    timeline.at(300_000);
    let reports: Vec<_> = timeline
        .findings()
        .iter()
        .map(|finding| (finding.at, finding.number, finding.repeats, finding.child.tgid))
        .collect();
    // Reported at 1 s; then the forks judged by 61 s, then the rest.
    assert_eq!(reports, [(ms(1000), 1, 0, 5000), (ms(61_000), 2, 59, 5059), (ms(121_000), 3, 30, 5089)]);
    let summary = &timeline.findings()[1].summary;
    assert!(summary.starts_with("seen 59 times more within 58 s: gunicorn (pid"), "{summary}");
    assert_eq!(timeline.count(|output| matches!(output, Unsafe { .. })), 90);
    assert_eq!(timeline.core.summary_deadline(), None);
}

#[test]
fn a_repeat_about_a_child_that_has_ended_is_told_as_what_was_and_is_over() {
    let mut timeline = Timeline::new();
    unsafe_fork(&mut timeline, 5000);
    unsafe_fork(&mut timeline, 5001);
    timeline.at(21_000).exit(5001);
    timeline.at(300_000);
    let findings = timeline.findings();
    let [.., told, over] = findings.as_slice() else { panic!("{findings:?}") };
    assert_eq!((over.number, over.state), (told.number, State::Resolved(Resolution::Exited)));
    let summary = &told.summary;
    assert!(
        summary.starts_with("seen once more (as it was then: process 5001 exited with code 0): "),
        "{summary}"
    );
}

/// Four unsafe forks of one program: the first report, and a summary that names the others.
fn four_forks() -> Timeline {
    let mut timeline = Timeline::new();
    for child in 5000..5004 {
        unsafe_fork(&mut timeline, child);
    }
    timeline.at(100_000);
    timeline
}

#[test]
fn a_summary_names_its_children_and_is_over_with_the_last_of_them() {
    let mut timeline = four_forks();
    let findings = timeline.findings();
    let [_, summary] = findings.as_slice() else { panic!("{findings:?}") };
    let named: Vec<u32> = summary.facts.again.iter().map(|repeat| repeat.child.tgid).collect();
    assert_eq!((summary.repeats, summary.facts.unnamed, named), (3, 0, vec![5001, 5002, 5003]));
    let number = summary.number;
    timeline.exit(5003).at(101_000).exit(5001).at(102_000);
    assert_eq!(timeline.findings().len(), 2, "5002 lives");
    timeline.exit(5002).at(103_000);
    let last = (*timeline.findings().last().unwrap()).clone();
    assert_eq!((last.number, last.repeats, last.state), (number, 0, State::Resolved(Resolution::Exited)));
    assert!(last.summary.starts_with("all 3 children of gunicorn (pid"), "{}", last.summary);
    assert!(!timeline.core.findings_are_over(), "5000 lives");
    timeline.exit(5000).at(104_000);
    assert!(timeline.core.findings_are_over());
}

#[test]
fn so_many_children_are_named_and_of_the_others_it_is_not_known_whether_they_have_ended() {
    let mut timeline = Timeline::new();
    for child in 5000..5300 {
        unsafe_fork(&mut timeline, child);
    }
    timeline.at(100_000);
    let summary = (*timeline.findings().last().unwrap()).clone();
    assert_eq!((summary.repeats, summary.facts.again.len(), summary.facts.unnamed), (299, 256, 43));
    for child in 5000..5300 {
        timeline.exit(child);
    }
    timeline.at(200_000);
    let last = (*timeline.findings().last().unwrap()).clone();
    assert_eq!((last.number, last.state), (summary.number, State::Unknown));
    assert!(last.summary.contains("of 43 it is not known"), "{}", last.summary);
    assert!(timeline.core.findings_are_over());
}

/// A program whose workers all hang, one after the other.
fn hanging_workers(settings: Settings, count: u32) -> Vec<(u64, u64, u64)> {
    let mut timeline = Timeline::with(settings);
    for child in 5000..5000 + count {
        timeline.locks.insert(child, locks::orphaned_in(child));
        timeline.places.insert(child, locks::place(&["emit", "handle"]));
        unsafe_fork(&mut timeline, child);
    }
    timeline.at(100_000);
    let stuck =
        timeline.findings().into_iter().filter(|finding| finding.hazard == HazardId::new("orphaned-lock"));
    stuck.map(|finding| (finding.at.0 / MILLI / 1000, finding.child.tgid.into(), finding.repeats)).collect()
}

#[test]
fn each_worker_that_hangs_is_told_when_it_is_found_where_that_is_asked_for() {
    let told = hanging_workers(Settings { tell_each: true, ..Settings::default() }, 3);
    assert_eq!(told.iter().map(|(_, _, repeats)| *repeats).collect::<Vec<_>>(), [0, 0, 0]);
    assert!(told.iter().all(|(second, ..)| *second < 15), "{told:?}");
    // Otherwise the others are summed up a minute later.
    let told = hanging_workers(Settings::default(), 3);
    assert_eq!(told.iter().map(|(_, _, repeats)| *repeats).collect::<Vec<_>>(), [0, 2]);
    // No storm of workers floods the output.
    let told = hanging_workers(Settings { tell_each: true, ..Settings::default() }, 40);
    assert_eq!(told.len(), 18, "the first, sixteen more, and the rest: {told:?}");
}

#[test]
fn a_counted_repeat_is_not_followed_to_its_end() {
    let mut timeline = Timeline::new();
    unsafe_fork(&mut timeline, 5000);
    unsafe_fork(&mut timeline, 5001);
    timeline.at(2000).exit(5001).at(3000).exit(5000);
    let numbers: Vec<_> =
        timeline.findings().iter().map(|finding| (finding.child.tgid, finding.number)).collect();
    assert_eq!(numbers, [(5000, 1), (5000, 1)]);
}

#[test]
fn programs_units_and_hazards_are_told_apart() {
    let mut timeline = Timeline::new();
    for (tgid, name, unit) in
        [(10, "celery", None), (11, "celery", Some("a")), (12, "celery", Some("b")), (13, "puma", None)]
    {
        let mut seen = parent_seen(name, &["flush"]);
        seen.program.unit = unit.map(str::to_owned);
        timeline.parents.insert(tgid, seen);
        timeline.fork(Fork { threads: 2, ..fork_of(tgid, 100 + tgid) });
    }
    timeline.fork(pending(&[15])).at(2000);
    assert_eq!(timeline.findings().len(), 5);
    let in_a = Unsafe {
        hazard: HazardId::new("multithreaded-fork"),
        program_name: "celery".to_owned(),
        unit: Some("a".to_owned()),
        uid: None,
    };
    assert_eq!(timeline.count(|output| *output == in_a), 1);
}

/// A child that shares a connection with this parent, which both use.
fn mixes_up(timeline: &mut Timeline, (parent, child): (u32, u32), inode: u64, peer: &str) {
    let mut seen = connections::sockets_of(inode);
    seen.shared[0].peer = Peer::Tcp(peer.to_owned());
    timeline.sockets.insert(child, seen);
    timeline.fork(fork_of(parent, child));
    let now = timeline.now;
    timeline.at(now.0 / MILLI + 3000);
    for tgid in [parent, child] {
        timeline.uses_of(parent, (tgid, inode), Act::Sent, 100);
    }
}

#[test]
fn faults_of_two_sites_that_run_one_program_are_two() {
    let told = |sites: &[(u32, &str)]| {
        let mut timeline = Timeline::new();
        for ((parent, peer), (child, inode)) in sites.iter().zip((5000..).zip(70..)) {
            mixes_up(&mut timeline, (*parent, child), inode, peer);
        }
        timeline.findings().len()
    };
    assert_eq!(told(&[(10, "10.0.0.7:5432"), (10, "10.0.0.7:5432")]), 1, "a repeat");
    assert_eq!(told(&[(10, "10.0.0.7:5432"), (11, "10.0.0.7:5432")]), 2, "another process");
    assert_eq!(told(&[(10, "10.0.0.7:5432"), (10, "10.0.0.7:6379")]), 2, "another server");
    // Each client has a port of its own.
    assert_eq!(told(&[(10, "10.0.0.9:40001"), (10, "10.0.0.9:40002")]), 1, "another client");
}

#[test]
fn two_users_of_one_program_are_told_apart() {
    let mut timeline = Timeline::new();
    for (tgid, uid) in [(10, 33), (11, 1000), (12, 33)] {
        let mut seen = parent_seen("celery", &["flush"]);
        seen.program.uid = Some(uid);
        timeline.parents.insert(tgid, seen);
        timeline.fork(Fork { threads: 2, ..fork_of(tgid, 100 + tgid) });
    }
    timeline.at(2000);
    let users: Vec<_> = timeline.findings().iter().map(|finding| finding.program.uid).collect();
    assert_eq!(users, [Some(33), Some(1000)]);
}

#[test]
fn a_quiet_program_is_forgotten_and_then_reported_at_once_again() {
    let mut timeline = Timeline::new();
    unsafe_fork(&mut timeline, 5000);
    timeline.at(100_000);
    unsafe_fork(&mut timeline, 5001);
    timeline.at(102_000);
    assert_eq!(timeline.findings().iter().map(|finding| finding.repeats).collect::<Vec<_>>(), [0, 1]);
    // Another program's summary long after that clears the table.
    timeline.parents.insert(10, parent_seen("puma", &["reaper"]));
    timeline.at(800_000).fork(Fork { threads: 2, ..fork_of(10, 110) });
    timeline.at(802_000).fork(Fork { threads: 2, ..fork_of(10, 111) }).at(870_000);
    unsafe_fork(&mut timeline, 5002);
    timeline.at(872_000);
    let last = timeline.findings()[4];
    assert_eq!((last.child.tgid, last.repeats, last.at), (5002, 0, ms(871_000)));
}

/// Forks unsafely once as each of these programs: name, unit and user.
fn programs(
    timeline: &mut Timeline,
    first: u32,
    programs: impl Iterator<Item = (String, Option<String>, u32)>,
) {
    for (tgid, (name, unit, uid)) in (first..).zip(programs) {
        let mut seen = parent_seen(&name, &["flush"]);
        (seen.program.unit, seen.program.uid) = (unit, Some(uid));
        timeline.parents.insert(tgid, seen);
        timeline.fork(Fork { threads: 2, ..fork_of(tgid, 10_000 + tgid) });
    }
}

#[test]
fn names_without_end_cannot_flood_the_output() {
    let mut timeline = Timeline::new();
    programs(&mut timeline, 10_000, (0..2000).map(|number| (format!("p{number}"), None, number / 50)));
    timeline.at(2000);
    assert_eq!(timeline.findings().len(), 1025);
    assert_eq!(timeline.count(|output| matches!(output, Unsafe { .. })), 2000);
    assert!(timeline.core.is_within_bounds());
    timeline.at(62_000);
    let findings = timeline.findings();
    let rest = findings.last().unwrap();
    assert_eq!(rest.repeats, 975);
    assert!(rest.summary.starts_with("seen 975 times more in further programs within "), "{}", rest.summary);
}

#[test]
fn one_user_with_many_names_fills_neither_the_output_nor_what_is_left_for_others() {
    let mut timeline = Timeline::new();
    // As many units as he likes, below his own manager's.
    let unit = |number| Some(format!("user@1000.service/run-{number}.scope"));
    programs(&mut timeline, 10_000, (0..2000).map(|number| (format!("p{number}"), unit(number), 1000)));
    timeline.at(2000);
    assert_eq!(timeline.findings().len(), 65, "64 of them, and one for all others");
    programs(&mut timeline, 15_000, (0..10).map(|number| (format!("honest{number}"), None, 33)));
    timeline.at(4000);
    assert_eq!(timeline.findings().len(), 75, "each of the others at once");
    timeline.at(70_000);
    let summary = &timeline.findings().last().unwrap().summary;
    assert!(
        timeline.findings().iter().any(|finding| {
            finding.summary.starts_with("seen 1935 times more in further programs of uid 1000 within ")
        }),
        "{summary}"
    );
    // In containers of his own he gets further, and not far.
    let unit = |number: u32| Some(format!("{:012x}", number / 50));
    programs(&mut timeline, 16_000, (0..2000).map(|number| (format!("q{number}"), unit(number), 1000)));
    let before = timeline.findings().len();
    timeline.at(72_000);
    assert!(timeline.findings().len() <= before + 256);
    assert!(timeline.core.is_within_bounds());
}

#[test]
fn what_the_operator_accepts_is_counted_and_not_reported() {
    let rule = "unit = \"web.service\"\nthread = \"metrics-*\"\nreason = \"takes no lock\"";
    let suppress = vec![toml::from_str(rule).unwrap()];
    let mut timeline = Timeline::with(Settings { suppress, ..Settings::default() });
    let mut seen = parent_seen("gunicorn", &["metrics-flush"]);
    seen.program.unit = Some("web.service".to_owned());
    timeline.parents.insert(PARENT, seen.clone());
    timeline.fork(threaded(2)).at(2000);
    let suppressed = Output::Suppressed {
        hazard: HazardId::new("multithreaded-fork"),
        program_name: "gunicorn".to_owned(),
        rule: 0,
        reason: "takes no lock".to_owned(),
    };
    assert_eq!(timeline.count(|output| *output == suppressed), 1);
    assert_eq!(timeline.count(|output| matches!(output, Output::Finding(_) | Unsafe { .. })), 0);

    // One thread that nobody vouched for, and the finding is back.
    seen.threads.push(SeenThread { tid: 6000, comm: "grpc".into() });
    seen.thread_count = 2;
    timeline.parents.insert(PARENT, seen);
    timeline.exit(CHILD).fork(threaded(3)).at(4000);
    timeline.only_finding();
}

#[test]
fn a_reload_keeps_what_is_known() {
    let mut timeline = Timeline::new();
    timeline.fork(threaded(2)).at(2000);
    timeline.at(2500).fork(Fork { child: process(5001), ..threaded(2) });
    let suppress = vec![toml::from_str("comm = \"gunicorn\"\nreason = \"tested\"").unwrap()];
    timeline.core.configure(Settings { suppress, ..Settings::default() });
    timeline.at(4000).exit(CHILD);
    assert_eq!(timeline.count(|output| matches!(output, Output::Suppressed { .. })), 1);
    assert_eq!(timeline.states().len(), 2, "the first finding is still resolved");
}

#[test]
fn a_delay_of_nothing_does_not_turn_in_circles() {
    let nothing = std::time::Duration::ZERO;
    let settings =
        Settings { grace: nothing, recheck: nothing, summary_interval: nothing, ..Settings::default() };
    let mut timeline = Timeline::with(settings);
    timeline.fork(threaded(2)).at(100);
    timeline.only_finding();
}
