//! The servers and their workers as lines, in an order, and with those left out that do not have a word.

use std::{
    cmp::Reverse,
    collections::{HashMap, HashSet},
    rc::Rc,
};

use crate::{
    cli::inspect::{Family, Member, does},
    model::{
        finding::{Finding, Severity, State},
        process::{ProcessKey, escape},
        time::BootTime,
        worker::WorkerState,
        worker_table::{ServerRecord, WorkerRecord, WorkerTable},
    },
};

/// What stands in a line, and which line is selected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Key {
    /// A server, by its master.
    Server(ProcessKey),
    /// A worker.
    Worker(ProcessKey),
}

/// A line of the table.
#[derive(Clone, Debug)]
pub(super) struct Row {
    /// Whose line it is.
    pub(super) key: Key,
    /// The server's master.
    pub(super) master: ProcessKey,
    /// Whether its workers are left out.
    pub(super) folded: bool,
    /// What it is called.
    pub(super) name: String,
    /// Where it stands.
    pub(super) state: String,
    /// Nanoseconds since it was created.
    pub(super) age: u64,
    /// What it does, and since when.
    pub(super) does: String,
    /// Nanoseconds since its main thread last ran.
    pub(super) since: Option<u64>,
    /// Bytes of memory that it shares with others, and that are its own.
    pub(super) memory: Option<(u64, u64)>,
    /// Locks that it carries, held by threads that it does not have.
    pub(super) locks: usize,
    /// What was found about it and is not over, and the worst of it.
    pub(super) findings: usize,
    /// The severity of the worst.
    pub(super) worst: Option<Severity>,
}

impl Row {
    /// Its process.
    pub(super) const fn process(&self) -> ProcessKey {
        match self.key {
            Key::Server(process) | Key::Worker(process) => process,
        }
    }

    fn has(&self, word: &str) -> bool {
        let pid = self.process().tgid.to_string();
        [&self.name, &self.state, &self.does, &pid].iter().any(|text| text.to_lowercase().contains(word))
    }
}

/// The order of servers, and of the workers of each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Sort {
    /// Those first of which the worst was found.
    #[default]
    Trouble,
    /// By name and slot.
    Name,
    /// Those first that have copied most memory.
    Memory,
    /// The youngest first.
    Age,
}

impl Sort {
    /// The next of them.
    pub(super) const fn next(self) -> Self {
        match self {
            Self::Trouble => Self::Name,
            Self::Name => Self::Memory,
            Self::Memory => Self::Age,
            Self::Age => Self::Trouble,
        }
    }

    /// Its name on the screen.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Trouble => "trouble",
            Self::Name => "name",
            Self::Memory => "memory",
            Self::Age => "age",
        }
    }

    fn sort(self, rows: &mut [(Row, Vec<Row>)]) {
        match self {
            Self::Trouble => {
                rows.sort_by_key(|(row, _)| (Reverse((row.worst, row.findings)), row.name.clone()));
            }
            Self::Name => rows.sort_by_key(|(row, _)| (row.name.clone(), row.process().tgid)),
            Self::Memory => rows.sort_by_key(|(row, _)| Reverse(row.memory.map(|(_, own)| own))),
            Self::Age => rows.sort_by_key(|(row, _)| row.age),
        }
    }
}

/// What rows are made of.
pub(super) struct Material<'a> {
    pub(super) table: &'a WorkerTable,
    /// What was seen of servers, by master.
    pub(super) seen: &'a HashMap<ProcessKey, Rc<Family>>,
    pub(super) findings: &'a [Finding],
    /// Masters that have ended.
    pub(super) ended: &'a HashSet<ProcessKey>,
    pub(super) now: BootTime,
}

/// The lines in this order; of those with a word, where one is given.
pub(super) fn rows(of: &Material<'_>, sort: Sort, word: &str, folded: &HashSet<ProcessKey>) -> Vec<Row> {
    let word = word.to_lowercase();
    let troubles = Troubles::new(of.findings);
    let mut groups: Vec<(Row, Vec<Row>)> =
        of.table.servers.iter().map(|server| group(server, of, &troubles)).collect();
    sort.sort(&mut groups);
    let mut all = Vec::new();
    for (mut server, workers) in groups {
        let mut workers: Vec<(Row, Vec<Row>)> = workers.into_iter().map(|row| (row, Vec::new())).collect();
        sort.sort(&mut workers);
        let whole = server.has(&word);
        let workers: Vec<Row> =
            workers.into_iter().map(|(row, _)| row).filter(|row| whole || row.has(&word)).collect();
        if !whole && workers.is_empty() {
            continue;
        }
        server.folded = folded.contains(&server.master);
        let is_folded = server.folded;
        all.push(server);
        if !is_folded {
            all.extend(workers);
        }
    }
    all
}

/// A server's line, and those of its workers.
fn group(server: &ServerRecord, of: &Material<'_>, troubles: &Troubles) -> (Row, Vec<Row>) {
    let master = server.server.master;
    let seen = of.seen.get(&master).map(AsRef::as_ref);
    let workers: Vec<Row> =
        server.workers.iter().map(|worker| self::worker(worker, master, seen, of, troubles)).collect();
    let about = server.server.class.as_ref().map_or_else(String::new, |class| format!(" {}", escape(class)));
    let unit = server.server.unit.as_ref().map_or_else(String::new, |unit| format!(" ({})", escape(unit)));
    let count = |state| server.workers.iter().filter(|worker| worker.state == state).count();
    let not_ready: Vec<String> = WorkerState::ALL
        .into_iter()
        .filter(|state| *state != WorkerState::Ready)
        .filter_map(|state| Some((count(state), state)).filter(|(count, _)| *count > 0))
        .map(|(count, state)| format!("{count} {}", state.name()))
        .collect();
    let standing = match server.workers.len() {
        0 if of.ended.contains(&master) => "has ended".to_owned(),
        1 => "1 worker".to_owned(),
        count => format!("{count} workers"),
    };
    let not_ready = if not_ready.is_empty() { String::new() } else { format!(": {}", not_ready.join(", ")) };
    let ended = if server.ended > 0 { format!("; {} ended", server.ended) } else { String::new() };
    let own = troubles.of(master);
    let mut worst = own.worst;
    let mut findings = own.findings;
    for row in &workers {
        worst = worst.max(row.worst);
        findings += row.findings;
    }
    let memory = workers.iter().filter_map(|row| row.memory);
    let memory = memory.reduce(|(shared, own), (more, more_own)| (shared.max(more), own + more_own));
    let row = Row {
        key: Key::Server(master),
        master,
        folded: false,
        name: format!("{}{about}{unit}", escape(&server.server.name)),
        state: String::new(),
        age: nanoseconds_since(of.now, master.start),
        does: standing + &not_ready + &ended,
        since: None,
        memory,
        locks: 0,
        findings,
        worst,
    };
    (row, workers)
}

fn worker(
    worker: &WorkerRecord,
    master: ProcessKey,
    seen: Option<&Family>,
    of: &Material<'_>,
    troubles: &Troubles,
) -> Row {
    let member = seen.and_then(|family| member(family, worker.process.tgid));
    let trouble = troubles.of(worker.process);
    let title = member.and_then(|member| member.title.clone());
    let slot = worker.slot.as_ref().map(escape);
    let name = slot.or(title).unwrap_or_else(|| escape(worker.comm.bytes()));
    let replaces = worker.replaces.map_or_else(String::new, |pid| format!(", replaces {pid}"));
    Row {
        key: Key::Worker(worker.process),
        master,
        folded: false,
        name: name + &replaces,
        state: worker.state.name().to_owned(),
        age: nanoseconds_since(of.now, worker.process.start),
        does: member.map_or_else(String::new, doing),
        since: member.and_then(|member| member.threads.first()?.since_ns),
        memory: member.and_then(|member| member.memory).map(|memory| (memory.shared, memory.copied)),
        locks: trouble.locks,
        findings: trouble.findings,
        worst: trouble.worst,
    }
}

/// What is known of one of them.
pub(super) fn member(family: &Family, pid: u32) -> Option<&Member> {
    family.processes.iter().find(|member| member.pid == pid)
}

fn doing(member: &Member) -> String {
    let at = member.threads.first().and_then(|main| main.at.as_ref());
    let at = at.map_or_else(String::new, |at| format!(" in {at}"));
    does(member) + &at
}

fn nanoseconds_since(now: BootTime, start: BootTime) -> u64 {
    now.0.saturating_sub(start.0)
}

/// What was found about a process and is not over.
#[derive(Clone, Copy, Debug, Default)]
struct Trouble {
    findings: usize,
    locks: usize,
    worst: Option<Severity>,
}

/// The same by process.
struct Troubles(HashMap<ProcessKey, Trouble>);

impl Troubles {
    fn new(findings: &[Finding]) -> Self {
        let mut all: HashMap<ProcessKey, Trouble> = HashMap::new();
        for finding in findings.iter().filter(|finding| !matches!(finding.state, State::Resolved(_))) {
            let trouble = all.entry(finding.child).or_default();
            trouble.findings += 1;
            trouble.locks = trouble.locks.max(finding.facts.held.len());
            trouble.worst = trouble.worst.max(Some(finding.severity));
        }
        Self(all)
    }

    fn of(&self, process: ProcessKey) -> Trouble {
        self.0.get(&process).copied().unwrap_or_default()
    }
}
