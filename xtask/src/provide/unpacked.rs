//! Programs that run from the cache: their packages are unpacked there with what they depend on and the host lacks.
//! Nothing of it is installed, so no service of theirs is started or enabled.

use std::{
    collections::BTreeMap,
    env,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;

use super::{pattern::newest_match, run_command, updated};
use crate::project::output;

/// Programs of one or several packages, with their paths by name.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Unpacked {
    pub(super) packages: Vec<String>,
    #[serde(default)]
    without: Vec<String>,
    pub(super) files: BTreeMap<String, String>,
}

/// Where the files are.
pub(super) struct Found {
    pub(super) files: BTreeMap<String, PathBuf>,
    /// The directory of what was unpacked. None for those of the host.
    pub(super) tree: Option<PathBuf>,
}

impl Unpacked {
    /// What a command without `--no-install` would do.
    pub(super) fn instruction(&self) -> String {
        format!("apt-get install --no-install-recommends {}", self.packages.join(" "))
    }

    /// Finds the files, those of the host rather than others; unpacks what is missing if that is wanted.
    pub(super) fn provide(&self, cache: &Path, unpack: bool) -> Result<Found> {
        if let Some(files) = self.files_below(Path::new("/")) {
            return Ok(Found { files, tree: None });
        }
        let name = self.packages.first().context("it has no package")?;
        // Another release's programs want other libraries than the host has.
        let tree = cache.join("unpacked").join(format!("{name}-{}", release()));
        if !self.is_usable(&tree) {
            if !unpack {
                bail!(self.instruction());
            }
            self.unpack(&tree)?;
        }
        let files = self.files_below(&tree).with_context(|| {
            format!("{} of {} lack a file that the tests need", self.packages.join(", "), release())
        })?;
        let missing = missing_libraries(&tree, files.values());
        if !missing.is_empty() {
            bail!("libraries are missing: {}", missing.join(", "));
        }
        Ok(Found { files, tree: Some(tree) })
    }

    fn files_below(&self, root: &Path) -> Option<BTreeMap<String, PathBuf>> {
        self.files.iter().map(|(name, path)| Some((name.clone(), newest_match(root, path)?))).collect()
    }

    /// Whether it is unpacked, and the host still has what it had then.
    fn is_usable(&self, tree: &Path) -> bool {
        self.files_below(tree).is_some_and(|files| missing_libraries(tree, files.values()).is_empty())
    }

    fn unpack(&self, tree: &Path) -> Result<()> {
        eprintln!("unpacking {}", self.packages.join(" "));
        let fetched = tree.with_extension("fetched");
        let beside = tree.with_extension("partial");
        let paths = [&fetched, &beside, &tree.to_owned()].map(PathBuf::clone);
        paths.iter().try_for_each(|path| remove(path))?;
        let partial = fetched.join("partial");
        fs::create_dir_all(&partial).with_context(|| format!("cannot make {}", partial.display()))?;
        updated(|| run_command(&mut self.fetch(&fetched)))?;
        fs::create_dir_all(&beside).with_context(|| format!("cannot make {}", beside.display()))?;
        for entry in fs::read_dir(&fetched)? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "deb") && !self.leaves_out(&path) {
                run_command(Command::new("dpkg-deb").arg("--extract").arg(&path).arg(&beside))?;
            }
        }
        // Renamed when it is whole.
        fs::rename(&beside, tree).with_context(|| format!("cannot make {}", tree.display()))?;
        remove(&fetched)
    }

    /// By the host's own apt, which knows what the host lacks.
    fn fetch(&self, into: &Path) -> Command {
        let mut command = Command::new("apt-get");
        // Again, if it is there: a package may be installed without the file.
        command.args(["install", "--yes", "--quiet=2", "--no-install-recommends", "--reinstall"]);
        // The user _apt may not see the cache.
        command.args(["--download-only", "--option", "APT::Sandbox::User=root", "--option"]);
        let mut archives = OsString::from("Dir::Cache::archives=");
        archives.push(into);
        command.arg(archives).args(&self.packages).env("DEBIAN_FRONTEND", "noninteractive");
        command
    }

    /// Whether an archive, `NAME_VERSION_ARCHITECTURE.deb`, is not unpacked: never the C library, because programs
    /// are started by the host's loader, which wants its own.
    fn leaves_out(&self, archive: &Path) -> bool {
        let name = archive.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
        name.starts_with("libc6_") || self.without.iter().any(|without| name.starts_with(without))
    }
}

/// Where the libraries of what was unpacked are: before Debian 13 packages use the second directory too.
pub(super) fn libraries(tree: &Path) -> Vec<PathBuf> {
    let triple = format!("{}-linux-gnu", env::consts::ARCH);
    ["usr/lib", "lib"]
        .map(|place| tree.join(place).join(&triple))
        .into_iter()
        .filter(|path| path.is_dir())
        .collect()
}

/// Libraries that these programs and modules are linked with, and that are nowhere.
fn missing_libraries<'a>(tree: &Path, files: impl Iterator<Item = &'a PathBuf>) -> Vec<String> {
    let path = env::join_paths(libraries(tree)).unwrap_or_default();
    let mut missing = Vec::new();
    for file in files {
        // It fails for a program that is not linked with any.
        let listed = output(Command::new("ldd").arg(file).env("LD_LIBRARY_PATH", &path)).unwrap_or_default();
        let names = listed.lines().filter_map(|line| line.trim().strip_suffix(" => not found"));
        missing.extend(names.map(str::to_owned));
    }
    missing
}

/// The release of this system, `bookworm` say.
fn release() -> String {
    let text = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let name = text.lines().find_map(|line| line.strip_prefix("VERSION_CODENAME="));
    name.unwrap_or("unknown").trim_matches('"').to_owned()
}

fn remove(directory: &Path) -> Result<()> {
    if directory.exists() {
        fs::remove_dir_all(directory).with_context(|| format!("cannot remove {}", directory.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(files: &[(&str, &str)]) -> Unpacked {
        Unpacked {
            packages: vec!["a-package".to_owned()],
            without: vec!["libllvm".to_owned()],
            files: files.iter().map(|(name, path)| ((*name).to_owned(), (*path).to_owned())).collect(),
        }
    }

    #[test]
    fn what_the_host_has_is_taken_from_there() {
        let cache = tempfile::tempdir().unwrap();
        let found = of(&[("shell", "/bin/sh")]).provide(cache.path(), false).unwrap();
        assert_eq!((found.tree, found.files["shell"].as_path()), (None, Path::new("/bin/sh")));
    }

    #[test]
    fn what_was_unpacked_is_taken_from_the_cache_only_as_a_whole() {
        let cache = tempfile::tempdir().unwrap();
        let wanted = of(&[("one", "/usr/bin/forkwatch-one"), ("two", "/usr/lib/*/forkwatch-two")]);
        let tree = cache.path().join(format!("unpacked/a-package-{}", release()));
        for path in ["usr/bin", "usr/lib/x"] {
            fs::create_dir_all(tree.join(path)).unwrap();
        }
        fs::write(tree.join("usr/bin/forkwatch-one"), "").unwrap();
        let missing = wanted.provide(cache.path(), false).err().unwrap();
        assert_eq!(missing.to_string(), "apt-get install --no-install-recommends a-package");
        fs::write(tree.join("usr/lib/x/forkwatch-two"), "").unwrap();
        let found = wanted.provide(cache.path(), false).unwrap();
        assert_eq!(found.files["two"], tree.join("usr/lib/x/forkwatch-two"));
        assert_eq!(found.tree, Some(tree));
    }

    #[test]
    fn the_c_library_and_what_is_not_wanted_stay_out() {
        let wanted = of(&[]);
        for (archive, out) in [
            ("libc6_2.36-9_amd64.deb", true),
            ("libllvm14_1%3a14.0.6-12_amd64.deb", true),
            ("libcap2_1_amd64.deb", false),
        ] {
            assert_eq!(wanted.leaves_out(&Path::new("/x").join(archive)), out, "{archive}");
        }
    }
}
