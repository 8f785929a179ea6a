//! The descriptors of a process, and what each is open on.

use std::{
    ffi::OsString,
    fs, io,
    os::unix::{ffi::OsStrExt as _, fs::PermissionsExt as _},
};

use super::{budget, file, stat::Stat};
use crate::model::leak::{Access, Object};

/// The highest of the three standard descriptors, which children share on purpose.
pub(super) const STANDARD: u32 = 2;

/// A process's table of descriptors, as `/proc` lists it. Threads that have a table of their own
/// (`unshare(CLONE_FILES)`) are taken to hold the same.
pub(super) struct Table {
    folder: String,
}

/// A descriptor of a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Descriptor {
    /// Its number in the process.
    pub(super) number: u32,
    /// What `/proc/PID/fd` shows: a path, `socket:[INODE]`, `anon_inode:[eventpoll]`.
    link: OsString,
}

impl Table {
    /// The main thread's, and with it nearly always that of all threads.
    pub(super) fn of_process(tgid: u32) -> Self {
        Self { folder: format!("/proc/{tgid}/fd") }
    }

    /// A main thread that has ended has given its table up; the others still have it. Absent where all have ended.
    pub(super) fn of_living(stat: &Stat) -> io::Result<Option<Self>> {
        if !stat.has_ended() {
            return Ok(Some(Self::of_process(stat.id)));
        }
        let tids = file::numbers(format!("/proc/{}/task", stat.id), usize::MAX)?;
        let living = |tid: &u32| Stat::of_thread(stat.id, *tid).is_ok_and(|thread| !thread.has_ended());
        let thread = tids.into_iter().find(living);
        Ok(thread.map(|tid| Self { folder: format!("/proc/{}/task/{tid}/fd", stat.id) }))
    }

    /// What is in it, by ascending number, at most `limit` from the lowest. What is closed meanwhile is left out.
    /// Another user's may be listed only with `CAP_SYS_PTRACE` and `CAP_DAC_READ_SEARCH`.
    pub(super) fn list(&self, limit: usize) -> io::Result<Vec<Descriptor>> {
        let mut found = Vec::new();
        for number in file::numbers(&self.folder, limit)? {
            budget::steps(1)?;
            found.extend(self.get(number)?);
        }
        found.sort_unstable_by_key(|descriptor| descriptor.number);
        Ok(found)
    }

    /// The descriptor of that number; absent where it is closed.
    pub(super) fn get(&self, number: u32) -> io::Result<Option<Descriptor>> {
        match fs::read_link(self.path(number)) {
            Ok(link) => Ok(Some(Descriptor { number, link: link.into_os_string() })),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Whether that descriptor is open still, on the same.
    pub(super) fn has(&self, descriptor: &Descriptor) -> bool {
        self.get(descriptor.number).is_ok_and(|found| found.as_ref() == Some(descriptor))
    }

    /// What a descriptor may be used for: the link bears its rights (`proc_pid_fd(5)`). Absent where it was opened with
    /// `O_PATH`: one like that keeps nothing open.
    pub(super) fn access(&self, number: u32) -> io::Result<Option<Access>> {
        let mode = fs::symlink_metadata(self.path(number))?.permissions().mode();
        Ok(match (mode & 0o400 != 0, mode & 0o200 != 0) {
            (true, true) => Some(Access::Both),
            (true, false) => Some(Access::Read),
            (false, true) => Some(Access::Write),
            (false, false) => None,
        })
    }

    fn path(&self, number: u32) -> String {
        format!("{}/{number}", self.folder)
    }
}

impl Descriptor {
    /// What it is open on, as the kernel shows it.
    pub(super) fn link(&self) -> &[u8] {
        self.link.as_bytes()
    }

    /// The unnamed pipe or the socket that it is: `pipe:[4711]`, `socket:[4711]`. A named pipe shows its path instead.
    pub(super) fn object(&self) -> Option<Object> {
        let (kind, inode) = self.link.to_str()?.strip_suffix(']')?.split_once(":[")?;
        let inode = inode.parse().ok()?;
        match kind {
            "pipe" => Some(Object::Pipe(inode)),
            "socket" => Some(Object::Socket(inode)),
            _ => None,
        }
    }

    /// Its inode number, where it is a socket.
    pub(super) fn socket(&self) -> Option<u64> {
        match self.object()? {
            Object::Socket(inode) => Some(inode),
            Object::Pipe(_) => None,
        }
    }

    /// One with that link.
    #[cfg(test)]
    pub(super) fn made_up(number: u32, link: &str) -> Self {
        Self { number, link: link.into() }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs::{File, OpenOptions},
        net::TcpListener,
        os::{fd::AsRawFd, unix::fs::OpenOptionsExt as _},
    };

    use super::*;

    fn own() -> Table {
        Table::of_process(std::process::id())
    }

    fn number(descriptor: &impl AsRawFd) -> u32 {
        descriptor.as_raw_fd().try_into().unwrap()
    }

    #[test]
    fn sockets_and_files_are_told_apart() {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let file = File::open("/proc/self/exe").unwrap();
        let found = own().list(usize::MAX).unwrap();
        assert_eq!(own().list(1).unwrap().len(), 1);
        let at = |wanted: u32| found.iter().find(|one| one.number == wanted).unwrap();
        assert!(at(number(&socket)).socket().is_some());
        assert_eq!(at(number(&file)).socket(), None);
        assert_eq!(at(number(&file)).link(), std::env::current_exe().unwrap().as_os_str().as_bytes());
        assert!(found.is_sorted_by_key(|descriptor| descriptor.number));
    }

    #[test]
    fn the_ends_of_a_pipe_are_told_apart() {
        let (read, write) = io::pipe().unwrap();
        let object = |end| own().get(end).unwrap().unwrap().object();
        assert!(matches!(object(number(&read)), Some(Object::Pipe(_))));
        assert_eq!(object(number(&read)), object(number(&write)));
        let access = |end| own().access(end).unwrap();
        assert_eq!(access(number(&read)), Some(Access::Read));
        assert_eq!(access(number(&write)), Some(Access::Write));
        let path = format!("/proc/self/fd/{}", write.as_raw_fd());
        let both = OpenOptions::new().read(true).write(true).open(&path).unwrap();
        assert_eq!(access(number(&both)), Some(Access::Both));
        let place = OpenOptions::new().read(true).custom_flags(libc::O_PATH).open(&path).unwrap();
        assert_eq!(access(number(&place)), None);
    }

    #[test]
    fn what_is_closed_is_absent() {
        let file = File::open("/proc/self/exe").unwrap();
        let descriptor = own().get(number(&file)).unwrap().unwrap();
        assert!(own().has(&descriptor));
        assert!(!own().has(&Descriptor { link: "/elsewhere".into(), ..descriptor }));
        assert_eq!(own().get(u32::MAX).unwrap(), None);
        assert!(own().access(u32::MAX).is_err());
    }

    #[test]
    fn only_unnamed_pipes_and_sockets_are_objects() {
        let object = |link| Descriptor::made_up(3, link).object();
        assert_eq!(object("pipe:[4711]"), Some(Object::Pipe(4711)));
        assert_eq!(object("socket:[12]"), Some(Object::Socket(12)));
        for link in [
            "/tmp/socket:[4711]",
            "/run/pipe:[4711]",
            "anon_inode:[eventpoll]",
            "socket:[x]",
            "pipe:[7] (deleted)",
        ] {
            assert_eq!(object(link), None, "{link}");
        }
    }
}
