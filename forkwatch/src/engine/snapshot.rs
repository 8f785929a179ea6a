//! What forks have broken by now: the core and the detectors of the running watch, without events and without waiting.
//!
//! A watch lets time go by until a detector's next look is due. Here each detector's looks are due at once, twice: at
//! everything that a sweep has found, and some time later at what is suspect. How long that has lasted is what the kernel
//! tells of it.

mod reader;

use std::{collections::HashMap, thread, time::Duration};

use anyhow::{Result, bail};

use self::reader::Reader;
use crate::{
    core::{Core, Output, Settings, Shared},
    detect,
    host::{self, clock},
    model::{
        defaults,
        evidence::{Evidence, Request},
        finding::{Finding, State},
        lock::Place,
        process::{ProcessKey, Program},
        seen::Sweep,
        stack::{Stack, Stacks},
        time::BootTime,
    },
    reader::Unreadable,
};

/// What is suspect is looked at again after this time.
const SETTLE: Duration = Duration::from_secs(2);

/// Children of one parent that are described with their stacks: a server whose workers all hang is described by some of
/// them, for each takes some milliseconds.
const DESCRIBED: u32 = 16;

/// What two looks at the host have shown.
#[derive(Default)]
pub(crate) struct Found {
    /// What there is on the host.
    pub(crate) sweep: Sweep,
    pub(crate) findings: Vec<Finding>,
    /// Processes of which something could not be judged, and why.
    pub(crate) undecided: Vec<(ProcessKey, String)>,
    /// Children that wait in a way that may be endless, but not for long enough yet.
    pub(crate) waiting: usize,
    /// Connections that two processes hold.
    pub(crate) shared: Vec<Shared>,
    /// CPU time that the reader has taken.
    pub(crate) cpu: Duration,
}

/// Looks at every process. Must be called while this process has one thread.
pub(crate) fn look(stuck_after: Duration, stacks: Stacks) -> Result<Found> {
    look_at(None, stuck_after, stacks)
}

/// The same, of forked children at this one alone.
pub(crate) fn look_at(child: Option<ProcessKey>, stuck_after: Duration, stacks: Stacks) -> Result<Found> {
    let settings = Settings {
        snapshot: true,
        stuck_after,
        stacks,
        sweep_interval: Some(defaults::SWEEP_INTERVAL),
        leak_interval: SETTLE,
        max_children: usize::MAX,
        ..Settings::default()
    };
    let core = Core::new(settings, detect::all());
    let (reader, described, found) = (Reader::start()?, HashMap::new(), Found::default());
    Snapshot { core, reader, child, described, found }.take()
}

struct Snapshot {
    core: Core,
    reader: Reader,
    /// The child that alone is looked at; absent for all.
    child: Option<ProcessKey>,
    /// How many children of each parent were described.
    described: HashMap<Option<ProcessKey>, u32>,
    found: Found,
}

impl Snapshot {
    fn take(mut self) -> Result<Found> {
        self.drive(Core::advance);
        // Who tells of a hang comes before those that ask for it.
        for detector in 0..self.core.detectors() {
            for look in 0..2 {
                if !self.core.waits(detector) {
                    break;
                }
                if look > 0 {
                    thread::sleep(SETTLE);
                }
                self.drive(|core, now, out| core.hurry(detector, now, out));
            }
        }
        let Self { core, mut reader, mut found, .. } = self;
        if let Some(error) = reader.broken.take() {
            return Err(error);
        }
        // This process itself is always among them.
        if found.sweep.processes == 0 {
            bail!("cannot read /proc, which a scan needs: mount it (mount -t proc proc /proc)");
        }
        for Unreadable { process, why, .. } in reader.unreadable() {
            if !found.undecided.iter().any(|(known, _)| known.tgid == process.tgid) {
                found.undecided.push((process, why));
            }
        }
        Ok(Found { waiting: core.waiting(), cpu: reader.cpu, ..found })
    }

    /// Has the core do something, and answers what it asks for that.
    fn drive(&mut self, act: impl FnOnce(&mut Core, BootTime, &mut Vec<Output>)) {
        let mut outputs = Vec::new();
        act(&mut self.core, clock::now(), &mut outputs);
        self.pass_on(outputs);
    }

    fn pass_on(&mut self, outputs: Vec<Output>) {
        for output in outputs {
            match output {
                // No other sweep comes.
                Output::Ask(Request::NextFork { .. }) => {}
                Output::Ask(request) => {
                    let (evidence, mut outputs) = (self.answer(&request), Vec::new());
                    self.core.evidence(clock::now(), &evidence, &mut outputs);
                    self.pass_on(outputs);
                    if let Evidence::Sweep { seen: Some(sweep) } = evidence {
                        self.found.sweep = *sweep;
                    }
                }
                Output::Finding(finding) => self.found.enter(*finding),
                Output::Undecided { child, why, .. } => self.found.undecided.push((child, why)),
                Output::Shares(shared) => self.found.shared.push(shared),
                _ => {}
            }
        }
    }

    fn answer(&mut self, request: &Request) -> Evidence {
        let Request::Place { child, parent, .. } = *request else {
            let mut evidence = self.reader.answer(request);
            if let (Evidence::Sweep { seen: Some(sweep) }, Some(child)) = (&mut evidence, self.child) {
                sweep.unexeced.retain(|swept| swept.process == child);
                sweep.zombies.clear();
            }
            return evidence;
        };
        let described = self.described.entry(parent).or_default();
        *described += 1;
        match (*described <= DESCRIBED).then(|| self.reader.answer(request)) {
            Some(place @ Evidence::Place { seen: Some(_), .. }) => place,
            _ => Evidence::Place { child, seen: self.outline(child, parent).map(Box::new) },
        }
    }

    /// What can be told of a stuck child without a look at where it is.
    fn outline(&mut self, child: ProcessKey, parent: Option<ProcessKey>) -> Option<Place> {
        let (key, owner) = host::owner(child.tgid)?;
        let itself = Program { comm: owner.comm, uid: owner.uid, ..Program::default() };
        let forker = parent.and_then(|parent| self.reader.program(parent));
        (key == child).then(|| Place {
            at: clock::now(),
            program: forker.unwrap_or(itself),
            symbol: None,
            stack: Stack::absent("not looked at, or not to be seen"),
            script: None,
            holder: None,
            others: Vec::new(),
            knows_others: false,
            behind: Vec::new(),
            blocks: Vec::new(),
            memory: None,
        })
    }
}

impl Found {
    /// Takes in a finding, or what has become of one.
    fn enter(&mut self, finding: Finding) {
        self.findings.retain(|known| known.number != finding.number);
        if !matches!(finding.state, State::Resolved(_)) {
            self.findings.push(finding);
        }
    }
}
