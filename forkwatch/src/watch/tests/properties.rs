//! What holds whatever happens, in whatever order.

use std::collections::{HashMap, HashSet};

use proptest::prelude::*;

use super::*;

/// One thing that happens to one of a few processes, so that they collide.
#[derive(Clone, Debug)]
enum Step {
    Fork { parent: u32, child: u32, life: u64, threads: u32, pending: u64, blocked: u64, kind: CloneKind },
    Exec { process: u32, life: u64, parent: u32, blocked: u64, forked: bool },
    Exit { process: u32, life: u64, killed: bool },
    Child { process: u32, life: u64, seen: u8 },
    Parent { process: u32, life: u64, threads: u32, seen: bool },
    Program { process: u32, life: u64, blocked: u64, seen: bool },
    Advance,
}

fn key(tgid: u32, life: u64) -> ProcessKey {
    ProcessKey { tgid, start: BootTime(life) }
}

fn step() -> impl Strategy<Value = (u64, Step)> {
    let tgid = 1..6_u32;
    let life = 0..2_u64;
    let mask = prop_oneof![Just(0), Just(ALL_BLOCKED.0), Just(1 << 14), any::<u64>()];
    let kind = prop_oneof![4 => Just(CloneKind::Copying), 1 => Just(CloneKind::Vfork)];
    let step = prop_oneof![
        (tgid.clone(), tgid.clone(), life.clone(), 1..4_u32, mask.clone(), mask.clone(), kind).prop_map(
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
        (tgid.clone(), life.clone(), tgid.clone(), mask.clone(), any::<bool>()).prop_map(
            |(process, life, parent, blocked, forked)| Step::Exec { process, life, parent, blocked, forked }
        ),
        (tgid.clone(), life.clone(), any::<bool>()).prop_map(|(process, life, killed)| Step::Exit {
            process,
            life,
            killed
        }),
        (tgid.clone(), life.clone(), 0..6_u8).prop_map(|(process, life, seen)| Step::Child {
            process,
            life,
            seen
        }),
        (tgid.clone(), life.clone(), 0..3_u32, any::<bool>())
            .prop_map(|(process, life, threads, seen)| Step::Parent { process, life, threads, seen }),
        (tgid, life, mask, any::<bool>()).prop_map(|(process, life, blocked, seen)| Step::Program {
            process,
            life,
            blocked,
            seen
        }),
        Just(Step::Advance),
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

fn apply(watch: &mut Watch, now: BootTime, step: &Step, out: &mut Vec<Output>) {
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
            watch.event(&Event::Fork(fork), out);
        }
        Step::Exec { process, life, parent, blocked, forked } => {
            let template = exec_of(process, parent, &[]);
            let fork = template.fork.filter(|_| forked);
            let exec =
                Exec { at: now, process: key(process, life), blocked: SignalSet(blocked), fork, ..template };
            watch.event(&Event::Exec(exec), out);
        }
        Step::Exit { process, life, killed } => {
            let status = if killed { ExitStatus::from_wait(9) } else { ExitStatus::Code(1) };
            let exit = Exit { at: now, process: key(process, life), ..exit_of(process, status) };
            watch.event(&Event::Exit(exit), out);
        }
        Step::Child { process, life, seen } => {
            let evidence = Evidence::Child { child: key(process, life), seen: child_seen(seen, now) };
            watch.evidence(now, evidence, out);
        }
        Step::Parent { process, life, threads, seen } => {
            let names = ["a", "b", "c"];
            let found = parent_seen("server", &names[..usize::try_from(threads).unwrap()]);
            let evidence = Evidence::Parent { child: key(process, life), seen: seen.then_some(found) };
            watch.evidence(now, evidence, out);
        }
        Step::Program { process, life, blocked, seen } => {
            let found = ExecedSeen { blocked: SignalSet(blocked), ..execed_seen("worker", &[]) };
            let found = ExecedSeen { parent: Some((key(1, 0), program("server"))), ..found };
            let evidence = Evidence::Execed { process: key(process, life), seen: seen.then_some(found) };
            watch.evidence(now, evidence, out);
        }
        Step::Advance => watch.advance(now, out),
    }
}

/// Which children may be asked about or reported, told from the steps alone.
#[derive(Default)]
struct Model {
    living: HashSet<ProcessKey>,
    started: HashSet<ProcessKey>,
    open: HashMap<u64, ProcessKey>,
    number: u64,
}

impl Model {
    fn before(&mut self, step: &Step) {
        match *step {
            Step::Fork { child, life, kind: CloneKind::Copying, .. } => {
                self.living.insert(key(child, life));
            }
            Step::Exec { process, life, .. } => {
                self.living.remove(&key(process, life));
                self.started.insert(key(process, life));
            }
            Step::Exit { process, life, .. } => {
                self.living.remove(&key(process, life));
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
                Output::Ask(Request::Execed { process }) => {
                    prop_assert!(self.started.contains(process), "asked about {process:?}");
                }
                Output::LivesOn(lives_on) => prop_assert!(self.living.contains(&lives_on.child)),
                Output::Finding(finding) if matches!(finding.state, State::Resolved(_)) => {
                    prop_assert_eq!(self.open.remove(&finding.number), Some(finding.child));
                    prop_assert!(finding.hazard != HazardId::BlockedSignals);
                }
                Output::Finding(finding) => {
                    self.number += 1;
                    prop_assert_eq!(finding.number, self.number);
                    prop_assert!(!finding.summary.is_empty() && !finding.remedy.link.is_empty());
                    if finding.repeats == 0 {
                        if finding.hazard == HazardId::BlockedSignals {
                            prop_assert!(self.started.contains(&finding.child));
                        } else {
                            prop_assert!(self.living.contains(&finding.child), "{finding:?}");
                            prop_assert!(finding.facts.age >= Some(1000 * MILLI));
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
        let mut watch = Watch::new(settings);
        let mut model = Model::default();
        let mut last: HashMap<(HazardId, String), BootTime> = HashMap::new();
        let mut now = BootTime(0);
        for (wait, step) in &steps {
            now = BootTime(now.0 + wait * MILLI);
            model.before(step);
            let mut out = Vec::new();
            apply(&mut watch, now, step, &mut out);
            model.check(&out)?;
            for output in &out {
                if let Output::Finding(finding) = output && !matches!(finding.state, State::Resolved(_)) {
                    let key = (finding.hazard, format!("{:?}{:?}", finding.program_name, finding.program.exe));
                    if let Some(before) = last.insert(key, finding.at) {
                        prop_assert!(finding.at >= before + interval, "twice within an interval: {finding:?}");
                    }
                }
            }
            prop_assert!(watch.children.len() <= 4);
            prop_assert!(watch.programs.within_bounds() && watch.followed.within_bounds());
            prop_assert!(watch.ledger.within_bounds() && watch.timers.len() <= watch.most_timers());
            if matches!(step, Step::Advance) {
                prop_assert!(watch.deadline().is_none_or(|deadline| deadline > now));
            }
        }
        // Left alone, it comes to rest.
        for _ in 0..1000 {
            let Some(deadline) = watch.deadline() else { break };
            prop_assert!(deadline <= now + interval + grace * 61);
            now = now.max(deadline);
            let mut out = Vec::new();
            watch.advance(now, &mut out);
            model.check(&out)?;
        }
        prop_assert_eq!(watch.deadline(), None);
        prop_assert!(watch.children.is_empty());
    }

    #[test]
    fn times_at_the_end_of_time_end(steps in prop::collection::vec((any::<u64>(), step()), 0..40)) {
        let mut watch = Watch::new(Settings::default());
        let mut out = Vec::new();
        for (now, (_, step)) in &steps {
            apply(&mut watch, BootTime(*now), step, &mut out);
        }
        watch.advance(BootTime(u64::MAX), &mut out);
        prop_assert_eq!(watch.deadline(), None);
    }
}

#[test]
fn timers_that_no_longer_count_take_no_memory() {
    let mut watch = Watch::new(Settings::default());
    let mut out = Vec::new();
    for start in 0..200_000 {
        let (at, child) = (BootTime(start), ProcessKey { tgid: 7, start: BootTime(start) });
        watch.event(&Event::Fork(Fork { at, child, ..plain() }), &mut out);
        watch.event(&Event::Exit(Exit { at, process: child, ..exit_of(7, ExitStatus::Code(0)) }), &mut out);
    }
    assert!(watch.timers.len() <= watch.most_timers());
    assert_eq!(out, []);
}
