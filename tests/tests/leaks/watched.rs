//! A core that follows one child of a fixture, with the host's true answers, at a pace for tests.

use std::{
    collections::VecDeque,
    thread,
    time::{Duration, Instant},
};

use forkwatch::{
    core::{Core, Output, Settings},
    detect,
    host::{answer, clock, find},
    model::{
        event::{CloneKind, Event, Fork, Origin},
        evidence::{Evidence, Request},
        finding::Finding,
        leak::{Descriptors, Holders, Object},
        process::ProcessKey,
        signals::SignalSet,
    },
};

/// Far longer than anything here takes on a loaded machine; only a failing test waits so long.
const DEADLINE: Duration = Duration::from_secs(60);

/// Looks again and again until there is an answer.
pub(crate) fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + DEADLINE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "waited in vain: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// The process that bears a pid now.
pub(crate) fn key(pid: u32) -> ProcessKey {
    find(pid).unwrap().key
}

/// The host's answer.
pub(crate) fn descriptors(process: ProcessKey, forker: Option<ProcessKey>) -> Option<Box<Descriptors>> {
    match answer(&Request::Descriptors { process, forker }) {
        Evidence::Descriptors { seen, .. } => seen,
        other => panic!("not an answer to the question: {other:?}"),
    }
}

/// The host's answer.
pub(crate) fn holders(process: ProcessKey, forker: Option<ProcessKey>, object: Object) -> Box<Holders> {
    match answered(&Request::Holders { process, forker, object }) {
        Evidence::Holders { seen, .. } => seen.unwrap(),
        other => panic!("not an answer to the question: {other:?}"),
    }
}

/// The host's answer. The init of some test hosts may not be looked at, and then nothing would ever be decided here:
/// the fixtures make their pipes and sockets themselves and pass them to nobody, so that it cannot hold them.
fn answered(request: &Request) -> Evidence {
    let mut evidence = answer(request);
    if let Evidence::Holders { seen: Some(seen), .. } = &mut evidence {
        seen.hidden.retain(|pid| *pid != 1);
    }
    evidence
}

/// The core, and what it has said.
pub(crate) struct Watched {
    core: Core,
    findings: VecDeque<Finding>,
    looks: usize,
    searches: usize,
    log: Vec<String>,
}

impl Watched {
    /// Follows a child from here on, as if it had just been forked.
    pub(crate) fn child(parent: u32, child: u32) -> Self {
        let settings = Settings {
            grace: Duration::from_millis(1),
            leak_interval: Duration::from_millis(20),
            pipe_patience: Duration::from_millis(40),
            ..Settings::default()
        };
        let mut watched = Self {
            core: Core::new(settings, detect::all()),
            findings: VecDeque::new(),
            looks: 0,
            searches: 0,
            log: Vec::new(),
        };
        let fork = Fork {
            origin: Origin::default(),
            at: clock::now(),
            kind: CloneKind::Copying,
            parent: key(parent),
            parent_tid: parent,
            comm: "fixture".into(),
            uid: 0,
            cgroup: 1,
            threads: 1,
            pending_thread: SignalSet::EMPTY,
            pending_shared: SignalSet::EMPTY,
            blocked: SignalSet::EMPTY,
            child: key(child),
            child_namespace_pid: child,
            generation: 1,
            tracked: true,
        };
        let mut out = Vec::new();
        watched.core.reported(&Event::Fork(fork).into(), &mut out);
        watched.take(out);
        watched
    }

    /// Waits for what is due next, and does it.
    fn turn(&mut self) {
        let due = self.core.deadline().expect("nothing is followed any more");
        thread::sleep(due.since(clock::now()));
        let mut out = Vec::new();
        self.core.advance(clock::now(), &mut out);
        self.take(out);
    }

    fn take(&mut self, out: Vec<Output>) {
        for output in out {
            match output {
                Output::Ask(request) => {
                    match request {
                        Request::Descriptors { .. } => self.looks += 1,
                        Request::Holders { .. } => self.searches += 1,
                        _ => {}
                    }
                    let evidence = answered(&request);
                    self.log.push(format!("{evidence:?}"));
                    let mut out = Vec::new();
                    self.core.evidence(clock::now(), &evidence, &mut out);
                    self.take(out);
                }
                Output::Finding(finding) => self.findings.push_back(*finding),
                Output::Undecided { .. } => self.log.push(format!("{output:?}")),
                _ => {}
            }
        }
    }

    /// The next finding, which has to come.
    pub(crate) fn finding(&mut self) -> Finding {
        let end = Instant::now() + DEADLINE;
        loop {
            if let Some(finding) = self.findings.pop_front() {
                return finding;
            }
            assert!(Instant::now() < end, "no finding:\n{}", self.tail());
            self.turn();
        }
    }

    /// Goes on until the whole host has been searched so many times, without a finding.
    pub(crate) fn silent_for(&mut self, searches: usize) {
        let enough = self.searches + searches;
        self.silent_until(|watched| watched.searches >= enough);
    }

    /// Goes on until the child has been looked at so many times, without a finding.
    pub(crate) fn silent_looks(&mut self, looks: usize) {
        let enough = self.looks + looks;
        self.silent_until(|watched| watched.looks >= enough);
    }

    fn silent_until(&mut self, enough: impl Fn(&Self) -> bool) {
        let end = Instant::now() + DEADLINE;
        while !enough(self) {
            assert!(Instant::now() < end, "too few looks:\n{}", self.tail());
            self.turn();
            assert!(self.findings.is_empty(), "{:?}\n{}", self.findings, self.tail());
        }
    }

    /// What was seen last, for a test that fails.
    fn tail(&self) -> String {
        self.log.iter().rev().take(6).cloned().collect::<Vec<_>>().join("\n")
    }
}
