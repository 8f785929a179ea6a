//! Debian systems made from nothing, by mmdebstrap.

use std::{path::Path, process::Command};

use anyhow::Result;

use crate::{
    apt, project,
    vm::{Arch, packages},
};

/// A release, `bookworm` say, with its security updates.
pub(crate) fn with_security(release: &str) -> [String; 2] {
    [release.to_owned(), format!("{release}-security")]
}

/// Makes what debootstrap calls a minbase system, with these packages, in `target`: a directory, or a `.tar`. Its
/// packages come from these suites, of which the first is the release, on the mirror that this system uses.
pub(crate) fn bootstrap(suites: &[&str], packages: &[&str], target: &Path) -> Result<()> {
    apt::provide("mmdebstrap", &["mmdebstrap"])?;
    let sources = packages::sources_of_the_system(Arch::default().debian(), suites)?;
    project::run(
        Command::new("mmdebstrap")
            .args(["--mode=root", "--variant=minbase"])
            // The user _apt may not see every directory.
            .arg("--aptopt=APT::Sandbox::User \"root\"")
            .arg(format!("--include={}", packages.join(",")))
            .args(suites.first())
            .arg(target)
            .args(sources.lines()),
    )
}
