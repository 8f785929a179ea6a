//! `cargo xtask fuzz`: the parsers of what strangers write, fed with coverage guidance by libFuzzer. That comes as
//! sources in a crate and wants a C++ compiler, but no other Rust than the project's: its coverage is LLVM's.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use crate::{
    project::{self, cargo, output, run as run_command},
    vm::Sum,
};

/// What makes the compiler count where an input leads, as `cargo fuzz` has it without a sanitizer.
const FLAGS: &str = "--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
                     -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
                     -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares";
/// Either compiles libFuzzer.
const COMPILERS: [&str; 2] = ["c++", "clang++"];
/// As long as the inputs of the corpus may be.
const LONGEST: u32 = 16 * 1024;
/// An input that takes longer has failed.
const PATIENCE: u32 = 10;
/// Memory of one target, in MiB: a question may read a quarter of it.
const MEMORY: u32 = 1024;

/// What of it is kept for the corpus: so many inputs of so many bytes for each target.
const KEPT: usize = 24;
const SMALL: u64 = 1024;

/// Feed the parsers with what libFuzzer makes up, beginning with fuzz/corpus (wants g++ or clang++)
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Seconds for each target
    #[arg(long, default_value_t = 60)]
    seconds: u32,
    /// Put some of the small inputs that lead further into fuzz/corpus
    #[arg(long)]
    keep: bool,
    /// Only targets whose name contains this
    filter: Option<String>,
}

/// Feeds them; fails where one does.
pub(crate) fn run(options: &Options) -> Result<()> {
    let failed = feed(options)?.into_iter().filter(|(_, passed)| !passed).map(|(name, _)| name);
    let failed: Vec<String> = failed.collect();
    if failed.is_empty() { Ok(()) } else { bail!("failed: {}", failed.join(", ")) }
}

/// As a part of all tests: a minute for each.
pub(crate) fn run_as_part() -> Result<Sum> {
    if !COMPILERS.into_iter().any(|compiler| output(Command::new(compiler).arg("--version")).is_ok()) {
        let skipped = vec!["fuzz: there is no C++ compiler here (apt-get install g++)".to_owned()];
        return Ok(Sum { skipped, ..Sum::default() });
    }
    let fed = feed(&Options { seconds: 60, keep: false, filter: None })?;
    let (passed, failed): (Vec<_>, Vec<_>) = fed.into_iter().partition(|(_, passed)| *passed);
    Ok(Sum {
        passed: passed.len(),
        failed: failed.len(),
        failures: failed.into_iter().map(|(target, _)| format!("fuzz: {target}")).collect(),
        ..Sum::default()
    })
}

/// Which targets were fed, and whether they took it.
fn feed(options: &Options) -> Result<Vec<(String, bool)>> {
    let program = build()?;
    let corpus = project::root()?.join("fuzz/corpus");
    let artifacts = project::target()?.join("fuzz/failures");
    fs::create_dir_all(&artifacts).with_context(|| format!("cannot make {}", artifacts.display()))?;
    let mut names = fs::read_dir(&corpus)
        .with_context(|| format!("cannot read {}", corpus.display()))?
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect::<Result<Vec<_>>>()?;
    names.sort();
    names.retain(|name| options.filter.as_ref().is_none_or(|filter| name.contains(filter)));
    let mut fed = Vec::new();
    for name in names {
        let own = corpus.join(&name);
        let passed = feed_one(&program, &name, &own, &artifacts, options)?;
        println!("fuzz {name}: {}", if passed { "ok" } else { "FAILED" });
        fed.push((name, passed));
    }
    Ok(fed)
}

/// Feeds one target. What it finds goes to a folder of its own, so that a test changes nothing in the clone.
fn feed_one(program: &Path, name: &str, corpus: &Path, artifacts: &Path, options: &Options) -> Result<bool> {
    let found = tempfile::tempdir().context("cannot make a temporary directory")?;
    let command = |folders: [&Path; 2]| {
        let mut command = Command::new(program);
        command
            .env("FORKWATCH_FUZZ_TARGET", name)
            .arg(format!("-max_len={LONGEST}"))
            .arg(format!("-timeout={PATIENCE}"))
            .arg(format!("-rss_limit_mb={MEMORY}"))
            .arg(format!("-artifact_prefix={}/{name}-", artifacts.display()))
            .args(["-print_final_stats=1", "-print_funcs=0", "-verbosity=0"])
            .args(folders);
        command
    };
    let passed =
        run_command(command([found.path(), corpus]).arg(format!("-max_total_time={}", options.seconds)));
    if let Err(error) = &passed {
        eprintln!("{error:#}\nwhat it failed on is in {}", artifacts.display());
    }
    if options.keep {
        let merged = tempfile::tempdir().context("cannot make a temporary directory")?;
        run_command(command([merged.path(), corpus]).arg(found.path()).arg("-set_cover_merge=1"))?;
        keep(merged.path(), corpus)?;
    }
    Ok(passed.is_ok())
}

/// Copies some small inputs. They are named by what is in them, so the first by name are any.
fn keep(found: &Path, corpus: &Path) -> Result<()> {
    let mut small = Vec::new();
    for entry in fs::read_dir(found)? {
        let entry = entry?;
        if entry.metadata()?.len() <= SMALL {
            small.push(entry.file_name());
        }
    }
    small.sort();
    for name in small.iter().take(KEPT) {
        fs::copy(found.join(name), corpus.join(name))
            .with_context(|| format!("cannot keep {}", name.display()))?;
    }
    Ok(())
}

/// Builds the program that feeds them. With a target named, the flags do not concern build scripts.
fn build() -> Result<PathBuf> {
    let version = output(cargo()?.args(["--version", "--verbose"]))?;
    let host = version
        .lines()
        .find_map(|line| line.strip_prefix("host: "))
        .context("`cargo --version --verbose` names no host")?;
    let target = project::target()?.join("fuzz");
    let mut build = cargo()?;
    build
        .current_dir(project::root()?.join("fuzz"))
        // Not locked: what forkwatch comes to depend on is added to this lock file too.
        .args(["build", "--release", "--target", host])
        .env("CARGO_TARGET_DIR", &target)
        .env("RUSTFLAGS", FLAGS);
    run_command(&mut build)?;
    Ok(target.join(host).join("release/forkwatch-fuzz"))
}
