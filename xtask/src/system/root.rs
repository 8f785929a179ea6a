//! A small Debian system, as the archive that a kernel unpacks into memory.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};
use sha2::{Digest as _, Sha256};

use crate::{apt, debian, project};

/// What is there beside the essential packages, apt and what these depend on: the package's own dependencies, and what the
/// examples of docs/hooks.md run.
const PACKAGES: [&str; 9] =
    ["ca-certificates", "curl", "gdb", "gh", "gunicorn", "libgcc-s1", "procps", "systemd", "systemd-sysv"];

/// Makes the archive `$2` of the system in `$1`. Nobody reads there, and nothing more is fetched. The machine is the
/// same each time.
const FINISH: &str = r#"set -e
exec >"$2"
rm -rf "$1"/usr/share/doc/* "$1"/usr/share/man/* "$1"/usr/share/locale/*
rm -rf "$1"/var/lib/apt/lists/* "$1"/var/cache/apt/*
echo 00000000000000000000000000000001 >"$1/etc/machine-id"
echo guest >"$1/etc/hostname"
cd "$1"
find . -xdev -print0 | LC_ALL=C sort --zero-terminated | cpio --null --create --quiet --format=newc"#;

/// The archive of a release's system. It is kept until the list of packages, or how it is made, changes.
pub(super) fn provide(suite: &str) -> Result<PathBuf> {
    let directory = project::cache()?.join("vm/debian");
    fs::create_dir_all(&directory).with_context(|| format!("cannot make {}", directory.display()))?;
    let digest = Sha256::digest(format!("{PACKAGES:?}{FINISH}"));
    let number = digest.first_chunk().copied().map(u64::from_be_bytes).unwrap_or_default();
    let path = directory.join(format!("{suite}-{number:016x}.cpio"));
    if !path.exists() {
        // Made beside and then renamed: what is there is whole.
        let beside = path.with_extension("partial");
        make(suite, &beside)?;
        fs::rename(&beside, &path).with_context(|| format!("cannot make {}", path.display()))?;
        remove_others(&directory, suite, &path)?;
    }
    Ok(path)
}

fn make(suite: &str, archive: &Path) -> Result<()> {
    apt::provide("cpio", &["cpio"])?;
    let directory = tempfile::tempdir().context("cannot make a temporary directory")?;
    let system = directory.path().join("system");
    debian::bootstrap(&[suite], &PACKAGES, &system)?;
    // Not a hook: mmdebstrap takes away only after the last of them what keeps services from being started.
    project::run(Command::new("sh").args(["-c", FINISH, "sh"]).args([&system, archive]))
}

/// Removes what was made of other lists.
fn remove_others(directory: &Path, suite: &str, kept: &Path) -> Result<()> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let is_of_suite = path.file_name().is_some_and(|name| {
            name.to_string_lossy().strip_prefix(suite).is_some_and(|rest| rest.starts_with('-'))
        });
        if is_of_suite && path != kept {
            fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
        }
    }
    Ok(())
}
