//! A forked child that does what it is told, one thing at a time.

use std::{
    io::{PipeReader, PipeWriter, Read as _, Write as _, pipe},
    os::fd::{AsRawFd as _, RawFd},
    sync::atomic::{AtomicBool, Ordering},
};

use anyhow::{Context as _, Result, ensure};
use forkwatch::{host, model::process::ProcessKey};
use nix::{
    sys::{
        signal::{Signal, kill},
        wait::waitpid,
    },
    unistd::{ForkResult, Pid, fork},
};

use super::connection::Connection;

/// What it can be told to do.
#[derive(Clone, Copy, Debug)]
pub(super) enum Task {
    /// Nothing, and say so.
    Nothing,
    /// Send so many bytes on the connection.
    Send(u8),
    /// Receive so many.
    Receive(u8),
    /// Look at one that is to be received.
    Peek,
    /// Shut the connection down.
    ShutDown,
    /// Have the kernel send an alarm, and wait for it.
    Alarm,
    /// Exec this program.
    Exec,
    /// Exit with this code.
    Exit(u8),
    /// Fork a child that is sent `SIGUSR1` when this one ends, and that lives on.
    ForkDependent,
}

impl Task {
    const fn bytes(self) -> [u8; 2] {
        match self {
            Self::Nothing => [0, 0],
            Self::Send(count) => [1, count],
            Self::Receive(count) => [2, count],
            Self::Peek => [3, 1],
            Self::ShutDown => [4, 0],
            Self::Alarm => [5, 0],
            Self::Exec => [6, 0],
            Self::Exit(code) => [7, code],
            Self::ForkDependent => [FORK_DEPENDENT, 0],
        }
    }
}

const FORK_DEPENDENT: u8 = 8;

/// One that lives until this is dropped.
pub(super) struct Child {
    pid: Pid,
    tasks: PipeWriter,
    done: PipeReader,
    is_reaped: bool,
}

impl Child {
    pub(super) fn fork(connection: Option<&Connection>) -> Result<Self> {
        let (told, tasks) = pipe()?;
        let (done, say) = pipe()?;
        let socket = connection.map_or(-1, |connection| connection.socket().as_raw_fd());
        let ends = [tasks.as_raw_fd(), done.as_raw_fd()];
        // SAFETY: the child does nothing but system calls, although other threads may hold locks.
        match unsafe { fork() }? {
            ForkResult::Parent { child } => Ok(Self { pid: child, tasks, done, is_reaped: false }),
            ForkResult::Child => live(told.as_raw_fd(), say.as_raw_fd(), socket, ends),
        }
    }

    pub(super) fn tgid(&self) -> u32 {
        self.pid.as_raw().unsigned_abs()
    }

    /// By its start as `/proc` tells it.
    pub(super) fn key(&self) -> Result<ProcessKey> {
        Ok(host::find(self.tgid())?.key)
    }

    /// Returns when it is done.
    pub(super) fn perform(&mut self, task: Task) -> Result<()> {
        self.begin(task)?;
        let mut result = [0];
        self.done.read_exact(&mut result).with_context(|| format!("the child ended before {task:?}"))?;
        ensure!(result == [0], "{task:?} failed in the child");
        Ok(())
    }

    pub(super) fn begin(&mut self, task: Task) -> Result<()> {
        self.tasks.write_all(&task.bytes()).context("the child hears no more")
    }

    pub(super) fn kill(&self, signal: Signal) -> Result<()> {
        kill(self.pid, signal).context("cannot send the child a signal")
    }

    /// Lets it end, unless it has, and reaps it.
    pub(super) fn end(mut self) -> Result<()> {
        // Told, because its siblings hold the end of its pipe too.
        let _ = self.begin(Task::Exit(0));
        self.is_reaped = true;
        waitpid(self.pid, None).map(drop).context("cannot wait for the child")
    }
}

impl Drop for Child {
    /// Of a test that has failed.
    fn drop(&mut self) {
        if !self.is_reaped {
            let _ = kill(self.pid, Signal::SIGKILL);
            let _ = waitpid(self.pid, None);
        }
    }
}

/// The child's life: nothing but system calls.
fn live(told: RawFd, say: RawFd, socket: RawFd, parents: [RawFd; 2]) -> ! {
    for end in parents {
        // SAFETY: a descriptor that only the parent's side of the code used.
        unsafe { libc::close(end) };
    }
    // SAFETY: a handler that sets a flag.
    unsafe { libc::signal(libc::SIGALRM, alarmed as *const () as libc::sighandler_t) };
    // SAFETY: a handler that does nothing.
    unsafe { libc::signal(libc::SIGUSR1, nothing as *const () as libc::sighandler_t) };
    let mut task = [0_u8; 2];
    loop {
        // SAFETY: the buffer takes two bytes, which are written at once.
        let read = unsafe { libc::read(told, task.as_mut_ptr().cast(), task.len()) };
        // A signal may come between.
        if read < 0 {
            continue;
        }
        if read == 0 {
            // SAFETY: ends the process at once.
            unsafe { libc::_exit(0) }
        }
        if task[0] == FORK_DEPENDENT {
            fork_dependent(say);
            continue;
        }
        let failed = [u8::from(!perform(task, socket))];
        // SAFETY: one byte is there.
        unsafe { libc::write(say, failed.as_ptr().cast(), 1) };
    }
}

/// The new child says that it is ready, or the old one that there is none.
fn fork_dependent(say: RawFd) {
    // SAFETY: the process has one thread.
    let forked = unsafe { libc::fork() };
    if forked > 0 {
        return;
    }
    // SAFETY: takes two numbers.
    let failed = forked < 0 || unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGUSR1) } != 0;
    let failed = [u8::from(failed)];
    // SAFETY: one byte is there.
    unsafe { libc::write(say, failed.as_ptr().cast(), 1) };
    if forked < 0 {
        return;
    }
    loop {
        // SAFETY: waits for a signal.
        unsafe { libc::pause() };
    }
}

extern "C" fn nothing(_signal: libc::c_int) {}

static ALARMED: AtomicBool = AtomicBool::new(false);

extern "C" fn alarmed(_signal: libc::c_int) {
    ALARMED.store(true, Ordering::SeqCst);
}

fn perform([task, detail]: [u8; 2], socket: RawFd) -> bool {
    let mut buffer = [b'x'; 256];
    let count = usize::from(detail);
    let wanted = isize::from(detail);
    match task {
        // SAFETY: the buffer is longer than that.
        1 => unsafe { libc::send(socket, buffer.as_ptr().cast(), count, 0) == wanted },
        // SAFETY: likewise.
        2 => unsafe { libc::recv(socket, buffer.as_mut_ptr().cast(), count, 0) == wanted },
        // SAFETY: likewise.
        3 => unsafe { libc::recv(socket, buffer.as_mut_ptr().cast(), count, libc::MSG_PEEK) == wanted },
        // SAFETY: takes two numbers.
        4 => unsafe { libc::shutdown(socket, libc::SHUT_RDWR) == 0 },
        5 => alarm(),
        6 => {
            let path = c"/proc/self/exe".as_ptr();
            let arguments = [path, c"--no-such-option".as_ptr(), std::ptr::null()];
            let environment = [std::ptr::null()];
            // SAFETY: a constant string, and arrays of them that end with a null pointer.
            unsafe { libc::execve(path, arguments.as_ptr(), environment.as_ptr()) == 0 }
        }
        // SAFETY: ends the process at once.
        7 => unsafe { libc::_exit(i32::from(detail)) },
        _ => true,
    }
}

/// The kernel's timer sends it, from an interrupt.
fn alarm() -> bool {
    ALARMED.store(false, Ordering::SeqCst);
    let time = |micros| libc::timeval { tv_sec: 0, tv_usec: micros };
    let once = libc::itimerval { it_interval: time(0), it_value: time(1000) };
    // SAFETY: takes pointers to what lives through the call, and a null pointer for what is not wanted.
    if unsafe { libc::setitimer(libc::ITIMER_REAL, &raw const once, std::ptr::null_mut()) } != 0 {
        return false;
    }
    // Not getitimer(2), which rounds the last microsecond before the signal down to nothing.
    while !ALARMED.load(Ordering::SeqCst) {
        std::hint::spin_loop();
    }
    true
}
