//! `cargo xtask vm-test`: forkwatch on other kernels than this machine's.
//!
//! Debian's kernels boot under QEMU's emulation, each with nothing but forkwatch and `forkwatch-guest` in memory. The
//! guest says on a serial port of its own what came of each test, and a verdict at the end; nothing else counts, least
//! of all QEMU's exit status, which is 0 after a panic too.

use std::time::Instant;

use anyhow::{Result, bail};
use clap::ValueEnum;

mod arch;
pub(crate) mod attempt;
mod cross;
pub(crate) mod guest;
pub(crate) mod initramfs;
pub(crate) mod kernels;
pub(crate) mod machine;
mod matrix;
pub(crate) mod packages;
mod pins;
pub(crate) mod report;
mod table;

pub(crate) use arch::Arch;
use kernels::Archive;
use matrix::{Boot, Matrix};
use report::{Outcome, Report};
use table::{Column, Table};

/// Boot other kernels in emulated machines and test forkwatch there (downloads some 300 MB once)
#[derive(clap::Args)]
pub(crate) struct Options {
    /// The machines' architecture
    #[arg(long, value_enum, default_value_t)]
    arch: Arch,
    /// A series, such as 6.12 or 6.12-rt, a release, `oldest` or `newest` (repeatable) [default: oldest, 5.10, 6.1, 6.12,
    /// 6.12-rt, 6.18, newest; for aarch64 5.10, 6.1, 6.12, newest]
    #[arg(long = "kernel", value_name = "SERIES")]
    kernels: Vec<String>,
    /// The kernels that tests/kernels.toml names, which `cargo xtask test` boots
    #[arg(long, conflicts_with_all = ["kernels", "all", "arch"])]
    pinned: bool,
    /// Every kernel that the archive has
    #[arg(long, conflicts_with = "kernels")]
    all: bool,
    /// How far the kernels are locked down (repeatable) [default: not, and the first and the last in every way]
    #[arg(long, value_name = "LEVEL", value_enum)]
    lockdown: Vec<Lockdown>,
    /// More for the kernel's command line
    #[arg(long, value_name = "WORDS", default_value = "")]
    append: String,
    /// CPUs of a machine: more than one finds races, and now and then one of the emulator's own
    #[arg(long, default_value_t = 1)]
    cpus: u32,
    /// Show the kernel's console of every machine
    #[arg(long)]
    console: bool,
}

/// What root may not do to the kernel (`kernel_lockdown(7)`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Lockdown {
    None,
    Integrity,
    Confidentiality,
}

impl Lockdown {
    const ALL: [Self; 3] = [Self::None, Self::Integrity, Self::Confidentiality];

    /// Its part of the kernel's command line, and its name in the tables.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Integrity => "lockdown=integrity",
            Self::Confidentiality => "lockdown=confidentiality",
        }
    }
}

/// How many tests passed, and which did not.
#[derive(Default)]
pub(crate) struct Sum {
    pub(crate) passed: usize,
    pub(crate) failed: usize,
    /// `NAME: WHY` of those that failed, as far as that is known.
    pub(crate) failures: Vec<String>,
    /// `NAME: REASON`
    pub(crate) skipped: Vec<String>,
}

impl Sum {
    /// Takes note of what a machine's guest said.
    pub(crate) fn add(&mut self, report: &Report, machine: &str) {
        self.passed += report.count(Outcome::Passed);
        // A guest that died, or ended early, is a failure of its own.
        self.failed += report.count(Outcome::Failed) + usize::from(report.complaint().is_some());
        let with = |outcome| {
            let tests = report.tests.iter().filter(move |test| test.outcome == outcome);
            tests.map(|test| format!("{} on {machine}: {}", test.name, test.remark))
        };
        self.skipped.extend(with(Outcome::Skipped));
        self.failures.extend(with(Outcome::Failed));
        self.failures.extend(report.complaint().map(|complaint| format!("{machine}: {complaint}")));
    }
}

impl Options {
    /// What CI has time for: an old kernel and a new one, the same each time.
    pub(crate) fn quick() -> Self {
        Self { pinned: true, lockdown: vec![Lockdown::None], ..Self::full(Arch::X86_64) }
    }

    /// All that is tested by default.
    pub(crate) fn full(arch: Arch) -> Self {
        Self {
            arch,
            kernels: Vec::new(),
            pinned: false,
            all: false,
            lockdown: Vec::new(),
            append: String::new(),
            cpus: 1,
            console: false,
        }
    }
}

/// Tests forkwatch on each of the kernels.
pub(crate) fn run(options: &Options) -> Result<()> {
    let archive = Archive::open(options.arch)?;
    let sum = test(options, &archive)?;
    if sum.failed > 0 {
        bail!("{} failed", sum.failed);
    }
    Ok(())
}

/// The same as a part of all tests. What cannot be fetched cannot be tested, which is told and no failure.
pub(crate) fn run_as_part(options: &Options) -> Result<Sum> {
    let fetched = machine::Emulator::provide(options.arch).and_then(|_| Archive::open(options.arch));
    match fetched {
        Ok(archive) => test(options, &archive),
        Err(error) => {
            let skipped = format!("other kernels on {}: {error:#}", options.arch.target());
            Ok(Sum { skipped: vec![skipped], ..Sum::default() })
        }
    }
}

fn test(options: &Options, archive: &Archive) -> Result<Sum> {
    let matrix = Matrix::prepare(options, archive)?;
    let start = Instant::now();
    let boots = matrix.run()?;
    println!("\n{} boots in {:.0} s\n", boots.len(), start.elapsed().as_secs_f64());
    for lockdown in Lockdown::ALL {
        let of_it: Vec<&Boot> = boots.iter().filter(|boot| boot.lockdown == lockdown).collect();
        let columns: Vec<_> =
            of_it.iter().map(|boot| Column { name: &boot.column, report: &boot.report }).collect();
        if !columns.is_empty() {
            let title = if lockdown == Lockdown::None { options.arch.target() } else { lockdown.word() };
            println!("{}", Table { title, columns });
        }
    }
    if options.pinned {
        name_newer(&boots, archive);
    }
    let mut sum = sum(&boots);
    sum.skipped.extend(matrix.absent);
    Ok(sum)
}

/// Says that there is a kernel that these boots do not speak of.
fn name_newer(boots: &[Boot], archive: &Archive) {
    let newest = boots.last().and_then(|boot| archive.newer_than(&boot.release));
    if let Some(newest) = newest {
        println!(
            "Debian has a newer kernel, {newest}: `cargo xtask vm-test --kernel newest` tries it, as does \
             `cargo xtask test --full`"
        );
    }
}

fn sum(boots: &[Boot]) -> Sum {
    let mut sum = Sum::default();
    for Boot { release, report, lockdown, .. } in boots {
        sum.add(report, [release, lockdown.word()].join(" ").trim());
    }
    sum
}
