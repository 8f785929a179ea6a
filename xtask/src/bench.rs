//! `cargo xtask bench`: what watching costs, measured beside what one would use instead.

use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use crate::project;

/// Where the tables stand.
const DOCUMENT: &str = "docs/performance.md";

/// Measure what watching costs, beside other tools; prints tables in Markdown (needs root)
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Also write the tables into docs/performance.md, in place of those there. Refused where a file differs from the
    /// commit that would be named below them
    #[arg(long)]
    write: bool,
    /// Arguments of the benchmark; `-- --help` lists them
    #[arg(last = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

/// Builds program and benchmark as they are shipped, and runs the benchmark.
pub(crate) fn run(options: &Options) -> Result<()> {
    let commit = commit(options.write)?;
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
    bench.arg("--program").arg(program).arg("--commit").arg(commit);
    if options.write {
        bench.arg("--write").arg(project::root()?.join(DOCUMENT));
    }
    project::run(bench.args(&options.arguments))
}

/// The commit that is measured, in words. The document may differ from it: it is what will be written.
fn commit(must_be_clean: bool) -> Result<String> {
    let name = git(&["rev-parse", "--short=10", "HEAD"])?;
    let changes =
        git(&["status", "--porcelain", "--untracked-files=no", "--", ".", &format!(":!{DOCUMENT}")])?;
    if changes.is_empty() {
        return Ok(format!("commit {name}"));
    }
    ensure!(
        !must_be_clean,
        "what would be measured is no commit: commit these changes first, or stash them\n{changes}"
    );
    Ok(format!("commit {name}, with changes"))
}

fn git(arguments: &[&str]) -> Result<String> {
    let output = Command::new("git")
        .current_dir(project::root()?)
        .args(arguments)
        .output()
        .context("cannot run git")?;
    ensure!(
        output.status.success(),
        "git {} failed: {}",
        arguments.join(" "),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
}
