//! `forkwatch scan`: what forks have broken on this host already, without history and without eBPF.

mod shared;

use std::{
    io::{self, Write},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use clap::Args;
use jiff::tz::TimeZone;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike as _;
use serde::Serialize;

use self::shared::Shared;
use super::{
    exit::Exit,
    shown::Reply,
    terminal::{ColorChoice, width},
};
use crate::{
    config,
    engine::{session, snapshot},
    host::{self, clock},
    model::{
        defaults,
        finding::{Finding, State},
        process::ProcessKey,
        seen::Sweep,
        stack::Stacks,
        time::nanoseconds,
    },
    output::{
        Context,
        columns::{Columns, Times, humanly},
        json::{self, document::Document},
    },
    paragraph,
};

/// The name of the document that `-o json` prints. It changes when a field changes its meaning or goes away, not when
/// one is added.
const SCHEMA: &str = "forkwatch.scan/1";

/// How it looks, and how it is shown.
#[derive(Debug, Args)]
pub(super) struct Options {
    /// How the result is shown; JSON has the structure `forkwatch.scan/1`
    #[arg(short, long, value_enum, default_value_t)]
    output: Reply,
    /// How long a child must have waited for a lock to be called stuck, where the lock names its owner; other proofs
    /// take 2.5, 10 or 30 times as long
    #[arg(long, value_name = "DURATION", default_value = config::written(defaults::STUCK_AFTER), value_parser = config::stuck_after)]
    stuck_after: Duration,
    /// How the stacks of stuck threads are had: not at all; from outside, without stopping them; or with all their
    /// registers, for which each is stopped for some microseconds
    #[arg(long, value_enum, default_value_t, value_name = "HOW")]
    stacks: Stacks,
    /// When to use colour; `NO_COLOR` and `CLICOLOR_FORCE` are honoured
    #[arg(long, value_enum, default_value_t, value_name = "WHEN")]
    color: ColorChoice,
}

/// What a scan has found, as it is told.
struct Found {
    sweep: Sweep,
    findings: Vec<Finding>,
    waiting: usize,
    shared: Vec<Shared>,
    /// What could not be looked at, and why.
    unread: Vec<Unread>,
}

/// A process that could not be looked at.
#[derive(Debug, Serialize)]
struct Unread {
    pid: u32,
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    uid: Option<u32>,
    why: String,
}

impl Unread {
    /// None where the process has ended: there is nothing left to be looked at.
    fn new(process: ProcessKey, why: String) -> Option<Self> {
        let (key, owner) = host::owner(process.tgid)?;
        let name = owner.comm.to_text();
        (key == process).then_some(Self { pid: process.tgid, name, uid: owner.uid, why })
    }
}

impl Found {
    fn new(found: snapshot::Found) -> Self {
        let snapshot::Found { sweep, mut findings, undecided, waiting, shared, .. } = found;
        for (finding, number) in findings.iter_mut().zip(1..) {
            finding.number = number;
        }
        let shared = shared.iter().map(Shared::new).collect();
        let unread = undecided.into_iter().filter_map(|(process, why)| Unread::new(process, why)).collect();
        Self { sweep, findings, waiting, shared, unread }
    }

    fn confirmed(&self) -> usize {
        self.findings.iter().filter(|finding| finding.state == State::Confirmed).count()
    }
}

/// Looks at every process and says what is proven.
pub(super) fn run(options: &Options) -> Result<Exit> {
    let begin = Instant::now();
    let found = snapshot::look(options.stuck_after, options.stacks)?;
    let cost = Cost { took: begin.elapsed(), cpu: cpu_time() + found.cpu };
    let found = Found::new(found);
    let text = match options.output {
        Reply::Text => text(&found, cost, options.color),
        Reply::Json => serde_json::to_string_pretty(&Report::new(&session::context(), &found, cost))? + "\n",
    };
    io::stdout().write_all(text.as_bytes()).context("cannot write the output")?;
    Ok(if found.confirmed() > 0 { Exit::Found } else { Exit::Fine })
}

/// What the scan itself has taken.
#[derive(Clone, Copy)]
struct Cost {
    took: Duration,
    cpu: Duration,
}

/// CPU time of this process so far, without its reader's, of the user and of the kernel for it.
fn cpu_time() -> Duration {
    let usage = getrusage(UsageWho::RUSAGE_SELF);
    let microseconds = usage
        .map_or(0, |usage| usage.user_time().num_microseconds() + usage.system_time().num_microseconds());
    Duration::from_micros(u64::try_from(microseconds).unwrap_or_default())
}

fn text(found: &Found, cost: Cost, color: ColorChoice) -> String {
    let sweep = &found.sweep;
    let times = Times::Wall { context: session::context(), zone: TimeZone::system() };
    let pid_max = clock::pid_max().unwrap_or(1 << 22);
    let columns = Columns::new(times, width(), pid_max, color.is_on());
    let mut text: String = found.findings.iter().map(|finding| columns.finding(finding) + "\n").collect();
    let count =
        |count: usize, one: &str, many: &str| format!("{count} {}", if count == 1 { one } else { many });
    let confirmed = found.confirmed();
    let result = match (confirmed, found.findings.len() - confirmed) {
        (0, 0) => "nothing is proven wrong".to_owned(),
        (confirmed, 0) => format!("{confirmed} proven"),
        (confirmed, suspected) => format!("{confirmed} proven, {suspected} suspected"),
    };
    let summary = format!(
        "{}, {} forked and never exec'd, {} not waited for: {result}. It took {}, {} of them CPU time.",
        count(sweep.processes as usize, "process", "processes"),
        sweep.unexeced.len(),
        count(sweep.zombies.len(), "zombie", "zombies"),
        humanly(nanoseconds(cost.took)),
        humanly(nanoseconds(cost.cpu)),
    );
    paragraph::add(&mut text, "", "", &summary);
    if found.waiting > 0 {
        let waiting = count(found.waiting, "child waits", "children wait");
        let note =
            format!("{waiting} for a lock as if stuck, but not for long enough yet to say so: scan again.");
        paragraph::add(&mut text, "", "", &note);
    }
    for note in zombies(sweep).into_iter().chain(shared::sentences(&found.shared)) {
        paragraph::add(&mut text, "", "", &note);
    }
    for (why, pids) in by_reason(&found.unread) {
        let note = format!("Not looked at, so nothing is known of: {pids}. The reason: {why}.");
        paragraph::add(&mut text, "", "", &note);
    }
    text
}

/// Who lets ended children lie. How long they have lain, `/proc` does not tell.
fn zombies(sweep: &Sweep) -> Vec<String> {
    let mut parents: Vec<(u32, usize)> = Vec::new();
    for zombie in &sweep.zombies {
        let parent = zombie.parent.map_or(0, |parent| parent.tgid);
        match parents.iter_mut().find(|(tgid, _)| *tgid == parent) {
            Some((_, count)) => *count += 1,
            None => parents.push((parent, 1)),
        }
    }
    let words = |(parent, count): &(u32, usize)| {
        let children =
            if *count == 1 { "1 child that has".to_owned() } else { format!("{count} children that have") };
        format!("Process {parent} has not waited for {children} ended.")
    };
    parents.iter().map(words).collect()
}

/// Processes by why they could not be looked at: most share their reason.
fn by_reason(unread: &[Unread]) -> Vec<(String, String)> {
    let mut reasons: Vec<(String, Vec<u32>)> = Vec::new();
    for Unread { pid, why, .. } in unread {
        let why = why.replace(&format!("/proc/{pid}"), "/proc/PID");
        match reasons.iter_mut().find(|(reason, _)| *reason == why) {
            Some((_, pids)) => pids.push(*pid),
            None => reasons.push((why, vec![*pid])),
        }
    }
    reasons.into_iter().map(|(why, pids)| (why, some_of(&pids))).collect()
}

/// Pids for a sentence, the first few by number.
fn some_of(pids: &[u32]) -> String {
    const SHOWN: usize = 8;
    let shown: Vec<String> = pids.iter().take(SHOWN).map(ToString::to_string).collect();
    let more = match pids.len().saturating_sub(SHOWN) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!("{}{more}", shown.join(", "))
}

/// All that was found: the document, in the order of its fields.
#[derive(Serialize)]
struct Report<'a> {
    /// [`SCHEMA`].
    schema: &'static str,
    /// forkwatch's.
    version: &'static str,
    /// Processes that there were.
    processes: u32,
    /// Those that were forked and have not exec'd.
    unexeced: usize,
    /// Those that have ended and that nobody has waited for.
    zombies: usize,
    /// Each a document of the schema `forkwatch.event/1`.
    findings: Vec<Document>,
    /// Children that wait for a lock as if stuck, but not for long enough yet.
    waiting: usize,
    /// Connections that two processes hold: a fault only if both use them.
    shared_connections: &'a [Shared],
    /// What could not be looked at.
    unread: &'a [Unread],
    /// Nanoseconds that it took.
    took_ns: u64,
    /// Nanoseconds of CPU time that it took.
    cpu_ns: u64,
}

impl<'a> Report<'a> {
    fn new(context: &Context, found: &'a Found, cost: Cost) -> Self {
        let sweep = &found.sweep;
        Self {
            schema: SCHEMA,
            version: env!("CARGO_PKG_VERSION"),
            processes: sweep.processes,
            unexeced: sweep.unexeced.len(),
            zombies: sweep.zombies.len(),
            findings: (0..)
                .zip(&found.findings)
                .map(|(sequence, finding)| json::finding(context, sequence, finding))
                .collect(),
            waiting: found.waiting,
            shared_connections: &found.shared,
            unread: &found.unread,
            took_ns: nanoseconds(cost.took),
            cpu_ns: nanoseconds(cost.cpu),
        }
    }
}
