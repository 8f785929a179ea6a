//! The system's packages.

use std::process::Command;

use anyhow::Result;

use crate::project::{output, run};

/// Whether apt knows a package.
pub(crate) fn has(package: &str) -> bool {
    update().is_ok() && output(Command::new("apt-cache").args(["show", package])).is_ok()
}

/// Installs packages.
pub(crate) fn install(packages: &[&str]) -> Result<()> {
    update()?;
    let arguments = ["install", "--yes", "--quiet", "--no-install-recommends"];
    run(Command::new("apt-get").env("DEBIAN_FRONTEND", "noninteractive").args(arguments).args(packages))
}

/// Installs packages unless the program that they are for is there.
pub(crate) fn provide(program: &str, packages: &[&str]) -> Result<()> {
    if output(Command::new(program).arg("--version")).is_ok() { Ok(()) } else { install(packages) }
}

/// Fetches the newest lists: a fresh system has none, and old ones name files that are gone.
fn update() -> Result<()> {
    run(Command::new("apt-get").args(["update", "--quiet"]))
}
