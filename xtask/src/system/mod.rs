//! `cargo xtask system-test`: package and unit on a Debian system with systemd.
//!
//! A small Debian boots under QEMU's emulation, from memory alone: its initial file system is the system. systemd runs
//! there as process 1 and starts `forkwatch-system`, which installs the package and tests the service; it reports as
//! the guests of `cargo xtask vm-test` do.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

mod first_edition;
mod root;

use crate::{
    dist, project, provide,
    vm::{
        Arch, Sum,
        attempt::{self, indented},
        guest,
        initramfs::{self, EXECUTABLE},
        kernels::{Archive, Kernel},
        machine::{Emulator, Setup},
        report::Test,
    },
};

/// What Debian does not have: it is the package index's, and needs no Python of its own.
const DEBUGGER: &str = "py-spy";
/// The package is the host's.
const ARCH: Arch = Arch::X86_64;

/// Install the Debian package in an emulated machine and test the service there (downloads some 300 MB once)
#[derive(clap::Args)]
pub(crate) struct Options {
    /// The Debian release: trixie, or bookworm
    #[arg(long, default_value = "trixie")]
    suite: String,
    /// The kernel's series
    #[arg(long, value_name = "SERIES", default_value = "6.12")]
    kernel: String,
    /// Only the tests with this in their name, and what they need of those before them
    #[arg(long, value_name = "NAME", value_parser = part_of_a_name)]
    only: Option<String>,
    /// Show the console, which the journal follows
    #[arg(long)]
    console: bool,
}

/// A part of a test's name as one word of the kernel's command line, where nothing is quoted: a space is written as `_`.
fn part_of_a_name(text: &str) -> Result<String, String> {
    let word = text.replace(' ', "_");
    let is_plain = |letter: char| letter.is_ascii_graphic() && letter != '"';
    if word.chars().all(is_plain) { Ok(word) } else { Err(format!("{text:?} is in the name of no test")) }
}

impl Default for Options {
    fn default() -> Self {
        Self { suite: "trixie".to_owned(), kernel: "6.12".to_owned(), only: None, console: false }
    }
}

/// The unit that runs the tests, once the system is up.
const UNIT: &str = "[Unit]
Description=Tests of the forkwatch package

[Service]
Type=exec
ExecStart=/usr/local/lib/forkwatch-system
# Without a verdict there is nobody left to end the machine.
FailureAction=poweroff-immediate
SuccessAction=poweroff-immediate
";

/// systemd is the init, and writes nothing of its own to the console.
const APPEND: &str = "rdinit=/sbin/init systemd.unit=multi-user.target systemd.show_status=0";
/// Files of links, whose content is where they lead.
const LINK: u32 = 0o120_777;
const FILE: u32 = 0o100_644;
/// The unpacked system, which may take half of it, its archive while that is unpacked, and what runs there.
const MEMORY: &str = "2G";
/// All of it takes some two minutes on an idle host, and is told when it is done.
const PATIENCE: Duration = Duration::from_secs(900);

/// Builds package and driver, and tests them.
pub(crate) fn run(options: &Options) -> Result<()> {
    let Sum { failed, .. } = Machine::fetch(options)?.test(options)?;
    if failed > 0 {
        bail!("{failed} failed");
    }
    Ok(())
}

/// The same as a part of all tests. What cannot be fetched cannot be tested, which is told and no failure.
pub(crate) fn run_as_part() -> Result<Sum> {
    let options = Options::default();
    match Machine::fetch(&options) {
        Ok(machine) => machine.test(&options),
        Err(error) => {
            let skipped = vec![format!("the package on a system with systemd: {error:#}")];
            Ok(Sum { skipped, ..Sum::default() })
        }
    }
}

/// What is fetched, and kept in the cache.
struct Machine {
    emulator: Emulator,
    kernel: Kernel,
    root: PathBuf,
}

impl Machine {
    fn fetch(options: &Options) -> Result<Self> {
        let emulator = Emulator::provide(ARCH)?;
        let kernel = Archive::open(ARCH)?.find(&options.kernel)?;
        Ok(Self { emulator, kernel, root: root::provide(&options.suite)? })
    }

    fn test(&self, options: &Options) -> Result<Sum> {
        let package = dist::build()?;
        let driver = guest::build_programs(ARCH, &["forkwatch-system"])?.join("forkwatch-system");
        let initramfs = image(&self.root, &package, &driver)?;
        let only = options.only.as_ref().map_or_else(String::new, |only| format!(" only={only}"));
        let setup = Setup {
            kernel: &self.kernel.image,
            initramfs: &initramfs,
            append: &[APPEND, &only].concat(),
            cpus: 1,
            memory: MEMORY,
            patience: PATIENCE,
        };
        let name = format!("Debian {}, Linux {}", options.suite, self.kernel.release);
        let start = Instant::now();
        let (report, console) = attempt::boot(&self.emulator, &setup, &name)?;
        let took = start.elapsed().as_secs_f64();
        let boot = report.boot.unwrap_or_default().as_secs_f64();
        println!("{name} ({took:.1} s, of which {boot:.1} s until systemd was up)");
        for Test { name, outcome, remark } in &report.tests {
            println!("  {name}: {outcome:?} {remark}");
        }
        report.complaint().into_iter().for_each(|complaint| println!("  {complaint}"));
        if options.console || !report.is_success() {
            println!("{}", indented(&console));
        }
        let mut sum = Sum::default();
        sum.add(&report, &name);
        Ok(sum)
    }
}

/// The system, and behind it in the same file another archive with what is tested: the kernel unpacks both.
fn image(root: &Path, package: &Path, driver: &Path) -> Result<PathBuf> {
    let path = project::target()?.join("guest/system");
    fs::copy(root, &path).with_context(|| format!("cannot copy {}", root.display()))?;
    let read = |path: &Path| fs::read(path).with_context(|| format!("cannot read {}", path.display()));
    let wants = "etc/systemd/system/multi-user.target.wants/forkwatch-system.service";
    let mut content: Vec<(&str, u32, Vec<u8>)> = vec![
        ("usr/local/lib/forkwatch-system", EXECUTABLE, read(driver)?),
        ("root/forkwatch.deb", FILE, read(package)?),
        ("root/forkwatch-first-edition.deb", FILE, read(&first_edition::package(package)?)?),
        ("etc/systemd/system/forkwatch-system.service", FILE, UNIT.into()),
        (wants, LINK, b"../forkwatch-system.service".into()),
    ];
    match provide::environment(DEBUGGER).and_then(|made| read(&made.join("bin/py-spy"))) {
        Ok(debugger) => content.push(("usr/local/bin/py-spy", EXECUTABLE, debugger)),
        // The test that wants it says that it is not there.
        Err(why) => println!("the machine has no py-spy: {why:#}"),
    }
    let mut archive = Vec::new();
    for (name, mode, content) in content {
        initramfs::entry(&mut archive, name, mode, &content)?;
    }
    initramfs::end(&mut archive)?;
    let mut file = fs::OpenOptions::new().append(true).open(&path)?;
    std::io::Write::write_all(&mut file, &archive)
        .with_context(|| format!("cannot write {}", path.display()))?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_a_name_is_one_word_of_the_command_line() {
        assert_eq!(part_of_a_name("orphaned lock, and").as_deref(), Ok("orphaned_lock,_and"));
        for text in ["a\"b", "a\nb", "caf\u{e9}"] {
            assert!(part_of_a_name(text).is_err(), "{text}");
        }
    }
}
