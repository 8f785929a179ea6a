//! `forkwatch run`: watches a command and what it starts, and fails where something was found.

use std::{
    cell::RefCell,
    ffi::OsString,
    io::{self, IsTerminal as _, Write as _},
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use clap::Args;
use tokio::time::{sleep, timeout};

use self::{
    announcing::Announcing,
    command::{Signals, Watched},
    reports::{Destination, Reports},
};
use super::{
    exit::{Exit, UsageError, message},
    fail_on::FailOn,
    shown::{TimeStyle, look},
    terminal::{ColorChoice, error_width},
};
use crate::{
    config::{self, Config, LogFormat, LogLevel},
    core::{Settings, suppress::SuppressRule},
    engine::{
        pipeline::{Pipeline, SharedKernel, lock},
        recorder::Recorder,
        session::{self, Session},
    },
    host::{self, Scope},
    kernel::{self, Filter, Probe, Stream},
    log::Log,
    model::{defaults, stack::Stacks},
    output::{
        Context,
        columns::{Columns, humanly},
        report::{Collecting, CommandEnd, Report, Seen},
    },
    paragraph, privilege, resources,
};

mod announcing;
mod by_daemon;
mod command;
mod ours;
mod reports;
mod told;

/// Signals that kill are told by shells as this and their number.
const KILLED: i32 = 128;

/// What to run, what makes it fail, and who is told.
#[derive(Debug, Args)]
pub(super) struct Options {
    /// Which findings make this end with 10
    #[arg(long, value_enum, value_name = "LEVEL", default_value = "confirmed")]
    fail_on: FailOn,
    /// Write a report (repeatable): junit=FILE, sarif=FILE or json=FILE, where - is stdout; or github, which annotates a
    /// run of GitHub Actions
    #[arg(long = "report", value_name = "FORMAT[=FILE]", value_parser = reports::destination)]
    reports: Vec<Destination>,
    /// Accept what the `[[suppress]]` rules of this file fit, as in the configuration of the service
    #[arg(long, visible_alias = "allow", value_name = "FILE")]
    suppress: Option<PathBuf>,
    /// How long to watch descendants that outlive the command; nothing is waited for where there are none
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = config::run_time)]
    linger: Duration,
    /// How long a child may live without exec before its fork is judged
    #[arg(long, value_name = "DURATION", default_value = config::written(defaults::GRACE), value_parser = config::grace)]
    grace: Duration,
    /// How long a child must have waited for a lock before it is reported as stuck, where the lock names its owner;
    /// other proofs take 2.5, 10 or 30 times as long
    #[arg(long, value_name = "DURATION", default_value = config::written(defaults::STUCK_AFTER), value_parser = config::stuck_after)]
    stuck_after: Duration,
    /// Also write what is judged to a file, for forkwatch replay
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,
    /// When to use colour; `NO_COLOR` and `CLICOLOR_FORCE` are honoured
    #[arg(long, value_enum, default_value_t, value_name = "WHEN")]
    color: ColorChoice,
    /// The command with its arguments
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

/// What came of the command, and of the watch of it.
struct Outcome {
    end: CommandEnd,
    took: Duration,
    /// Why the watch ended before the command did.
    failed: Option<anyhow::Error>,
}

/// Runs the command to its end, and then says what was found.
pub(super) fn run(options: &Options) -> Result<Exit> {
    Log::start(LogFormat::Auto, LogLevel::Warn, false).context("cannot start the log")?;
    if let Err(lacking) = privilege::require_for_load() {
        return by_daemon::run(options, lacking);
    }
    let settings = Settings {
        grace: options.grace,
        stuck_after: options.stuck_after,
        sweep_interval: Some(defaults::SWEEP_INTERVAL),
        stacks: Stacks::default(),
        suppress: options.suppress.as_deref().map(suppress_rules).transpose()?.unwrap_or_default(),
        ..Settings::default()
    };
    // Before anything that the command would inherit: it has what whoever called forkwatch has.
    let mut command = Watched::start(&options.command, None)?;
    resources::raise_open_files();
    let process = host::find(command.pid())?;
    let kernel_options = kernel::Options {
        stream: Stream { plain: true, sharing: true, threads: false },
        filter: Filter { tasks: true, ..Filter::default() },
        grace: options.grace,
        // The command has not begun, so nothing is late if the start takes longer for this.
        asked: &[Probe::Heirs],
        ..kernel::Options::default()
    };
    let mut session = Session::start(&kernel_options, &[process], None)?;
    session::warn_of_what_is_unseen(&session.missing);
    let context = session.context.clone();
    let recorder = Recorder::create(options.record.as_deref(), &settings, &context)?;
    let reports = Reports::create(&options.reports)?;
    let (collecting, seen) = Collecting::new();
    let outcome = session::runtime()?.block_on(async {
        let scope = Scope { roots: vec![process.key], ..Scope::default() };
        let collector = session.collector(scope)?;
        let (mut pipeline, kernel) = Pipeline::new(session, settings, collector, recorder)?;
        pipeline.add(vec![Box::new(collecting), Box::new(Announcing::default())]);
        let signals = Signals::new()?;
        command.go()?;
        let outcome = watch(&mut command, signals, &mut pipeline, kernel, options.linger).await;
        if let Some(recorded) = pipeline.recorded() {
            eprintln!("forkwatch: {recorded}");
        }
        outcome
    })?;
    let seen = seen.borrow();
    conclude(options, &context, &outcome, &seen, reports)
}

/// Says and reports what was found.
fn conclude(
    options: &Options,
    context: &Context,
    outcome: &Outcome,
    seen: &Seen,
    reports: Reports,
) -> Result<Exit> {
    let words: Vec<String> = options.command.iter().map(|word| word.to_string_lossy().into_owned()).collect();
    let hazards = reports::introduced();
    let report = Report {
        context,
        command: &words,
        end: outcome.end,
        took: outcome.took,
        seen,
        hazards: &hazards,
        fails: &|found| options.fail_on.counts(found),
    };
    say(&report, context, options.color).context("cannot write to stderr")?;
    reports.write(&report)?;
    Ok(exit(options.fail_on, seen, outcome))
}

/// Watches until the command has ended, and for a while what it leaves behind. If the watch fails, the command goes on to its
/// end all the same.
async fn watch(
    command: &mut Watched,
    signals: Signals,
    pipeline: &mut Pipeline,
    kernel: SharedKernel,
    linger: Duration,
) -> Result<Outcome> {
    let began = Instant::now();
    let ended = RefCell::new(None);
    let mut whole = Box::pin(async {
        let end = command.ended(signals).await?;
        *ended.borrow_mut() = Some((end, began.elapsed()));
        // What it leaves behind may hang, which is told some seconds later.
        let _ = timeout(linger, descendants_ended(kernel)).await;
        Ok::<(), anyhow::Error>(())
    });
    let watched = pipeline.run(&mut whole).await;
    let failed = match watched {
        Ok(Some(result)) => {
            result?;
            pipeline.close().and(pipeline.end()).err()
        }
        // No output is ever done before the command is.
        Ok(None) => None,
        Err(error) => Some(error),
    };
    let is_over = ended.borrow().is_some();
    if is_over {
        drop(whole);
    } else {
        if let Some(error) = &failed {
            eprintln!("forkwatch: the watch has failed, the command goes on: {}", message(error));
        }
        whole.await?;
    }
    let (end, took) = ended.into_inner().context("the end of the command was not told")?;
    Ok(Outcome { end, took, failed })
}

/// Ready when no descendant of the command is left.
async fn descendants_ended(kernel: SharedKernel) {
    /// Nothing tells of the last descendant's end, so the kernel's table is looked at now and then.
    const LOOK: Duration = Duration::from_millis(100);
    while lock(&kernel).filtered() > 0 {
        sleep(LOOK).await;
    }
}

/// A finding first, for that is what was asked for; then what the command says of itself; then that the watch failed, so
/// that silence is never taken for safety.
fn exit(fail_on: FailOn, seen: &Seen, outcome: &Outcome) -> Exit {
    match (fail_on.exit(seen), outcome.end) {
        (Exit::Found, _) => Exit::Found,
        (_, CommandEnd::Code(0)) if outcome.failed.is_some() => Exit::Failed,
        (_, CommandEnd::Code(code)) => Exit::Command(code),
        (_, CommandEnd::Signal(number)) => Exit::Command(u8::try_from(KILLED + number).unwrap_or(u8::MAX)),
    }
}

/// The rules of a file that has nothing else.
fn suppress_rules(file: &std::path::Path) -> Result<Vec<SuppressRule>> {
    let config = Config::load(file)?;
    let others = Config { suppress: Vec::new(), old_names: Vec::new(), ..config.clone() };
    if others != Config::default() {
        let name = file.display();
        return Err(UsageError(format!(
            "{name} sets more than [[suppress]] rules, which `forkwatch run` takes from its options alone: put the \
             rules into a file of their own"
        ))
        .into());
    }
    Ok(config.suppress)
}

/// Says on stderr what was found: the command has stdout.
fn say(report: &Report<'_>, context: &Context, color: ColorChoice) -> io::Result<()> {
    let color = color.is_on_for(io::stderr().is_terminal());
    let look = look(TimeStyle::Relative, color, context);
    let columns = Columns::new(look.times, error_width(), look.pid_max, look.color);
    let mut out = io::stderr().lock();
    for found in report.seen.found.iter().filter(|found| !found.is_withdrawn()) {
        writeln!(out, "{}", columns.finding(&found.finding).trim_end())?;
        if let Some(end) = found.end.as_ref().and_then(|end| end.facts.end.as_ref()) {
            let mut ended = String::new();
            paragraph::add(&mut ended, "    ended: ", "           ", &format!("the child {}", end.words()));
            out.write_all(ended.as_bytes())?;
        }
    }
    let seen = report.seen;
    let told = seen.found.iter().filter(|found| !found.is_withdrawn()).count();
    let failures = report.failures().count();
    if told > 0 {
        writeln!(out)?;
    }
    let ended = match report.end {
        CommandEnd::Code(code) => format!("ended with code {code}"),
        CommandEnd::Signal(number) => {
            format!(
                "was killed by {}",
                crate::model::signals::signal_name(u32::try_from(number).unwrap_or(0))
            )
        }
    };
    let findings = match told {
        0 => "nothing unsafe was found".to_owned(),
        count => counted(count as u64, "finding"),
    };
    let counting = match failures {
        0 if told == 0 => String::new(),
        0 => ", none of which counts (--fail-on)".to_owned(),
        count => format!(", {count} of which count (--fail-on)"),
    };
    let took = humanly(u64::try_from(report.took.as_nanos()).unwrap_or(u64::MAX));
    let forks =
        seen.forks.map_or_else(|| "watched by the daemon".to_owned(), |forks| format!("{forks} forks seen"));
    writeln!(out, "forkwatch: the command {ended} after {took}; {forks}; {findings}{counting}")?;
    if seen.left_out > 0 {
        writeln!(out, "forkwatch: {} more findings are not shown", seen.left_out)?;
    }
    if seen.accepted > 0 {
        writeln!(
            out,
            "forkwatch: {} accepted by the rules of --suppress",
            counted(seen.accepted, "finding")
        )?;
    }
    if seen.undecided > 0 {
        let count = counted(seen.undecided, "question");
        writeln!(out, "forkwatch: {count} could not be decided: a process was gone or could not be read")?;
    }
    if seen.lost > 0 {
        writeln!(out, "forkwatch: {} events were lost, so something may have been missed", seen.lost)?;
    }
    Ok(())
}

/// `1 finding`, `2 findings`.
fn counted(count: u64, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}
