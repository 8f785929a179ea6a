//! A package to upgrade from. It has the first edition's configuration and lacks what came later; its program is today's,
//! because an upgrade replaces that, and keeps the configuration.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};

use crate::project;

/// Where dpkg keeps the configuration, and where the first edition's lies in the workspace.
const CONFIGURATION: (&str, &str) = ("etc/forkwatch/forkwatch.toml", "tests/fixtures/first-edition.toml");
/// Files that the first edition did not have.
const LATER: [&str; 2] = ["etc/forkwatch/hooks.toml", "usr/lib/systemd/system/forkwatch-hooks.service"];

/// Makes the package, beside today's.
pub(super) fn package(today: &Path) -> Result<PathBuf> {
    let directory = tempfile::tempdir().context("cannot make a temporary directory")?;
    let root = directory.path().join("root");
    project::run(Command::new("dpkg-deb").arg("--raw-extract").args([today, &root]))?;
    let (configuration, first) = CONFIGURATION;
    fs::copy(project::root()?.join(first), root.join(configuration))
        .with_context(|| format!("cannot copy {first}"))?;
    for file in LATER {
        fs::remove_file(root.join(file)).with_context(|| format!("cannot remove {file}"))?;
    }
    let about = root.join("DEBIAN");
    fs::write(about.join("conffiles"), format!("/{configuration}\n"))?;
    // It lists the removed files, and dpkg can do without it.
    fs::remove_file(about.join("md5sums"))?;
    let control = fs::read_to_string(about.join("control"))?;
    // A tilde sorts before everything else (deb-version(7)).
    let older = control.replace("\nVersion: ", "\nVersion: 0~");
    ensure!(older != control, "no version in {control}");
    fs::write(about.join("control"), older)?;
    let package = today.with_file_name("forkwatch-first-edition.deb");
    project::run(
        Command::new("dpkg-deb").args(["--root-owner-group", "-Znone", "--build"]).args([&root, &package]),
    )?;
    Ok(package)
}
