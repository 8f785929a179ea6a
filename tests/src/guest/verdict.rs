//! The end of a test machine: its verdict, and that it is switched off.

use std::{
    fmt::Display,
    fs::OpenOptions,
    io::Write as _,
    process::{Command, ExitCode, ExitStatus, Stdio},
};

use anyhow::{Context as _, Result};
use nix::sys::reboot::{RebootMode, reboot};

/// The second serial port: nobody but the tests writes there, the kernel's console is the first.
const REPORT: &str = if cfg!(target_arch = "aarch64") { "/dev/ttyAMA1" } else { "/dev/ttyS1" };

/// Runs this program again, with the argument `tests`, reporting to the host.
pub fn run_tests(environment: &[(&str, &str)]) -> Result<ExitStatus> {
    report("booted");
    let port = || -> Result<Stdio> { Ok(OpenOptions::new().write(true).open(REPORT)?.into()) };
    let mut tests = Command::new("/proc/self/exe")
        .arg("tests")
        .envs(environment.iter().copied())
        .stdin(Stdio::null())
        .stdout(port()?)
        .stderr(port()?)
        .spawn()
        .context("cannot start the tests")?;
    tests.wait().context("cannot wait for the tests")
}

/// Tells the verdict and switches the machine off. Returns only if that fails: the absence of a verdict tells then.
pub fn end(ended: Result<ExitStatus>) -> ExitCode {
    let verdict = match ended {
        Ok(status) => status.code().map_or_else(|| format!("broken: {status}"), |code| code.to_string()),
        Err(error) => format!("broken: {error:#}"),
    };
    report(format_args!("verdict: {verdict}"));
    // Returns only if it fails.
    let _ = reboot(RebootMode::RB_POWER_OFF);
    ExitCode::FAILURE
}

fn report(line: impl Display) {
    if let Ok(mut port) = OpenOptions::new().write(true).open(REPORT) {
        // Without it the host takes the machine for dead, which then it is.
        let _ = writeln!(port, "{line}");
    }
}
