//! `cargo xtask test`: every test, and one sum at the end.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt as _,
    process::{self, Command},
};

use anyhow::{Context as _, Result};
use tempfile::TempDir;

mod tally;

use crate::{fresh, fuzz, project, provide, system, vm};
use tally::Tally;

/// Names the file to which a test of the library that cannot run here writes a line `NAME: REASON` before it returns:
/// libtest knows no skipping at run time.
const SKIPS: &str = "FORKWATCH_SKIPS";

/// Names Prometheus' tool that checks rules and metrics.
const PROMTOOL: &str = "FORKWATCH_PROMTOOL";

/// Run every test; the end-to-end ones need root and what `provide` installs
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Install nothing; fail and name what the tests miss
    #[arg(long)]
    no_install: bool,
    /// Run the long tests as well, every kernel that `vm-test` boots, not only those of tests/kernels.toml, a minute
    /// of `fuzz` for each parser, `system-test` and `fresh-test`
    #[arg(long)]
    full: bool,
    /// Test the debug build of the program, not the release build
    #[arg(long)]
    debug: bool,
    /// Only tests of this host, and only those whose name contains this
    filter: Option<String>,
}

/// Runs the tests; the last line of the output is the sum.
pub(crate) fn run(options: &Options) -> Result<()> {
    let provided = provide::run(options.no_install)?;
    let profile = if options.debug { "debug" } else { "release" };
    let mut build = project::cargo()?;
    build.args(["build", "--locked", "--package", "forkwatch", "--bin", "forkwatch"]);
    build.args((!options.debug).then_some("--release"));
    project::run(&mut build)?;
    let program = project::target()?.join(profile).join("forkwatch");
    let program = program.canonicalize().with_context(|| format!("cannot find {}", program.display()))?;
    let temporary = temporary()?;
    let skips = temporary.path().join("skips");

    let mut tally = Tally::default();
    let end_to_end = "forkwatch-tests";
    for selection in [&["--workspace", "--exclude", end_to_end][..], &["--package", end_to_end]] {
        let mut command = project::cargo()?;
        command.args(["test", "--locked", "--no-fail-fast"]).args(selection).arg("--");
        command.args(options.full.then_some("--include-ignored")).args(&options.filter);
        command.env("FORKWATCH_BIN", &program).env(SKIPS, &skips).env("TMPDIR", temporary.path());
        command.envs(provided.path("promtool").map(|promtool| (PROMTOOL, promtool)));
        run_suite(command, &mut tally)?;
    }
    if skips.exists() {
        let skipped = fs::read_to_string(&skips).context("cannot read which tests were skipped")?;
        tally.skip_at_run_time(&skipped);
    }
    // Tests that were killed clear nothing away.
    temporary.close().context("cannot remove the temporary files of the tests")?;
    if options.filter.is_none() {
        test_other_kernels(options.full, &mut tally)?;
        if options.full {
            for part in [fuzz::run_as_part, system::run_as_part, fresh::run_as_part] {
                tally.add(part()?);
            }
        }
    }
    print!("{tally}");
    // Without another word: the sum stays the last line.
    if tally.is_success() { Ok(()) } else { process::exit(1) }
}

/// A directory for the temporary files of all tests, as open to everybody as the one that it lies in: some tests run
/// servers as another user.
fn temporary() -> Result<TempDir> {
    let everybody = Permissions::from_mode(0o1777);
    let directory = tempfile::tempdir().context("cannot make a temporary directory")?;
    fs::set_permissions(directory.path(), everybody)
        .with_context(|| format!("cannot open {} to everybody", directory.path().display()))?;
    Ok(directory)
}

/// Runs one suite, whose output is shown and counted as it comes.
fn run_suite(mut command: Command, tally: &mut Tally) -> Result<()> {
    let succeeded = project::run_watched(&mut command, |line| tally.read(line))?;
    tally.suite_ended(succeeded);
    Ok(())
}

/// Boots other kernels, and counts what was tested there.
fn test_other_kernels(full: bool, tally: &mut Tally) -> Result<()> {
    let runs = if full {
        vec![vm::Options::full(vm::Arch::X86_64), vm::Options::full(vm::Arch::Aarch64)]
    } else {
        vec![vm::Options::quick()]
    };
    for options in runs {
        tally.add(vm::run_as_part(&options)?);
    }
    Ok(())
}
