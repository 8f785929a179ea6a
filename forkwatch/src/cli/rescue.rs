//! `forkwatch rescue`: releases an orphaned lock in a child that hangs for it.

mod document;
mod text;

use std::{
    ffi::CStr,
    io::{self, BufRead as _, IsTerminal as _, Write as _},
};

use anyhow::{Context as _, Result};
use clap::Args;
use nix::syslog::{Facility, LogFlags, Priority, Severity, openlog, syslog};

use self::document::Document;
use super::{
    exit::{Exit, UsageError},
    shown::Reply,
};
use crate::{
    action::rescue::{Released, Rescue, RescueError},
    api::{PREFIX, RescueReport},
    client::{AskError, Watch},
    detect::orphaned_lock::releasable::orphan,
    engine::snapshot,
    host,
    model::{defaults, finding::Finding, process::ProcessKey, stack::Stacks},
    privilege,
};

pub(super) use self::document::schema;

/// Which process, and how.
#[derive(Debug, Args)]
pub(super) struct Options {
    /// The child that hangs
    #[arg(value_name = "PID")]
    pid: u32,
    /// Say what would be written, and write nothing
    #[arg(long, conflicts_with = "yes")]
    dry_run: bool,
    /// Do not ask
    #[arg(long)]
    yes: bool,
    /// How the result is shown; JSON has the structure `forkwatch.rescue/1`
    #[arg(short, long, value_enum, default_value_t)]
    output: Reply,
}

/// The process that is to be rescued.
struct Child {
    key: ProcessKey,
    owner: host::Owner,
}

/// What has become of it.
enum Outcome {
    /// Nothing, for this reason.
    Refused { reason: String, finding: Option<Box<Finding>> },
    /// Nothing yet: this would be done.
    WouldRelease(Proven),
    /// Nothing, as whoever was asked has said no.
    Declined(Proven),
    /// The lock was released.
    Released(Proven, Released),
    /// It was tried.
    Failed(Proven, RescueError),
}

/// A lock that is proven orphaned, and how it is released.
struct Proven {
    finding: Box<Finding>,
    rescue: Rescue,
}

/// Does it, or says why not.
pub(super) fn run(options: &Options) -> Result<Exit> {
    let Options { pid, dry_run, yes, output } = *options;
    let process = host::find(pid)?;
    let may_ask = || io::stdin().is_terminal() && io::stderr().is_terminal();
    if !(dry_run || yes || may_ask()) {
        let why = "there is no terminal to ask on before another process is changed: say --yes, or see with --dry-run what \
                   would be written";
        return Err(UsageError(why.to_owned()).into());
    }
    let (key, owner) = host::owner(pid).with_context(|| format!("process {pid} has ended"))?;
    let child = Child { key, owner };
    privilege::require_to_change(pid, child.owner.uid)?;
    let outcome = match if process.unexeced { look(&child)? } else { not_forked() } {
        Outcome::WouldRelease(proven) if !dry_run => {
            let plan = text::plan(&child, &proven);
            match output {
                Reply::Text => show(&plan)?,
                // Whoever is asked must know what for.
                Reply::Json if !yes => io::stderr().write_all(plan.as_bytes()).context("cannot ask")?,
                Reply::Json => {}
            }
            if yes || ask(&child)? { release(proven) } else { Outcome::Declined(proven) }
        }
        outcome => outcome,
    };
    record(&child, &outcome)?;
    show(&match output {
        Reply::Text => text::outcome(&child, &outcome),
        Reply::Json => serde_json::to_string_pretty(&Document::new(&child, &outcome))? + "\n",
    })?;
    Ok(outcome.exit())
}

impl Outcome {
    const fn exit(&self) -> Exit {
        match self {
            Self::WouldRelease(_) | Self::Released(_, Released { went_on: true, .. }) => Exit::Fine,
            Self::Refused { .. } | Self::Declined(_) => Exit::Refused,
            Self::Released(..) | Self::Failed(..) => Exit::Failed,
        }
    }
}

fn not_forked() -> Outcome {
    let reason = "it was not forked, or has exec'd since: what it waits for, it did not inherit".to_owned();
    Outcome::Refused { reason, finding: None }
}

/// Judges it by the same rules as a scan.
fn look(child: &Child) -> Result<Outcome> {
    let found = snapshot::look_at(Some(child.key), defaults::STUCK_AFTER, Stacks::Light)?;
    let mut finding = None;
    let mut doubt = None;
    for seen in found.findings.into_iter().filter(|finding| finding.child == child.key) {
        match orphan(&seen) {
            Ok(orphan) => {
                return Ok(match Rescue::prepare(child.key, orphan.thread, orphan.address) {
                    Ok(rescue) => Outcome::WouldRelease(Proven { finding: Box::new(seen), rescue }),
                    Err(error) => {
                        Outcome::Refused { reason: error.to_string(), finding: Some(Box::new(seen)) }
                    }
                });
            }
            // Of other faults it is not asked.
            Err(why) if seen.facts.lock.is_some() => {
                doubt.get_or_insert(why);
                finding.get_or_insert(Box::new(seen));
            }
            Err(_) => {}
        }
    }
    let undecided =
        found.undecided.into_iter().find(|(process, _)| *process == child.key).map(|(_, why)| why);
    let reason = match (doubt, undecided) {
        (Some(doubt), _) => doubt.to_string(),
        (None, Some(why)) => format!("it could not be judged: {why}"),
        (None, None) if found.waiting > 0 => {
            "it waits for a lock as if stuck, but not for long enough yet to say so: try again in some seconds".to_owned()
        }
        (None, None) => nothing_proven(child),
    };
    Ok(Outcome::Refused { reason, finding })
}

/// Why nothing is proven, as far as that can be told.
fn nothing_proven(child: &Child) -> String {
    let sleepers = match host::asleep::asleep(child.key) {
        Ok(sleepers) => sleepers,
        Err(error) => return format!("it is not proven to wait for an orphaned lock: {error}"),
    };
    if sleepers.iter().any(host::asleep::Sleeper::inherits_priority) {
        return "it waits for a priority-inheriting mutex: the kernel keeps who has it, and another process cannot release it"
            .to_owned();
    }
    if sleepers.iter().all(|sleeper| sleeper.wait().is_none()) {
        let main = sleepers
            .first()
            .map_or_else(String::new, |main| format!(" (its main thread sleeps in {})", main.call()));
        return format!("none of its threads waits for a lock without a time limit{main}");
    }
    if sleepers.iter().filter_map(host::asleep::Sleeper::wait).all(|wait| wait.is_shared()) {
        return "it waits for a lock that other processes may share, which one of them may hold".to_owned();
    }
    "it waits, but nothing proves that the lock is orphaned: the child itself may have taken it".to_owned()
}

fn ask(child: &Child) -> Result<bool> {
    let mut error = io::stderr();
    write!(error, "Release the lock in process {}? [y/N] ", child.key.tgid).context("cannot ask")?;
    error.flush().context("cannot ask")?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer).context("cannot read the answer")?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

fn release(proven: Proven) -> Outcome {
    match proven.rescue.carry_out() {
        Ok(released) => Outcome::Released(proven, released),
        Err(error) if error.is_refusal() => {
            Outcome::Refused { reason: error.to_string(), finding: Some(proven.finding) }
        }
        Err(error) => Outcome::Failed(proven, error),
    }
}

/// What was changed, or tried, for whoever keeps the host's log.
fn record(child: &Child, outcome: &Outcome) -> Result<()> {
    const NAME: &CStr = c"forkwatch";
    if !matches!(outcome, Outcome::Released(..) | Outcome::Failed(..)) {
        return Ok(());
    }
    let document = Document::new(child, outcome);
    tell_daemon(&document.report(child));
    openlog(Some(NAME), LogFlags::LOG_PID, Facility::LOG_DAEMON).context("cannot open the system log")?;
    let document = serde_json::to_string(&document.without_finding())?;
    let priority = Priority::new(Severity::LOG_NOTICE, Facility::LOG_DAEMON);
    syslog(priority, document.as_str()).context("cannot write to the system log")
}

/// Tells a running daemon, which has it in its log, metrics and events. Where none runs, nobody need know.
fn tell_daemon(report: &RescueReport) {
    match Watch::at(None).post(&format!("{PREFIX}/rescues"), report) {
        Ok(()) | Err(AskError::Nobody { .. }) => {}
        Err(error) => eprintln!("forkwatch: the daemon was not told of this: {error}"),
    }
}

fn show(text: &str) -> Result<()> {
    io::stdout().write_all(text.as_bytes()).context("cannot write the output")
}
