//! Python packages, in virtual environments of the project's cache.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use super::{Provided, run_command};

/// A virtual environment.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Environment {
    pub(super) name: String,
    requirements: PathBuf,
    /// Packages that exist as sources only. Building them takes setuptools from the index.
    #[serde(default)]
    sources: Vec<String>,
}

/// Makes the virtual environment unless one of the same requirements and Python is there.
pub(super) fn provide(
    wanted: &Environment,
    root: &Path,
    folder: &Path,
    provided: &Provided,
    no_install: bool,
) -> Result<()> {
    let requirements = root.join(&wanted.requirements);
    let pins = fs::read(&requirements).with_context(|| format!("cannot read {}", requirements.display()))?;
    let python = &provided.present.get("python3").context("needs python3")?.path;
    let version = fs::canonicalize(python).with_context(|| format!("cannot resolve {}", python.display()))?;
    let digest =
        Sha256::new().chain_update(&pins).chain_update(version.as_os_str().as_encoded_bytes()).finalize();
    let stamp_file = folder.join("stamp");
    if fs::read(&stamp_file).is_ok_and(|stamp| stamp == digest.as_slice()) {
        return Ok(());
    }
    if no_install {
        bail!("python3 -m venv, then pip install --require-hashes -r {}", wanted.requirements.display());
    }
    if !provided.present.contains_key("python3-venv") {
        bail!("needs python3-venv");
    }
    eprintln!("making the Python environment {}", wanted.name);
    if folder.exists() {
        fs::remove_dir_all(folder).with_context(|| format!("cannot remove {}", folder.display()))?;
    }
    run_command(Command::new(python).args(["-m", "venv"]).arg(folder))?;
    run_command(
        Command::new(folder.join("bin/pip"))
            .args([
                "install",
                "--quiet",
                "--disable-pip-version-check",
                "--no-deps",
                "--only-binary",
                ":all:",
            ])
            .args(wanted.sources.iter().flat_map(|name| ["--no-binary", name]))
            .args(["--require-hashes", "--requirement"])
            .arg(&requirements),
    )?;
    fs::write(&stamp_file, digest).with_context(|| format!("cannot write {}", stamp_file.display()))
}
