//! The system's packages.

use std::process::Command;

use anyhow::Result;

use crate::project::{output, run};

/// Whether apt knows a package, by its newest lists: a fresh system has none, and old ones name files that are gone.
pub(crate) fn has(package: &str) -> bool {
    run(Command::new("apt-get").args(["update", "--quiet"])).is_ok()
        && output(Command::new("apt-cache").args(["show", package])).is_ok()
}

/// Installs packages.
pub(crate) fn install(packages: &[&str]) -> Result<()> {
    let arguments = ["install", "--yes", "--quiet", "--no-install-recommends"];
    run(Command::new("apt-get").env("DEBIAN_FRONTEND", "noninteractive").args(arguments).args(packages))
}
