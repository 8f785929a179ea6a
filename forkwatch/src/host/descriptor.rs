//! The pipes and sockets that a process holds: the links in `/proc/PID/fd`.

use std::{fs, os::unix::fs::PermissionsExt};

use super::file;

/// Descriptors of one process that are looked at, from the lowest.
const MAX_DESCRIPTORS: usize = 1024;

/// What a descriptor stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Descriptor {
    /// An end of the pipe of this inode number.
    Pipe {
        /// Which pipe.
        inode: u64,
        /// Whether one can write to it.
        writable: bool,
    },
    /// The socket of this inode number.
    Socket(u64),
}

impl Descriptor {
    /// What that descriptor is; absent where it is closed, or something else.
    pub(super) fn of(tgid: u32, descriptor: u32) -> Option<Self> {
        let path = format!("/proc/{tgid}/fd/{descriptor}");
        let target = fs::read_link(&path).ok()?;
        let (kind, inode) = parse(target.to_str()?)?;
        if kind == "socket" {
            return Some(Self::Socket(inode));
        }
        // The link bears the rights of the descriptor (proc_pid_fd(5)).
        let writable = fs::symlink_metadata(&path).ok()?.permissions().mode() & 0o200 != 0;
        (kind == "pipe").then_some(Self::Pipe { inode, writable })
    }

    /// The inode number of a pipe that can be written to.
    pub(super) const fn written_pipe(self) -> Option<u64> {
        match self {
            Self::Pipe { inode, writable: true } => Some(inode),
            Self::Pipe { .. } | Self::Socket(_) => None,
        }
    }

    /// The inode number of a socket.
    pub(super) const fn socket(self) -> Option<u64> {
        match self {
            Self::Socket(inode) => Some(inode),
            Self::Pipe { .. } => None,
        }
    }
}

/// All that a process holds; none where they may not be read.
pub(super) fn descriptors(tgid: u32) -> Vec<Descriptor> {
    let numbers = file::numbers(format!("/proc/{tgid}/fd"), MAX_DESCRIPTORS).unwrap_or_default();
    numbers.into_iter().filter_map(|number| Descriptor::of(tgid, number)).collect()
}

/// `pipe:[4711]`, `socket:[4711]`.
fn parse(target: &str) -> Option<(&str, u64)> {
    let (kind, rest) = target.split_once(":[")?;
    Some((kind, rest.strip_suffix(']')?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;

    use super::*;

    #[test]
    fn the_ends_of_a_pipe_are_told_apart() {
        let (read, write) = std::io::pipe().unwrap();
        let own = std::process::id();
        let of = |raw: i32| Descriptor::of(own, raw.try_into().unwrap());
        let Some(Descriptor::Pipe { inode, writable: false }) = of(read.as_raw_fd()) else { panic!() };
        assert_eq!(of(write.as_raw_fd()), Some(Descriptor::Pipe { inode, writable: true }));
        assert!(descriptors(own).iter().any(|descriptor| descriptor.written_pipe() == Some(inode)));
    }

    #[test]
    fn other_links_are_left_out() {
        assert_eq!(parse("socket:[99]"), Some(("socket", 99)));
        for target in
            ["/tmp/pipe:[7]", "anon_inode:[eventpoll]", "/dev/null", "pipe:[x]", "pipe:[7] (deleted)"]
        {
            assert!(parse(target).is_none_or(|(kind, _)| kind != "pipe" && kind != "socket"), "{target}");
        }
        let socket = std::os::unix::net::UnixDatagram::unbound().unwrap();
        let found = Descriptor::of(std::process::id(), socket.as_raw_fd().try_into().unwrap());
        assert!(found.unwrap().socket().is_some());
    }
}
