//! Children that nobody waits for.

use super::*;
use crate::model::{
    finding::{Certainty, Severity},
    resolution::Resolution,
};

fn host() -> Timeline {
    let mut timeline = Timeline::new();
    let seen = ProgramSeen { process: process(PARENT), program: program("worker"), stopped: false };
    timeline.named.insert(PARENT, seen);
    timeline
}

/// A sweep that finds these children of PARENT dead.
fn sweep(timeline: &mut Timeline, seconds: u64, zombies: &[u32]) {
    let swept = |tgid: &u32| Swept {
        process: process(*tgid),
        comm: "job".into(),
        uid: None,
        parent: Some(process(PARENT)),
    };
    timeline.at(seconds * 1000);
    let sweep = Sweep {
        at: timeline.now,
        took: MILLI,
        mark: seconds,
        processes: 1,
        unexeced: Vec::new(),
        zombies: zombies.iter().map(swept).collect(),
        waits: Vec::new(),
    };
    timeline.evidence(&Evidence::Sweep { seen: Some(Box::new(sweep)) });
}

#[test]
fn a_child_that_lies_for_a_minute_is_information() {
    let mut timeline = host();
    sweep(&mut timeline, 10, &[5000]);
    sweep(&mut timeline, 69, &[5000]);
    assert_eq!(timeline.outputs, []);
    sweep(&mut timeline, 70, &[5000]);
    let finding = timeline.only_finding();
    assert_eq!(
        finding.summary,
        "worker (pid 4242) has not waited for a child that has ended: job (pid 5000) for 60 s at least"
    );
    assert_eq!((finding.hazard, finding.state), (HazardId::new("unreaped-children"), State::Confirmed));
    assert_eq!((finding.certainty, finding.severity), (Certainty::Certain, Severity::Info));
    assert_eq!((finding.parent, finding.child), (process(PARENT), process(5000)));
    sweep(&mut timeline, 700, &[5000]);
    timeline.only_finding();
    assert_eq!(timeline.asked().len(), 1);
}

#[test]
fn five_are_a_warning_and_the_last_one_clears_it() {
    let mut timeline = host();
    let zombies = [5000, 5001, 5002, 5003, 5004];
    sweep(&mut timeline, 0, &zombies);
    sweep(&mut timeline, 60, &zombies);
    let finding = timeline.only_finding();
    assert_eq!(
        finding.summary,
        "worker (pid 4242) has not waited for 5 children that have ended: the first of them, job (pid 5000) for 60 s \
         at least"
    );
    assert_eq!(finding.severity, Severity::Warning);
    sweep(&mut timeline, 120, &[5004]);
    timeline.only_finding();
    sweep(&mut timeline, 180, &[]);
    let over = timeline.findings()[1];
    assert_eq!((over.number, over.state), (1, State::Resolved(Resolution::Cleared)));
    assert!(!timeline.core.sweeps_all());
}

#[test]
fn ever_more_of_them_are_a_warning_after_the_information() {
    let mut timeline = host();
    sweep(&mut timeline, 0, &[5000]);
    sweep(&mut timeline, 60, &[5000, 5001]);
    sweep(&mut timeline, 100, &[5000, 5001]);
    timeline.only_finding();
    sweep(&mut timeline, 120, &[5000, 5001]);
    let last = timeline.findings()[1];
    assert_eq!((last.severity, last.repeats), (Severity::Warning, 0));
    assert!(last.summary.ends_with("; there are ever more of them"), "{}", last.summary);
    sweep(&mut timeline, 210, &[]);
    assert_eq!(timeline.findings()[2].number, 1, "the report that was made is the one that is over");
}

#[test]
fn children_that_are_waited_for_in_time_are_silent() {
    let mut timeline = host();
    for round in 0..20 {
        // A server that waits once in 50 s, for whatever has ended by then.
        sweep(&mut timeline, 50 * u64::from(round), &[5000 + 2 * round, 5001 + 2 * round]);
    }
    assert_eq!(timeline.outputs, []);
}

#[test]
fn another_process_with_the_pid_of_a_zombie_begins_anew() {
    let mut timeline = host();
    sweep(&mut timeline, 0, &[5000]);
    timeline.at(60_000);
    let again = ProcessKey { tgid: 5000, start: ms(59_000) };
    let swept = Swept { process: again, comm: "job".into(), uid: None, parent: Some(process(PARENT)) };
    let seen = Sweep {
        at: ms(60_000),
        took: 1,
        mark: 7,
        processes: 1,
        unexeced: Vec::new(),
        zombies: vec![swept],
        waits: Vec::new(),
    };
    timeline.evidence(&Evidence::Sweep { seen: Some(Box::new(seen)) });
    assert_eq!(timeline.outputs, []);
}

#[test]
fn a_stopped_parent_is_looked_at_again_later() {
    let mut timeline = host();
    timeline.named.get_mut(&PARENT).unwrap().stopped = true;
    sweep(&mut timeline, 0, &[5000]);
    sweep(&mut timeline, 60, &[5000]);
    assert_eq!((timeline.findings().len(), timeline.asked().len()), (0, 1));
    timeline.named.get_mut(&PARENT).unwrap().stopped = false;
    sweep(&mut timeline, 120, &[5000]);
    timeline.only_finding();
}

#[test]
fn a_parent_that_is_gone_or_unknown_is_silent() {
    let mut timeline = host();
    timeline.named.clear();
    sweep(&mut timeline, 0, &[5000]);
    sweep(&mut timeline, 60, &[5000]);
    // The pid belongs to another by now.
    let seen = ProgramSeen {
        process: ProcessKey { tgid: PARENT, start: ms(70_000) },
        program: program("other"),
        stopped: false,
    };
    timeline.named.insert(PARENT, seen);
    sweep(&mut timeline, 120, &[5000]);
    assert_eq!((timeline.findings().len(), timeline.asked().len()), (0, 2));
}

#[test]
fn the_next_sweep_must_be_whole_while_there_are_any() {
    let mut timeline = host();
    assert!(!timeline.core.sweeps_all());
    sweep(&mut timeline, 0, &[5000]);
    assert!(timeline.core.sweeps_all());
    timeline.evidence(&Evidence::Sweep { seen: None });
    assert!(timeline.core.sweeps_all(), "what was not looked at is not gone");
}

#[test]
fn init_in_a_container_is_told_what_helps() {
    let mut timeline = Timeline::new();
    let init = process(1);
    timeline.named.insert(1, ProgramSeen { process: init, program: program("sleep"), stopped: false });
    for seconds in [0, 60] {
        let swept = Swept { process: process(5000), comm: "job".into(), uid: None, parent: Some(init) };
        timeline.at(seconds * 1000);
        let seen = Sweep {
            at: timeline.now,
            took: 1,
            mark: 7,
            processes: 1,
            unexeced: Vec::new(),
            zombies: vec![swept],
            waits: Vec::new(),
        };
        timeline.evidence(&Evidence::Sweep { seen: Some(Box::new(seen)) });
    }
    assert!(timeline.only_finding().remedy.text.contains("--init"));
}
