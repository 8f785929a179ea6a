//! What holds whatever happens, in whatever order.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use proptest::prelude::*;

use super::*;
use crate::model::{
    connection::{Act, User},
    defaults,
    observation::{Observation, Signal, SocketUse},
    probe_request::ProbeRequest,
    time::nanoseconds,
};

/// One thing that happens to one of a few processes, so that they collide.
#[derive(Clone, Debug)]
enum Step {
    Fork { parent: u32, child: u32, life: u64, threads: u32, pending: u64, blocked: u64, kind: CloneKind },
    Exec { process: u32, life: u64, parent: u32, blocked: u64, forked: bool },
    Exit { process: u32, life: u64, parent: u32, wait_status: u32, lifetime: u64 },
    Signal { process: u32, life: u64, number: u32, sender: u32 },
    Sweep { zombies: Vec<(u32, u32)> },
    Named { process: u32, life: u64, name: u8, stopped: bool },
    Threads { process: u32, life: u64, lacks: bool, ran: u64, seen: bool },
    Watched { process: u32, life: u64 },
    Locks { process: u32, life: u64, seen: u8, switches: u64 },
    Place { process: u32, life: u64, seen: bool },
    Shares { process: u32, life: u64, inode: u64 },
    Uses { process: u32, life: u64, parent: u32, inode: u64, act: u8, bytes: u64 },
    Child { process: u32, life: u64, seen: u8 },
    Parent { process: u32, life: u64, threads: u32, seen: bool },
    Program { process: u32, life: u64, blocked: u64, seen: bool },
    Advance,
}

fn key(tgid: u32, life: u64) -> ProcessKey {
    ProcessKey { tgid, start: BootTime::from_ticks(life) }
}

fn step() -> impl Strategy<Value = (u64, Step)> {
    let tgid = 1..6_u32;
    let life = 0..2_u64;
    let mask = prop_oneof![Just(0), Just(ALL_BLOCKED.0), Just(1 << 14), any::<u64>()];
    let kind = prop_oneof![4 => Just(CloneKind::Copying), 1 => Just(CloneKind::Vfork)];
    let ends =
        prop_oneof![2 => Just(9), 2 => Just(0x8b), 1 => Just(0), 1 => Just(1 << 8), 1 => 0..0xffff_u32];
    let step = prop_oneof![
        4 => (tgid.clone(), tgid.clone(), life.clone(), 1..4_u32, mask.clone(), mask.clone(), kind).prop_map(
            |(parent, child, life, threads, pending, blocked, kind)| Step::Fork {
                parent,
                child,
                life,
                threads,
                pending,
                blocked,
                kind
            }
        ),
        2 => (tgid.clone(), life.clone(), tgid.clone(), mask.clone(), any::<bool>()).prop_map(
            |(process, life, parent, blocked, forked)| Step::Exec { process, life, parent, blocked, forked }
        ),
        4 => (tgid.clone(), life.clone(), tgid.clone(), ends, 0..20_000_u64).prop_map(
            |(process, life, parent, wait_status, lifetime)| Step::Exit {
                process,
                life,
                parent,
                wait_status,
                lifetime
            }
        ),
        1 => (tgid.clone(), life.clone(), 1..32_u32, tgid.clone())
            .prop_map(|(process, life, number, sender)| Step::Signal { process, life, number, sender }),
        1 => prop::collection::vec((1..9_u32, tgid.clone()), 0..8).prop_map(|zombies| Step::Sweep { zombies }),
        3 => (tgid.clone(), life.clone(), 0..3_u8, prop::bool::weighted(0.1))
            .prop_map(|(process, life, name, stopped)| Step::Named { process, life, name, stopped }),
        1 => (tgid.clone(), life.clone(), any::<bool>(), 0..1_000_000_u64, prop::bool::weighted(0.9)).prop_map(
            |(process, life, lacks, ran, seen)| Step::Threads { process, life, lacks, ran, seen }
        ),
        1 => (tgid.clone(), life.clone()).prop_map(|(process, life)| Step::Watched { process, life }),
        2 => (tgid.clone(), life.clone(), 0..6_u8).prop_map(|(process, life, seen)| Step::Child {
            process,
            life,
            seen
        }),
        2 => (tgid.clone(), life.clone(), 0..3_u32, any::<bool>())
            .prop_map(|(process, life, threads, seen)| Step::Parent { process, life, threads, seen }),
        2 => (tgid.clone(), life.clone(), mask, any::<bool>()).prop_map(|(process, life, blocked, seen)| Step::Program {
            process,
            life,
            blocked,
            seen
        }),
        4 => (tgid.clone(), life.clone(), 0..8_u8, 0..2_u64).prop_map(
            |(process, life, seen, switches)| Step::Locks { process, life, seen, switches }
        ),
        2 => (tgid.clone(), life.clone(), any::<bool>())
            .prop_map(|(process, life, seen)| Step::Place { process, life, seen }),
        1 => (tgid.clone(), life.clone(), 1..3_u64)
            .prop_map(|(process, life, inode)| Step::Shares { process, life, inode }),
        2 => (tgid.clone(), life.clone(), tgid.clone(), 1..3_u64, 0..3_u8, 1..100_u64).prop_map(
            |(process, life, parent, inode, act, bytes)| Step::Uses { process, life, parent, inode, act, bytes }
        ),
        2 => Just(Step::Advance),
    ];
    (prop_oneof![0..200_u64, 900..1100_u64, 0..70_000_u64], step)
}

fn child_seen(seen: u8, at: BootTime) -> ChildSeen {
    let alive = |ran, waited, stopped| ChildSeen::Alive { at, comm: "x".into(), ran, waited, stopped };
    match seen {
        0 => ChildSeen::Gone,
        1 => ChildSeen::Execed,
        2 => ChildSeen::Unreadable("no".to_owned()),
        3 => alive(Some(0), Some(0), false),
        4 => alive(Some(1), Some(1), true),
        _ => alive(Some(1), Some(0), false),
    }
}

#[expect(clippy::too_many_lines, reason = "one arm a step")]
fn apply(core: &mut Core, now: BootTime, step: &Step, out: &mut Vec<Output>) {
    match *step {
        Step::Fork { parent, child, life, threads, pending, blocked, kind } => {
            let fork = Fork {
                at: now,
                kind,
                parent: key(parent, life),
                child: key(child, life),
                threads,
                pending_thread: SignalSet(pending),
                blocked: SignalSet(blocked),
                ..plain()
            };
            core.reported(&Event::Fork(fork).into(), out);
        }
        Step::Exec { process, life, parent, blocked, forked } => {
            let template = exec_of(process, parent, &[]);
            let fork = template.fork.filter(|_| forked);
            let exec =
                Exec { at: now, process: key(process, life), blocked: SignalSet(blocked), fork, ..template };
            core.reported(&Event::Exec(exec).into(), out);
        }
        Step::Exit { process, life, parent, wait_status, lifetime } => {
            let (process, lifetime) = (key(process, life), lifetime * MILLI);
            let template = exit_of(process.tgid, ExitStatus::from_wait(wait_status));
            let exit = Exit { at: now, process, parent_tgid: parent, lifetime, ..template };
            if let Some(stuck) = stuck(process, now) {
                core.hang(process, stuck, BootTime(0));
            }
            core.reported(&Event::Exit(exit).into(), out);
        }
        Step::Signal { process, life, number, sender } => {
            let target = key(process, life);
            let origin = Origin::default();
            let signal = Signal { origin, at: now, number, target, sender_tgid: sender, comm: "x".into() };
            core.reported(&Observation::Signal(signal).into(), out);
        }
        Step::Sweep { ref zombies } => {
            let swept = |(tgid, parent): &(u32, u32)| Swept {
                process: key(*tgid, 0),
                comm: "z".into(),
                uid: None,
                parent: Some(key(*parent, 0)),
            };
            let zombies = zombies.iter().map(swept).collect();
            let sweep = Sweep {
                at: now,
                took: 1,
                mark: 1,
                processes: 1,
                unexeced: Vec::new(),
                zombies,
                waits: Vec::new(),
            };
            core.evidence(now, &Evidence::Sweep { seen: Some(Box::new(sweep)) }, out);
        }
        Step::Named { process, life, name, stopped } => {
            let program = program(["server", "bash", "gunicorn"][usize::from(name)]);
            let seen = ProgramSeen { process: key(process, life), program, stopped };
            core.evidence(now, &Evidence::Program { tgid: process, seen: Some(Box::new(seen)) }, out);
        }
        Step::Threads { process, life, lacks, ran, seen } => {
            let comms = if lacks { vec!["x".into()] } else { vec!["rdk:main".into()] };
            let found = ThreadsSeen { at: now, comms, ran: ran * MILLI, moved: None, places: Vec::new() };
            let evidence = Evidence::Threads { child: key(process, life), seen: seen.then_some(found) };
            core.evidence(now, &evidence, out);
        }
        Step::Watched { process, life } => core.suspect(key(process, life), out),
        Step::Child { process, life, seen } => {
            let evidence = Evidence::Child { child: key(process, life), seen: child_seen(seen, now) };
            core.evidence(now, &evidence, out);
        }
        Step::Parent { process, life, threads, seen } => {
            let names = ["rdk:main", "b", "c"];
            let found = parent_seen("server", &names[..usize::try_from(threads).unwrap()]);
            let evidence = Evidence::Parent {
                child: key(process, life),
                seen: seen.then_some(found),
                ended: life % 2 == 0 && !seen,
            };
            core.evidence(now, &evidence, out);
        }
        Step::Program { process, life, blocked, seen } => {
            let found = ExecedSeen { blocked: SignalSet(blocked), ..execed_seen("worker", &[]) };
            let found = ExecedSeen { parent: Some((key(1, 0), program("server"))), ..found };
            let evidence = Evidence::Execed { process: key(process, life), seen: seen.then_some(found) };
            core.evidence(now, &evidence, out);
        }
        Step::Locks { process, life, seen, switches } => {
            let seen = match seen {
                0 => LocksSeen::Gone,
                1 => LocksSeen::Execed,
                2 => LocksSeen::Unreadable("no".to_owned()),
                3 => busy(2),
                4 => locks::no_catcher(),
                _ => locks::orphaned(switches),
            };
            let seen = match seen {
                LocksSeen::Alive(locks) => LocksSeen::Alive(Box::new(Locks { at: now, ..*locks })),
                other => other,
            };
            core.evidence(now, &Evidence::Locks { child: key(process, life), seen }, out);
        }
        Step::Place { process, life, seen } => {
            let place = seen.then(|| Box::new(locks::place(&["emit"])));
            core.evidence(now, &Evidence::Place { child: key(process, life), seen: place }, out);
        }
        Step::Shares { process, life, inode } => {
            let sockets = connections::sockets_of(inode);
            let evidence = Evidence::Sockets { child: key(process, life), seen: Some(Box::new(sockets)) };
            core.evidence(now, &evidence, out);
        }
        Step::Uses { process, life, parent, inode, act, bytes } => {
            let act = [Act::Sent, Act::Received, Act::ShutDown][usize::from(act)];
            let user = User { process: key(process, life), parent_tgid: parent, unexeced: true };
            let (origin, comm) = (Origin::default(), "x".into());
            let event = SocketUse { origin, at: now, inode, user, tid: process, comm, act, bytes };
            core.reported(&Observation::SocketUse(event).into(), out);
        }
        Step::Advance => core.advance(now, out),
    }
}

/// Every third process is known to be stuck when it ends.
fn stuck(process: ProcessKey, at: BootTime) -> Option<Finding> {
    let hazard = crate::detect::find("multithreaded-fork").unwrap();
    let remedy = crate::model::finding::Remedy { text: "t".to_owned(), link: "l".to_owned() };
    let verdict = crate::core::Verdict {
        state: hazard.state,
        certainty: hazard.certainty,
        severity: hazard.severity,
        summary: "stuck".to_owned(),
        facts: crate::model::finding::Facts::default(),
        remedy,
    };
    let parent = (key(1, 0), &program("server"));
    (process.tgid == 3).then(|| verdict.finding(at, hazard.id, parent, (process, "x".into())))
}

/// Which children may be asked about or reported, told from the steps alone.
#[derive(Default)]
struct Model {
    living: HashSet<ProcessKey>,
    /// The same, but for those that were only seen to be gone.
    alive: HashSet<ProcessKey>,
    started: HashSet<ProcessKey>,
    open: HashMap<u64, ProcessKey>,
    number: u64,
    watched: u32,
}

impl Model {
    fn before(&mut self, step: &Step) {
        match *step {
            Step::Fork { child, life, kind: CloneKind::Copying, .. } => {
                self.living.insert(key(child, life));
                self.alive.insert(key(child, life));
            }
            Step::Exec { process, life, .. } => {
                self.living.remove(&key(process, life));
                self.alive.remove(&key(process, life));
                self.started.insert(key(process, life));
            }
            Step::Exit { process, life, .. } => {
                self.living.remove(&key(process, life));
                self.alive.remove(&key(process, life));
                self.started.remove(&key(process, life));
            }
            Step::Child { process, life, seen: 0..=2 } => {
                self.living.remove(&key(process, life));
            }
            _ => {}
        }
    }

    fn check(&mut self, out: &[Output]) -> Result<(), TestCaseError> {
        for output in out {
            match output {
                Output::Ask(Request::Child { child } | Request::Parent { child, .. }) => {
                    prop_assert!(self.living.contains(child), "asked about {child:?}");
                }
                Output::Ask(Request::Threads { child, .. }) => {
                    prop_assert!(self.alive.contains(child), "asked about {child:?}");
                }
                Output::Ask(Request::Execed { process }) => {
                    prop_assert!(self.started.contains(process), "asked about {process:?}");
                }
                Output::Ask(Request::Locks { child, .. } | Request::Place { child, .. }) => {
                    prop_assert!(self.alive.contains(child), "asked about {child:?}");
                }
                Output::Probe(ProbeRequest::WatchSocket(_)) => self.watched += 1,
                Output::LivesOn(lives_on) => prop_assert!(self.living.contains(&lives_on.child)),
                Output::Finding(finding) if matches!(finding.state, State::Resolved(_)) => {
                    prop_assert_eq!(self.open.remove(&finding.number), Some(finding.child));
                    prop_assert!(finding.hazard != HazardId::new("blocked-signals"));
                }
                Output::Finding(finding) => {
                    self.number += 1;
                    prop_assert_eq!(finding.number, self.number);
                    prop_assert!(!finding.summary.is_empty() && !finding.remedy.link.is_empty());
                    if finding.repeats == 0 {
                        match finding.hazard.name() {
                            "blocked-signals" => prop_assert!(self.started.contains(&finding.child)),
                            "multithreaded-fork" | "pending-signals" => {
                                prop_assert!(self.living.contains(&finding.child), "{finding:?}");
                                prop_assert!(finding.facts.age >= Some(1000 * MILLI));
                            }
                            "lost-threads" => {
                                prop_assert!(self.alive.contains(&finding.child), "{finding:?}");
                                prop_assert!(finding.facts.age >= Some(60_000 * MILLI));
                            }
                            "crash-loop" => {
                                let ends = &finding.facts.history.as_ref().unwrap().ends;
                                prop_assert!(
                                    ends[0].count >= 5
                                        && ends.iter().all(|way| way.lifetime_ns < 60_000 * MILLI)
                                );
                                prop_assert!(finding.program_name != "bash");
                            }
                            "orphaned-lock" => {
                                prop_assert!(self.alive.contains(&finding.child), "{finding:?}");
                                let lock = finding.facts.lock.as_ref().unwrap();
                                // An owner's proof has the least patience.
                                prop_assert!(lock.waited_ns >= nanoseconds(defaults::STUCK_AFTER));
                            }
                            "shared-connection" | "shared-connection-closed" => {
                                prop_assert!(self.watched > 0);
                            }
                            "leaked-pipe" | "pinned-listener" | "nobody-accepts" => {
                                prop_assert!(self.alive.contains(&finding.child), "{finding:?}");
                            }
                            "unreaped-children" | "worker-killed-while-stuck" => {}
                            other => prop_assert!(false, "{other} is not known here"),
                        }
                        self.open.insert(finding.number, finding.child);
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn anything_in_any_order_keeps_the_promises(steps in prop::collection::vec(step(), 0..120)) {
        let settings = Settings { max_children: 4, ..Settings::default() };
        let (interval, grace) = (settings.summary_interval, settings.grace);
        let mut core = core_with(settings);
        let mut model = Model::default();
        let mut last: HashMap<(HazardId, String), BootTime> = HashMap::new();
        let mut now = BootTime(0);
        for (wait, step) in &steps {
            now = BootTime(now.0 + wait * MILLI);
            model.before(step);
            let mut out = Vec::new();
            apply(&mut core, now, step, &mut out);
            model.check(&out)?;
            for output in &out {
                if let Output::Finding(finding) = output && !matches!(finding.state, State::Resolved(_)) {
                    let key = (finding.hazard, format!("{:?}{:?}", finding.program_name, finding.program.exe));
                    if let Some(before) = last.insert(key, finding.at) {
                        prop_assert!(finding.at >= before + interval, "twice within an interval: {finding:?}");
                    }
                }
            }
            prop_assert!(core.is_within_bounds());
            if matches!(step, Step::Advance) {
                prop_assert!(core.deadline().is_none_or(|deadline| deadline > now));
            }
        }
        // Left alone, it comes to rest.
        for _ in 0..1000 {
            let Some(deadline) = core.deadline() else { break };
            // The longest wait is that for a child that does nothing.
            prop_assert!(deadline <= now + interval + grace * 61 + Duration::from_secs(3600));
            now = now.max(deadline);
            let mut out = Vec::new();
            core.advance(now, &mut out);
            model.check(&out)?;
        }
        prop_assert_eq!(core.deadline(), None);
        prop_assert_eq!(core.in_grace(), 0);
    }

    #[test]
    fn times_at_the_end_of_time_end(steps in prop::collection::vec((any::<u64>(), step()), 0..40)) {
        let mut core = core_with(Settings::default());
        let mut out = Vec::new();
        for (now, (_, step)) in &steps {
            apply(&mut core, BootTime(*now), step, &mut out);
        }
        core.advance(BootTime(u64::MAX), &mut out);
        prop_assert_eq!(core.deadline(), None);
    }

    #[test]
    fn delays_of_any_length_harm_nothing(
        delays in prop::collection::vec(delay(), 7),
        steps in prop::collection::vec(step(), 0..60),
    ) {
        let settings = Settings {
            grace: delays[0],
            recheck: delays[1],
            summary_interval: delays[2],
            stuck_after: delays[3],
            sweep_interval: Some(delays[4]),
            leak_interval: delays[5],
            pipe_patience: delays[6],
            ..Settings::default()
        };
        let mut core = core_with(settings);
        let mut out = Vec::new();
        let mut now = BootTime(0);
        for (wait, step) in &steps {
            now = BootTime(now.0 + wait * MILLI);
            apply(&mut core, now, step, &mut out);
        }
        core.advance(now, &mut out);
        core.close(now, &mut out);
    }
}

/// A delay of no length, of a usual one, or of one that cannot be doubled.
fn delay() -> impl Strategy<Value = Duration> {
    prop_oneof![
        Just(Duration::ZERO),
        Just(Duration::from_secs(1)),
        Just(Duration::MAX),
        Just(Duration::MAX / 3)
    ]
}

/// Each of them ended the program when it came from a recording.
#[test]
fn endless_delays_are_doubled_without_harm() {
    let endless = Duration::MAX;
    let settings = Settings {
        summary_interval: endless,
        stuck_after: endless,
        sweep_interval: Some(endless),
        leak_interval: endless,
        ..Settings::default()
    };
    let mut timeline = Timeline::with(settings);
    timeline.fork(threaded(2)).at(2000);
    timeline.fork(Fork { child: process(5001), ..threaded(2) }).at(4000);
    let mut out = Vec::new();
    let process = process(5001);
    let unseen = Evidence::Descriptors { process, seen: None, lives: true };
    timeline.core.evidence(ms(4000), &unseen, &mut out);
    timeline.core.close(ms(4000), &mut out);
    for seen in 0..=5 {
        let step = Step::Locks { process: 5001, life: 0, seen, switches: 1 };
        apply(&mut timeline.core, ms(5000), &step, &mut out);
    }
}

#[test]
fn timers_that_no_longer_count_take_no_memory() {
    let mut core = core_with(Settings::default());
    let mut out = Vec::new();
    for start in 0..200_000 {
        let (at, child) = (BootTime(start), ProcessKey { tgid: 7, start: BootTime(start) });
        core.reported(&Event::Fork(Fork { at, child, ..plain() }).into(), &mut out);
        core.reported(
            &Event::Exit(Exit { at, process: child, ..exit_of(7, ExitStatus::Code(0)) }).into(),
            &mut out,
        );
    }
    assert!(core.is_within_bounds());
    assert_eq!(out, []);
}
