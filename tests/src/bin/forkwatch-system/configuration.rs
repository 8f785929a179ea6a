//! Changes of files, forkwatch's configuration above all, and of units, that are taken back.

use std::{
    fs::{self, OpenOptions, Permissions},
    io::{ErrorKind, Write as _},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

use crate::systemd::systemctl;

/// forkwatch's.
pub(crate) const FILE: &str = "/etc/forkwatch/forkwatch.toml";

/// While it lives, a file is another, or is there at all.
pub(crate) struct Changed {
    path: PathBuf,
    before: Option<Vec<u8>>,
    /// The folder that was made for it.
    made: Option<PathBuf>,
}

impl Changed {
    /// With this text, and folders on the way to it.
    pub(crate) fn to(path: &str, text: &str) -> Result<Self> {
        let file = Self::keep(path)?;
        fs::write(path, text).with_context(|| format!("cannot write {path}"))?;
        Ok(file)
    }

    /// With this text, to be run.
    pub(crate) fn program(path: &str, text: &str) -> Result<Self> {
        let file = Self::to(path, text)?;
        fs::set_permissions(path, Permissions::from_mode(0o755))?;
        Ok(file)
    }

    /// With this at its end.
    pub(crate) fn with(path: &str, more: &str) -> Result<Self> {
        let file = Self::keep(path)?;
        let end = OpenOptions::new().append(true).create(true).open(path);
        let written = end.and_then(|mut end| end.write_all(more.as_bytes()));
        written.with_context(|| format!("cannot write {path}"))?;
        Ok(file)
    }

    /// forkwatch's configuration. Taking it on is left to the test. Everything that is not in this text has its default.
    pub(crate) fn configuration(text: &str) -> Result<Self> {
        Self::to(FILE, text)
    }

    fn keep(path: &str) -> Result<Self> {
        let path = PathBuf::from(path);
        let before = match fs::read(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            other => Some(other.with_context(|| format!("cannot read {}", path.display()))?),
        };
        let folders = path.ancestors().skip(1);
        let made = folders.take_while(|folder| !folder.exists()).last().map(Path::to_owned);
        path.parent().map_or(Ok(()), fs::create_dir_all)?;
        Ok(Self { path, before, made })
    }
}

impl Drop for Changed {
    fn drop(&mut self) {
        let restored = match (&self.before, &self.made) {
            (Some(before), _) => fs::write(&self.path, before),
            (None, Some(made)) => fs::remove_dir_all(made),
            (None, None) => fs::remove_file(&self.path),
        };
        // It may have gone with the folder that another was the first in.
        if let Err(error) = restored
            && error.kind() != ErrorKind::NotFound
        {
            eprintln!("cannot restore {}: {error}", self.path.display());
        }
    }
}

/// While it lives, a unit has these settings too.
pub(crate) struct DropIn(Option<Changed>);

impl DropIn {
    /// The text of a drop-in, with its sections.
    pub(crate) fn of(unit: &str, text: &str) -> Result<Self> {
        let file = Changed::to(&format!("/run/systemd/system/{unit}.d/test.conf"), text)?;
        let drop_in = Self(Some(file));
        systemctl(&["daemon-reload"])?;
        Ok(drop_in)
    }
}

impl Drop for DropIn {
    fn drop(&mut self) {
        drop(self.0.take());
        if let Err(error) = systemctl(&["daemon-reload"]) {
            eprintln!("a drop-in stays in force: {error:#}");
        }
    }
}
