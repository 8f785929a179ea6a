//! The programs that run in a guest: linked statically, because there is nothing else.

use std::{env, path::PathBuf};

use anyhow::{Result, bail};

use crate::project;

/// Emulated is what the host is.
const TARGET: &str = "x86_64-unknown-linux-gnu";

/// Where they are.
pub(crate) struct Programs {
    pub(crate) forkwatch: PathBuf,
    pub(crate) guest: PathBuf,
}

/// Builds them, in a target directory of their own: other flags would have everything else built anew.
pub(crate) fn build() -> Result<Programs> {
    if env::consts::ARCH != "x86_64" {
        bail!("the machines are emulated by a program for x86-64, and this is {}", env::consts::ARCH);
    }
    let directory = project::target()?.join("guest");
    let flags = "-C target-feature=+crt-static";
    let packages = ["--package", "forkwatch", "--package", "forkwatch-tests"];
    let programs = ["--bin", "forkwatch", "--bin", "forkwatch-guest"];
    project::run(
        project::cargo()?
            .args(["build", "--locked", "--release", "--target", TARGET, "--target-dir"])
            .arg(&directory)
            .args(packages)
            .args(programs)
            .env("RUSTFLAGS", flags),
    )?;
    let built = directory.join(TARGET).join("release");
    Ok(Programs { forkwatch: built.join("forkwatch"), guest: built.join("forkwatch-guest") })
}
