//! The tree that becomes a package: files with their modes and times, and what packs them.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, UNIX_EPOCH},
};

use anyhow::{Context as _, Result};
use tempfile::TempDir;

use crate::project;

/// Where dpkg-deb looks for what is about the package, below the root.
const CONTROL: &str = "DEBIAN";

/// A tree, removed when this is dropped.
pub(super) struct Staging {
    directory: TempDir,
    root: PathBuf,
}

impl Staging {
    /// An empty one in this directory.
    pub(super) fn new(directory: &Path) -> Result<Self> {
        let directory = TempDir::with_prefix_in("stage-", directory)
            .with_context(|| format!("cannot make a directory in {}", directory.display()))?;
        let root = directory.path().join("root");
        Ok(Self { directory, root })
    }

    /// What will be `/`.
    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// A file that is needed on the way and not packed.
    pub(super) fn beside(&self, name: &str, text: &str) -> Result<PathBuf> {
        let path = self.directory.path().join(name);
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path)
    }

    /// A folder for files that are made on the way.
    pub(super) fn beside_folder(&self, name: &str) -> Result<PathBuf> {
        let path = self.directory.path().join(name);
        fs::create_dir(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(path)
    }

    /// A program without its symbols (Debian's policy, 10.1), not packed yet.
    pub(super) fn stripped(&self, program: &Path) -> Result<PathBuf> {
        let path = self.directory.path().join("stripped");
        // As dh_strip(1) does.
        let options = ["--strip-unneeded", "--remove-section=.comment", "--remove-section=.note", "-o"];
        project::output(Command::new("strip").args(options).args([&path, program]))?;
        Ok(path)
    }

    /// Copies a file that all may read.
    pub(super) fn file(&self, from: &Path, to: &str) -> Result<()> {
        self.copy(from, to, 0o644)
    }

    /// Copies a program that all may run.
    pub(super) fn program(&self, from: &Path, to: &str) -> Result<()> {
        self.copy(from, to, 0o755)
    }

    /// Compresses a file as Debian's policy wants it; without name and time in it, which would differ each time.
    pub(super) fn compressed(&self, from: &Path, to: &str) -> Result<()> {
        let content = Command::new("gzip").args(["-9", "--no-name", "--stdout"]).arg(from).output();
        let content = content.context("cannot run gzip")?;
        anyhow::ensure!(content.status.success(), "gzip failed on {}: {}", from.display(), content.status);
        self.write(to, &content.stdout, 0o644)
    }

    /// Writes a file that is about the package.
    pub(super) fn about(&self, name: &str, content: &str, mode: u32) -> Result<()> {
        self.write(&format!("{CONTROL}/{name}"), content.as_bytes(), mode)
    }

    fn copy(&self, from: &Path, to: &str, mode: u32) -> Result<()> {
        let content = fs::read(from).with_context(|| format!("cannot read {}", from.display()))?;
        self.write(to, &content, mode)
    }

    fn write(&self, to: &str, content: &[u8], mode: u32) -> Result<()> {
        let path = self.root.join(to);
        let put = || -> std::io::Result<()> {
            path.parent().map_or(Ok(()), fs::create_dir_all)?;
            fs::write(&path, content)?;
            fs::set_permissions(&path, fs::Permissions::from_mode(mode))
        };
        put().with_context(|| format!("cannot write {}", path.display()))
    }

    /// All files that are installed, below the root, in order.
    pub(super) fn files(&self) -> Result<Vec<PathBuf>> {
        let (files, _) = self.entries()?;
        let installed = files.iter().filter_map(|path| path.strip_prefix(&self.root).ok());
        Ok(installed.filter(|path| !path.starts_with(CONTROL)).map(Path::to_owned).collect())
    }

    /// Kibibytes on disk, as dpkg-gencontrol(1) counts: each file rounded up, and one for anything else.
    pub(super) fn installed_size(&self) -> Result<u64> {
        let (files, directories) = self.entries()?;
        let installed = |path: &&PathBuf| !path.starts_with(self.root.join(CONTROL));
        let mut size = directories.iter().filter(installed).count() as u64;
        for file in files.iter().filter(installed) {
            size += fs::metadata(file)?.len().div_ceil(1024);
        }
        Ok(size)
    }

    /// All files and all directories, in order.
    fn entries(&self) -> Result<(Vec<PathBuf>, Vec<PathBuf>)> {
        let (mut files, mut directories) = (Vec::new(), vec![self.root.clone()]);
        let mut open = directories.clone();
        while let Some(directory) = open.pop() {
            for name in names(&directory)? {
                let path = directory.join(name);
                if path.is_dir() {
                    directories.push(path.clone());
                    open.push(path);
                } else {
                    files.push(path);
                }
            }
        }
        files.sort();
        directories.sort();
        Ok((files, directories))
    }

    /// Makes a package of the tree, with all times set to `epoch`.
    pub(super) fn pack(self, package: &Path, epoch: u64) -> Result<()> {
        let (files, directories) = self.entries()?;
        let time = UNIX_EPOCH + Duration::from_secs(epoch);
        for directory in &directories {
            fs::set_permissions(directory, fs::Permissions::from_mode(0o755))?;
        }
        for path in files.iter().chain(&directories) {
            let set = fs::File::open(path).and_then(|file| file.set_modified(time));
            set.with_context(|| format!("cannot set the time of {}", path.display()))?;
        }
        // dpkg-deb sorts, and takes times of the archive's own members from the variable. One thread: how many there
        // are shows in what xz makes.
        project::output(
            Command::new("dpkg-deb")
                .env("SOURCE_DATE_EPOCH", epoch.to_string())
                .args(["--root-owner-group", "-Zxz", "--threads-max=1", "--build"])
                .args([self.root(), package]),
        )?;
        Ok(())
    }
}

/// Names of what is in a directory, in order.
pub(super) fn names(directory: &Path) -> Result<Vec<String>> {
    let entries = fs::read_dir(directory).with_context(|| format!("cannot read {}", directory.display()))?;
    let mut names = Vec::new();
    for entry in entries {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}
