//! `cargo xtask bench`: what watching costs, measured beside what one would use instead.

use anyhow::Result;

use crate::project;

/// Measure what watching costs, beside other tools; prints tables in Markdown (needs root)
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Arguments of the benchmark; `-- --help` lists them
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

/// Builds program and benchmark as they are shipped, and runs the benchmark.
pub(crate) fn run(options: &Options) -> Result<()> {
    project::run(project::cargo()?.args([
        "build",
        "--locked",
        "--release",
        "--package",
        "forkwatch",
        "--bin",
        "forkwatch",
    ]))?;
    let program = project::target()?.join("release/forkwatch");
    let mut bench = project::cargo()?;
    bench.args(["run", "--quiet", "--locked", "--release", "--package", "forkwatch-bench", "--"]);
    project::run(bench.arg("--program").arg(program).args(&options.arguments))
}
