//! A server and its workers as lines, and the order of these.

use std::{cmp::Ordering, collections::HashMap};

use jiff::{SignedDuration, Timestamp};

use super::survey::Looked;
use crate::{
    api::{Brief, KeptState, ServerDocument, WorkerDocument},
    cli::inspect::{Family, Member, does},
    model::{finding::Severity, process::ProcessKey, time::BootTime, worker::WorkerState},
};

/// What stands in a line, and which line is selected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Key {
    /// A server, by its master.
    Server(ProcessKey),
    /// A worker of a server.
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
    /// Whether it starts, is ready or stops, in a word.
    pub(super) state: String,
    /// When it was created, in RFC 3339.
    pub(super) start: String,
    /// What it does, and since when.
    pub(super) does: String,
    /// When its main thread last ran.
    pub(super) since: Option<Timestamp>,
    /// Bytes of memory that it shares with others, and that are its own.
    pub(super) memory: Option<(u64, u64)>,
    /// Locks that it carries, held by threads that it does not have.
    pub(super) locks: u64,
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

    /// Whether a word, in small letters, stands in the line.
    pub(super) fn has(&self, word: &str) -> bool {
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

    /// Which of two lines of one kind stands first.
    pub(super) fn compare(self, one: &Row, other: &Row) -> Ordering {
        match self {
            Self::Trouble => {
                let worse = (other.worst, other.findings).cmp(&(one.worst, one.findings));
                worse.then_with(|| one.name.cmp(&other.name))
            }
            Self::Name => {
                one.name.cmp(&other.name).then_with(|| one.process().tgid.cmp(&other.process().tgid))
            }
            Self::Memory => {
                let own = |row: &Row| row.memory.map(|(_, own)| own);
                own(other).cmp(&own(one))
            }
            // All are written alike, so that their order is that of the times.
            Self::Age => other.start.cmp(&one.start),
        }
    }
}

/// A process by its pid and the name that it has on all hosts, `BOOT-PID-START`; without that, by its pid alone.
pub(super) fn key(pid: u32, entity_id: Option<&str>) -> ProcessKey {
    let ticks = entity_id.and_then(|name| name.rsplit('-').next()?.parse().ok());
    ProcessKey { tgid: pid, start: BootTime::from_ticks(ticks.unwrap_or_default()) }
}

/// The master of a server.
pub(super) fn master(server: &ServerDocument) -> ProcessKey {
    key(server.master_pid, server.master_entity_id.as_deref())
}

/// The process of a worker.
pub(super) fn worker_key(worker: &WorkerDocument) -> ProcessKey {
    key(worker.pid, worker.entity_id.as_deref())
}

/// Whether something was found about the process of a line, or about one that it has forked.
pub(super) fn is_about(brief: &Brief, row: &Row) -> bool {
    let process = row.process();
    let parent = brief.parent_pid.map(|pid| key(pid, brief.parent_entity_id.as_deref()));
    key(brief.pid, brief.entity_id.as_deref()) == process
        || parent == Some(process)
        || (brief.also_pids.contains(&process.tgid) && row.start <= brief.last_seen)
}

/// A server's line, and those of its workers.
pub(super) fn of_server(
    server: &ServerDocument,
    seen: Option<&Looked>,
    has_ended: bool,
    troubles: &Troubles<'_>,
) -> (Row, Vec<Row>) {
    let master = master(server);
    let workers: Vec<Row> =
        server.workers.iter().map(|worker| self::worker(worker, master, seen, troubles)).collect();
    let about = server.class.as_ref().map_or_else(String::new, |class| format!(" {class}"));
    let unit = server.unit.as_ref().map_or_else(String::new, |unit| format!(" ({unit})"));
    let count = |state: &str| server.workers.iter().filter(|worker| worker.state == state).count();
    let not_ready: Vec<String> = WorkerState::ALL
        .into_iter()
        .filter(|state| *state != WorkerState::Ready)
        .filter_map(|state| Some((count(state.name()), state)).filter(|(count, _)| *count > 0))
        .map(|(count, state)| format!("{count} {}", state.name()))
        .collect();
    let standing = match server.workers.len() {
        0 if has_ended => "has ended".to_owned(),
        1 => "1 worker".to_owned(),
        count => format!("{count} workers"),
    };
    let not_ready = if not_ready.is_empty() { String::new() } else { format!(": {}", not_ready.join(", ")) };
    let ended = if server.ended > 0 { format!("; {} ended", server.ended) } else { String::new() };
    let own = troubles.of(master, &server.master_start);
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
        name: format!("{}{about}{unit}", server.name),
        state: String::new(),
        start: server.master_start.clone(),
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
    worker: &WorkerDocument,
    master: ProcessKey,
    seen: Option<&Looked>,
    troubles: &Troubles<'_>,
) -> Row {
    let process = worker_key(worker);
    let member = seen.and_then(|looked| member(&looked.family, worker.pid));
    let trouble = troubles.of(process, &worker.start);
    let title = member.and_then(|member| member.title.clone());
    let name = worker.slot.clone().or(title).unwrap_or_else(|| worker.name.clone());
    let replaces = worker.replaces.map_or_else(String::new, |pid| format!(", replaces {pid}"));
    Row {
        key: Key::Worker(process),
        master,
        folded: false,
        name: name + &replaces,
        state: worker.state.clone(),
        start: worker.start.clone(),
        does: member.map_or_else(String::new, doing),
        since: member.and_then(|member| ago(seen?.at, member.threads.first()?.since_ns?)),
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

/// Nanoseconds from a time in RFC 3339 to another; none where it cannot be read, or lies ahead.
pub(super) fn since(now: Timestamp, start: &str) -> u64 {
    let Ok(start) = start.parse::<Timestamp>() else { return 0 };
    between(start, now)
}

/// So many nanoseconds before a time.
fn ago(at: Timestamp, nanoseconds: u64) -> Option<Timestamp> {
    at.checked_sub(SignedDuration::from_nanos(i64::try_from(nanoseconds).ok()?)).ok()
}

/// Nanoseconds from a time to another; none where it lies ahead.
pub(super) fn between(start: Timestamp, now: Timestamp) -> u64 {
    u64::try_from(now.as_nanosecond() - start.as_nanosecond()).unwrap_or(0)
}

/// What was found about a process and is not over.
#[derive(Clone, Copy, Debug, Default)]
struct Trouble {
    findings: usize,
    locks: u64,
    worst: Option<Severity>,
}

impl Trouble {
    fn add(&mut self, brief: &Brief, locks: u64) {
        self.findings += 1;
        self.locks = self.locks.max(locks);
        self.worst = self.worst.max(Some(brief.severity));
    }
}

/// The same by process; and by pid, with when something was last said of it, for those that a summary names.
#[derive(Default)]
pub(super) struct Troubles<'a> {
    own: HashMap<ProcessKey, Trouble>,
    named: HashMap<u32, (Trouble, &'a str)>,
}

impl<'a> Troubles<'a> {
    /// Of these findings.
    pub(super) fn new(findings: &'a [Brief]) -> Self {
        let mut all = Self::default();
        let is_open = |brief: &&Brief| !matches!(brief.state, KeptState::Resolved | KeptState::Unwatched);
        for brief in findings.iter().filter(is_open) {
            let process = key(brief.pid, brief.entity_id.as_deref());
            all.own.entry(process).or_default().add(brief, brief.carried_locks);
            for pid in &brief.also_pids {
                let (trouble, last) = all.named.entry(*pid).or_default();
                trouble.add(brief, 0);
                *last = (*last).max(&brief.last_seen);
            }
        }
        all
    }

    /// One that was started later has a pid that another had before.
    fn of(&self, process: ProcessKey, start: &str) -> Trouble {
        let mut trouble = self.own.get(&process).copied().unwrap_or_default();
        if let Some((named, last)) = self.named.get(&process.tgid)
            && start <= *last
        {
            trouble.findings += named.findings;
            trouble.worst = trouble.worst.max(named.worst);
        }
        trouble
    }
}
