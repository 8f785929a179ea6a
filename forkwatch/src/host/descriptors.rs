//! The descriptors of a process, and what each is open on.

use std::{ffi::OsString, fs, io, os::unix::ffi::OsStrExt as _};

use super::file;

/// A descriptor of a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Descriptor {
    /// Its number.
    pub(super) number: u32,
    /// What `/proc/PID/fd` shows: a path, `socket:[INODE]`, `anon_inode:[eventpoll]`.
    link: OsString,
}

/// The descriptors of a process, by ascending number, at most `limit` from the lowest. Those that are closed meanwhile
/// are left out. Another user's may be listed only with `CAP_SYS_PTRACE`.
pub(super) fn descriptors(tgid: u32, limit: usize) -> io::Result<Vec<Descriptor>> {
    let folder = format!("/proc/{tgid}/fd");
    let mut found: Vec<Descriptor> = file::numbers(&folder, limit)?
        .into_iter()
        .filter_map(|number| {
            let link = fs::read_link(format!("{folder}/{number}")).ok()?.into_os_string();
            Some(Descriptor { number, link })
        })
        .collect();
    found.sort_unstable_by_key(|descriptor| descriptor.number);
    Ok(found)
}

impl Descriptor {
    /// What it is open on, as the kernel shows it.
    pub(super) fn link(&self) -> &[u8] {
        self.link.as_bytes()
    }

    /// Whether that process has it open still, on the same.
    pub(super) fn is_open(&self, tgid: u32) -> bool {
        fs::read_link(format!("/proc/{tgid}/fd/{}", self.number))
            .is_ok_and(|link| link.as_os_str() == self.link)
    }

    /// Its inode number, where it is a socket.
    pub(super) fn socket(&self) -> Option<u64> {
        let number = self.link().strip_prefix(b"socket:[")?.strip_suffix(b"]")?;
        std::str::from_utf8(number).ok()?.parse().ok()
    }

    /// One with that link.
    #[cfg(test)]
    pub(super) fn made_up(number: u32, link: &str) -> Self {
        Self { number, link: link.into() }
    }
}

#[cfg(test)]
mod tests {
    use std::{fs::File, net::TcpListener, os::fd::AsRawFd as _};

    use super::*;

    #[test]
    fn sockets_and_files_are_told_apart() {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let file = File::open("/proc/self/exe").unwrap();
        let found = descriptors(std::process::id(), usize::MAX).unwrap();
        assert_eq!(descriptors(std::process::id(), 1).unwrap().len(), 1);
        let at = |number: i32| found.iter().find(|one| i64::from(one.number) == i64::from(number)).unwrap();
        assert!(at(socket.as_raw_fd()).socket().is_some());
        assert_eq!(at(file.as_raw_fd()).socket(), None);
        assert_eq!(at(file.as_raw_fd()).link(), std::env::current_exe().unwrap().as_os_str().as_bytes());
        assert!(found.is_sorted_by_key(|descriptor| descriptor.number));
    }

    #[test]
    fn only_the_kernels_own_form_is_a_socket() {
        assert_eq!(Descriptor::made_up(3, "socket:[4711]").socket(), Some(4711));
        assert_eq!(Descriptor::made_up(3, "/tmp/socket:[4711]").socket(), None);
        assert_eq!(Descriptor::made_up(3, "socket:[x]").socket(), None);
    }
}
