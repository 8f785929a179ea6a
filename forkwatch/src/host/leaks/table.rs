//! The pipes and sockets in a process's table of descriptors.

use std::{fs, io, path::Path};

use crate::{
    host::{file, stat::Stat},
    model::leak::{Access, Object},
};

/// A process with more descriptors is not looked at.
const MAX_DESCRIPTORS: usize = 65_536;

/// The pipes and sockets that a process holds, by descriptor. Threads that have a table of their own
/// (`unshare(CLONE_FILES)`) are taken to hold the same.
pub(super) fn fds(stat: &Stat) -> io::Result<Vec<(u32, Object)>> {
    // All of its threads are ending: it will neither write nor accept any more, and its table is being given up.
    let Some(folder) = folder(stat)? else { return Ok(Vec::new()) };
    let fds = file::numbers(&folder, MAX_DESCRIPTORS + 1)?;
    if fds.len() > MAX_DESCRIPTORS {
        return Err(io::Error::other("too many descriptors"));
    }
    let mut found = Vec::new();
    for fd in fds {
        match fs::read_link(format!("{folder}/{fd}")) {
            Ok(target) => found.extend(parse(&target).map(|object| (fd, object))),
            // Closed meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

/// A main thread that has ended has given its table up; the others still have it.
fn folder(stat: &Stat) -> io::Result<Option<String>> {
    let process = format!("/proc/{}", stat.id);
    if !stat.has_ended() {
        return Ok(Some(format!("{process}/fd")));
    }
    let tids = file::numbers(format!("{process}/task"), usize::MAX)?;
    let living = |tid: &u32| Stat::of_thread(stat.id, *tid).is_ok_and(|thread| !thread.has_ended());
    Ok(tids.into_iter().find(living).map(|tid| format!("{process}/task/{tid}/fd")))
}

/// What a descriptor's link names: `pipe:[4711]`, `socket:[4711]`. A named pipe shows its path instead.
pub(super) fn parse(target: &Path) -> Option<Object> {
    let (kind, inode) = target.to_str()?.strip_suffix(']')?.split_once(":[")?;
    let inode = inode.parse().ok()?;
    match kind {
        "pipe" => Some(Object::Pipe(inode)),
        "socket" => Some(Object::Socket(inode)),
        _ => None,
    }
}

/// The access mode in `/proc/PID/fdinfo/N` (`proc_pid_fdinfo(5)`: octal flags).
pub(super) fn access(stat: &Stat, fd: u32) -> io::Result<Access> {
    let path = format!("/proc/{}/fdinfo/{fd}", stat.id);
    let text = file::read_small(&path)?;
    let flags = file::field(&text, "flags:").and_then(|flags| i32::from_str_radix(flags, 8).ok());
    match flags.map(|flags| flags & libc::O_ACCMODE) {
        Some(libc::O_RDONLY) => Ok(Access::Read),
        Some(libc::O_WRONLY) => Ok(Access::Write),
        Some(libc::O_RDWR) => Ok(Access::Both),
        _ => Err(file::unknown_layout(&path)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_unnamed_pipes_and_sockets_are_told() {
        assert_eq!(parse(Path::new("pipe:[4711]")), Some(Object::Pipe(4711)));
        assert_eq!(parse(Path::new("socket:[12]")), Some(Object::Socket(12)));
        assert_eq!(parse(Path::new("/run/pipe:[4711]")), None);
        assert_eq!(parse(Path::new("anon_inode:[eventpoll]")), None);
        assert_eq!(parse(Path::new("pipe:[x]")), None);
    }
}
