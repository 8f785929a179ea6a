//! The command that is watched: it starts when the watch is ready, gets the signals that are meant for it, and its end is
//! told.

use std::{
    ffi::OsString,
    io::{self, Write},
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::process::{CommandExt, ExitStatusExt},
    },
    process::{Child, Command, ExitStatus},
};

use anyhow::{Context as _, Result};
use nix::{
    fcntl::{FcntlArg, FdFlag, fcntl},
    sys::signal::{Signal, kill},
    unistd::{Pid, getpgrp, tcgetpgrp},
};
use tokio::{
    io::{Interest, unix::AsyncFd},
    signal::unix::{Signal as Stream, SignalKind, signal},
};

use super::super::held_program::{GO, NAME};
use crate::{host, output::report::CommandEnd};

/// The command, from its start to its end. It is ended if it is dropped before it was let go.
pub(super) struct Watched {
    process: Child,
    /// Says when the watch is ready; gone once it is.
    gate: Option<io::PipeWriter>,
}

impl Watched {
    /// Starts it, and keeps it from doing anything. Must be called while the process has one thread, and all its
    /// privileges: the command is to have those of whoever called forkwatch. A mark is a variable of its environment.
    pub(super) fn start(command: &[OsString], mark: Option<(&str, &str)>) -> Result<Self> {
        let (reader, gate) = io::pipe().context("cannot make a pipe")?;
        // For the program that waits for it; the program then keeps it from the command.
        fcntl(&reader, FcntlArg::F_SETFD(FdFlag::empty())).context("cannot pass on a pipe")?;
        let process = Command::new("/proc/self/exe")
            .arg0("forkwatch")
            .arg(NAME)
            .arg(reader.as_raw_fd().to_string())
            .arg("--")
            .args(command)
            .envs(mark)
            .spawn()
            .context("cannot start a process for the command")?;
        Ok(Self { process, gate: Some(gate) })
    }

    /// Its pid, before and after it becomes the command.
    pub(super) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Lets it go.
    pub(super) fn go(&mut self) -> Result<()> {
        let Some(mut gate) = self.gate.take() else { return Ok(()) };
        gate.write_all(&[GO]).context("the process of the command has ended before it began")
    }

    /// Ready when it has ended. Until then it gets the signals that forkwatch gets.
    pub(super) async fn ended(&mut self, mut signals: Signals) -> Result<CommandEnd> {
        let descriptor = host::pidfd_open(self.pid()).context("cannot wait for the command")?;
        // SAFETY: an owned descriptor stays the same and open for as long as it lives.
        let descriptor: AsyncFd<OwnedFd> =
            unsafe { AsyncFd::register_with_interest(descriptor, Interest::READABLE) }
                .map_err(io::Error::from)
                .context("cannot wait for the command")?;
        loop {
            tokio::select! {
                // A pidfd is readable when its process has ended (pidfd_open(2)).
                readable = descriptor.readable() => {
                    let _ready = readable.context("cannot wait for the command")?;
                    break;
                }
                signal = signals.next() => self.pass_on(signal),
            }
        }
        let status = self.process.wait().context("cannot learn how the command ended")?;
        Ok(end_of(status))
    }

    /// The process is not reaped yet, so its pid is no other's.
    fn pass_on(&self, signal: Signal) {
        // A terminal sends these to everybody in its foreground.
        if matches!(signal, Signal::SIGINT | Signal::SIGQUIT) && is_in_foreground() {
            return;
        }
        if let Ok(pid) = i32::try_from(self.pid()) {
            // It may have ended meanwhile.
            let _ = kill(Pid::from_raw(pid), signal);
        }
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        if self.gate.take().is_some() {
            // Its program ends now that the pipe is closed.
            let _ = self.process.wait();
        }
    }
}

/// Whether the keys of a terminal reach this process.
fn is_in_foreground() -> bool {
    let terminal = std::fs::File::open("/dev/tty");
    terminal.is_ok_and(|terminal| tcgetpgrp(&terminal).is_ok_and(|group| group == getpgrp()))
}

fn end_of(status: ExitStatus) -> CommandEnd {
    match (status.code(), status.signal()) {
        (Some(code), _) => CommandEnd::Code(u8::try_from(code).unwrap_or(u8::MAX)),
        (None, signal) => CommandEnd::Signal(signal.unwrap_or_default()),
    }
}

/// The signals that are passed on to the command. From its making on they end forkwatch no more.
pub(super) struct Signals {
    hangup: Stream,
    interrupt: Stream,
    quit: Stream,
    terminate: Stream,
    first: Stream,
    second: Stream,
}

impl Signals {
    pub(super) fn new() -> Result<Self> {
        let stream = |kind| signal(kind).context("cannot wait for signals");
        Ok(Self {
            hangup: stream(SignalKind::hangup())?,
            interrupt: stream(SignalKind::interrupt())?,
            quit: stream(SignalKind::quit())?,
            terminate: stream(SignalKind::terminate())?,
            first: stream(SignalKind::user_defined1())?,
            second: stream(SignalKind::user_defined2())?,
        })
    }

    async fn next(&mut self) -> Signal {
        let Self { hangup, interrupt, quit, terminate, first, second } = self;
        tokio::select! {
            _ = hangup.recv() => Signal::SIGHUP,
            _ = interrupt.recv() => Signal::SIGINT,
            _ = quit.recv() => Signal::SIGQUIT,
            _ = terminate.recv() => Signal::SIGTERM,
            _ = first.recv() => Signal::SIGUSR1,
            _ = second.recv() => Signal::SIGUSR2,
        }
    }
}
