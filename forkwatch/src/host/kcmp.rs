//! Whether two tasks have a thing of the kernel's in common: `kcmp(2)`.

use std::io;

/// `KCMP_FILE`, `KCMP_VM` and `KCMP_FILES` (include/uapi/linux/kcmp.h).
const FILE: libc::c_int = 0;
pub(super) const VM: libc::c_int = 1;
pub(super) const FILES: libc::c_int = 2;

/// Whether two threads have one open file at these descriptors. A descriptor that is closed is on none.
pub(super) fn same_file(one: (u32, u32), other: (u32, u32)) -> io::Result<bool> {
    match same(FILE, one, other) {
        Err(error) if error.raw_os_error() == Some(libc::EBADF) => Ok(false),
        same => same,
    }
}

/// Whether two threads have one thing of a kind in common; a file is named by its descriptors.
pub(super) fn same(kind: libc::c_int, one: (u32, u32), other: (u32, u32)) -> io::Result<bool> {
    let pid = |tid: u32| libc::pid_t::try_from(tid).map_err(|_| io::Error::from(io::ErrorKind::NotFound));
    let (first, second) = (pid(one.0)?, pid(other.0)?);
    let (at_first, at_second) = (libc::c_ulong::from(one.1), libc::c_ulong::from(other.1));
    // SAFETY: kcmp(2) takes numbers alone and touches no memory of ours.
    match unsafe { libc::syscall(libc::SYS_kcmp, first, second, kind, at_first, at_second) } {
        -1 => Err(io::Error::last_os_error()),
        order => Ok(order == 0),
    }
}
