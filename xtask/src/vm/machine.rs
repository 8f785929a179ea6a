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
    /// When it is ended if it has not ended.
    pub(crate) deadline: Duration,
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
        let Ended { status: ended, boot } = wait(&mut machine, &report, setup.deadline)?;
        let read = |path: &Path| fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        if ended.is_some_and(|status| !status.success()) {
            bail!("QEMU failed: {}", read(&directory.path().join("qemu"))?.trim());
        }
        let mut output = Output { console: read(&console)?, report: read(&report)?, boot };
        if ended.is_none() {
            output.console.push_str("\n(the machine was still running at the deadline)");
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
    /// Of QEMU; None if it was ended at the deadline.
    status: Option<ExitStatus>,
    boot: Option<Duration>,
}

/// Waits for its end, or ends it after the deadline.
fn wait(machine: &mut Child, report: &Path, deadline: Duration) -> Result<Ended> {
    let start = Instant::now();
    let mut boot = None;
    while start.elapsed() < deadline {
        if boot.is_none() && fs::metadata(report).is_ok_and(|report| report.len() > 0) {
            boot = Some(start.elapsed());
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
