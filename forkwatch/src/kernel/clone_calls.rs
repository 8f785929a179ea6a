//! Where the system calls of the clone family can be watched.

use std::{fs, io, path::Path};

use nix::sys::statfs::{FsType, statfs};

/// The kernel function behind the whole family.
pub(super) const FUNCTION: &str = "kernel_clone";

/// The family. The last two are no system calls where the kernel has only the generic ones, as on arm64
/// (`include/uapi/asm-generic/unistd.h`).
const CALLS: [&str; 4] = ["clone", "clone3", "fork", "vfork"];

/// Why the tracepoints of system calls are not to be had, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum NoTracepoints {
    /// tracefs is not mounted.
    #[error("need tracefs, which is not mounted: mount -t tracefs tracefs /sys/kernel/tracing")]
    NotMounted,
    /// It is mounted, with nothing in it (`tracefs_create_file`, `fs/tracefs/inode.c`).
    #[error(
        "are not in tracefs, which the kernel's lockdown keeps empty: boot without lockdown=confidentiality"
    )]
    LockedDown,
    /// It must not be read.
    #[error(
        "cannot be read from tracefs ({0}): run forkwatch as root; kernel lockdown may forbid it even then"
    )]
    Unreadable(#[source] io::Error),
    /// The kernel has none.
    #[error("are not in this kernel, which was built without CONFIG_FTRACE_SYSCALLS")]
    Absent,
}

/// Where tracefs may be; the second on kernels before 4.1, and where debugfs is mounted and tracefs is not.
const TRACEFS: [&str; 2] = ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"];

/// What statfs(2) calls it.
const TRACEFS_MAGIC: FsType = FsType(libc::TRACEFS_MAGIC);

/// Where tracefs is mounted, which the tracepoints of system calls need.
pub fn tracefs() -> Option<&'static Path> {
    TRACEFS.map(Path::new).into_iter().find(|path| fs::metadata(path.join("events/syscalls")).is_ok())
}

/// Which calls have tracepoints where attaching will look for them.
pub(super) fn find_tracepoints() -> Result<Vec<&'static str>, NoTracepoints> {
    find(&TRACEFS.map(Path::new))
}

fn find(places: &[&Path]) -> Result<Vec<&'static str>, NoTracepoints> {
    for place in places {
        // The directory is there, and empty, where nothing is mounted on it.
        match fs::read_dir(place).map(|mut entries| entries.next().is_some()) {
            Ok(true) => return calls(place),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                return Err(NoTracepoints::Unreadable(error));
            }
            Ok(false) if statfs(*place).is_ok_and(|place| place.filesystem_type() == TRACEFS_MAGIC) => {
                return Err(NoTracepoints::LockedDown);
            }
            Ok(false) | Err(_) => {}
        }
    }
    Err(NoTracepoints::NotMounted)
}

/// The calls that a tracefs has tracepoints of.
fn calls(tracefs: &Path) -> Result<Vec<&'static str>, NoTracepoints> {
    let mut found = Vec::new();
    for call in CALLS {
        match fs::read(tracefs.join(format!("events/syscalls/sys_enter_{call}/id"))) {
            Ok(_) => found.push(call),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(NoTracepoints::Unreadable(error)),
        }
    }
    if found.is_empty() { Err(NoTracepoints::Absent) } else { Ok(found) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_told_apart() {
        let root = tempfile::tempdir().unwrap();
        let [first, second] = ["tracing", "debug"].map(|name| root.path().join(name));
        fs::create_dir(&first).unwrap();
        let places = [first.as_path(), second.as_path()];
        assert!(matches!(find(&places), Err(NoTracepoints::NotMounted)));
        fs::create_dir_all(second.join("events/sched")).unwrap();
        assert!(matches!(find(&places), Err(NoTracepoints::Absent)));
        let call = second.join("events/syscalls/sys_enter_clone");
        fs::create_dir_all(&call).unwrap();
        fs::write(call.join("id"), "123\n").unwrap();
        assert_eq!(find(&places).unwrap(), ["clone"]);
    }
}
