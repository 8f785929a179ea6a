//! The commands: what the command line says, and what it is done with. One file a command.

mod bundle;
mod check;
mod check_config;
mod completions;
mod daemon;
mod demo;
mod demo_program;
mod doctor;
mod exit;
mod explain;
mod fail_on;
mod findings;
mod generate;
mod held_program;
mod hook;
mod hooks;
mod inspect;
mod kernel_log;
mod man;
mod neighbours;
mod quiet;
mod replay;
mod rescue;
mod run;
mod scan;
mod shown;
mod tail;
mod terminal;
mod top;

use anyhow::Result;
use clap::{Parser, Subcommand};

pub use crate::kernel::self_test::EXEC_ARGUMENT;
pub use exit::{Exit, report};
pub use generate::generate;

/// Watches every fork on this host with eBPF, and says which were unsafe, who is to blame and what to change.
///
/// Without a command it is `forkwatch tail`: a line for each fork and its outcome, with findings set off from them.
/// A fork that execs in time is never reported: silence means safe.
#[derive(Debug, Parser)]
#[command(name = "forkwatch", version, args_conflicts_with_subcommands = true, after_help = exit::HELP)]
pub struct Arguments {
    /// What to do; tail if nothing is said.
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    tail: tail::Options,
}

/// What to do.
#[derive(Debug, Subcommand)]
enum Command {
    /// Show forks and findings as they happen
    Tail(tail::Options),
    /// Show servers, their workers and findings on a screen that follows
    ///
    /// The pre-forking servers of this host as trees: where each worker stands, what it does, for how long, and in which
    /// line; its memory, the locks that it carries, and what was found about it. Keys are shown with `?`.
    Top(top::Options),
    /// Watch as a service: metrics for Prometheus, events as JSON lines
    Daemon(daemon::Options),
    /// Look for what forks have broken already: stuck children, pinned ports, processes that nobody waits for
    ///
    /// Needs no eBPF and no history: a hang that began last night is found now. Ends with 0 where nothing is proven
    /// wrong, 10 where something is. The names in the JSON document do not change within its version.
    Scan(scan::Options),
    /// Run a command, watch it and all that it starts, and fail where something was found
    ///
    /// For tests and CI: stdin, output and signals are the command's, and so is the exit code, but for 10 where a
    /// finding counts (--fail-on). What was found is said on stderr at the end, and in reports for CI services. The
    /// names in the JSON report do not change within its version.
    Run(run::Options),
    /// Fork unsafely on purpose, and show what forkwatch says of it
    Demo(demo::Options),
    /// Say what this host supports, and what is missing
    ///
    /// Loads the eBPF programs, attaches them, tests them and detaches them again. Ends with 0 where forkwatch can
    /// watch, 3 where it lacks privilege, 4 where the kernel lacks what is needed. The names in the JSON document
    /// (schema, id of a check, name of a detector, status, state) do not change within its version.
    Doctor(doctor::Options),
    /// Say whether a fork of a running process would be safe now
    ///
    /// Looks at its threads, the locks they hold, pending signals, event loops, connections, databases, locks on files
    /// and memory. It uses no eBPF, disturbs nothing, and judges the fork of a child that lives on: one that execs at
    /// once is always safe. Ends with 0 where the fork would be safe, warnings included, and 10 where it would not; with
    /// 3 where it saw nothing unsafe, but may not look at everything. The JSON document's names (schema, verdict, id of a
    /// reason) do not change within its version.
    Check(check::Options),
    /// List what the daemon has found in the last days
    ///
    /// Asks a running daemon over its local socket, which root and members of the group of `socket.group` may; where none
    /// runs, reads the store that the last one left. The JSON documents' names do not change within their version.
    Findings(findings::Options),
    /// Gather what belongs to a finding into one file, for a bug report
    ///
    /// A tar archive that only its owner can read: the finding with its evidence, other findings and events of that time, what
    /// the child and its forker do, their maps, descriptors and limits if they still live, and what doctor says. Command
    /// lines, paths of users, addresses and the host's name are left out, and marked, unless --personal is given. It works
    /// while the daemon runs and from the store that the last one left, and says what could not be had.
    Bundle(bundle::Options),
    /// Show what each process of a server does and holds
    ///
    /// Of any process: which server it belongs to, and that one's master and workers, how old each is, what it does and for
    /// how long, its threads, memory, descriptors, connections and output; what it shares with the others; and what a
    /// fork of the master would find now. It uses no eBPF and no daemon, and disturbs nothing. Ends with 0; with 3 where it
    /// may not look at everything. The JSON document's names do not change within its version.
    Inspect(inspect::Options),
    /// Release the lock that a forked child hangs for, if that is proven
    ///
    /// Stops the child for less than a millisecond, and writes the words of the lock as its library would have on release.
    /// What the lock guards may be half changed: better drain the process and restart it. It shows what it would write and
    /// asks, unless --yes or --dry-run is given. It refuses what is not proven, and locks of unknown kinds. It needs the
    /// capability to trace processes (`CAP_SYS_PTRACE`), and tells syslog what it did. Ends with 0 where the lock was released
    /// and the thread went on or, with --dry-run, where it could be; with 1 where the thread did not go on, with 11 where
    /// nothing was released. The names in the JSON document do not change within its version.
    Rescue(rescue::Options),
    /// Do something when something happens: run the hooks of a file
    ///
    /// Hears a running daemon over its local socket, and runs programs or sends POSTs as `/etc/forkwatch/hooks.toml` says.
    /// It is what `forkwatch-hooks.service` starts. SIGHUP reads the file anew. Ends with 2 where that cannot be used.
    Hooks(hooks::Options),
    /// List, check, switch and try hooks
    Hook(hook::Options),
    /// Explain a hazard: what it is, how it is found, how sure that is, what to change
    Explain(explain::Options),
    /// Judge a recording again, as tail and daemon make with --record
    Replay(replay::Options),
    /// Check a configuration file, and show what is in force
    CheckConfig(check_config::Options),
    /// Print what a shell needs to complete this command line
    ///
    /// For bash, put the output into a file below `/etc/bash_completion.d`.
    Completions(completions::Options),
    /// Print the manual, of forkwatch or of one command, for man(1)
    ///
    /// To read it: `forkwatch man scan | man -l -`
    Man(man::Options),
    /// The program that demo watches
    #[command(hide = true, name = demo_program::NAME)]
    DemoProgram,
    /// What run starts in place of its command
    #[command(hide = true, name = held_program::NAME)]
    HeldProgram(held_program::Options),
}

/// Does what the command line says.
pub fn run(arguments: Arguments) -> Result<Exit> {
    match arguments.command.unwrap_or(Command::Tail(arguments.tail)) {
        Command::Tail(options) => tail::run(&options),
        Command::Top(options) => top::run(&options),
        Command::Daemon(options) => daemon::run(&options),
        Command::Scan(options) => scan::run(&options),
        Command::Demo(options) => demo::run(&options),
        Command::Doctor(options) => doctor::run(&options),
        Command::Check(options) => check::run(&options),
        Command::Findings(options) => findings::run(&options),
        Command::Bundle(options) => bundle::run(&options),
        Command::Inspect(options) => inspect::run(&options),
        Command::Rescue(options) => rescue::run(&options),
        Command::Hooks(options) => hooks::run(&options),
        Command::Hook(options) => hook::run(&options),
        Command::Explain(options) => explain::run(&options),
        Command::Replay(options) => replay::run(&options),
        Command::CheckConfig(options) => check_config::run(&options),
        Command::Completions(options) => completions::run(&options),
        Command::Man(options) => man::run(&options),
        Command::Run(options) => run::run(&options),
        Command::DemoProgram => demo_program::run(),
        Command::HeldProgram(options) => held_program::run(&options),
    }
}
