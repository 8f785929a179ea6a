//! The programs that are watched: this one, under another task.
//!
//! Each begins when it reads a byte, writes `done` when it has forked what it was to fork, keeps its children until its
//! standard input ends, and then removes them.

use std::{
    cell::UnsafeCell,
    env,
    fs::File,
    io::{self, Read as _, Write as _},
    net::TcpStream,
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::net::UnixStream,
    },
    process::{Child, ChildStdin, ChildStdout, Command, ExitCode, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
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
/// Between two messages of one sender.
const PAUSE: Duration = Duration::from_millis(10);

use crate::server;

/// A running one.
pub(crate) struct Work {
    child: Child,
    input: Option<ChildStdin>,
    output: ChildStdout,
}

impl Work {
    /// Starts one; returns when it has forked.
    pub(crate) fn start(name: &str) -> Result<Self> {
        let mut work = Self::hold(name)?;
        work.begin().with_context(|| format!("`work {name}` failed"))?;
        Ok(work)
    }

    /// Starts one that does not begin yet.
    pub(crate) fn hold(name: &str) -> Result<Self> {
        let mut child = Command::new(env::current_exe()?)
            .args(["work", name])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start the program to watch")?;
        let output = child.stdout.take().context("no pipe")?;
        Ok(Self { input: child.stdin.take(), output, child })
    }

    /// Has it begin; returns when it has forked.
    pub(crate) fn begin(&mut self) -> Result<()> {
        self.input.as_mut().context("no pipe")?.write_all(b"b")?;
        self.output.read_exact(&mut [0; 4]).context("it did not fork")
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
    if name == "nothing" {
        return ExitCode::SUCCESS;
    }
    let result = told_to_begin().and_then(|()| match name {
        "threads" => beside_a_thread(),
        "pending" => with_a_pending_signal(),
        "kinds" => kinds(),
        "storm" => storm(),
        "limit" => at_the_limit(),
        "hang" => with_a_lock_held(),
        "tcp" => TcpStream::connect(server::TCP).context("no connection").and_then(talk),
        "unix" => UnixStream::connect(server::UNIX).context("no connection").and_then(talk),
        _ => bail!("no such work"),
    });
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

/// A mutex of the C library, whose layout names its owner; that of std does not.
struct Lock(UnsafeCell<libc::pthread_mutex_t>);

// SAFETY: all that is done with it is to take it by the C library's function.
unsafe impl Sync for Lock {}

static LOCK: Lock = Lock(UnsafeCell::new(libc::PTHREAD_MUTEX_INITIALIZER));

impl Lock {
    fn take(&self) {
        // SAFETY: initialised, and never moved.
        unsafe { libc::pthread_mutex_lock(self.0.get()) };
    }
}

/// The child wants a lock that a thread of the parent holds.
fn with_a_lock_held() -> Result<()> {
    let (taken, is_taken) = mpsc::channel();
    thread::Builder::new().name(THREAD_NAME.to_owned()).spawn(move || {
        LOCK.take();
        // The receiver waits for this.
        let _ = taken.send(());
        loop {
            thread::park();
        }
    })?;
    is_taken.recv()?;
    keep(&[forked(Then::TakesTheLock)?])
}

/// Parent and child send on one connection.
fn talk(connection: impl Into<OwnedFd>) -> Result<()> {
    let mut connection = File::from(connection.into());
    // SAFETY: the process has one thread.
    let child = match unsafe { fork() }? {
        ForkResult::Parent { child } => child,
        ForkResult::Child => {
            while connection.write_all(b"c").is_ok() {
                thread::sleep(PAUSE);
            }
            // SAFETY: ends the process at once.
            unsafe { libc::_exit(1) }
        }
    };
    tell_done()?;
    let input = io::stdin();
    let pause = PollTimeout::try_from(PAUSE)?;
    while poll(&mut [PollFd::new(input.as_fd(), PollFlags::POLLIN)], pause)? == 0 {
        connection.write_all(b"p")?;
    }
    remove(&[child])
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
    TakesTheLock,
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
                Then::TakesTheLock => LOCK.take(),
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

fn told_to_begin() -> Result<()> {
    io::stdin().read_exact(&mut [0]).context("not told to begin")
}

fn tell_done() -> Result<()> {
    io::stdout().write_all(b"done")?;
    io::stdout().flush().context("nobody to tell")
}

/// Tells that it is done, and removes the children when its standard input ends.
fn keep(children: &[Pid]) -> Result<()> {
    tell_done()?;
    if io::stdin().read(&mut [0])? != 0 {
        bail!("standard input is not for reading");
    }
    remove(children)
}

fn remove(children: &[Pid]) -> Result<()> {
    for child in children {
        kill(*child, Signal::SIGKILL)?;
        wait(*child)?;
    }
    Ok(())
}
