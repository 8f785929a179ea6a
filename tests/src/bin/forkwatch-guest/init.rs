//! Process 1: mounts what a Linux system has, runs the tests and switches the machine off.

use std::{
    fs, io, mem,
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
    process::ExitCode,
};

use anyhow::{Context as _, Result};
use forkwatch_tests::guest::verdict;
use nix::mount::{MsFlags, mount};

/// File system, where.
const MOUNTS: [(&str, &str); 8] = [
    ("devtmpfs", "/dev"),
    ("proc", "/proc"),
    ("sysfs", "/sys"),
    ("tracefs", "/sys/kernel/tracing"),
    ("bpf", "/sys/fs/bpf"),
    ("securityfs", "/sys/kernel/security"),
    ("cgroup2", "/sys/fs/cgroup"),
    ("tmpfs", "/tmp"),
];

/// Never returns: the kernel panics if process 1 ends, and the absence of a verdict tells.
pub(crate) fn run() -> ExitCode {
    verdict::end(set_up().and_then(|()| verdict::run_tests(&[("FORKWATCH_BIN", "/forkwatch")])))
}

fn set_up() -> Result<()> {
    for (kind, target) in MOUNTS {
        fs::create_dir_all(target).with_context(|| format!("cannot make {target}"))?;
        mount(Some(kind), target, Some(kind), MsFlags::empty(), None::<&str>)
            .with_context(|| format!("cannot mount {kind} on {target}"))?;
    }
    loopback_up().context("cannot bring the loopback interface up")
}

nix::ioctl_readwrite_bad!(interface_flags, libc::SIOCGIFFLAGS, libc::ifreq);
nix::ioctl_write_ptr_bad!(set_interface_flags, libc::SIOCSIFFLAGS, libc::ifreq);

/// netdevice(7)
fn loopback_up() -> io::Result<()> {
    // SAFETY: makes a descriptor that nobody else knows.
    let socket = unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
    if socket < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: just made, and owned by nobody.
    let socket = unsafe { OwnedFd::from_raw_fd(socket) };
    // SAFETY: integers and arrays of them, for which zeroes are values.
    let mut request: libc::ifreq = unsafe { mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(*b"lo") {
        *to = libc::c_char::from_ne_bytes([from]); // signed or not, by architecture
    }
    // SAFETY: the request is one of this call, and lives through it.
    unsafe { interface_flags(socket.as_raw_fd(), &raw mut request) }?;
    // SAFETY: the member that the call has filled.
    let flags = unsafe { request.ifr_ifru.ifru_flags };
    request.ifr_ifru.ifru_flags = flags | 1; // IFF_UP
    // SAFETY: the request is one of this call, and lives through it.
    unsafe { set_interface_flags(socket.as_raw_fd(), &raw const request) }?;
    Ok(())
}
