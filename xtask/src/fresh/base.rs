//! The system that a fresh one is unpacked from.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use super::Release;
use crate::{debian, project};

/// What README.md asks for, git for the clone, and the certificates without which nothing can be downloaded.
const PACKAGES: [&str; 4] = ["ca-certificates", "gcc", "git", "libc6-dev"];
/// Of the host: whom it trusts, and how it finds names. A mirror may be reached in no other way.
const OF_THE_HOST: [&str; 3] = ["etc/ssl/certs/ca-certificates.crt", "etc/resolv.conf", "etc/hosts"];

/// Unpacks a release's system into a directory that is not there yet.
pub(super) fn unpack(release: Release, root: &Path) -> Result<()> {
    let archive = archive(release)?;
    fs::create_dir(root).with_context(|| format!("cannot make {}", root.display()))?;
    project::run(
        Command::new("tar")
            .args(["--extract", "--numeric-owner", "--file"])
            .arg(&archive)
            .arg("-C")
            .arg(root),
    )?;
    for name in OF_THE_HOST {
        let (from, to) = (Path::new("/").join(name), root.join(name));
        if from.exists() {
            // It may be a link to nowhere.
            drop(fs::remove_file(&to));
            fs::copy(&from, &to).with_context(|| format!("cannot copy {}", from.display()))?;
        }
    }
    Ok(())
}

/// The archive of a release's system, kept until the list of packages changes.
fn archive(release: Release) -> Result<PathBuf> {
    let directory = project::cache()?.join("fresh");
    let packages = PACKAGES.join("-");
    let path = directory.join(format!("{release}-{packages}.tar"));
    if !path.exists() {
        // Made beside and then renamed: what is there is whole.
        let beside = directory.join("partial.tar");
        let suites = debian::with_security(release.name());
        debian::bootstrap(&suites.each_ref().map(String::as_str), &PACKAGES, &beside)?;
        fs::rename(&beside, &path).with_context(|| format!("cannot make {}", path.display()))?;
    }
    Ok(path)
}
