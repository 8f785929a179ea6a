//! Measures what forkwatch costs and loses, beside an empty program and beside what one would use instead.
//!
//! Run it as `cargo xtask bench`, as root, on a machine that does nothing else. Every section interleaves what it
//! compares, round by round, so that a slow minute of the machine hurts all alike, and prints medians as a table in
//! Markdown.
#![expect(clippy::cast_precision_loss, reason = "no count here comes near 2^52")]

use std::env;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::{Parser, Subcommand, ValueEnum};

mod crowd;
mod daemon;
mod empty;
mod helper;
mod process;
mod programs;
mod report;
mod sections;
mod statistics;
mod table;
mod watcher;
mod workload;

use report::Report;
use workload::Load;

#[derive(Parser)]
#[command(name = "cargo xtask bench", about = "Measures what watching costs, and prints tables in Markdown")]
struct Arguments {
    #[command(subcommand)]
    worker: Option<Worker>,
    #[command(flatten)]
    options: Options,
}

/// What every section needs to know.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Only these sections
    #[arg(long, value_enum)]
    only: Vec<Section>,
    /// Rounds of each comparison
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Forks in each run
    #[arg(long, default_value_t = 40_000)]
    forks: u64,
    /// Threads created in each run
    #[arg(long, default_value_t = 200_000)]
    threads: u64,
    /// The forkwatch to measure
    #[arg(long, default_value = "target/release/forkwatch")]
    program: PathBuf,
    /// Another one, such as that of an earlier commit, to start and let idle beside it
    #[arg(long, value_name = "PROGRAM")]
    beside: Option<PathBuf>,
    /// The commit that is measured, which is written below each table
    #[arg(long, default_value = "an unknown commit")]
    commit: String,
    /// A document whose tables to replace
    #[arg(long, value_name = "FILE")]
    write: Option<PathBuf>,
}

impl Options {
    /// Events in a run of this load.
    fn count(&self, load: Load) -> u64 {
        match load {
            Load::Fork => self.forks,
            Load::Thread => self.threads,
        }
    }
}

/// Measures a section and reports its tables.
type Run = fn(&Options, &Report) -> Result<()>;

/// The names of all tables that are reported.
#[cfg(test)]
const TABLES: [&str; 13] = [
    "kernel",
    "load-fork",
    "load-thread",
    "daemon",
    "start",
    "ready",
    "idle",
    "children",
    "held-locks",
    "inherited",
    "attaching",
    "sends",
    "scan",
];

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Section {
    /// Time in the kernel, beside an empty program
    Kernel,
    /// Time added to a load on all CPUs and events lost, beside other tools
    Load,
    /// Exactness of the counters, CPU time and memory of the daemon in a storm
    Daemon,
    /// Time from start to ready and to the first fork seen
    Start,
    /// Time from a worker's last hook until it is told that it waits for work, under real servers
    Ready,
    /// Wake-ups while nothing happens
    Idle,
    /// CPU time and memory of the daemon while a thousand forked children live on and do nothing
    Children,
    /// CPU time of a search for held locks, and memory copied for it
    HeldLocks,
    /// Time of a fork with connections, and until their use is watched
    Inherited,
    /// Time of a send on a watched connection and beside it
    Sends,
    /// CPU time of a scan of thousands of processes
    Scan,
}

#[derive(Subcommand)]
enum Worker {
    /// Forks or creates threads, as one of the processes of a load
    #[command(hide = true)]
    Work(workload::Work),
    /// Forks children that live on
    #[command(hide = true)]
    Crowd(crowd::Forker),
    /// Wakes each second
    #[command(hide = true)]
    Wake,
    /// Forks children with much memory and a lock that a thread holds
    #[command(hide = true)]
    Carry(sections::held_locks::Carrier),
    /// Forks children with connections
    #[command(hide = true)]
    Inherit(sections::inherited::Forker),
    /// Sends on a connection that it shares with its child
    #[command(hide = true)]
    Send(sections::sends::Sender),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let result = match &arguments.worker {
        Some(Worker::Work(work)) => workload::work(work),
        Some(Worker::Crowd(forker)) => crowd::work(forker),
        Some(Worker::Wake) => sections::idle::wake(),
        Some(Worker::Carry(carrier)) => sections::held_locks::work(carrier),
        Some(Worker::Inherit(forker)) => sections::inherited::work(forker),
        Some(Worker::Send(sender)) => sections::sends::work(sender),
        None => measure(&arguments.options),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn measure(options: &Options) -> Result<()> {
    anyhow::ensure!(nix::unistd::geteuid().is_root(), "the benchmark loads eBPF programs: run it as root");
    options.program.metadata().with_context(|| format!("there is no {}", options.program.display()))?;
    let provenance =
        format!("Measured at {}, {}, {}", options.commit, process::today()?, process::machine()?);
    let report = Report::new(provenance, options.commit.clone(), options.write.clone());
    let all: [(Section, Run); 11] = [
        (Section::Kernel, sections::kernel::run),
        (Section::Load, sections::load::run),
        (Section::Daemon, sections::daemon::run),
        (Section::Start, sections::start::run),
        (Section::Ready, sections::ready::run),
        (Section::Idle, sections::idle::run),
        (Section::Children, sections::children::run),
        (Section::HeldLocks, sections::held_locks::run),
        (Section::Inherited, sections::inherited::run),
        (Section::Sends, sections::sends::run),
        (Section::Scan, sections::scan::run),
    ];
    for (section, run) in all {
        if options.only.is_empty() || options.only.contains(&section) {
            run(options, &report)?;
        }
    }
    Ok(())
}

/// This very program, which is also its own load.
fn this_program() -> Result<PathBuf> {
    env::current_exe().context("cannot find this program's own file")
}
