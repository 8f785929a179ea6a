//! Descriptors that no process has: on their way between two through a Unix socket, or registered with an `io_uring`. They
//! keep a pipe open like any other, and what they are open on is not to be seen.

use crate::host::{descriptors::Descriptor, file};

/// On a host with more sockets not all are looked at.
const MAX_SOCKETS: usize = 20_000;
/// Of an `fdinfo`: that of an `io_uring` lists its files behind their number.
const MAX_BYTES: u64 = 4096;

/// What was seen of them in all processes so far.
#[derive(Default)]
pub(super) struct Elsewhere {
    sockets: usize,
    /// Whether the kernel tells of a socket how many there are on their way in it: from Linux 5.5 on.
    is_told: bool,
    are_there: bool,
}

impl Elsewhere {
    /// Takes in what a process has open.
    pub(super) fn look(&mut self, tgid: u32, descriptors: &[Descriptor]) {
        for descriptor in descriptors {
            let is_ring = descriptor.link() == b"anon_inode:[io_uring]";
            if !is_ring && descriptor.socket().is_none() {
                continue;
            }
            self.sockets += 1;
            if self.are_there || self.sockets > MAX_SOCKETS {
                return;
            }
            // Closed meanwhile, or not to be seen: then nobody knows.
            let path = format!("/proc/{tgid}/fdinfo/{}", descriptor.number);
            let Ok(text) = file::read(path, MAX_BYTES) else { continue };
            self.take(&text);
        }
    }

    fn take(&mut self, text: &[u8]) {
        // `unix_show_fdinfo` (net/unix/af_unix.c), `__io_uring_show_fdinfo` (io_uring/fdinfo.c).
        let count = |name| file::field(text, name).and_then(|count| count.trim().parse::<u64>().ok());
        let (on_their_way, registered) = (count("scm_fds:"), count("UserFiles:"));
        self.is_told |= on_their_way.is_some();
        self.are_there |= on_their_way.into_iter().chain(registered).any(|count| count > 0);
    }

    /// Whether there may be some.
    pub(super) const fn may_be(&self) -> bool {
        self.are_there || self.sockets > MAX_SOCKETS || (self.sockets > 0 && !self.is_told)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::IoSlice,
        os::{fd::AsRawFd, unix::net::UnixStream},
    };

    use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};

    use super::*;
    use crate::host::descriptors::Table;

    fn own() -> Elsewhere {
        let mut seen = Elsewhere::default();
        seen.look(std::process::id(), &Table::of_process(std::process::id()).list(usize::MAX).unwrap());
        seen
    }

    #[test]
    fn a_descriptor_on_its_way_is_seen_until_it_is_taken_out() {
        let (here, there) = UnixStream::pair().unwrap();
        let (read, _write) = std::io::pipe().unwrap();
        let numbers = [read.as_raw_fd()];
        let message = [ControlMessage::ScmRights(&numbers)];
        sendmsg::<()>(here.as_raw_fd(), &[IoSlice::new(b"x")], &message, MsgFlags::empty(), None).unwrap();
        let seen = own();
        assert!(seen.is_told, "needs Linux 5.5");
        assert!(seen.are_there && seen.may_be());
        drop((here, there));
    }

    #[test]
    fn what_the_kernel_tells_is_counted() {
        let of = |texts: &[&[u8]]| {
            let mut seen = Elsewhere { sockets: texts.len(), ..Elsewhere::default() };
            for text in texts {
                seen.take(text);
            }
            seen.may_be()
        };
        assert!(!of(&[]));
        assert!(!of(&[b"pos:\t0\nscm_fds: 0\n", b"pos:\t0\n"]));
        assert!(of(&[b"pos:\t0\nscm_fds: 0\n", b"pos:\t0\nscm_fds: 2\n"]));
        assert!(of(&[b"pos:\t0\nscm_fds: 0\n", b"SqMask:\t0x7\nUserFiles:\t1\n    0: pipe:[7]\n"]));
        assert!(!of(&[b"pos:\t0\nscm_fds: 0\n", b"SqMask:\t0x7\nUserFiles:\t0\n"]));
        assert!(of(&[b"pos:\t0\n"]), "an older kernel says nothing");
    }
}
