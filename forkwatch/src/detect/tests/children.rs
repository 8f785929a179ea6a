//! What becomes of a copying fork.

use std::time::Duration;

use super::*;
use crate::{
    core::Dropped,
    model::{
        finding::{Certainty, Severity},
        resolution::Resolution,
        stack::Frame,
    },
};

#[test]
fn a_child_that_lives_on_beside_threads_is_reported_with_their_names() {
    let mut timeline = Timeline::new();
    timeline.parents.insert(PARENT, parent_seen("gunicorn", &["metrics-flush", "grpc_global_tim", "python"]));
    timeline.fork(threaded(4)).at(999);
    assert_eq!(timeline.findings(), Vec::<&Finding>::new());
    timeline.at(1000);
    let finding = timeline.only_finding();
    assert_eq!(
        finding.summary,
        "gunicorn (pid 4242) forked 4250 while 3 other threads ran (metrics-flush, grpc_global_tim, python); the \
         child lives on without exec, and any lock they held stays locked in it"
    );
    assert_eq!((finding.hazard, finding.state), (HazardId::new("multithreaded-fork"), State::Suspected));
    assert_eq!((finding.certainty, finding.severity), (Certainty::Heuristic, Severity::Warning));
    assert_eq!((finding.number, finding.repeats, finding.at), (1, 0, ms(1000)));
    assert_eq!((finding.parent, finding.child), (process(PARENT), process(CHILD)));
    assert_eq!((finding.facts.thread_count, finding.facts.age), (Some(3), Some(1000 * MILLI)));
    assert!(finding.remedy.text.contains("post_fork"), "{}", finding.remedy.text);
    assert_eq!(timeline.lives_on().len(), 1);
}

/// What a thread of `parent_seen` does.
fn occupied(tid: u32, name: &str, function: &str, line: u32) -> Occupation {
    let at = Frame {
        function: Some(function.to_owned()),
        module: Some("/srv/shop/jobs.py".to_owned()),
        line: Some(line),
        ..Frame::default()
    };
    Occupation { tid, name: Some(name.to_owned()), at: Some(at), queue: None }
}

#[test]
fn threads_are_told_by_their_own_names_with_what_they_do() {
    let mut timeline = Timeline::new();
    timeline.parents.insert(PARENT, parent_seen("gunicorn", &["python", "python", "python", "rdk:main"]));
    let occupations = vec![
        occupied(5000, "cache-refresher", "holder", 4),
        occupied(5001, "pool-0_0", "work", 9),
        occupied(5002, "pool-0_1", "work", 9),
    ];
    timeline.occupations.insert(PARENT, occupations.clone());
    timeline.fork(threaded(5)).at(1000);
    let finding = timeline.only_finding();
    let names = "(cache-refresher: holder (jobs.py:4), pool-*_* x2: work (jobs.py:9), rdk:main)";
    assert!(finding.summary.contains(names), "{}", finding.summary);
    assert_eq!(finding.facts.occupations, occupations);
}

#[test]
fn a_forker_is_asked_what_its_threads_do_once_in_a_while() {
    let looks = |timeline: &Timeline| {
        timeline.count(|output| matches!(output, Output::Ask(Request::Occupations { .. })))
    };
    let mut timeline = Timeline::new();
    timeline.occupations.insert(PARENT, vec![occupied(5000, "flusher", "flush", 7)]);
    for child in 0..5 {
        timeline.fork(Fork { child: process(6000 + child), ..threaded(2) });
    }
    // Of a child that execs in time, nothing.
    timeline.fork(Fork { child: process(7000), ..threaded(2) }).exec(exec_of(7000, PARENT, &[]));
    timeline.fork(Fork { child: process(7001), ..plain() }).at(2000);
    assert_eq!(looks(&timeline), 1);
    assert!(timeline.only_finding().summary.contains("flusher: flush (jobs.py:7)"));
    timeline.at(20_000).fork(Fork { child: process(7002), ..threaded(2) }).at(22_000);
    assert_eq!(looks(&timeline), 2);
}

#[test]
fn a_fork_is_judged_also_where_its_forkers_threads_cannot_be_looked_at() {
    let mut timeline = Timeline::new();
    timeline.fork(threaded(2)).at(999);
    let mut out = Vec::new();
    // Answered by hand, but for what the threads do.
    timeline.silent = true;
    timeline.at(1000);
    let seen = alive(ms(1000));
    timeline.core.evidence(ms(1000), &Evidence::Child { child: process(CHILD), seen }, &mut out);
    assert!(!out.iter().any(|output| matches!(output, Output::Finding(_))), "{out:?}");
    timeline.at(2999);
    assert_eq!(timeline.findings().len(), 0);
    timeline.at(3000);
    assert!(timeline.only_finding().summary.contains("(metrics-flush)"));
}

#[test]
fn exec_in_time_is_silent_and_asks_nothing_of_the_host() {
    let mut timeline = Timeline::new();
    timeline.fork(threaded(40)).at(8).exec(exec_of(CHILD, PARENT, &[])).at(5000);
    assert_eq!(timeline.outputs, []);
    timeline.assert_forgotten();
}

#[test]
fn an_early_exit_is_silent() {
    let mut timeline = Timeline::new();
    timeline.fork(threaded(40)).at(900).exit(CHILD).at(5000);
    assert_eq!(timeline.findings().len() + timeline.lives_on().len(), 0);
    timeline.assert_forgotten();
}

#[test]
fn a_plain_child_that_lives_on_is_told_and_forgotten() {
    let mut timeline = Timeline::new();
    timeline.fork(plain()).at(5000);
    let expected = LivesOn {
        child: process(CHILD),
        parent: process(PARENT),
        comm: "python".into(),
        at: ms(1000),
        since_fork: Duration::from_secs(1),
    };
    assert_eq!(timeline.lives_on(), [&expected]);
    assert_eq!(timeline.asked(), [Request::Child { child: process(CHILD) }]);
    assert_eq!(timeline.findings().len(), 0);
    timeline.assert_forgotten();
}

#[test]
fn clones_that_share_memory_are_not_judged() {
    for kind in [CloneKind::Vfork, CloneKind::SharedMemory, CloneKind::Kernel] {
        let mut timeline = Timeline::new();
        timeline.fork(Fork { kind, ..threaded(9) }).at(5000);
        assert_eq!(timeline.outputs, [], "{kind:?}");
    }
}

#[test]
fn io_uring_workers_are_no_threads() {
    // The kernel side leaves them out of the count.
    let mut timeline = Timeline::new();
    timeline.fork(threaded(1)).at(5000);
    assert_eq!(timeline.findings().len(), 0);
    assert!(!timeline.asked().iter().any(|request| matches!(request, Request::Parent { .. })));
}

#[test]
fn threads_that_were_ending_are_not_to_blame() {
    let mut timeline = Timeline::new();
    timeline.parents.insert(PARENT, parent_seen("gunicorn", &[]));
    timeline.fork(threaded(2)).at(99);
    assert_eq!(timeline.asked(), []);
    timeline.at(100);
    let request = Request::Parent {
        child: process(CHILD),
        parent: process(PARENT),
        forking_tid: PARENT,
        forked_at: BootTime(0),
    };
    assert_eq!(timeline.asked(), [request]);
    timeline.at(5000);
    assert_eq!(timeline.findings().len(), 0);
    timeline.assert_forgotten();
}

#[test]
fn a_parent_that_cannot_be_seen_leaves_nobody_to_blame() {
    let mut timeline = Timeline::new();
    timeline.parents.clear();
    timeline.fork(threaded(3)).at(5000);
    assert_eq!(timeline.findings().len(), 0);
    let multithreaded_fork = HazardId::new("multithreaded-fork");
    let undecided = |output: &Output| matches!(output, Output::Undecided { hazard, child, .. } if *hazard == multithreaded_fork && *child == process(CHILD));
    assert_eq!(timeline.count(undecided), 1);
    timeline.assert_forgotten();
}

#[test]
fn a_daemon_whose_parent_ended_beside_threads_is_told_by_the_kernel_s_count() {
    let mut timeline = Timeline::new();
    timeline.parents.clear();
    timeline.ended.insert(PARENT);
    timeline.fork(threaded(3)).at(5000);
    let finding = timeline.only_finding();
    assert_eq!((finding.state, finding.certainty), (State::Suspected, Certainty::Heuristic));
    assert_eq!((finding.facts.thread_count, finding.facts.threads.len()), (Some(2), 0));
    assert!(finding.summary.contains("while 2 other threads ran, and ended at once"), "{}", finding.summary);
    // One without threads is a daemon as it should be.
    let mut timeline = Timeline::new();
    timeline.parents.clear();
    timeline.ended.insert(PARENT);
    timeline.fork(threaded(1)).at(5000);
    assert_eq!(timeline.findings().len(), 0);
}

#[test]
fn a_daemon_that_forks_twice_is_told_by_the_count_at_the_first_fork() {
    const DAEMON: u32 = 4260;
    let second = |threads| Fork { generation: 2, threads, ..fork_of(CHILD, DAEMON) };
    let daemonise = |first: u32, middle_ends: bool| {
        let mut timeline = Timeline::new();
        timeline.parents.clear();
        timeline.fork(threaded(first)).fork(second(1));
        if middle_ends {
            timeline.ended.insert(CHILD);
            timeline.exit(CHILD);
        } else {
            timeline.parents.insert(CHILD, parent_seen("launcher", &[]));
        }
        timeline.at(5000);
        timeline
    };
    let timeline = daemonise(3, true);
    let finding = timeline.only_finding();
    assert_eq!(finding.child, process(DAEMON));
    assert_eq!((finding.state, finding.facts.thread_count), (State::Suspected, Some(2)));
    assert_eq!(
        finding.summary,
        "python (pid 4242) forked 4250 while 2 other threads ran, which forked 4260 and ended at once, as a program that \
         becomes a daemon does: those threads are not in the daemon, and any lock they held stays locked in it"
    );
    assert_eq!(finding.facts.notes[1], "the parent is itself a forked child: generation 2");
    assert_eq!(daemonise(1, true).findings().len(), 0, "nobody had threads");
    let middle_lives = daemonise(3, false);
    let told: Vec<_> = middle_lives.findings().iter().map(|finding| finding.child).collect();
    assert_eq!(told, [], "the forker of the first could not be seen, and the second was alone");
}

#[test]
fn what_a_child_s_child_waits_for_may_be_what_the_first_fork_left_behind() {
    const GRANDCHILD: u32 = 4260;
    let left = |first| {
        let mut timeline = Timeline::new();
        timeline.fork(threaded(first)).fork(Fork { generation: 2, ..fork_of(CHILD, GRANDCHILD) }).at(2000);
        timeline.core.left_threads_behind(process(GRANDCHILD))
    };
    assert_eq!((left(2), left(1)), (Some(true), None));
}

#[test]
fn the_order_of_the_evidence_does_not_matter() {
    let mut timeline = Timeline::new();
    timeline.silent = true;
    let child = process(CHILD);
    timeline.fork(threaded(2)).at(1000);
    timeline.evidence(&Evidence::Child { child, seen: alive(ms(1000)) }).at(1200);
    timeline.evidence(&Evidence::Occupations { child, seen: Vec::new() });
    let none = HeldLocksSeen::Alive(Box::new(carries(&[])));
    timeline.evidence(&Evidence::HeldLocks { child, seen: none });
    assert_eq!(timeline.findings().len(), 0);
    let seen = parent_seen("gunicorn", &["flush"]);
    timeline.evidence(&Evidence::Parent { child, seen: Some(seen.clone()), ended: false });
    assert_eq!(timeline.only_finding().facts.age, Some(1200 * MILLI));
    timeline.evidence(&Evidence::Parent { child, seen: Some(seen), ended: false });
    timeline.evidence(&Evidence::Child { child, seen: alive(ms(1300)) });
    timeline.only_finding();
}

#[test]
fn a_lost_exec_or_exit_record_cannot_make_a_finding() {
    for seen in [|_| ChildSeen::Execed, (|_| ChildSeen::Gone) as fn(BootTime) -> ChildSeen] {
        let mut timeline = Timeline::new();
        timeline.children.insert(CHILD, seen);
        timeline.fork(threaded(3)).at(5000);
        assert_eq!(timeline.findings().len() + timeline.lives_on().len(), 0);
        timeline.assert_forgotten();
    }
}

#[test]
fn what_cannot_be_read_is_unknown() {
    let mut timeline = Timeline::new();
    timeline.children.insert(CHILD, |_| ChildSeen::Unreadable("EACCES".to_owned()));
    timeline.fork(threaded(3)).at(5000);
    assert_eq!(timeline.findings().len() + timeline.lives_on().len(), 0);
    assert_eq!(timeline.count(|output| matches!(output, Output::Undecided { .. })), 1);
    timeline.assert_forgotten();
}

#[test]
fn the_grace_counts_from_the_first_run() {
    // It first got a CPU 1.5 s after the fork, and exec'd half a second later.
    let mut timeline = Timeline::new();
    timeline.children.insert(CHILD, |at| ChildSeen::Alive {
        at,
        comm: "python".into(),
        ran: Some(if at < ms(1500) { 0 } else { MILLI }),
        waited: Some(if at < ms(1500) { 0 } else { 1500 * MILLI }),
        stopped: false,
    });
    timeline.fork(threaded(3)).at(2400);
    assert_eq!(timeline.lives_on().len(), 0);
    timeline.exec(exec_of(CHILD, PARENT, &[])).at(9000);
    assert_eq!(timeline.findings().len(), 0);

    timeline.at(10_000).fork(Fork { child: process(CHILD + 1), ..threaded(3) });
    timeline.children.insert(CHILD + 1, |at| ChildSeen::Alive {
        at,
        comm: "python".into(),
        ran: Some(MILLI),
        waited: Some(300 * MILLI),
        stopped: false,
    });
    timeline.at(11_299);
    assert_eq!(timeline.lives_on().len(), 0);
    timeline.at(11_300);
    assert_eq!(timeline.lives_on().len(), 1);
}

#[test]
fn a_child_that_never_runs_is_judged_at_last() {
    let mut timeline = Timeline::new();
    timeline.children.insert(CHILD, |at| ChildSeen::Alive {
        at,
        comm: "python".into(),
        ran: Some(0),
        waited: None,
        stopped: false,
    });
    timeline.fork(plain()).at(59_000);
    assert_eq!(timeline.lives_on().len(), 0);
    timeline.at(60_000);
    assert_eq!(timeline.lives_on().len(), 1);
    timeline.assert_forgotten();
}

#[test]
fn a_stopped_child_is_not_judged_and_gets_a_new_grace() {
    let mut timeline = Timeline::new();
    timeline.children.insert(CHILD, |at| ChildSeen::Alive {
        at,
        comm: "python".into(),
        ran: Some(MILLI),
        waited: Some(if at < ms(1500) { 400 * MILLI } else { 700 * MILLI }),
        stopped: at < ms(1500),
    });
    // Seen stopped after 1 s; of the second after that it waited 300 ms for a CPU.
    timeline.fork(threaded(3)).at(2299);
    assert_eq!(timeline.lives_on().len(), 0);
    timeline.at(2300);
    assert_eq!(timeline.lives_on().len(), 1);
    timeline.only_finding();

    let mut hours = Timeline::new();
    hours.children.insert(CHILD, |at| ChildSeen::Alive {
        at,
        comm: "python".into(),
        ran: None,
        waited: None,
        stopped: true,
    });
    hours.fork(threaded(3)).at(3_600_000);
    assert_eq!(hours.lives_on().len() + hours.findings().len(), 0);
    assert!(hours.asked().len() < 100, "{}", hours.asked().len());
}

#[test]
fn a_daemon_that_forks_twice_is_no_alarm() {
    let mut timeline = Timeline::new();
    timeline.fork(threaded(1)).at(1).fork(fork_of(CHILD, 4251)).at(2).exit(CHILD).at(5000);
    assert_eq!(timeline.findings().len(), 0);
    assert_eq!(timeline.lives_on().len(), 1);
}

#[test]
fn the_second_generation_is_judged_by_its_own_threads() {
    let mut timeline = Timeline::new();
    timeline.fork(plain()).at(2000);
    timeline.parents.insert(CHILD, parent_seen("gunicorn", &["pool"]));
    timeline.fork(Fork { generation: 2, threads: 2, ..fork_of(CHILD, 4251) }).at(4000);
    let finding = timeline.only_finding();
    assert_eq!(finding.parent, process(CHILD));
    assert!(
        finding.facts.notes.iter().any(|note| note.contains("generation 2")),
        "{:?}",
        finding.facts.notes
    );
}

#[test]
fn a_background_save_is_information() {
    for server in ["redis-server", "valkey-server", "keydb-server"] {
        let mut timeline = Timeline::new();
        timeline.parents.insert(PARENT, parent_seen(server, &["bio_close_file", "jemalloc_bg_thd"]));
        timeline.fork(threaded(3)).at(1000);
        let finding = timeline.only_finding();
        assert_eq!(finding.severity, Severity::Info);
        assert!(finding.summary.contains("by design"), "{}", finding.summary);
    }
}

#[test]
fn a_finding_is_resolved_by_what_becomes_of_the_child() {
    type End = fn(&mut Timeline);
    let ends: [(End, Resolution, &str); 3] = [
        (
            |timeline| {
                timeline.exec(exec_of(CHILD, PARENT, &[]));
            },
            Resolution::Execed,
            "withdrawn",
        ),
        (
            |timeline| {
                timeline.exit(CHILD);
            },
            Resolution::Exited,
            "4250 of gunicorn (pid 4242) exited with code 0",
        ),
        (
            |timeline| {
                timeline.kill(CHILD);
            },
            Resolution::Killed,
            "killed by SIGKILL; who sent it was not seen",
        ),
    ];
    for (end, how, part) in ends {
        let mut timeline = Timeline::new();
        timeline.fork(threaded(3)).at(3000);
        end(&mut timeline);
        let hazard = HazardId::new("multithreaded-fork");
        assert_eq!(timeline.states(), [(hazard, State::Suspected, 1), (hazard, State::Resolved(how), 1)]);
        let resolved = timeline.findings()[1];
        assert!(resolved.summary.contains(part), "{}", resolved.summary);
        assert_eq!((resolved.at, resolved.facts.age), (ms(3000), Some(3000 * MILLI)));
        timeline.assert_forgotten();
    }
}

#[test]
fn a_child_whose_end_the_kernel_does_not_report_is_not_waited_for() {
    let mut timeline = Timeline::new();
    timeline.fork(Fork { tracked: false, ..threaded(3) }).at(2000);
    timeline.only_finding();
    timeline.assert_forgotten();
}

#[test]
fn a_reused_pid_is_another_child() {
    let mut timeline = Timeline::new();
    let again = ProcessKey { tgid: CHILD, start: ms(50) };
    timeline.fork(threaded(3)).at(50).fork(Fork { child: again, ..plain() }).at(60);
    // The first one's exec comes late; it is not the second one's.
    timeline.exec(exec_of(CHILD, PARENT, &[])).at(5000);
    assert_eq!(timeline.findings().len(), 0);
    assert_eq!(timeline.lives_on().iter().map(|lives_on| lives_on.child).collect::<Vec<_>>(), [again]);
    timeline.assert_forgotten();
}

#[test]
fn a_record_that_comes_twice_is_one_fork() {
    let mut timeline = Timeline::new();
    timeline.fork(threaded(3)).fork(threaded(3)).at(5000);
    timeline.only_finding();
    assert_eq!(timeline.asked().len(), 2);
}

#[test]
fn questions_without_an_answer_are_given_up() {
    let mut timeline = Timeline::new();
    timeline.silent = true;
    timeline.fork(threaded(3)).at(60_000);
    assert_eq!(timeline.asked().len(), 6);
    assert_eq!(timeline.count(|output| *output == Output::Dropped(Dropped::Unanswered)), 1);
    timeline.assert_forgotten();
    assert_eq!(timeline.core.deadline(), None);

    timeline.at(100_000).fork(threaded(3)).at(101_000);
    timeline.evidence(&Evidence::Child { child: process(CHILD), seen: alive(ms(101_000)) }).at(200_000);
    // Nor was its memory searched, nor the other's.
    assert_eq!(timeline.count(|output| matches!(output, Output::Undecided { .. })), 4);
    timeline.assert_forgotten();
}

#[test]
fn forks_beyond_the_bound_are_counted() {
    let mut timeline = Timeline::with(Settings { max_children: 2, ..Settings::default() });
    for child in 0..5 {
        timeline.fork(fork_of(PARENT, CHILD + child));
    }
    assert_eq!(timeline.outputs, vec![Output::Dropped(Dropped::Child); 3]);
    timeline.at(5000);
    assert_eq!(timeline.lives_on().len(), 2);
}

#[test]
fn children_that_live_on_take_no_place_from_new_forks() {
    let mut timeline = Timeline::with(Settings { max_children: 4, ..Settings::default() });
    for child in 6000..6010 {
        timeline.fork(fork_of(PARENT, child)).at(u64::from(child - 5999) * 2000);
    }
    assert_eq!(timeline.count(|output| matches!(output, Output::Dropped(Dropped::Living))), 6);
    assert_eq!(timeline.count(|output| matches!(output, Output::Dropped(Dropped::Child))), 0);
    let now = timeline.now.0 / MILLI;
    timeline.fork(threaded(2)).at(now + 2000);
    assert_eq!(timeline.only_finding().child, process(CHILD));
}

#[test]
fn a_fork_is_judged_though_its_child_cannot_be_looked_into() {
    let mut timeline = Timeline::new();
    // The sweep finds it before its record is read, and its memory is kept from us.
    let swept = Swept { process: process(CHILD), comm: "python".into(), uid: None, parent: None };
    let sweep = Sweep {
        at: ms(0),
        took: 1,
        mark: 1,
        processes: 2,
        unexeced: vec![swept],
        zombies: Vec::new(),
        waits: Vec::new(),
    };
    timeline
        .core
        .configure(Settings { sweep_interval: Some(Duration::from_secs(3600)), ..Settings::default() });
    timeline.evidence(&Evidence::Sweep { seen: Some(Box::new(sweep)) });
    timeline.at(500).fork(threaded(2));
    timeline.locks.insert(CHILD, LocksSeen::Unreadable("it is kept from us".to_owned()));
    timeline.at(5000);
    assert_eq!(timeline.count(|output| matches!(output, Output::Undecided { .. })), 1, "its locks");
    assert_eq!(timeline.only_finding().hazard.name(), "multithreaded-fork");
}
