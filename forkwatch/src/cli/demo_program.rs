//! The program that `forkwatch demo` watches: it forks as unsafely as it can.
//!
//! One thread holds a lock and a signal is pending and blocked, when another thread forks; the child then wants that
//! lock. In the parent the lock is released a moment later; in the child nobody is there to release it.
//!
//! It speaks with the demo through pipes: `ready` on stdout once all is set up, a line on stdin lets it fork, one more
//! line on stdout tells of the [`Fork`]; it ends, and ends its child, when stdin is closed.

use std::{
    cell::UnsafeCell,
    io::{self, BufRead, Write},
    sync::mpsc::{Receiver, channel},
    thread,
};

use anyhow::{Context as _, Result, bail};
use nix::{
    sys::{
        prctl,
        signal::{SigSet, SigmaskHow, Signal, kill, pthread_sigmask},
        wait::waitpid,
    },
    unistd::{ForkResult, Pid, fork, getpid, gettid},
};

use super::exit::Exit;

/// The command that runs it.
pub(super) const NAME: &str = "demo-program";
/// What it says when it is ready to fork.
pub(super) const READY: &str = "ready";
/// The thread that holds the lock.
pub(super) const OWNER: &str = "metrics-flush";
/// The signal that is pending.
pub(super) const SIGNAL: Signal = Signal::SIGUSR1;

/// The lock, as C programs know it.
struct Lock(UnsafeCell<libc::pthread_mutex_t>);

// SAFETY: it is only touched through the functions of pthread_mutex(3), which are made for many threads.
unsafe impl Sync for Lock {}

static LOCK: Lock = Lock(UnsafeCell::new(libc::PTHREAD_MUTEX_INITIALIZER));

/// What became of the fork.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fork {
    /// The pid of the forked child.
    pub(super) child: u32,
    /// The thread that held the lock.
    pub(super) owner: u32,
}

impl Fork {
    fn to_line(&self) -> String {
        let Self { child, owner } = self;
        format!("{child} {owner}")
    }

    /// Reads the program's line; none where it is something else.
    pub(super) fn from_line(line: &str) -> Option<Self> {
        let mut words = line.split_whitespace();
        let fork = Self { child: words.next()?.parse().ok()?, owner: words.next()?.parse().ok()? };
        words.next().is_none().then_some(fork)
    }
}

/// Runs until stdin is closed.
pub(super) fn run() -> Result<Exit> {
    // Started as /proc/self/exe, it would be known as "exe".
    prctl::set_name(c"demo-program").context("cannot name the process")?;
    // Before the first thread, so that none of them takes the signal in.
    pthread_sigmask(SigmaskHow::SIG_BLOCK, Some(&SigSet::from(SIGNAL)), None)
        .context("cannot block a signal")?;
    kill(getpid(), SIGNAL).context("cannot raise a signal")?;

    let (lines, to_write) = channel::<String>();
    let writer = spawn("log-writer", move || to_write.iter().for_each(drop))?;
    let (forked, has_forked) = channel();
    let (locked, is_locked) = channel();
    let flusher = spawn(OWNER, move || {
        lock();
        // Fails only if the main thread has given up.
        let _ = locked.send(gettid());
        wait_for(&has_forked);
        unlock();
        wait_for(&has_forked);
    })?;
    let owner = is_locked.recv().context("the thread that holds the lock has ended")?;

    let mut commands = io::stdin().lock();
    let mut line = String::new();
    say(READY)?;
    if commands.read_line(&mut line)? > 0 {
        let child = fork_into_the_lock().context("cannot fork")?;
        forked.send(()).context("the thread that holds the lock has ended")?;
        let fork = Fork { child: child.as_raw().unsigned_abs(), owner: owner.as_raw().unsigned_abs() };
        let told = say(&fork.to_line());
        let ended = io::copy(&mut commands, &mut io::sink());
        kill(child, Signal::SIGKILL).context("cannot end the child")?;
        waitpid(child, None).context("cannot wait for the child")?;
        told.and(ended.map(drop))?;
    }
    drop((lines, forked));
    if writer.join().is_err() || flusher.join().is_err() {
        bail!("a thread of the demo's program panicked");
    }
    Ok(Exit::Fine)
}

/// Forks a child that waits for the lock for ever.
fn fork_into_the_lock() -> nix::Result<Pid> {
    let parent = getpid();
    // SAFETY: the child makes system calls, and takes a lock: which is exactly what a child of a program with threads
    // must not do, and what is to be shown. It touches nothing else.
    match unsafe { fork() }? {
        ForkResult::Parent { child } => Ok(child),
        ForkResult::Child => {
            // So that it cannot outlive its parent, whatever ends that.
            let dies_along = prctl::set_pdeathsig(Signal::SIGKILL).is_ok();
            if dies_along && nix::unistd::getppid() == parent {
                lock();
            }
            // SAFETY: ends the process at once.
            unsafe { libc::_exit(1) }
        }
    }
}

fn lock() {
    // SAFETY: an initialised mutex that lives for ever.
    unsafe { libc::pthread_mutex_lock(LOCK.0.get()) };
}

fn unlock() {
    // SAFETY: likewise, and this thread has locked it.
    unsafe { libc::pthread_mutex_unlock(LOCK.0.get()) };
}

/// Until there is a word, or nobody left to say one.
fn wait_for(word: &Receiver<()>) {
    let _ = word.recv();
}

fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> Result<thread::JoinHandle<()>> {
    thread::Builder::new().name(name.to_owned()).spawn(body).context("cannot start a thread")
}

fn say(line: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_about_the_fork_is_read_as_it_was_written() {
        let fork = Fork { child: 4712, owner: 4711 };
        assert_eq!(Fork::from_line(&fork.to_line()), Some(fork));
        for line in ["", "1", "1 2 3", "1 x"] {
            assert_eq!(Fork::from_line(line), None, "{line}");
        }
    }
}
