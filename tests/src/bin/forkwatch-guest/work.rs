//! The programs that are watched: this one, under another task.
//!
//! Each writes `done` when it has forked what it was to fork, keeps its children until its standard input ends, and
//! then removes them.

use std::{
    env,
    io::{self, Read as _, Write as _},
    process::{Child, ChildStdin, Command, ExitCode, Stdio},
    sync::mpsc,
    thread,
};

use anyhow::{Context as _, Result, bail, ensure};
use nix::{
    sys::{
        resource::{Resource, setrlimit},
        signal::{SigSet, SigmaskHow, Signal, kill, raise, sigprocmask},
        wait::waitpid,
    },
    unistd::{ForkResult, Pid, Uid, fork, pause, setuid},
};

/// The name of the thread that makes a fork unsafe.
pub(crate) const THREAD_NAME: &str = "guest-worker";
/// How many copying forks, threads and spawned programs `storm` makes.
pub(crate) const STORM: u32 = 300;

/// A running one.
pub(crate) struct Work {
    child: Child,
    input: Option<ChildStdin>,
}

impl Work {
    /// Starts one; returns when it has forked.
    pub(crate) fn start(name: &str) -> Result<Self> {
        let mut child = Command::new(env::current_exe()?)
            .args(["work", name])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start the program to watch")?;
        let mut said = [0; 4];
        let read = child.stdout.take().context("no pipe")?.read_exact(&mut said);
        let work = Self { input: child.stdin.take(), child };
        read.with_context(|| format!("`work {name}` failed"))?;
        Ok(work)
    }

    /// Its pid.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Lets it end.
    pub(crate) fn end(mut self) -> Result<()> {
        drop(self.input.take());
        let status = self.child.wait()?;
        ensure!(status.success(), "the program that was watched ended with {status}");
        Ok(())
    }
}

/// Is one.
pub(crate) fn run(name: &str) -> ExitCode {
    let result = match name {
        "threads" => beside_a_thread(),
        "pending" => with_a_pending_signal(),
        "kinds" => kinds(),
        "storm" => storm(),
        "limit" => at_the_limit(),
        "nothing" => return ExitCode::SUCCESS,
        _ => return ExitCode::from(2),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("work {name}: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn beside_a_thread() -> Result<()> {
    let (started, is_started) = mpsc::channel();
    thread::Builder::new().name(THREAD_NAME.to_owned()).spawn(move || {
        // The receiver waits for this.
        let _ = started.send(());
        loop {
            thread::park();
        }
    })?;
    is_started.recv()?;
    keep(&[forked(Then::Stays)?])
}

fn with_a_pending_signal() -> Result<()> {
    let mut blocked = SigSet::empty();
    blocked.add(Signal::SIGUSR1);
    sigprocmask(SigmaskHow::SIG_BLOCK, Some(&blocked), None)?;
    raise(Signal::SIGUSR1)?;
    keep(&[forked(Then::Stays)?])
}

/// One of each way to create a process and of each way for it to go on.
fn kinds() -> Result<()> {
    wait(forked(Then::Execs)?)?;
    wait(forked(Then::Exits)?)?;
    let killed = forked(Then::Stays)?;
    kill(killed, Signal::SIGKILL)?;
    wait(killed)?;
    spawned()?;
    keep(&[])
}

fn storm() -> Result<()> {
    for _ in 0..STORM {
        wait(forked(Then::Exits)?)?;
        thread::spawn(|| ()).join().map_err(|_| anyhow::Error::msg("a thread panicked"))?;
        spawned()?;
    }
    keep(&[])
}

/// Has a fork refused, as an ordinary user who may have no more than one process.
fn at_the_limit() -> Result<()> {
    setrlimit(Resource::RLIMIT_NPROC, 1, 1)?;
    setuid(Uid::from_raw(1000))?;
    let kept = forked(Then::Stays);
    ensure!(
        matches!(&kept, Err(error) if error.downcast_ref() == Some(&nix::Error::EAGAIN)),
        "a fork beyond RLIMIT_NPROC: {kept:?}"
    );
    keep(&[])
}

/// What a forked child does.
#[derive(Clone, Copy)]
enum Then {
    Stays,
    Exits,
    Execs,
}

fn forked(what: Then) -> Result<Pid> {
    // SAFETY: the child makes nothing but system calls before it execs or ends, `Command::exec` in a process of one
    // thread excepted.
    match unsafe { fork() }? {
        ForkResult::Parent { child } => Ok(child),
        ForkResult::Child => {
            match what {
                Then::Stays => loop {
                    pause();
                },
                Then::Exits => {}
                Then::Execs => {
                    use std::os::unix::process::CommandExt as _;
                    drop(Command::new("/proc/self/exe").args(["work", "nothing"]).exec());
                }
            }
            // SAFETY: ends the process at once.
            unsafe { libc::_exit(7) }
        }
    }
}

/// By `posix_spawn`, which is a vfork in glibc.
fn spawned() -> Result<()> {
    let status = Command::new("/proc/self/exe").args(["work", "nothing"]).status()?;
    ensure!(status.success(), "a spawned program ended with {status}");
    Ok(())
}

fn wait(child: Pid) -> Result<()> {
    waitpid(child, None).map(drop).context("cannot wait for a child")
}

/// Tells that it is done, and removes the children when its standard input ends.
fn keep(children: &[Pid]) -> Result<()> {
    io::stdout().write_all(b"done")?;
    io::stdout().flush()?;
    if io::stdin().read(&mut [0])? != 0 {
        bail!("standard input is not for reading");
    }
    for child in children {
        kill(*child, Signal::SIGKILL)?;
        wait(*child)?;
    }
    Ok(())
}
