//! Descriptors that stand for processes.

use std::{
    io,
    os::fd::{FromRawFd as _, OwnedFd},
};

/// `pidfd_open(2)`, since Linux 5.3. Wants no privilege, and says ESRCH where there is no such process.
pub fn pidfd_open(tgid: u32) -> io::Result<OwnedFd> {
    // SAFETY: a system call that takes two numbers.
    owned(unsafe { libc::syscall(libc::SYS_pidfd_open, tgid, 0) })
}

/// What a system call has returned that makes a descriptor.
pub(super) fn owned(result: libc::c_long) -> io::Result<OwnedFd> {
    let descriptor = i32::try_from(result).map_err(io::Error::other)?;
    if descriptor < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a descriptor that was just made, and that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}
