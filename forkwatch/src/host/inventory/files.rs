//! The files, locks and devices that a process has open.

use std::io::{self, ErrorKind};

use crate::{
    host::{descriptors::Descriptor, file},
    model::inventory::{Database, DatabaseKind, Events, FileLock, FileLockKind, MAX_ENTRIES, OpenFile},
};

/// Devices that keep a context for the process that opened them, by how their paths begin.
const DEVICES: [&str; 4] = ["/dev/nvidia", "/dev/kfd", "/dev/dri/renderD", "/dev/infiniband/"];

/// Counts what a process can wait for events with.
pub(super) fn events(descriptors: &[Descriptor]) -> Events {
    let mut events = Events::default();
    for descriptor in descriptors {
        let count = match descriptor.link() {
            b"anon_inode:[eventpoll]" => &mut events.epoll,
            b"anon_inode:[io_uring]" => &mut events.io_uring,
            b"anon_inode:[signalfd]" => &mut events.signalfd,
            b"anon_inode:[eventfd]" => &mut events.eventfd,
            b"anon_inode:[timerfd]" => &mut events.timerfd,
            b"anon_inode:inotify" => &mut events.inotify,
            _ => continue,
        };
        *count += 1;
    }
    events
}

/// Devices among the descriptors.
pub(super) fn devices(descriptors: &[Descriptor]) -> Vec<OpenFile> {
    let is_device = |file: &OpenFile| DEVICES.iter().any(|start| file.path.starts_with(start));
    descriptors.iter().filter_map(open_file).filter(is_device).take(MAX_ENTRIES).collect()
}

/// Databases among the descriptors, by their names. `.db` is anybody's, and counts only where `SQLite` is loaded.
pub(super) fn databases(descriptors: &[Descriptor], has_sqlite: bool) -> Vec<Database> {
    let database = |file: OpenFile| {
        let name = file.path.rsplit('/').next()?;
        let is = |ends: &[&str]| ends.iter().any(|end| name.ends_with(end));
        let kind = if name == "data.mdb" {
            DatabaseKind::Lmdb
        } else if is(&[".sqlite", ".sqlite3", ".db3"]) || has_sqlite && is(&[".db"]) {
            DatabaseKind::Sqlite
        } else {
            return None;
        };
        Some(Database { file, kind })
    };
    descriptors.iter().filter_map(open_file).filter_map(database).take(MAX_ENTRIES).collect()
}

/// The locks that a process holds through its descriptors, also those that belong to no process (`__show_fd_locks`,
/// fs/locks.c, tells those of this process and of this open file).
pub(super) fn file_locks(tgid: u32, descriptors: &[Descriptor]) -> io::Result<Vec<FileLock>> {
    let mut locks = Vec::new();
    for descriptor in descriptors {
        let Some(file) = open_file(descriptor) else { continue };
        match file::read_small(format!("/proc/{tgid}/fdinfo/{}", descriptor.number)) {
            Ok(text) => {
                locks.extend(lock_kinds(&text).into_iter().map(|kind| FileLock { file: file.clone(), kind }));
            }
            Err(error) if error.kind() == ErrorKind::PermissionDenied => return Err(error),
            // Closed meanwhile.
            Err(_) => {}
        }
        if locks.len() >= MAX_ENTRIES {
            break;
        }
    }
    locks.truncate(MAX_ENTRIES);
    Ok(locks)
}

/// The different kinds of locks that an `fdinfo` lists: `lock:\t1: FLOCK  ADVISORY  WRITE 77 fe:00:5678 0 EOF`.
fn lock_kinds(text: &[u8]) -> Vec<FileLockKind> {
    let mut kinds = Vec::new();
    for line in text.split(|byte| *byte == b'\n').filter_map(|line| line.strip_prefix(b"lock:")) {
        let kind = match std::str::from_utf8(line).ok().and_then(|line| line.split_ascii_whitespace().nth(1))
        {
            Some("POSIX") => FileLockKind::Posix,
            Some("FLOCK") => FileLockKind::Flock,
            Some("OFDLCK") => FileLockKind::OpenFile,
            // Leases and delegations are asked back before anybody is in the way.
            _ => continue,
        };
        if !kinds.contains(&kind) {
            kinds.push(kind);
        }
    }
    kinds
}

/// A descriptor that is open on a path.
fn open_file(descriptor: &Descriptor) -> Option<OpenFile> {
    descriptor.link().starts_with(b"/").then(|| OpenFile {
        fd: descriptor.number,
        path: String::from_utf8_lossy(descriptor.link()).into_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_for_events_is_counted() {
        let links = ["anon_inode:[eventpoll]", "anon_inode:[eventfd]", "anon_inode:[eventfd]", "/dev/null"];
        let descriptors: Vec<Descriptor> =
            (3..).zip(links).map(|(n, link)| Descriptor::made_up(n, link)).collect();
        let expected = Events { epoll: 1, eventfd: 2, ..Events::default() };
        assert_eq!(events(&descriptors), expected);
    }

    #[test]
    fn databases_and_devices_are_known_by_name() {
        let links =
            ["/srv/a.sqlite3", "/srv/b.db", "/srv/c/data.mdb", "/dev/nvidia0", "/dev/null", "pipe:[7]"];
        let descriptors: Vec<Descriptor> =
            (3..).zip(links).map(|(n, link)| Descriptor::made_up(n, link)).collect();
        let kinds = |has_sqlite| -> Vec<(u32, DatabaseKind)> {
            databases(&descriptors, has_sqlite).iter().map(|found| (found.file.fd, found.kind)).collect()
        };
        assert_eq!(kinds(false), [(3, DatabaseKind::Sqlite), (5, DatabaseKind::Lmdb)]);
        assert_eq!(kinds(true).len(), 3);
        assert_eq!(devices(&descriptors), [OpenFile { fd: 6, path: "/dev/nvidia0".to_owned() }]);
    }

    #[test]
    fn each_kind_of_lock_is_told_once() {
        let text = b"pos:\t0\nflags:\t0100002\nmnt_id:\t29\nino:\t80\n\
            lock:\t1: POSIX  ADVISORY  WRITE 77 fe:00:80 0 0\nlock:\t2: POSIX  ADVISORY  READ 77 fe:00:80 4 8\n\
            lock:\t3: OFDLCK ADVISORY  READ -1 fe:00:80 9 9\nlock:\t4: LEASE  ACTIVE    READ 77 fe:00:80 0 EOF\n";
        assert_eq!(lock_kinds(text), [FileLockKind::Posix, FileLockKind::OpenFile]);
        assert_eq!(lock_kinds(b"pos:\t0\n"), []);
    }
}
