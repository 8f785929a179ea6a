//! Passes on what the kernel side says of its decisions, on a thread of its own.

use std::{
    io,
    os::{fd::AsFd, unix::net::UnixStream},
    thread::{Builder, JoinHandle},
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
};

use crate::{
    kernel::{KernelLog, LogLine, LogTally},
    model::kernel_log::TARGET,
};

/// After this long without a line it is found out whether lines are missing, milliseconds.
const QUIET: u16 = 500;

/// Passes lines on for as long as it lives; at its end it says how many there were.
pub(crate) struct Listener {
    /// Dropped, it ends the thread.
    stop: Option<UnixStream>,
    thread: Option<JoinHandle<()>>,
}

impl Listener {
    /// Begins.
    pub(crate) fn start(log: KernelLog) -> io::Result<Self> {
        let (stop, stopped) = UnixStream::pair()?;
        let listen = move || listen(log, &stopped);
        let thread = Builder::new().name("kernel-log".to_owned()).spawn(listen)?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic there has been told there.
            let _ = thread.join();
        }
    }
}

fn listen(mut log: KernelLog, stopped: &UnixStream) {
    let (mut told, mut looks) = (LogTally::default(), 0);
    loop {
        let mut awaited =
            [PollFd::new(log.as_fd(), PollFlags::POLLIN), PollFd::new(stopped.as_fd(), PollFlags::POLLIN)];
        // A line that is missing is lost once two looks have missed it.
        let patience = if looks < 2 { PollTimeout::from(QUIET) } else { PollTimeout::NONE };
        let ready = poll(&mut awaited, patience);
        let ends = awaited.iter().skip(1).any(|stopped| stopped.any() == Some(true));
        match ready {
            Ok(0) => {
                looks += 1;
                look_for_lost(&mut log);
            }
            Ok(_) => looks = 0,
            Err(Errno::EINTR) => continue,
            Err(error) => {
                tracing::error!(%error, "the kernel log cannot be waited for, and ends here");
                return;
            }
        }
        log.drain(pass_on);
        if ends {
            look_for_lost(&mut log);
            look_for_lost(&mut log);
        }
        tell_losses(&mut told, log.tally());
        if ends {
            let LogTally { lines, malformed, lost } = log.tally();
            tracing::info!(target: TARGET, lines, lost, malformed, "ended");
            return;
        }
    }
}

fn look_for_lost(log: &mut KernelLog) {
    if let Err(error) = log.look_for_lost() {
        tracing::debug!(%error, "it cannot be told whether lines of the kernel log were lost");
    }
}

fn tell_losses(told: &mut LogTally, now: LogTally) {
    if now.lost > told.lost {
        tracing::warn!(target: TARGET, lost = now.lost - told.lost, "lines found no room, and are missing");
    }
    if now.malformed > told.malformed {
        let malformed = now.malformed - told.malformed;
        tracing::warn!(target: TARGET, malformed, "records are no lines that this build knows");
    }
    *told = now;
}

fn pass_on(line: LogLine) {
    use tracing::{Level, event};
    let LogLine { speaker, level, text } = line;
    let program = speaker.name;
    // The level of an event is part of its place in the code.
    match level {
        Level::ERROR => event!(target: TARGET, Level::ERROR, program, "{text}"),
        Level::WARN => event!(target: TARGET, Level::WARN, program, "{text}"),
        Level::INFO => event!(target: TARGET, Level::INFO, program, "{text}"),
        Level::DEBUG => event!(target: TARGET, Level::DEBUG, program, "{text}"),
        Level::TRACE => event!(target: TARGET, Level::TRACE, program, "{text}"),
    }
}
