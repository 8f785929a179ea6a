//! The programs that are watched: this one, under another task.
//!
//! Each begins when it reads a byte, writes `done` when it has forked what it was to fork, keeps its children until its
//! standard input ends, and then removes them.

use std::{
    cell::UnsafeCell,
    ffi::CStr,
    fs::File,
    io::{self, Read as _, Write as _},
    net::TcpStream,
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::net::UnixStream,
    },
    process::{Child, ChildStdin, ChildStdout, Command, ExitCode, Stdio},
    ptr,
    sync::mpsc,
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use nix::{
    errno::Errno,
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
/// How many copying forks, threads and vforks `storm` makes.
pub(crate) const STORM: u32 = 100;
/// This program, wherever it stands.
pub(crate) const PROGRAM: &str = "/proc/self/exe";
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
        Self::hold_in(&mut Command::new(PROGRAM), name)
    }

    /// Starts one that does not begin yet, by a command that executes [`PROGRAM`] with further arguments.
    pub(crate) fn hold_in(command: &mut Command, name: &str) -> Result<Self> {
        let mut child = command
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
    match name {
        "nothing" => return ExitCode::SUCCESS,
        "stays" => stay(),
        _ => {}
    }
    let result = told_to_begin().and_then(|()| match name {
        "threads" => beside_a_thread(&[Then::Stays]),
        "clean" => beside_a_thread(&[Then::ExecsAndStays, Then::Exits]),
        "alone" => keep(&[forked(Then::Stays)?]),
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

/// Forks children that do this, beside a thread.
fn beside_a_thread(children: &[Then]) -> Result<()> {
    let (started, is_started) = mpsc::channel();
    thread::Builder::new().name(THREAD_NAME.to_owned()).spawn(move || {
        // The receiver waits for this.
        let _ = started.send(());
        loop {
            thread::park();
        }
    })?;
    is_started.recv()?;
    let children = children.iter().map(|then| forked(*then)).collect::<Result<Vec<_>>>()?;
    keep(&children)
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
    thread::spawn(|| ()).join().map_err(|_| anyhow::Error::msg("a thread panicked"))?;
    sharing_memory()?;
    keep(&[])
}

fn storm() -> Result<()> {
    for _ in 0..STORM {
        wait(forked(Then::Exits)?)?;
        thread::spawn(|| ()).join().map_err(|_| anyhow::Error::msg("a thread panicked"))?;
        // There is no such program, which the new process finds out; to start one would take ten times as long.
        ensure!(Command::new("/nothing").status().is_err(), "a program called /nothing");
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
    ExecsAndStays,
    TakesTheLock,
}

fn forked(what: Then) -> Result<Pid> {
    // SAFETY: the child makes nothing but system calls before it execs or ends.
    match unsafe { fork() }? {
        ForkResult::Parent { child } => Ok(child),
        ForkResult::Child => {
            match what {
                Then::Stays => stay(),
                Then::Exits => {}
                Then::TakesTheLock => LOCK.take(),
                Then::Execs => execute(c"nothing"),
                Then::ExecsAndStays => execute(c"stays"),
            }
            // SAFETY: ends the process at once.
            unsafe { libc::_exit(7) }
        }
    }
}

fn stay() -> ! {
    loop {
        pause();
    }
}

/// Becomes another work; returns if that fails.
fn execute(name: &CStr) {
    let program = c"/proc/self/exe".as_ptr();
    let arguments = [program, c"work".as_ptr(), name.as_ptr(), ptr::null()];
    // SAFETY: strings, and an array of them that ends with a null pointer.
    unsafe { libc::execv(program, arguments.as_ptr()) };
}

/// A process that shares the memory of this one, and ends with 8.
fn sharing_memory() -> Result<()> {
    extern "C" fn ends(_: *mut libc::c_void) -> libc::c_int {
        8
    }
    let mut stack = vec![0_u128; 1024];
    let top = stack.as_mut_ptr_range().end;
    // SAFETY: the stack is the child's alone, grows down from its aligned end, and lives until the child has ended,
    // for which this waits; the child calls nothing.
    let child = unsafe { libc::clone(ends, top.cast(), libc::CLONE_VM | libc::SIGCHLD, ptr::null_mut()) };
    let child = Pid::from_raw(Errno::result(child).context("cannot clone")?);
    wait(child)
}

/// By `posix_spawn`, which is a vfork in glibc.
fn spawned() -> Result<()> {
    let status = Command::new(PROGRAM).args(["work", "nothing"]).status()?;
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
