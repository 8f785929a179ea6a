//! What a socket of another process is connected to.

mod table;

use std::{
    io,
    net::SocketAddr,
    os::fd::{AsFd as _, AsRawFd as _, OwnedFd},
};

use nix::sys::stat::fstat;
use socket2::{Domain, Protocol, SockAddr, SockRef, Type};

use self::table::Table;
use super::{
    pidfd::{owned, pidfd_open},
    stat::Stat,
};
use crate::model::{connection::Peer, process::ProcessKey};

/// What a stream socket is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Socket {
    /// Connected to a peer with a name.
    Connected {
        /// The other end.
        peer: Peer,
        /// This end, where it has a name.
        local: Option<Peer>,
    },
    /// Listening, at this address.
    Listening(Peer),
    /// Anything else: no stream, not connected, or a peer without a name.
    Other,
}

/// The sockets of a process, to be asked one by one.
pub(super) struct Sockets {
    process: ProcessKey,
    /// Absent before Linux 5.3.
    pidfd: Option<OwnedFd>,
    /// Read when it is first needed.
    table: Option<Table>,
}

impl Sockets {
    /// Of that process; absent where it is gone.
    pub(super) fn of(process: ProcessKey) -> Option<Self> {
        let pidfd = pidfd_open(process.tgid).ok();
        // Looked at after the pidfd was made: what is found is what that stands for.
        Stat::of(process)?;
        Some(Self { process, pidfd, table: None })
    }

    /// What the socket of this inode number is, which the process holds at descriptor `number`; absent where it has
    /// closed it meanwhile, or where that cannot be seen.
    ///
    /// Where the kernel gives no duplicate of the descriptor (before Linux 5.6; or a security module or seccomp
    /// forbids it) the tables in `/proc` are read, which show TCP peers, but not those of Unix sockets.
    pub(super) fn look(&mut self, number: u32, inode: u64) -> Option<Socket> {
        match self.pidfd.as_ref().map(|pidfd| duplicate(pidfd, number)) {
            Some(Ok(descriptor)) => ask(&descriptor, inode).ok(),
            Some(Err(error)) if error.raw_os_error() == Some(libc::EBADF) => None,
            _ => self.table.get_or_insert_with(|| Table::read(self.process.tgid)).look(inode),
        }
    }

    /// The other end of the TCP connection of this inode number, and this end, where the other has closed its own, or has
    /// reset it, of which the kernel keeps no address; absent also where it cannot be seen.
    pub(super) fn ended(&mut self, number: u32, inode: u64) -> Option<(Peer, Option<Peer>)> {
        let descriptor = duplicate(self.pidfd.as_ref()?, number).ok()?;
        match (ask(&descriptor, inode).ok()?, state(&descriptor)?) {
            (Socket::Connected { peer: peer @ Peer::Tcp(_), local }, CLOSE_WAIT) => Some((peer, local)),
            (Socket::Other, CLOSE) => Some((Peer::Unknown, None)),
            _ => None,
        }
    }
}

/// `TCP_CLOSE` of the kernel's TCP states: there is no connection, not yet or no more.
const CLOSE: u8 = 7;
/// `TCP_CLOSE_WAIT`: the other end has closed its own.
const CLOSE_WAIT: u8 = 8;

/// The state of a TCP socket.
fn state(descriptor: &OwnedFd) -> Option<u8> {
    // `tcpi_state` is the first byte of `struct tcp_info`, of which the kernel gives as much as there is room for.
    let (mut state, mut size): (u8, libc::socklen_t) = (0, 1);
    // SAFETY: both outlive the call, and the size is that of the state.
    let got = unsafe {
        libc::getsockopt(
            descriptor.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            (&raw mut state).cast(),
            &raw mut size,
        )
    };
    (got == 0 && size == 1).then_some(state)
}

/// Whether a socket of a process can be asked for what it is connected to.
pub(super) fn may_be_asked(tgid: u32, number: u32) -> io::Result<()> {
    duplicate(&pidfd_open(tgid)?, number).map(drop)
}

/// `pidfd_getfd(2)`, since Linux 5.6; wants what ptrace wants.
///
/// The duplicate refers to the process's own socket (or pipe), so nothing may be done with it but ask, and it is closed within
/// microseconds. That close takes a reference away and nothing else: no shutdown, no byte, no lock is lost, since the
/// process holds its own. Only where the process closes the socket in these very microseconds does the end of the
/// connection wait for ours.
pub(super) fn duplicate(pidfd: &OwnedFd, number: u32) -> io::Result<OwnedFd> {
    // SAFETY: a system call that takes three numbers.
    owned(unsafe { libc::syscall(libc::SYS_pidfd_getfd, pidfd.as_raw_fd(), number, 0) })
}

/// What the socket is; an error where the descriptor is by now something else.
fn ask(descriptor: &OwnedFd, inode: u64) -> io::Result<Socket> {
    if fstat(descriptor.as_fd())?.st_ino != inode {
        return Err(io::ErrorKind::NotFound.into());
    }
    let socket = SockRef::from(descriptor);
    if socket.r#type()? != Type::STREAM {
        return Ok(Socket::Other);
    }
    let name: fn(&SockAddr) -> Option<Peer> = match socket.domain()? {
        Domain::IPV4 | Domain::IPV6
            if [Some(Protocol::TCP), Some(Protocol::MPTCP)].contains(&socket.protocol()?) =>
        {
            tcp_name
        }
        Domain::UNIX => unix_name,
        _ => return Ok(Socket::Other),
    };
    let local = name(&socket.local_addr()?);
    Ok(if socket.is_listener()? {
        local.map_or(Socket::Other, Socket::Listening)
    } else {
        // Fails where there is no peer (yet, or any more).
        let peer = socket.peer_addr().ok().and_then(|address| name(&address));
        peer.map_or(Socket::Other, |peer| Socket::Connected { peer, local })
    })
}

fn tcp_name(address: &SockAddr) -> Option<Peer> {
    address.as_socket().map(tcp_peer)
}

/// An IPv4 address that an IPv6 socket is connected to is shown as what it is.
fn tcp_peer(address: SocketAddr) -> Peer {
    Peer::Tcp(SocketAddr::new(address.ip().to_canonical(), address.port()).to_string())
}

fn unix_name(address: &SockAddr) -> Option<Peer> {
    let path = address.as_pathname().map(|path| path.to_string_lossy().into_owned());
    let hidden = || address.as_abstract_namespace().map(|name| format!("@{}", String::from_utf8_lossy(name)));
    path.or_else(hidden).map(Peer::Unix)
}

#[cfg(test)]
mod tests;
