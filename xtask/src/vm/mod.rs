//! `cargo xtask vm-test`: forkwatch on other kernels than this machine's.
//!
//! Debian's kernels boot under QEMU's emulation, each with nothing but forkwatch and `forkwatch-guest` in memory. The
//! guest says on a serial port of its own what came of each test, and a verdict at the end; nothing else counts, least
//! of all QEMU's exit status, which is 0 after a panic too.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

pub(crate) mod guest;
pub(crate) mod initramfs;
pub(crate) mod kernels;
pub(crate) mod machine;
pub(crate) mod packages;
mod report;

use report::Report;

/// Boot other kernels in emulated machines and test forkwatch there (downloads some 200 MB once)
#[derive(clap::Args)]
pub(crate) struct Options {
    /// A series, such as 6.12, or `newest` (repeatable) [default: 5.10, 6.1, 6.12, newest]
    #[arg(long = "kernel", value_name = "SERIES")]
    kernels: Vec<String>,
    /// More for the kernel's command line, such as lockdown=confidentiality
    #[arg(long, value_name = "WORDS", default_value = "")]
    append: String,
    /// CPUs of a machine: more than one finds races, and now and then one of the emulator's own
    #[arg(long, default_value_t = 1)]
    cpus: u32,
    /// Show the kernel's console of every machine
    #[arg(long)]
    console: bool,
}

/// Oldest and newest that there are, and the long-term ones that distributions ship.
const SERIES: [&str; 4] = ["5.10", "6.1", "6.12", "newest"];

/// What is run if a guest dies without a verdict: attaching BPF programs rewrites the kernel's code, and emulators
/// have bugs just there. A second death is a failure.
const ATTEMPTS: u32 = 2;
/// A boot with all tests takes some ten seconds on an idle host.
const DEADLINE: Duration = Duration::from_secs(300);

/// Tests forkwatch on each of the kernels.
pub(crate) fn run(options: &Options) -> Result<()> {
    let programs = guest::build(&["forkwatch", "forkwatch-guest"])?;
    let emulator = machine::Emulator::provide()?;
    let archive = kernels::Archive::open()?;
    let series: Vec<&str> = match options.kernels.as_slice() {
        [] => SERIES.to_vec(),
        asked => asked.iter().map(String::as_str).collect(),
    };
    let initramfs = initramfs::build(&programs)?;
    let mut failed = Vec::new();
    for series in series {
        let kernel = archive.newest(series)?;
        let setup = machine::Setup {
            kernel: &kernel.image,
            initramfs: &initramfs,
            append: &options.append,
            cpus: options.cpus,
            memory: "512M",
            deadline: DEADLINE,
        };
        let start = Instant::now();
        let (report, console) = boot(&emulator, &setup)?;
        show(&kernel.name, start, &report, &console, options.console);
        if !report.is_success() {
            failed.push(kernel.name);
        }
    }
    if failed.is_empty() { Ok(()) } else { bail!("failed on {}", failed.join(", ")) }
}

/// Prints a report, and the console if something failed or it is wanted.
pub(crate) fn show(name: &str, start: Instant, report: &Report, console: &str, console_is_wanted: bool) {
    println!("{name} ({:.1} s)\n{report}", start.elapsed().as_secs_f64());
    if console_is_wanted || !report.is_success() {
        println!("  console:");
        console.lines().for_each(|line| println!("    {line}"));
    }
}

/// Boots a machine, and once more if it dies.
pub(crate) fn boot(emulator: &machine::Emulator, setup: &machine::Setup<'_>) -> Result<(Report, String)> {
    let mut deaths = 0;
    loop {
        let output = emulator.boot(setup)?;
        let report = Report::parse(&output.report, deaths);
        if !report.guest_died() || deaths + 1 == ATTEMPTS {
            return Ok((report, output.console));
        }
        deaths += 1;
        eprintln!("the guest died without a verdict; once more\n{}", output.console);
    }
}
