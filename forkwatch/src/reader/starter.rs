//! The process that starts readers and waits for their ends. It is forked while the watch still has its capabilities,
//! and keeps those that a look into other processes takes: nobody could give them to a later reader.

mod packet;
mod process;

use std::{
    io,
    os::{
        fd::{AsFd as _, AsRawFd as _, OwnedFd},
        unix::net::UnixStream,
    },
    sync::atomic::AtomicU32,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        socket::{AddressFamily, MsgFlags, Shutdown, SockFlag, SockType, send, shutdown, socketpair},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::{ForkResult, Pid, fork},
};

use self::{
    packet::{FAILED, KILL, Packet, START, encode},
    process::{exit, keep_starting},
};
use super::{attention, may::May};

/// How long its end may take.
const LAST: Duration = Duration::from_millis(400);
/// How long the starter may take for an answer: it does nothing that could keep it.
const PATIENCE: Duration = Duration::from_secs(5);

/// Why no reader can be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A system call failed.
    #[error("cannot {what}: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// Why it failed.
        source: io::Error,
    },
    /// The starter is gone.
    #[error("the process that starts readers has ended: nothing can be looked at any more")]
    Ended,
}

fn system(what: &'static str) -> impl Fn(Errno) -> StartError {
    move |errno| StartError::System { what, source: errno.into() }
}

/// The starter, as seen by whoever asks readers. Dropping it ends the starter, and so its readers.
#[derive(Debug)]
pub struct Starter {
    socket: OwnedFd,
    /// Which process the present reader looks into.
    pub(super) attention: &'static AtomicU32,
    pub(super) pid: u32,
}

/// Ends the starter, and so its readers, when it is dropped.
#[derive(Debug)]
pub struct Ender {
    socket: OwnedFd,
    pid: u32,
}

impl Drop for Ender {
    fn drop(&mut self) {
        end_starter(&self.socket, self.pid);
    }
}

impl Drop for Starter {
    fn drop(&mut self) {
        end_starter(&self.socket, self.pid);
    }
}

/// Has the starter end, and waits a moment for it: where nobody waits for orphans it would stay a zombie.
fn end_starter(socket: &OwnedFd, pid: u32) {
    // It may have ended already.
    let _ = shutdown(socket.as_raw_fd(), Shutdown::Both);
    let deadline = Instant::now() + LAST;
    let starter = Pid::from_raw(pid.cast_signed());
    while let Ok(WaitStatus::StillAlive) = waitpid(starter, Some(WaitPidFlag::WNOHANG)) {
        if Instant::now() >= deadline {
            return;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// A reader that has just been started.
#[derive(Debug)]
pub(super) struct Started {
    pub(super) pid: u32,
    pub(super) socket: UnixStream,
}

/// How a reader has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ended {
    pub(super) pid: u32,
    /// The signal that ended it; absent where it ended by itself.
    pub(super) signal: Option<i32>,
}

impl Starter {
    /// Forks it. Must be called while this process has one thread, and the capabilities that readers shall have.
    pub fn start() -> Result<Self, StartError> {
        let attention = attention::shared()
            .map_err(|source| StartError::System { what: "share memory with readers", source })?;
        let (ours, theirs) = pair(SockType::SeqPacket).map_err(system("make a socket for readers"))?;
        // Whoever is forked flushes nothing, and comes to no code but this.
        // SAFETY: the caller has one thread, so that the child is as whole as its parent.
        match unsafe { fork() }.map_err(system("fork the process that starts readers"))? {
            ForkResult::Parent { child } => {
                Ok(Self { socket: ours, attention, pid: child.as_raw().cast_unsigned() })
            }
            ForkResult::Child => {
                let ended = keep_starting(&theirs, attention);
                exit(ended.is_err())
            }
        }
    }

    /// The means to end it for whoever does not ask readers.
    pub(super) fn ender(&self) -> io::Result<Ender> {
        Ok(Ender { socket: self.socket.try_clone()?, pid: self.pid })
    }

    /// Asks for a reader. It is there when [`Self::reader`] gives it.
    pub(super) fn ask_for_reader(&self, may: May) -> Result<(), StartError> {
        self.tell(START, may.number())
    }

    /// Waits for a reader that was asked for.
    pub(super) fn reader(&self, ended: &mut Vec<Ended>) -> Result<Started, StartError> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let Some(mut packet) = self.next(deadline)? else {
                if Instant::now() >= deadline {
                    return Err(StartError::Ended);
                }
                continue;
            };
            match (packet.letter, packet.socket.take()) {
                (START, Some(socket)) => {
                    return Ok(Started { pid: packet.first, socket: UnixStream::from(socket) });
                }
                (FAILED, _) => {
                    let source = io::Error::from_raw_os_error(packet.first.cast_signed());
                    return Err(StartError::System { what: "fork a reader", source });
                }
                _ => ended.extend(packet.end()),
            }
        }
    }

    /// Has a reader killed. Whether and when that ends it is told by [`Self::ended`].
    pub(super) fn kill(&self, reader: u32) -> Result<(), StartError> {
        self.tell(KILL, reader)
    }

    /// The next end of a reader, waited for until the deadline.
    pub(super) fn ended(&self, deadline: Instant) -> Result<Option<Ended>, StartError> {
        while let Some(packet) = self.next(deadline)? {
            if let Some(ended) = packet.end() {
                return Ok(Some(ended));
            }
        }
        Ok(None)
    }

    fn tell(&self, letter: u8, number: u32) -> Result<(), StartError> {
        let packet = encode(letter, number, 0);
        match send(self.socket.as_raw_fd(), &packet, MsgFlags::MSG_NOSIGNAL) {
            Ok(_) => Ok(()),
            Err(Errno::EPIPE | Errno::ECONNRESET) => Err(StartError::Ended),
            Err(errno) => Err(system("ask for a reader")(errno)),
        }
    }

    /// The next packet; absent where none comes until the deadline.
    fn next(&self, deadline: Instant) -> Result<Option<Packet>, StartError> {
        let left = deadline.saturating_duration_since(Instant::now());
        // Rounded up: a deadline that has not passed is waited for.
        let milliseconds = u16::try_from(left.as_micros().div_ceil(1000)).unwrap_or(u16::MAX);
        let mut waiting = [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)];
        match poll(&mut waiting, PollTimeout::from(milliseconds)) {
            Ok(0) | Err(Errno::EINTR) => Ok(None),
            Ok(_) => Packet::receive(&self.socket).map(Some),
            Err(errno) => Err(system("wait for a reader")(errno)),
        }
    }
}

fn pair(kind: SockType) -> Result<(OwnedFd, OwnedFd), Errno> {
    socketpair(AddressFamily::Unix, kind, None, SockFlag::SOCK_CLOEXEC)
}
