//! Written timelines: forks, execs and exits at given milliseconds, and a host that answers at once.

mod children;
mod connection_ends;
mod connections;
mod deaths;
mod duplicated_random;
mod escaped_child;
mod felt_absence;
mod held_locks;
mod killed;
mod killed_member;
mod leaks;
mod lock_left_behind;
mod locks;
mod lost_threads;
mod pending;
mod programs;
mod properties;
mod reports;
mod server_setup;
mod shared_event_loop;
mod shared_files;
mod snapshots;
mod sweeps;
mod unflushed_output;
mod waits;
mod worker_not_ready;
mod zombies;

use std::collections::{HashMap, HashSet};

use crate::core::{Core, LivesOn, Output, Settings};
use crate::model::{
    connection::{Caller, Sockets},
    escaped::{EscapedSeen, SameCall},
    event::{CloneKind, Event, Exec, Exit, ExitStatus, Fork, ForkOfExec, Origin},
    event_loop::{ForeignWakeUp, LoopSeen, RestingLoop},
    evidence::{Evidence, Request},
    family::Family,
    finding::{Finding, HazardId, State},
    generator::GeneratorsSeen,
    held_lock::{HeldLock, HeldLocks, HeldLocksSeen},
    inheritance::Inheritance,
    leak::{Descriptors, Holders, Object},
    left_lock::{CarriedLocksSeen, LockHolders},
    lock::{Locks, LocksSeen, Place},
    process::{ProcessKey, Program},
    reported::Reported,
    seen::{ChildSeen, ExecedSeen, ParentSeen, ProgramSeen, Sweep, Swept, ThreadsSeen},
    shared_file::{SharedFiles, SharedFilesSeen},
    signals::SignalSet,
    thread::{Occupation, SeenThread},
    time::BootTime,
    unflushed::UnflushedSeen,
    worker_look::WorkersSeen,
};

const MILLI: u64 = 1_000_000;
const PARENT: u32 = 4242;
const CHILD: u32 = 4250;
/// What a look at these locks has seen.
fn carries(locks: &[HeldLock]) -> HeldLocks {
    let count = u32::try_from(locks.len()).unwrap();
    let locks = locks.to_vec();
    HeldLocks {
        at: BootTime(0),
        whole: true,
        locks,
        count,
        plain: Vec::new(),
        searched: 1 << 20,
        skipped: 0,
        took: 100_000,
    }
}

/// What glibc blocks around `posix_spawn`.
const ALL_BLOCKED: SignalSet = SignalSet(0xffff_fffe_7ffb_feff);

fn ms(milliseconds: u64) -> BootTime {
    BootTime(milliseconds * MILLI)
}

/// A process that lives at one time only.
fn process(tgid: u32) -> ProcessKey {
    ProcessKey { tgid, start: BootTime(u64::from(tgid)) }
}

fn fork_of(parent: u32, child: u32) -> Fork {
    Fork {
        origin: Origin::default(),
        at: BootTime(0),
        kind: CloneKind::Copying,
        parent: process(parent),
        parent_tid: parent,
        comm: "python".into(),
        uid: 1000,
        cgroup: 1,
        threads: 1,
        pending_thread: SignalSet::EMPTY,
        pending_shared: SignalSet::EMPTY,
        blocked: SignalSet::EMPTY,
        child: process(child),
        child_namespace_pid: child,
        generation: 1,
        tracked: true,
    }
}

/// A plain fork of CHILD by PARENT.
fn plain() -> Fork {
    fork_of(PARENT, CHILD)
}

/// The same, by a process with these many threads.
fn threaded(threads: u32) -> Fork {
    Fork { threads, ..plain() }
}

/// The same, with signals pending and blocked.
fn pending(signals: &[u32]) -> Fork {
    let set = SignalSet::of(signals);
    Fork { pending_shared: set, blocked: set, ..plain() }
}

fn exec_of(tgid: u32, parent: u32, blocked: &[u32]) -> Exec {
    Exec {
        origin: Origin::default(),
        at: BootTime(0),
        process: process(tgid),
        from_tid: tgid,
        comm: "worker".into(),
        uid: 1000,
        cgroup: 1,
        parent_tgid: parent,
        blocked: SignalSet::of(blocked),
        fork: Some(ForkOfExec { kind: CloneKind::Copying, since: MILLI, blocked: SignalSet::EMPTY }),
    }
}

fn exit_of(tgid: u32, status: ExitStatus) -> Exit {
    Exit {
        origin: Origin::default(),
        at: BootTime(0),
        process: process(tgid),
        parent_tgid: PARENT,
        kind: CloneKind::Copying,
        comm: "python".into(),
        status,
        lifetime: MILLI,
    }
}

fn alive(at: BootTime) -> ChildSeen {
    ChildSeen::Alive { at, comm: "python".into(), ran: Some(MILLI), waited: Some(0), stopped: false }
}

/// A child of these many threads that waits for nothing.
fn busy(threads: u32) -> LocksSeen {
    LocksSeen::Alive(Box::new(Locks {
        at: BootTime(0),
        comm: "python".into(),
        uid: Some(33),
        threads,
        stopped: false,
        waits: Vec::new(),
        caught: SignalSet::EMPTY,
        python: true,
        comparable: true,
        parent: Some(process(PARENT)),
        parent_threads: Some(1),
        adopted: false,
    }))
}

fn program(name: &str) -> Program {
    Program { comm: name.into(), exe: Some(format!("/usr/bin/{name}").into()), ..Program::default() }
}

fn parent_seen(name: &str, threads: &[&str]) -> ParentSeen {
    let threads: Vec<SeenThread> =
        threads.iter().zip(5000..).map(|(comm, tid)| SeenThread { tid, comm: (*comm).into() }).collect();
    ParentSeen {
        at: BootTime(0),
        program: program(name),
        thread_count: u32::try_from(threads.len()).unwrap(),
        threads,
        pending: SignalSet::EMPTY,
    }
}

fn execed_seen(name: &str, blocked: &[u32]) -> ExecedSeen {
    ExecedSeen {
        at: BootTime(0),
        program: program(name),
        parent: None,
        blocked: SignalSet::of(blocked),
        awaited: Some(SignalSet::EMPTY),
    }
}

/// The places of some detectors in the list.
const ORPHANED_LOCK: usize = 3;
const SHARED_CONNECTION: usize = 4;
const LOST_THREADS: usize = 8;
const LEAKS: usize = 9;
const KILLED_MEMBER: usize = 14;
const KEPT_PIPES: usize = 15;

fn core_with(settings: Settings) -> Core {
    Core::new(settings, super::all())
}

/// How much lies in the queues of a child, by the time.
type Backlog = fn(BootTime) -> Vec<Option<u64>>;

/// Drives a [`Core`] through time, with a host that answers each question at once.
struct Timeline {
    core: Core,
    now: BootTime,
    outputs: Vec<Output>,
    /// What becomes of children that are asked about; all others live on.
    children: HashMap<u32, fn(BootTime) -> ChildSeen>,
    /// The parents, by tgid; all others are gone.
    parents: HashMap<u32, ParentSeen>,
    /// Those that have ended.
    ended: HashSet<u32>,
    /// Programs after an exec, by tgid; all others are gone.
    programs: HashMap<u32, ExecedSeen>,
    /// What children wait for, by tgid; all others for nothing.
    locks: HashMap<u32, LocksSeen>,
    places: HashMap<u32, Place>,
    /// What locks children carry, by tgid; all others none.
    held: HashMap<u32, HeldLocksSeen>,
    occupations: HashMap<u32, Vec<Occupation>>,
    /// What children wait for events in, beside what other process; all others apart from it.
    loops: HashMap<(u32, u32), LoopSeen>,
    /// Children whose forkers are told of their signals, by tgid.
    wake_ups: HashMap<u32, ForeignWakeUp>,
    /// What forkers sleep for, by tgid; all others are awake.
    resting: HashMap<u32, RestingLoop>,
    /// Where those were that used a connection, by tgid; all others are gone.
    callers: HashMap<u32, Caller>,
    /// What files children share, by tgid; all others none.
    files: HashMap<u32, SharedFilesSeen>,
    /// What children have in their output buffers, by tgid; all others nothing.
    unflushed: HashMap<u32, UnflushedSeen>,
    /// In which call children wait that their forkers wait in, by tgid; all others in one of their own.
    escaped: HashMap<u32, SameCall>,
    /// What locks on files children carry, by tgid; all others none.
    carried: HashMap<u32, CarriedLocksSeen>,
    /// Who holds locks that processes wait for, by the tgid of the one that waits; all others wait no longer.
    lock_holders: HashMap<u32, LockHolders>,
    /// How the generators of children stand to those of their parents, by tgid; nothing is known of all others'.
    generators: HashMap<u32, GeneratorsSeen>,
    /// What children share with their parents, by tgid; all others nothing.
    sockets: HashMap<u32, Sockets>,
    /// What runs under a pid; nothing under all others.
    named: HashMap<u32, ProgramSeen>,
    /// What is seen of workers; else their master is gone.
    workers: Option<WorkersSeen>,
    /// What workers have of their master's, by tgid; all others are gone.
    inheritances: HashMap<u32, Inheritance>,
    /// The threads of children, by tgid; all others are gone.
    threads: HashMap<u32, fn(BootTime) -> ThreadsSeen>,
    /// How much lies in queues of children, by tgid; all others are gone.
    backlogs: HashMap<u32, Backlog>,
    /// What children sleep on and hold; all others are gone.
    descriptors: HashMap<u32, fn(BootTime) -> Descriptors>,
    /// Who holds a pipe or socket; of all others nothing can be seen.
    holders: HashMap<Object, Holders>,
    /// Processes with their children, by tgid; all others are gone.
    families: HashMap<u32, Family>,
    silent: bool,
}

/// Its series is there from the start.
fn assert_end_is_known(finding: &Finding) {
    let State::Resolved(how) = finding.state else { return };
    let ends = crate::detect::find(finding.hazard.name()).unwrap().ends;
    assert!(ends.contains(&how), "{how:?} of {}", finding.hazard.name());
}

impl Timeline {
    fn new() -> Self {
        Self::with(Settings::default())
    }

    fn with(settings: Settings) -> Self {
        let mut timeline = Self {
            core: core_with(settings),
            now: BootTime(0),
            outputs: Vec::new(),
            children: HashMap::new(),
            parents: HashMap::new(),
            ended: HashSet::new(),
            programs: HashMap::new(),
            locks: HashMap::new(),
            places: HashMap::new(),
            held: HashMap::new(),
            occupations: HashMap::new(),
            loops: HashMap::new(),
            resting: HashMap::new(),
            wake_ups: HashMap::new(),
            callers: HashMap::new(),
            files: HashMap::new(),
            unflushed: HashMap::new(),
            escaped: HashMap::new(),
            carried: HashMap::new(),
            lock_holders: HashMap::new(),
            generators: HashMap::new(),
            sockets: HashMap::new(),
            named: HashMap::new(),
            workers: None,
            inheritances: HashMap::new(),
            threads: HashMap::new(),
            backlogs: HashMap::new(),
            descriptors: HashMap::new(),
            holders: HashMap::new(),
            families: HashMap::new(),
            silent: false,
        };
        timeline.parents.insert(PARENT, parent_seen("gunicorn", &["metrics-flush"]));
        timeline
    }

    /// Goes to a time, doing what is due on the way when it is due.
    fn at(&mut self, milliseconds: u64) -> &mut Self {
        let until = ms(milliseconds);
        while let Some(due) = self.core.deadline().filter(|due| *due <= until) {
            assert!(due >= self.now, "the deadline {due:?} had passed at {:?}", self.now);
            self.now = due;
            let mut out = Vec::new();
            self.core.advance(due, &mut out);
            assert!(self.core.deadline().is_none_or(|next| next > due), "still due: {due:?}");
            self.take(out);
        }
        self.now = until;
        self
    }

    fn take(&mut self, out: Vec<Output>) {
        for output in out {
            if let Output::Finding(finding) = &output {
                assert_end_is_known(finding);
            }
            let answer = match &output {
                // Nothing is forked and nobody falls asleep until a test says so.
                Output::Ask(Request::NextFork { .. } | Request::FellAsleep) => None,
                Output::Ask(request) if !self.silent => Some(self.answer(request)),
                _ => None,
            };
            self.outputs.push(output);
            if let Some(answer) = answer {
                self.evidence(&answer);
            }
        }
    }

    /// The same, looked at now.
    fn now_is(&self, seen: LocksSeen) -> LocksSeen {
        match seen {
            LocksSeen::Alive(locks) => LocksSeen::Alive(Box::new(Locks { at: self.now, ..*locks })),
            other => other,
        }
    }

    #[expect(clippy::too_many_lines, reason = "an arm for each question")]
    fn answer(&self, request: &Request) -> Evidence {
        match *request {
            Request::Child { child } => {
                let seen =
                    self.children.get(&child.tgid).map_or_else(|| alive(self.now), |seen| seen(self.now));
                Evidence::Child { child, seen }
            }
            Request::Parent { child, parent, .. } => {
                let seen = self.parents.get(&parent.tgid).cloned();
                Evidence::Parent { child, ended: self.ended.contains(&parent.tgid), seen }
            }
            Request::Locks { child, .. } => {
                let seen = self.locks.get(&child.tgid).cloned().unwrap_or_else(|| busy(1));
                Evidence::Locks { child, seen: self.now_is(seen) }
            }
            Request::HeldLocks { child, ref places, .. } => {
                let none = || HeldLocksSeen::Alive(Box::new(carries(&[])));
                let seen = match self.held.get(&child.tgid).cloned().unwrap_or_else(none) {
                    HeldLocksSeen::Alive(held) => HeldLocksSeen::Alive(Box::new(HeldLocks {
                        at: self.now,
                        whole: places.is_none(),
                        ..*held
                    })),
                    other => other,
                };
                Evidence::HeldLocks { child, seen }
            }
            Request::Occupations { child, parent, .. } => {
                let seen = self.occupations.get(&parent.tgid).cloned().unwrap_or_default();
                Evidence::Occupations { child, seen }
            }
            Request::Place { child, .. } => {
                Evidence::Place { child, seen: self.places.get(&child.tgid).cloned().map(Box::new) }
            }
            Request::Sockets { child, .. } => {
                Evidence::Sockets { child, seen: self.sockets.get(&child.tgid).cloned().map(Box::new) }
            }
            Request::Caller { process, inode, .. } => {
                let seen = self.callers.get(&process.tgid).cloned();
                Evidence::Caller { process, inode, seen: seen.map(Box::new) }
            }
            Request::SharedLoop { child, other, .. } => {
                let seen = self.loops.get(&(child.tgid, other.tgid)).cloned().unwrap_or(LoopSeen::Apart);
                let resting = self.resting.get(&other.tgid).cloned().map(Box::new);
                let wakes_other = self.wake_ups.get(&child.tgid).cloned().map(Box::new);
                Evidence::SharedLoop { child, other, seen, resting, wakes_other }
            }
            Request::SharedFiles { child, .. } => {
                let none = || {
                    let (comm, program) = ("python".into(), program("python3.11"));
                    let (uid, files, closed) = (None, Vec::new(), None);
                    let none = SharedFiles { at: self.now, comm, uid, program, files, closed };
                    SharedFilesSeen::Seen(Box::new(none))
                };
                let seen = match self.files.get(&child.tgid).cloned().unwrap_or_else(none) {
                    SharedFilesSeen::Seen(mut seen) => {
                        seen.at = self.now;
                        SharedFilesSeen::Seen(seen)
                    }
                    other => other,
                };
                Evidence::SharedFiles { child, seen }
            }
            Request::Unflushed { child, forker } => {
                let seen = self.unflushed.get(&child.tgid).cloned().unwrap_or(UnflushedSeen::None);
                Evidence::Unflushed { child, forker, seen }
            }
            Request::Escaped { child, .. } => {
                let seen = self.escaped.get(&child.tgid).cloned();
                let seen = seen.map_or(EscapedSeen::Apart, |call| EscapedSeen::SameCall(Box::new(call)));
                Evidence::Escaped { child, seen }
            }
            Request::CarriedLocks { child, .. } => {
                let seen = match self.carried.get(&child.tgid).cloned().unwrap_or(CarriedLocksSeen::None) {
                    CarriedLocksSeen::Carried(mut carried) => {
                        carried.at = self.now;
                        CarriedLocksSeen::Carried(carried)
                    }
                    other => other,
                };
                Evidence::CarriedLocks { child, seen }
            }
            Request::LockHolders { ref wait } => {
                let seen = self.lock_holders.get(&wait.waiter.tgid).cloned();
                let seen = seen.map(|seen| Box::new(LockHolders { at: self.now, ..seen }));
                Evidence::LockHolders { wait: wait.clone(), seen }
            }
            Request::Generators { child, .. } => {
                let seen = self.generators.get(&child.tgid).cloned().unwrap_or(GeneratorsSeen::Unknown);
                Evidence::Generators { child, seen }
            }
            Request::Descriptors { process, .. } => {
                let seen = self.descriptors.get(&process.tgid).map(|seen| seen(self.now));
                Evidence::Descriptors { process, lives: seen.is_some(), seen: seen.map(Box::new) }
            }
            Request::Holders { process, object, .. } => {
                let seen = self.holders.get(&object).map(|seen| Holders { at: self.now, ..seen.clone() });
                Evidence::Holders { process, object, seen: seen.map(Box::new) }
            }
            Request::Family { forker } => {
                Evidence::Family { forker, seen: self.families.get(&forker.tgid).cloned().map(Box::new) }
            }
            Request::Sweep { .. } => Evidence::Sweep { seen: None },
            Request::NextFork { .. } => Evidence::NextFork,
            Request::FellAsleep => Evidence::FellAsleep { seen: Some(Vec::new()) },
            Request::Orphans => Evidence::Orphans { seen: Vec::new() },
            Request::Program { tgid } => {
                Evidence::Program { tgid, seen: self.named.get(&tgid).cloned().map(Box::new) }
            }
            Request::Threads { child, .. } => {
                Evidence::Threads { child, seen: self.threads.get(&child.tgid).map(|look| look(self.now)) }
            }
            Request::Backlog { child, .. } => {
                Evidence::Backlog { child, seen: self.backlogs.get(&child.tgid).map(|look| look(self.now)) }
            }
            Request::Execed { process } => {
                Evidence::Execed { process, seen: self.programs.get(&process.tgid).cloned() }
            }
            Request::Workers { master, .. } => {
                let now = |seen| Box::new(WorkersSeen { at: self.now, ..seen });
                let seen = self.workers.clone().map(now).ok_or_else(|| "it has ended".to_owned());
                Evidence::Workers { master, seen }
            }
            Request::Inheritance { worker, master, .. } => {
                let seen = self.inheritances.get(&worker.tgid).cloned().map(Box::new);
                Evidence::Inheritance { worker, master, seen }
            }
        }
    }

    fn evidence(&mut self, evidence: &Evidence) -> &mut Self {
        let mut out = Vec::new();
        self.core.evidence(self.now, evidence, &mut out);
        self.take(out);
        self
    }

    fn event(&mut self, event: &Event) -> &mut Self {
        self.record(event.clone())
    }

    fn record(&mut self, reported: impl Into<Reported>) -> &mut Self {
        let mut out = Vec::new();
        self.core.reported(&reported.into(), &mut out);
        self.take(out);
        self
    }

    fn fork(&mut self, mut fork: Fork) -> &mut Self {
        fork.at = self.now;
        self.event(&Event::Fork(fork))
    }

    fn exec(&mut self, mut exec: Exec) -> &mut Self {
        exec.at = self.now;
        self.event(&Event::Exec(exec))
    }

    fn exit(&mut self, tgid: u32) -> &mut Self {
        let at = self.now;
        self.event(&Event::Exit(Exit { at, ..exit_of(tgid, ExitStatus::Code(0)) }))
    }

    /// It exits with a code.
    fn leave(&mut self, tgid: u32, code: u8) -> &mut Self {
        let at = self.now;
        self.event(&Event::Exit(Exit { at, ..exit_of(tgid, ExitStatus::Code(code)) }))
    }

    fn kill(&mut self, tgid: u32) -> &mut Self {
        let status = ExitStatus::Signal { number: 9, core_dumped: false };
        let at = self.now;
        self.event(&Event::Exit(Exit { at, ..exit_of(tgid, status) }))
    }

    fn findings(&self) -> Vec<&Finding> {
        self.outputs
            .iter()
            .filter_map(|output| match output {
                Output::Finding(finding) => Some(&**finding),
                _ => None,
            })
            .collect()
    }

    fn only_finding(&self) -> &Finding {
        let findings = self.findings();
        assert_eq!(findings.len(), 1, "{findings:#?}");
        findings[0]
    }

    fn states(&self) -> Vec<(HazardId, State, u64)> {
        self.findings().iter().map(|finding| (finding.hazard, finding.state, finding.number)).collect()
    }

    fn lives_on(&self) -> Vec<&LivesOn> {
        self.outputs
            .iter()
            .filter_map(|output| match output {
                Output::LivesOn(lives_on) => Some(lives_on),
                _ => None,
            })
            .collect()
    }

    /// What was asked about forks and execs: not the looks at children that live on.
    fn asked(&self) -> Vec<Request> {
        let ask = |output: &Output| match output {
            Output::Ask(
                Request::Locks { .. }
                | Request::Sockets { .. }
                | Request::Caller { .. }
                | Request::SharedLoop { .. }
                | Request::CarriedLocks { .. }
                | Request::Generators { .. }
                | Request::Descriptors { .. }
                | Request::Unflushed { .. }
                | Request::Escaped { .. }
                | Request::SharedFiles { .. }
                | Request::FellAsleep
                | Request::Occupations { .. }
                | Request::HeldLocks { .. },
            ) => None,
            Output::Ask(request) => Some(request.clone()),
            _ => None,
        };
        self.outputs.iter().filter_map(ask).collect()
    }

    fn count(&self, wanted: impl Fn(&Output) -> bool) -> usize {
        self.outputs.iter().filter(|output| wanted(output)).count()
    }

    /// Nothing left to do, nobody left to remember.
    fn assert_forgotten(&self) {
        assert!(self.core.in_grace() == 0 && self.core.findings_are_over());
    }
}
