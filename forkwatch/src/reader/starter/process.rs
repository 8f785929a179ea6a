//! What runs in the process of the starter, and in the readers that it forks, until they are confined.

use std::{
    fs::File,
    io::{self, IoSlice},
    os::{
        fd::{AsFd as _, AsRawFd as _, OwnedFd, RawFd},
        unix::net::UnixStream,
    },
    sync::atomic::AtomicU32,
    time::Instant,
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        prctl,
        resource::{Resource, setrlimit},
        signal::{SigHandler, SigSet, SigmaskHow, Signal, kill, signal, sigprocmask},
        signalfd::{SfdFlags, SignalFd},
        socket::{ControlMessage, MsgFlags, SockType, recv, send, sendmsg},
        wait::{Id, WaitPidFlag, WaitStatus, waitid},
    },
    unistd::{ForkResult, Pid, fork, getppid},
};

use super::{
    LAST,
    packet::{ENDED, FAILED, KILL, PACKET, START, decode, encode},
    pair,
};
use crate::{
    privilege,
    reader::{confined, may::May},
};

/// The starter itself: works until its socket is closed.
pub(super) fn keep_starting(socket: &OwnedFd, attention: &'static AtomicU32) -> io::Result<()> {
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

/// Ends this process and nothing else: what it has inherited is its parent's to flush and to clean up.
pub(super) fn exit(failed: bool) -> ! {
    // SAFETY: ends the process at once.
    unsafe { libc::_exit(i32::from(failed)) }
}
