//! Who is at the other end of the local socket, and whether they may ask.

use std::{fmt, io, mem::size_of, os::fd::AsRawFd};

use tokio::net::UnixStream;

/// Most groups of a process (`NGROUPS_MAX`, include/uapi/linux/limits.h).
const MOST_GROUPS: usize = 65_536;

/// Who may ask over the local socket: root, forkwatch's own user, and a group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Allowed {
    /// The group, and its name.
    pub group: Option<(u32, String)>,
}

/// The process at the other end, as it was when it connected: the kernel says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Peer {
    pub(super) uid: u32,
    gid: u32,
    groups: Vec<u32>,
}

impl Peer {
    pub(super) fn of(stream: &UnixStream) -> io::Result<Self> {
        let credentials = stream.peer_cred()?;
        Ok(Self { uid: credentials.uid(), gid: credentials.gid(), groups: groups(stream)? })
    }

    /// Whether it may ask.
    pub(super) fn is_in(&self, allowed: &Allowed, own: u32) -> bool {
        self.uid == 0
            || self.uid == own
            || allowed
                .group
                .as_ref()
                .is_some_and(|(group, _)| self.gid == *group || self.groups.contains(group))
    }
}

impl fmt::Display for Allowed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.group {
            Some((_, name)) => write!(formatter, "root, and members of the group {name}"),
            None => write!(formatter, "root alone"),
        }
    }
}

/// The further groups of whoever connected.
fn groups(stream: &UnixStream) -> io::Result<Vec<u32>> {
    let mut groups = vec![0_u32; 64];
    loop {
        let mut length = libc::socklen_t::try_from(groups.len() * size_of::<u32>()).unwrap_or(0);
        // SAFETY: the buffer is as long as `length` says, and both live until the call returns.
        let result = unsafe {
            libc::getsockopt(
                stream.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_PEERGROUPS,
                groups.as_mut_ptr().cast(),
                &raw mut length,
            )
        };
        let count = usize::try_from(length).unwrap_or(0) / size_of::<u32>();
        if result == 0 {
            groups.truncate(count);
            return Ok(groups);
        }
        let error = io::Error::last_os_error();
        // Too short: the kernel has said how many there are.
        if error.raw_os_error() != Some(libc::ERANGE) || count <= groups.len() || count > MOST_GROUPS {
            return Err(error);
        }
        groups.resize(count, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_the_own_user_and_the_group_may_ask() {
        let peer = |uid, gid, groups: &[u32]| Peer { uid, gid, groups: groups.to_vec() };
        let allowed = Allowed { group: Some((4, "adm".to_owned())) };
        assert!(peer(0, 0, &[]).is_in(&Allowed::default(), 999));
        assert!(peer(999, 1, &[]).is_in(&Allowed::default(), 999));
        assert!(peer(1000, 4, &[]).is_in(&allowed, 999));
        assert!(peer(1000, 1000, &[27, 4]).is_in(&allowed, 999));
        assert!(!peer(1000, 1000, &[27]).is_in(&allowed, 999));
        assert!(!peer(1000, 4, &[4]).is_in(&Allowed::default(), 999));
    }

    #[test]
    fn the_kernel_says_who_it_is() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (one, _other) = UnixStream::pair().unwrap();
            let peer = Peer::of(&one).unwrap();
            assert_eq!(peer.uid, nix::unistd::geteuid().as_raw());
            assert_eq!(peer.gid, nix::unistd::getegid().as_raw());
            let own: Vec<u32> =
                nix::unistd::getgroups().unwrap().iter().map(|group| group.as_raw()).collect();
            assert_eq!(peer.groups, own);
        });
    }
}
