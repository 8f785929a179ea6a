//! `forkwatch check`: whether a fork of a running process would be safe now.

mod document;
pub(super) mod held;
mod text;

use std::{
    io::{self, Write},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use clap::Args;

use self::document::document;
use super::{exit::Exit, shown::Reply};
use crate::{
    config,
    detect::fork_check::{Verdict, assess},
    host,
    model::{
        inventory::{Inventory, Unknown},
        process::{Program, escape},
        program_name::called,
    },
    reader::{Answer, Answered, Client, Question, Starter, Unanswered},
};

/// Which process, and how the answer is shown.
#[derive(Debug, Args)]
pub(super) struct Options {
    /// The process
    #[arg(value_name = "PID")]
    pid: u32,
    /// Look for this long, such as 30s, how often its threads hold locks that a child would get locked; Ctrl-C ends it
    /// early
    #[arg(long = "for", value_name = "DURATION", value_parser = config::run_time)]
    span: Option<Duration>,
    /// How the answer is shown; JSON has the structure `forkwatch.check/1`
    #[arg(short, long, value_enum, default_value_t)]
    output: Reply,
}

/// How long somebody who waits is kept waiting.
pub(super) const PATIENCE: Duration = Duration::from_secs(8);

pub(super) fn run(options: &Options) -> Result<Exit> {
    if options.pid == std::process::id() {
        bail!("process {} is this forkwatch itself: give the pid of the process that forks", options.pid);
    }
    let process = host::find(options.pid)?;
    let mut reader = Client::new(Starter::start()?).with_patience(PATIENCE);
    let mut inventory = inventory(&mut reader, &process)?;
    held::look(&mut reader, process.key, options.span, &mut inventory)?;
    let assessment = assess(&inventory);
    let text = match options.output {
        Reply::Text => text::text(options.pid, &inventory, &assessment),
        Reply::Json => serde_json::to_string_pretty(&document(options.pid, &inventory, &assessment))? + "\n",
    };
    io::stdout().write_all(text.as_bytes()).context("cannot write the output")?;
    Ok(exit(assessment.verdict, &inventory.unknown))
}

/// What a process holds.
pub(super) fn inventory(reader: &mut Client, process: &host::Process) -> Result<Inventory> {
    let pid = process.key.tgid;
    match reader.ask(&Question::Inventory(*process)) {
        Ok(Answered { answer: Answer::Inventory(inventory), .. }) => Ok(*inventory?),
        Ok(Answered { answer: Answer::Failed(defect), .. }) => {
            bail!("the look at process {pid} failed, which is a defect of forkwatch: {defect}")
        }
        Ok(_) => bail!("the look at process {pid} was answered by something else"),
        Err(Unanswered::Aside(why)) => bail!(
            "process {pid} cannot be looked at: {why}. A file system that does not answer (FUSE, or one on the \
             network) keeps whoever looks waiting; /proc/{pid}/mountinfo lists the process's mounts"
        ),
        Err(error) => Err(error.into()),
    }
}

/// Where it is undecided, the exit code says whether more privilege would decide it.
fn exit(verdict: Verdict, unknown: &[Unknown]) -> Exit {
    match verdict {
        Verdict::Safe | Verdict::Risky => Exit::Fine,
        Verdict::Unsafe => Exit::Found,
        Verdict::Undecided if unknown.iter().any(|unknown| unknown.denied) => Exit::Privilege,
        Verdict::Undecided => Exit::Failed,
    }
}

/// What to call the process.
fn name(program: &Program) -> String {
    escape(called(program).as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::inventory::Subject;

    #[test]
    fn the_exit_code_follows_the_verdict() {
        let unknown = |denied| [Unknown { what: Subject::Descriptors, why: String::new(), denied }];
        assert_eq!(exit(Verdict::Safe, &[]), Exit::Fine);
        assert_eq!(exit(Verdict::Risky, &unknown(true)), Exit::Fine);
        assert_eq!(exit(Verdict::Unsafe, &unknown(true)), Exit::Found);
        assert_eq!(exit(Verdict::Undecided, &unknown(true)), Exit::Privilege);
        assert_eq!(exit(Verdict::Undecided, &unknown(false)), Exit::Failed);
    }
}
