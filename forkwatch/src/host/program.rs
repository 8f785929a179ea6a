//! What runs in a process.

use std::{ffi::CString, io, mem::MaybeUninit};

use super::{cgroup::Membership, file, provenance, stat::Stat, status::Status};
use crate::model::process::{ProcessKey, Program};

/// Bounds of the command line that is kept.
const MAX_ARGUMENTS: usize = 32;
const MAX_COMMAND_LINE: u64 = 4096;
/// A process in every version 1 hierarchy, with long paths in each.
const MAX_CGROUP: u64 = 64 * 1024;

/// What runs in a process now; absent where it has ended or its pid belongs to another.
pub fn program(key: ProcessKey) -> Option<Program> {
    let before = Stat::of(key)?;
    let program = read(before.id, &before);
    Stat::of(key).map(|_| program)
}

/// What runs in the process of that `stat`. The caller compares start times before and after.
pub(super) fn read(tgid: u32, stat: &Stat) -> Program {
    let membership = file::read(format!("/proc/{tgid}/cgroup"), MAX_CGROUP)
        .ok()
        .and_then(|text| Membership::parse(&String::from_utf8_lossy(&text)))
        .unwrap_or_default();
    let (exe, provenance) = provenance::of_process(tgid);
    Program {
        comm: stat.comm,
        exe,
        cmdline: command_line(tgid).unwrap_or_default(),
        unit: membership.unit,
        container: membership.container,
        cgroup: membership.path,
        uid: Status::of_process(tgid).ok().map(|status| status.uid),
        provenance: Some(provenance),
    }
}

/// The file that a process runs: its device, as major and minor number, and its inode number.
///
/// As far as they are known already: a file system that somebody else answers for (FUSE) is asked for nothing, since it
/// may never answer (`AT_STATX_DONT_SYNC`; `fuse_update_get_attr`, fs/fuse/dir.c).
pub(super) fn executable(tgid: u32) -> io::Result<((u32, u32), u64)> {
    let path = CString::new(format!("/proc/{tgid}/exe"))?;
    let mut seen = MaybeUninit::<libc::statx>::zeroed();
    // SAFETY: the path ends in NUL and outlives the call, and the kernel writes one statx, for which there is room.
    let result = unsafe {
        libc::statx(
            libc::AT_FDCWD,
            path.as_ptr(),
            libc::AT_STATX_DONT_SYNC,
            libc::STATX_INO | libc::STATX_TYPE,
            seen.as_mut_ptr(),
        )
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: it is initialised in any case, with zeros, and is made of numbers.
    let seen = unsafe { seen.assume_init() };
    Ok(((seen.stx_dev_major, seen.stx_dev_minor), seen.stx_ino))
}

fn command_line(tgid: u32) -> io::Result<Vec<String>> {
    Ok(split_arguments(&file::read(format!("/proc/{tgid}/cmdline"), MAX_COMMAND_LINE)?))
}

/// A command line is arguments that each end in NUL; programs that rewrite it for `ps` leave blanks or more NULs
/// behind.
fn split_arguments(text: &[u8]) -> Vec<String> {
    let end = text.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    let text = text.get(..end).unwrap_or_default();
    if text.is_empty() {
        return Vec::new();
    }
    text.split(|byte| *byte == 0)
        .take(MAX_ARGUMENTS)
        .map(|argument| String::from_utf8_lossy(argument).into_owned())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_split_and_bounded() {
        assert_eq!(split_arguments(b"python3\0-c\0\0x\xff\0"), ["python3", "-c", "", "x\u{fffd}"]);
        assert_eq!(split_arguments(b"nginx: worker process\0\0\0\0"), ["nginx: worker process"]);
        assert_eq!(split_arguments(b"\0\0"), Vec::<String>::new());
        assert_eq!(split_arguments(&b"a\0".repeat(100)).len(), MAX_ARGUMENTS);
    }

    #[test]
    fn this_process_is_described() {
        let key = Stat::of_process(std::process::id()).unwrap().key();
        let program = program(key).unwrap();
        assert_eq!(program.exe, Some(std::env::current_exe().unwrap()));
        assert_eq!(program.cmdline.first(), std::env::args().next().as_ref());
        assert_eq!(program.uid, Some(nix::unistd::getuid().as_raw()));
        assert!(program.cgroup.is_some_and(|path| path.starts_with('/')));
    }

    #[test]
    #[ignore = "a measurement"]
    fn what_a_description_costs() {
        let key = Stat::of_process(std::process::id()).unwrap().key();
        let begin = std::time::Instant::now();
        let all = (0..1000).filter(|_| program(key).is_some()).count();
        eprintln!("{all} descriptions, each {:?}", begin.elapsed() / 1000);
    }

    #[test]
    fn another_process_under_the_same_pid_is_not_described() {
        let mut key = Stat::of_process(std::process::id()).unwrap().key();
        key.start.0 += crate::model::time::TICK;
        assert_eq!(program(key), None);
    }
}
