//! Which Unix socket is at the other end of one: a pair without names is told by the kernel alone (`sock_diag(7)`).

use std::{
    io::{self, Write as _},
    mem::MaybeUninit,
    os::unix::fs::MetadataExt as _,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use socket2::{Domain, Protocol, Socket, Type};

/// `NETLINK_SOCK_DIAG` and `SOCK_DIAG_BY_FAMILY` (`include/uapi/linux/{netlink,sock_diag}.h`).
const SOCK_DIAG: i32 = 4;
const BY_FAMILY: u16 = 20;
/// `NLMSG_ERROR` (`include/uapi/linux/netlink.h`).
const ERROR: u16 = 2;
/// `NLM_F_REQUEST`.
const REQUEST: u16 = 1;
/// `UDIAG_SHOW_PEER` and `UNIX_DIAG_PEER` (`include/uapi/linux/unix_diag.h`).
const SHOW_PEER: u32 = 4;
const PEER: u16 = 2;
/// Lengths of `struct nlmsghdr`, `struct unix_diag_msg` and `struct nlattr`.
const HEADER: usize = 16;
const MESSAGE: usize = 16;
const ATTRIBUTE: usize = 4;
/// Where `struct unix_diag_msg` has the inode number.
const INODE: usize = 4;
/// The kernel answers within the call that asks.
const PATIENCE: Duration = Duration::from_millis(100);

/// Where the kernel is asked. Made once: who is confined may make no socket any more.
static SOCKET: Mutex<Option<Socket>> = Mutex::new(None);

/// The Unix sockets of forkwatch's own network namespace.
pub(super) struct Pairs(&'static Mutex<Option<Socket>>);

/// Makes what it takes to ask, while sockets may be made. What a process has from before its fork was closed then: its
/// number stands for something else by now.
pub(in crate::host) fn begin_anew() {
    let mut socket = SOCKET.lock().unwrap_or_else(PoisonError::into_inner);
    std::mem::forget(socket.take());
    *socket = make().ok();
}

fn make() -> io::Result<Socket> {
    let socket = Socket::new(Domain::from(libc::AF_NETLINK), Type::RAW, Some(Protocol::from(SOCK_DIAG)))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    Ok(socket)
}

impl Pairs {
    /// An error where netlink is refused, or the process is in another network namespace: its sockets are not told here.
    pub(super) fn of_process(tgid: u32) -> io::Result<Self> {
        let namespace = |path: &str| std::fs::metadata(path).map(|file| (file.dev(), file.ino()));
        if namespace("/proc/self/ns/net")? != namespace(&format!("/proc/{tgid}/ns/net"))? {
            return Err(io::Error::other("it is in another network namespace"));
        }
        let mut socket = SOCKET.lock().unwrap_or_else(PoisonError::into_inner);
        if socket.is_none() {
            *socket = Some(make()?);
        }
        drop(socket);
        Ok(Self(&SOCKET))
    }

    /// The inode number of the socket at the other end; absent where there is none, or no such socket.
    pub(super) fn peer(&self, inode: u64) -> Option<u64> {
        let inode = u32::try_from(inode).ok()?;
        let socket = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut socket = socket.as_ref()?;
        socket.write_all(&question(inode)).ok()?;
        loop {
            let mut buffer = [MaybeUninit::uninit(); 1024];
            let length = socket.recv(&mut buffer).ok()?;
            // SAFETY: so many bytes were written to it.
            let answer: Vec<u8> =
                buffer.iter().take(length).map(|byte| unsafe { byte.assume_init() }).collect();
            match Answer::parse(&answer) {
                Answer::Other => {}
                // One that came too late is about another.
                Answer::About { inode: about, .. } if about != inode => {}
                Answer::About { peer, .. } => return peer.map(u64::from),
                Answer::Refused => return None,
            }
        }
    }
}

/// `struct nlmsghdr` and `struct unix_diag_req`.
fn question(inode: u32) -> Vec<u8> {
    let family = u8::try_from(libc::AF_UNIX).unwrap_or(1);
    let mut request = vec![family, 0, 0, 0];
    // Sockets in every state, by inode number, whatever their cookie.
    for word in [u32::MAX, inode, SHOW_PEER, u32::MAX, u32::MAX] {
        request.extend(word.to_ne_bytes());
    }
    let length = u32::try_from(HEADER + request.len()).unwrap_or_default();
    let mut message = Vec::with_capacity(HEADER + request.len());
    message.extend(length.to_ne_bytes());
    message.extend(BY_FAMILY.to_ne_bytes());
    message.extend(REQUEST.to_ne_bytes());
    // The sequence number and the port, which a single question does not need.
    message.extend([0; 8]);
    message.extend(request);
    message
}

/// What the kernel says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    /// About the socket of this inode number: which is at its other end.
    About { inode: u32, peer: Option<u32> },
    /// There is no such socket.
    Refused,
    /// Something else.
    Other,
}

impl Answer {
    fn parse(answer: &[u8]) -> Self {
        let number = |at: usize| answer.get(at..)?.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes));
        let kind = answer.get(4..).and_then(<[u8]>::first_chunk).map(|kind| u16::from_ne_bytes(*kind));
        match (kind, number(HEADER + INODE)) {
            (Some(BY_FAMILY), Some(inode)) => Self::About { inode, peer: peer_in(answer) },
            (Some(ERROR), _) => Self::Refused,
            _ => Self::Other,
        }
    }
}

/// The peer among the attributes.
fn peer_in(answer: &[u8]) -> Option<u32> {
    let mut attributes = answer.get(HEADER + MESSAGE..)?;
    loop {
        let length = usize::from(u16::from_ne_bytes(*attributes.first_chunk()?));
        let kind = u16::from_ne_bytes(*attributes.get(2..)?.first_chunk()?);
        if kind == PEER {
            let value = attributes.get(ATTRIBUTE..length)?;
            return value.first_chunk().map(|peer| u32::from_ne_bytes(*peer));
        }
        attributes = attributes.get(length.max(ATTRIBUTE).next_multiple_of(4)..)?;
    }
}

#[cfg(test)]
mod tests {
    use std::os::{fd::AsFd as _, unix::net::UnixStream};

    use nix::sys::stat::fstat;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_ends_of_a_pair_name_each_other() {
        let (one, other) = UnixStream::pair().unwrap();
        let [one, other] = [one.as_fd(), other.as_fd()].map(|end| fstat(end).unwrap().st_ino);
        let pairs = match Pairs::of_process(std::process::id()) {
            Ok(pairs) => pairs,
            Err(error) => {
                eprintln!("not tested, netlink is refused here: {error}");
                return;
            }
        };
        assert_eq!(pairs.peer(one), Some(other));
        assert_eq!(pairs.peer(other), Some(one));
        assert_eq!(pairs.peer(u64::MAX), None);
    }

    #[test]
    fn a_socket_without_a_peer_has_none() {
        let lone = std::os::unix::net::UnixDatagram::unbound().unwrap();
        let inode = fstat(lone.as_fd()).unwrap().st_ino;
        assert_eq!(Pairs::of_process(std::process::id()).ok().and_then(|pairs| pairs.peer(inode)), None);
    }

    proptest! {
        #[test]
        fn no_answer_makes_it_panic(answer in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = Answer::parse(&answer);
            let mut long = question(7);
            long.extend(answer);
            let _ = Answer::parse(&long);
        }
    }
}
