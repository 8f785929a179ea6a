//! A program of a later release of Debian, which wants a newer C library than the host has: unpacked into the cache with
//! all that it needs, the C library too, and led to that. The host's other programs know nothing of it.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;

use super::{pattern::newest_match, run_command};
use crate::vm::{Arch, packages::Apt};

/// A program, its package, and the release that has it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Later {
    pub(super) name: String,
    package: String,
    release: String,
    path: String,
}

impl Later {
    /// Finds the program, the host's rather than the release's; unpacks it if that is wanted.
    pub(super) fn provide(&self, cache: &Path, unpack: bool) -> Result<PathBuf> {
        if let Some(path) = newest_match(Path::new("/"), &self.path) {
            return Ok(path);
        }
        // It has no dot, which would look like an extension.
        let tree = cache.join("unpacked").join(format!("{}-{}", self.name.replace('.', "_"), self.release));
        if let Some(path) = newest_match(&tree, &self.path) {
            return Ok(path);
        }
        if !unpack {
            bail!("{} and what it needs of Debian's {}, unpacked", self.package, self.release);
        }
        let apt = Apt::open(&self.release, Arch::of_the_host().debian(), &[&self.release])?;
        apt.provide(&self.package, true, &tree, |unpacked| self.lead(unpacked, &tree))?;
        newest_match(&tree, &self.path)
            .with_context(|| format!("{} of {} lacks {}", self.package, self.release, self.path))
    }

    /// Has the program use the loader and the libraries beside it, in the place where they will be.
    fn lead(&self, unpacked: &Path, place: &Path) -> Result<()> {
        let found = |pattern: &str| {
            newest_match(unpacked, pattern)
                .with_context(|| format!("{} came without {pattern}", self.package))
        };
        let program = found(&self.path)?;
        let loader = place.join(found("/usr/lib/*-linux-gnu/ld-linux-*")?.strip_prefix(unpacked)?);
        let libraries: OsString = loader.parent().context("it lies nowhere")?.into();
        run_command(
            Command::new("patchelf")
                .arg("--set-interpreter")
                .arg(&loader)
                // For the libraries' own libraries too.
                .args(["--force-rpath", "--set-rpath"])
                .arg(libraries)
                .arg(program),
        )
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn what_the_host_or_the_cache_has_is_not_fetched() {
        let cache = tempfile::tempdir().unwrap();
        let of = |path: &str| Later {
            name: "it".to_owned(),
            package: "a-package".to_owned(),
            release: "later".to_owned(),
            path: path.to_owned(),
        };
        assert_eq!(of("/bin/sh").provide(cache.path(), false).unwrap(), Path::new("/bin/sh"));
        let other = of("/usr/bin/forkwatch-later");
        let why = other.provide(cache.path(), false).unwrap_err().to_string();
        assert_eq!(why, "a-package and what it needs of Debian's later, unpacked");
        let path = cache.path().join("unpacked/it-later/usr/bin/forkwatch-later");
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, "").unwrap();
        assert_eq!(other.provide(cache.path(), false).unwrap(), path);
    }
}
