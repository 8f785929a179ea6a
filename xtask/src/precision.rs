//! `cargo xtask precision`: what is found, missed and wrongly found in programs whose faults are known.

use anyhow::Result;

use crate::{generate, project, provide};

/// The part of `docs/hazards.md` that tells the result.
const TABLE: &str = "forkwatch/src/detect/precision.md";

/// Measure what is found, missed and wrongly found, and write that into docs/hazards.md (needs root, some 10 minutes)
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Install nothing; fail and name what the programs miss
    #[arg(long)]
    no_install: bool,
    /// Arguments of the measurement, such as a part of the names of cases; `-- --help` lists them
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

/// Builds the program as it is shipped, measures, and has the documentation generated anew.
pub(crate) fn run(options: &Options) -> Result<()> {
    drop(provide::run(options.no_install)?);
    // It reads what the program writes by the committed schema.
    generate::run(&generate::Options::default())?;
    project::run(project::cargo()?.args([
        "build",
        "--locked",
        "--release",
        "--package",
        "forkwatch",
        "--bin",
        "forkwatch",
    ]))?;
    let mut measure = project::cargo()?;
    measure.args([
        "run",
        "--quiet",
        "--locked",
        "--package",
        "forkwatch-tests",
        "--bin",
        "forkwatch-precision",
    ]);
    measure.arg("--").arg("--write").arg(project::root()?.join(TABLE)).args(&options.arguments);
    measure.env("FORKWATCH_BIN", project::target()?.join("release/forkwatch"));
    let measured = project::run(&mut measure);
    generate::run(&generate::Options::default())?;
    measured
}
