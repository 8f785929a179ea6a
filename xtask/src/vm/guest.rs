//! The programs that run in a guest: linked statically, because there is nothing else.

use std::{env, path::PathBuf};

use anyhow::{Result, bail};

use crate::project;

/// Emulated is what the host is.
const TARGET: &str = "x86_64-unknown-linux-gnu";

/// Builds them, in a target directory of their own: other flags would have everything else built anew. Gives the
/// directory that they are in.
pub(crate) fn build(programs: &[&str]) -> Result<PathBuf> {
    if env::consts::ARCH != "x86_64" {
        bail!("the machines are emulated by a program for x86-64, and this is {}", env::consts::ARCH);
    }
    let directory = project::target()?.join("guest");
    let flags = "-C target-feature=+crt-static";
    let packages = ["--package", "forkwatch", "--package", "forkwatch-tests"];
    project::run(
        project::cargo()?
            .args(["build", "--locked", "--release", "--target", TARGET, "--target-dir"])
            .arg(&directory)
            .args(packages)
            .args(programs.iter().flat_map(|program| ["--bin", program]))
            .env("RUSTFLAGS", flags),
    )?;
    Ok(directory.join(TARGET).join("release"))
}
