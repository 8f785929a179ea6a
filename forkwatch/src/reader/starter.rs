//! The process that starts readers and waits for their ends. It is forked while the watch still has its capabilities,
//! and keeps those that a look into other processes takes: nobody could give them to a later reader.
//!
//! It talks in packets: `S` and what it may do asks for a reader, `K` and a pid for the end of one. It
//! answers `S` and a pid, with the reader's socket, or `F` and an error number; and tells `E`, a pid and a status when a
//! reader has ended.

use std::{
    fs::File,
    io::{self, IoSlice, IoSliceMut},
    os::{
        fd::{AsFd, AsRawFd, FromRawFd as _, OwnedFd, RawFd},
        unix::net::UnixStream,
    },
    sync::atomic::AtomicU32,
    time::{Duration, Instant},
};

use nix::{
    cmsg_space,
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        prctl,
        resource::{Resource, setrlimit},
        signal::{SigHandler, SigSet, SigmaskHow, Signal, kill, signal, sigprocmask},
        signalfd::{SfdFlags, SignalFd},
        socket::{
            AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, Shutdown, SockFlag, SockType, recv,
            recvmsg, send, sendmsg, shutdown, socketpair,
        },
        wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid},
    },
    unistd::{ForkResult, Pid, fork, getppid},
};

use super::{attention, confined, may::May};
use crate::privilege;

/// The letters with which packets begin.
const START: u8 = b'S';
const KILL: u8 = b'K';
const FAILED: u8 = b'F';
const ENDED: u8 = b'E';
/// Every packet has as many bytes: a letter, and two numbers.
const PACKET: usize = 9;
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

/// What the starter says.
struct Packet {
    letter: u8,
    first: u32,
    second: u32,
    socket: Option<OwnedFd>,
}

impl Packet {
    fn receive(from: &OwnedFd) -> Result<Self, StartError> {
        let what = system("hear from the process that starts readers");
        let mut bytes = [0; PACKET];
        let mut parts = [IoSliceMut::new(&mut bytes)];
        let mut room = cmsg_space!(RawFd);
        let flags = MsgFlags::MSG_CMSG_CLOEXEC;
        let message = match recvmsg::<()>(from.as_raw_fd(), &mut parts, Some(&mut room), flags) {
            Ok(message) => message,
            Err(Errno::ECONNRESET) => return Err(StartError::Ended),
            Err(errno) => return Err(what(errno)),
        };
        let (length, mut socket) = (message.bytes, None);
        for control in message.cmsgs().map_err(&what)? {
            if let ControlMessageOwned::ScmRights(descriptors) = control {
                for descriptor in descriptors {
                    // SAFETY: the kernel has just made it for this process, and nobody else owns it.
                    socket = Some(unsafe { OwnedFd::from_raw_fd(descriptor) });
                }
            }
        }
        if length == 0 {
            return Err(StartError::Ended);
        }
        let (letter, first, second) = decode(&bytes);
        Ok(Self { letter, first, second, socket })
    }

    fn end(&self) -> Option<Ended> {
        let signal = Some(self.second.cast_signed()).filter(|signal| *signal != 0);
        (self.letter == ENDED).then_some(Ended { pid: self.first, signal })
    }
}

fn encode(letter: u8, first: u32, second: u32) -> [u8; PACKET] {
    let mut packet = [letter; PACKET];
    for (place, byte) in packet.iter_mut().skip(1).zip([first, second].map(u32::to_ne_bytes).as_flattened()) {
        *place = *byte;
    }
    packet
}

fn decode(packet: &[u8; PACKET]) -> (u8, u32, u32) {
    let [letter, numbers @ ..] = packet;
    let mut numbers = numbers.as_chunks().0.iter().map(|bytes| u32::from_ne_bytes(*bytes));
    (*letter, numbers.next().unwrap_or_default(), numbers.next().unwrap_or_default())
}

fn pair(kind: SockType) -> Result<(OwnedFd, OwnedFd), Errno> {
    socketpair(AddressFamily::Unix, kind, None, SockFlag::SOCK_CLOEXEC)
}

/// Ends this process and nothing else: what it has inherited is its parent's to flush and to clean up.
fn exit(failed: bool) -> ! {
    // SAFETY: ends the process at once.
    unsafe { libc::_exit(i32::from(failed)) }
}

/// The starter itself: works until its socket is closed.
fn keep_starting(socket: &OwnedFd, attention: &'static AtomicU32) -> io::Result<()> {
    become_small(socket, "fw-starter")?;
    privilege::reduce_to_looking().map_err(io::Error::other)?;
    // The end of a child is read rather than handled: nothing interrupts this.
    let mut ends = SigSet::empty();
    ends.add(Signal::SIGCHLD);
    sigprocmask(SigmaskHow::SIG_BLOCK, Some(&ends), None)?;
    let ends = SignalFd::with_flags(&ends, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
    let mut readers: Vec<u32> = Vec::new();
    loop {
        let mut waiting =
            [PollFd::new(socket.as_fd(), PollFlags::POLLIN), PollFd::new(ends.as_fd(), PollFlags::POLLIN)];
        match poll(&mut waiting, PollTimeout::NONE) {
            Err(Errno::EINTR) => continue,
            polled => polled?,
        };
        let [asked, ended] = waiting.map(|one| one.any().unwrap_or(true));
        if ended {
            while ends.read_signal()?.is_some() {}
            reap(socket, &mut readers)?;
        }
        if asked && !obey(socket, &ends, attention, &mut readers)? {
            break;
        }
    }
    for reader in &readers {
        end(*reader);
    }
    // Those that cannot be ended are left to init: whoever answers for what they wait for ends them.
    let deadline = Instant::now() + LAST / 2;
    while !readers.is_empty() && Instant::now() < deadline {
        let mut waiting = [PollFd::new(ends.as_fd(), PollFlags::POLLIN)];
        poll(&mut waiting, PollTimeout::from(50_u8))?;
        while ends.read_signal()?.is_some() {}
        fetch(&mut readers, |_, _| Ok(()))?;
    }
    Ok(())
}

/// Does as it is told; false where nobody tells any more.
fn obey(
    socket: &OwnedFd,
    ends: &SignalFd,
    attention: &'static AtomicU32,
    readers: &mut Vec<u32>,
) -> io::Result<bool> {
    let mut packet = [0; PACKET];
    if recv(socket.as_raw_fd(), &mut packet, MsgFlags::empty())? == 0 {
        return Ok(false);
    }
    match decode(&packet) {
        (START, may, _) => match start_reader(socket, ends, attention, May::of(may)) {
            Ok((pid, theirs)) => {
                readers.push(pid);
                let descriptors = [theirs.as_raw_fd()];
                let rights = [ControlMessage::ScmRights(&descriptors)];
                let packet = encode(START, pid, 0);
                let parts = [IoSlice::new(&packet)];
                sendmsg::<()>(socket.as_raw_fd(), &parts, &rights, MsgFlags::MSG_NOSIGNAL, None)?;
            }
            Err(errno) => say(socket, &encode(FAILED, (errno as i32).cast_unsigned(), 0))?,
        },
        // Only one's own: its pid cannot be another's before it was waited for.
        (KILL, pid, _) if readers.contains(&pid) => end(pid),
        _ => {}
    }
    Ok(true)
}

fn say(socket: &OwnedFd, packet: &[u8; PACKET]) -> io::Result<()> {
    send(socket.as_raw_fd(), packet, MsgFlags::MSG_NOSIGNAL)?;
    Ok(())
}

fn end(reader: u32) {
    // It may have ended by itself.
    let _ = kill(Pid::from_raw(reader.cast_signed()), Signal::SIGKILL);
}

/// Fetches those that have ended, and tells of them.
fn reap(socket: &OwnedFd, readers: &mut Vec<u32>) -> io::Result<()> {
    fetch(readers, |pid, signal| say(socket, &encode(ENDED, pid, signal)))
}

fn fetch(readers: &mut Vec<u32>, mut tell: impl FnMut(u32, u32) -> io::Result<()>) -> io::Result<()> {
    loop {
        let (pid, signal) = match waitid(Id::All, WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG) {
            Ok(WaitStatus::Exited(pid, _)) => (pid, 0),
            Ok(WaitStatus::Signaled(pid, signal, _)) => (pid, signal as i32),
            Ok(_) | Err(Errno::ECHILD) => return Ok(()),
            Err(errno) => return Err(errno.into()),
        };
        let pid = pid.as_raw().cast_unsigned();
        readers.retain(|reader| *reader != pid);
        tell(pid, signal.cast_unsigned())?;
    }
}

/// Forks a reader; gives its pid, and the socket for whoever asks it.
fn start_reader(
    socket: &OwnedFd,
    ends: &SignalFd,
    attention: &'static AtomicU32,
    may: May,
) -> Result<(u32, OwnedFd), Errno> {
    let starter = Pid::this();
    let (ours, theirs) = pair(SockType::Stream)?;
    // SAFETY: this process has one thread.
    match unsafe { fork() }? {
        ForkResult::Parent { child } => Ok((child.as_raw().cast_unsigned(), theirs)),
        ForkResult::Child => {
            let _ = (socket, ends);
            exit(read(ours, starter, attention, may).is_err())
        }
    }
}

/// A reader.
fn read(socket: OwnedFd, starter: Pid, attention: &'static AtomicU32, may: May) -> io::Result<()> {
    become_small(&socket, "fw-reader")?;
    prctl::set_pdeathsig(Signal::SIGKILL)?;
    if getppid() != starter {
        return Ok(());
    }
    confined::serve(&UnixStream::from(socket), attention, may);
    Ok(())
}

/// Lets go of all that this process has of its parent, but for the one socket.
fn become_small(socket: &OwnedFd, name: &str) -> io::Result<()> {
    let name = std::ffi::CString::new(name)?;
    prctl::set_name(&name)?;
    // The keyboard and a service manager speak to the whole group: this ends with its socket, and not before.
    for ignored in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT, Signal::SIGPIPE] {
        // SAFETY: no handler is set.
        unsafe { signal(ignored, SigHandler::SigIgn) }?;
    }
    // Whoever reads the watch's output shall see its end when that ends.
    let nothing = File::options().read(true).write(true).open("/dev/null")?;
    for standard in 0..=2 {
        // SAFETY: takes two numbers; what was open there is nobody's any more.
        if unsafe { libc::dup2(nothing.as_raw_fd(), standard) } < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    drop(nothing);
    let kept = socket.as_raw_fd();
    let close = |from: RawFd, to: RawFd| {
        if from > to {
            return Ok(());
        }
        // SAFETY: takes three numbers. Whoever owns what is closed is a copy that never comes to use it.
        let result = unsafe { libc::syscall(libc::SYS_close_range, from, to, 0) };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    };
    close(3, kept - 1)?;
    close(kept + 1, RawFd::MAX)?;
    for limit in [Resource::RLIMIT_FSIZE, Resource::RLIMIT_CORE] {
        setrlimit(limit, 0, 0)?;
    }
    Ok(())
}
