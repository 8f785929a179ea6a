//! The emulator, and one machine of it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

use super::packages::Apt;
use crate::project;

/// The suite whose QEMU is taken: with 7.2, the one before, guests crash in one of ten to fifty boots.
const SUITE: &str = "trixie";
const PACKAGE: &str = "qemu-system-x86";
const LIBRARIES: &str = "usr/lib/x86_64-linux-gnu";

/// QEMU, unpacked with everything it is linked with, down to the C library: the host need not be of its suite.
pub(crate) struct Emulator {
    root: PathBuf,
}

/// What boots, and how.
pub(crate) struct Setup<'a> {
    pub(crate) kernel: &'a Path,
    pub(crate) initramfs: &'a Path,
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
}

impl Emulator {
    pub(crate) fn provide() -> Result<Self> {
        let root = project::cache()?.join(format!("vm/qemu-{SUITE}"));
        if !root.exists() {
            let security = format!("{SUITE}-security");
            Apt::open("qemu", &[SUITE, &security])?.unpack(PACKAGE, true, &root)?;
        }
        Ok(Self { root })
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
        let ended = wait(&mut machine, setup.deadline)?;
        let read = |path: &Path| fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        if ended.is_some_and(|status| !status.success()) {
            bail!("QEMU failed: {}", read(&directory.path().join("qemu"))?.trim());
        }
        let mut output = Output { console: read(&console)?, report: read(&report)? };
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
        command.arg(self.root.join("usr/bin/qemu-system-x86_64"));
        for data in ["qemu", "seabios"] {
            command.arg("-L").arg(self.root.join("usr/share").join(data));
        }
        // Emulated, not by KVM: that is not there in most virtual machines, and this takes seconds.
        command.args(["-accel", "tcg,thread=multi", "-cpu", "max", "-m", setup.memory]);
        command.args(["-nodefaults", "-display", "none", "-no-reboot"]);
        command.arg("-smp").arg(setup.cpus.to_string());
        command.arg("-kernel").arg(setup.kernel).arg("-initrd").arg(setup.initramfs);
        command.arg("-append").arg(format!("console=ttyS0 panic=-1 quiet {}", setup.append));
        command
    }
}

/// Waits for its end, or ends it after the deadline.
fn wait(machine: &mut Child, deadline: Duration) -> Result<Option<ExitStatus>> {
    let end = Instant::now() + deadline;
    while Instant::now() < end {
        if let Some(status) = machine.try_wait()? {
            return Ok(Some(status));
        }
        thread::sleep(Duration::from_millis(50));
    }
    machine.kill()?;
    machine.wait()?;
    Ok(None)
}
