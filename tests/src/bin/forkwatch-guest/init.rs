//! Process 1: mounts what a Linux system has, runs the tests and switches the machine off.

use std::{
    fmt::Display,
    fs::{self, OpenOptions},
    io::{self, Write as _},
    mem,
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
    process::{Command, ExitCode, ExitStatus, Stdio},
};

use anyhow::{Context as _, Result};
use nix::{
    mount::{MsFlags, mount},
    sys::reboot::{RebootMode, reboot},
};

/// The second serial port: nobody but the tests writes there, the kernel's console is the first.
const REPORT: &str = if cfg!(target_arch = "aarch64") { "/dev/ttyAMA1" } else { "/dev/ttyS1" };

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
    let ended = set_up().and_then(|()| {
        report("booted");
        run_tests()
    });
    let verdict = match ended {
        Ok(status) => status.code().map_or_else(|| format!("broken: {status}"), |code| code.to_string()),
        Err(error) => format!("broken: {error:#}"),
    };
    report(format_args!("verdict: {verdict}"));
    // Returns only if it fails.
    let _ = reboot(RebootMode::RB_POWER_OFF);
    ExitCode::FAILURE
}

fn set_up() -> Result<()> {
    for (kind, target) in MOUNTS {
        fs::create_dir_all(target).with_context(|| format!("cannot make {target}"))?;
        mount(Some(kind), target, Some(kind), MsFlags::empty(), None::<&str>)
            .with_context(|| format!("cannot mount {kind} on {target}"))?;
    }
    loopback_up().context("cannot bring the loopback interface up")
}

fn run_tests() -> Result<ExitStatus> {
    let port = || -> Result<Stdio> { Ok(OpenOptions::new().write(true).open(REPORT)?.into()) };
    let mut tests = Command::new("/proc/self/exe")
        .arg("tests")
        .env("FORKWATCH_BIN", "/forkwatch")
        .stdin(Stdio::null())
        .stdout(port()?)
        .stderr(port()?)
        .spawn()
        .context("cannot start the tests")?;
    tests.wait().context("cannot wait for the tests")
}

fn report(line: impl Display) {
    if let Ok(mut port) = OpenOptions::new().write(true).open(REPORT) {
        // Without it the host takes the machine for dead, which then it is.
        let _ = writeln!(port, "{line}");
    }
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
