//! The emulator, and one machine of it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

use super::{
    arch::Arch,
    packages::Apt,
    pins::{FILE, Pins},
};
use crate::project;

/// The suite whose QEMU is taken: with 7.2, the one before, guests crash in one of ten to fifty boots.
const SUITE: &str = "trixie";
const LIBRARIES: &str = "usr/lib/x86_64-linux-gnu";

/// QEMU, unpacked with everything it is linked with, down to the C library: the host need not be of its suite.
pub(crate) struct Emulator {
    arch: Arch,
    root: PathBuf,
}

/// What boots, and how.
pub(crate) struct Setup<'a> {
    pub(crate) kernel: &'a Path,
    pub(crate) initramfs: &'a Path,
    /// More for the kernel's command line.
    pub(crate) append: &'a str,
    pub(crate) cpus: u32,
    /// As QEMU reads it: `512M`.
    pub(crate) memory: &'a str,
    /// How long it may say nothing on the report's port before it is ended.
    pub(crate) patience: Duration,
}

/// What a machine wrote on its serial ports.
pub(crate) struct Output {
    pub(crate) console: String,
    pub(crate) report: String,
    /// From the start to the first word of the guest's first program. None if it said nothing.
    pub(crate) boot: Option<Duration>,
}

impl Emulator {
    /// The version of `tests/kernels.toml`. Where the archive has it no longer, the suite's newest.
    pub(crate) fn provide(arch: Arch) -> Result<Self> {
        let version = Pins::read()?.qemu;
        let place =
            |name: &str| anyhow::Ok(project::cache()?.join(format!("vm/qemu-{name}-{}", arch.debian())));
        let (pinned, newest) = (place(&version.replace(':', "_"))?, place(SUITE)?);
        if pinned.exists() {
            return Ok(Self { arch, root: pinned });
        }
        let security = format!("{SUITE}-security");
        // It runs here, whatever it emulates.
        let apt = Apt::open("qemu", Arch::X86_64.debian(), &[SUITE, &security])?;
        let package = arch.emulator_package();
        let Err(why) = apt.provide(&format!("{package}={version}"), true, &pinned, |_| Ok(())) else {
            return Ok(Self { arch, root: pinned });
        };
        apt.provide(package, true, &newest, |_| Ok(()))
            .with_context(|| format!("{package} {version} cannot be fetched ({why:#}), nor another"))?;
        println!(
            "{package} {version} cannot be fetched ({why:#}); the newest of {SUITE} is used instead: write \
             its version into {FILE}"
        );
        Ok(Self { arch, root: newest })
    }

    /// Boots, and waits for the end.
    pub(crate) fn boot(&self, setup: &Setup<'_>) -> Result<Output> {
        let directory = tempfile::tempdir().context("cannot make a temporary directory")?;
        let [console, report] = ["console", "report"].map(|name| directory.path().join(name));
        let said = fs::File::create(directory.path().join("qemu"))?;
        let mut machine = self
            .command(setup)
            .arg("-serial")
            .arg(format!("file:{}", console.display()))
            .arg("-serial")
            .arg(format!("file:{}", report.display()))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(said)
            .spawn()
            .context("cannot start QEMU")?;
        let Ended { status: ended, boot } = wait(&mut machine, &report, setup.patience)?;
        let read = |path: &Path| fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        if ended.is_some_and(|status| !status.success()) {
            bail!("QEMU failed: {}", read(&directory.path().join("qemu"))?.trim());
        }
        let mut output = Output { console: read(&console)?, report: read(&report)?, boot };
        if ended.is_none() {
            let said =
                format!("\n(the machine was ended: it said nothing for {} s)", setup.patience.as_secs());
            output.console.push_str(&said);
        }
        Ok(output)
    }

    fn command(&self, setup: &Setup<'_>) -> Command {
        let libraries = self.root.join(LIBRARIES);
        // Its own loader, because it may be linked with a newer C library than the host has.
        let mut command = Command::new(libraries.join("ld-linux-x86-64.so.2"));
        command.env("QEMU_MODULE_DIR", libraries.join("qemu")).arg("--library-path").arg(&libraries);
        command.arg(self.root.join("usr/bin").join(self.arch.emulator()));
        for data in ["qemu", "seabios"] {
            command.arg("-L").arg(self.root.join("usr/share").join(data));
        }
        // Emulated, not by KVM: that is not there in most virtual machines, and this takes seconds.
        command.args(self.arch.board());
        command.args(["-accel", "tcg,thread=multi", "-cpu", "max", "-m", setup.memory]);
        command.args(["-nodefaults", "-display", "none", "-no-reboot"]);
        command.arg("-smp").arg(setup.cpus.to_string());
        command.arg("-kernel").arg(setup.kernel).arg("-initrd").arg(setup.initramfs);
        let console = self.arch.console();
        command.arg("-append").arg(format!("console={console} panic=-1 quiet {}", setup.append));
        command
    }
}

/// How a machine ended.
struct Ended {
    /// Of QEMU; None if it was ended.
    status: Option<ExitStatus>,
    boot: Option<Duration>,
}

/// Waits for its end, or ends it once it has said nothing for too long: how long all of it takes depends on how busy the
/// host is, more than on the machine.
fn wait(machine: &mut Child, report: &Path, patience: Duration) -> Result<Ended> {
    let start = Instant::now();
    let (mut boot, mut length, mut last_word) = (None, 0, start);
    while last_word.elapsed() < patience {
        let now = fs::metadata(report).map_or(0, |report| report.len());
        if now > length {
            (length, last_word) = (now, Instant::now());
            boot = boot.or_else(|| Some(start.elapsed()));
        }
        if let Some(status) = machine.try_wait()? {
            return Ok(Ended { status: Some(status), boot });
        }
        thread::sleep(Duration::from_millis(50));
    }
    machine.kill()?;
    machine.wait()?;
    Ok(Ended { status: None, boot })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wait_for(script: &str, patience: Duration) -> Ended {
        let directory = tempfile::tempdir().unwrap();
        let report = directory.path().join("report");
        let mut machine = Command::new("sh").args(["-c", script, "sh"]).arg(&report).spawn().unwrap();
        wait(&mut machine, &report, patience).unwrap()
    }

    #[test]
    fn a_slow_machine_that_speaks_is_waited_for() {
        let script = "for i in 1 2 3 4 5 6; do echo $i >>$1; sleep 0.5; done";
        let ended = wait_for(script, Duration::from_secs(2));
        assert!(ended.status.is_some_and(|status| status.success()) && ended.boot.is_some());
    }

    #[test]
    fn a_silent_machine_is_ended() {
        let ended = wait_for("echo 1 >>$1; exec sleep 600", Duration::from_millis(300));
        assert!(ended.status.is_none());
    }
}
