//! The load: processes that do nothing but fork and wait, or create and join threads.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use clap::ValueEnum;
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, fork};

use crate::this_program;

/// What a load does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Load {
    /// fork(2), and the child exits at once
    Fork,
    /// A thread that ends at once
    Thread,
}

/// One process of a load.
#[derive(clap::Args)]
pub(crate) struct Work {
    load: Load,
    count: u64,
}

/// A load that has run.
pub(crate) struct Outcome {
    /// The processes that forked or created threads.
    pub(crate) workers: Vec<u32>,
    /// Forks or threads in all.
    pub(crate) count: u64,
    /// Time of all CPUs for one of them.
    pub(crate) each: Duration,
}

/// Runs a load of `count` events on all CPUs, a process for each.
pub(crate) fn run(load: Load, count: u64) -> Result<Outcome> {
    let cpus = thread::available_parallelism().context("cannot count the CPUs")?.get();
    let mut workers =
        (0..cpus).map(|_| Running::start(load, count / cpus as u64)).collect::<Result<Vec<_>>>()?;
    let start = Instant::now();
    workers.iter_mut().try_for_each(Running::go)?;
    let pids = workers.iter().map(|worker| worker.child.id()).collect();
    workers.iter_mut().try_for_each(Running::wait)?;
    let elapsed = start.elapsed();
    let count = count / cpus as u64 * cpus as u64;
    let each = elapsed.mul_f64(cpus as f64 / count as f64);
    Ok(Outcome { workers: pids, count, each })
}

/// A worker that has said that it is there.
struct Running {
    child: Child,
}

impl Running {
    fn start(load: Load, count: u64) -> Result<Self> {
        let name = load.to_possible_value().context("this load has no name")?;
        let mut child = Command::new(this_program()?)
            .args(["work", name.get_name(), &count.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start a worker")?;
        let stdout = child.stdout.take().context("a worker has no output")?;
        BufReader::new(stdout).read_line(&mut String::new()).context("a worker did not start")?;
        Ok(Self { child })
    }

    fn go(&mut self) -> Result<()> {
        let mut stdin = self.child.stdin.take().context("a worker was already released")?;
        stdin.write_all(b"\n").context("cannot release a worker")
    }

    fn wait(&mut self) -> Result<()> {
        let status = self.child.wait()?;
        if !status.success() {
            bail!("a worker failed: {status}");
        }
        Ok(())
    }
}

/// Works, once released by a byte on standard input.
pub(crate) fn work(work: &Work) -> Result<()> {
    println!("ready");
    std::io::stdin().read_exact(&mut [0])?;
    let one = match work.load {
        Load::Fork => fork_one,
        Load::Thread => thread_one,
    };
    (0..work.count).try_for_each(|_| one())
}

/// Forks a child that exits at once, and waits for it.
pub(crate) fn fork_one() -> Result<()> {
    // SAFETY: the child does nothing but _exit(2), which is safe whatever the other threads hold.
    match unsafe { fork() }.context("cannot fork")? {
        ForkResult::Parent { child } => {
            waitpid(child, None).context("cannot wait for a child")?;
            Ok(())
        }
        // SAFETY: ends the child without running anything that it inherited.
        ForkResult::Child => unsafe { libc::_exit(0) },
    }
}

fn thread_one() -> Result<()> {
    let thread =
        thread::Builder::new().stack_size(16 * 1024).spawn(|| ()).context("cannot create a thread")?;
    thread.join().map_err(|_| anyhow::anyhow!("a thread panicked"))
}
