//! Cgroups of the tests' own.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

use crate::host::skip;

/// A cgroup that is removed when this is dropped: after all processes in it have ended.
pub struct Cgroup {
    /// Its path from the root of the tree.
    pub path: String,
    folder: PathBuf,
}

impl Cgroup {
    /// Makes one at the root of the version 2 tree; skips the test where that cannot be.
    pub fn make(name: &str) -> Result<Self> {
        let mounts = fs::read_to_string("/proc/self/mounts").context("cannot read /proc/self/mounts")?;
        let mount = mounts.lines().find_map(|line| {
            let mut fields = line.split(' ').skip(1);
            let point = fields.next()?;
            (fields.next()? == "cgroup2").then_some(point)
        });
        let Some(mount) = mount else { return skip("needs a cgroup version 2 tree") };
        let name = format!("forkwatch-test-{}-{name}", std::process::id());
        Self::at(format!("/{name}"), &Path::new(mount).join(name))
    }

    /// Makes one below it.
    pub fn child(&self, name: &str) -> Result<Self> {
        Self::at(format!("{}/{name}", self.path), &self.folder.join(name))
    }

    fn at(path: String, folder: &Path) -> Result<Self> {
        if let Err(error) = fs::create_dir(folder) {
            return skip(format!("needs to make {}: {error}", folder.display()));
        }
        Ok(Self { path, folder: folder.to_owned() })
    }

    /// Moves a process into it.
    pub fn add(&self, pid: i32) -> Result<()> {
        fs::write(self.folder.join("cgroup.procs"), pid.to_string())
            .with_context(|| format!("cannot move {pid} into {}", self.path))
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // Fails only if somebody is left in it; then it stays, empty of meaning.
        let _ = fs::remove_dir(&self.folder);
    }
}
