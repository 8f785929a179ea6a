//! Changes of the configuration, of the unit's and of forkwatch's own, that are taken back.

use std::{fs, path::Path};

use anyhow::{Context as _, Result};

use crate::systemd::systemctl;

/// forkwatch's.
pub(crate) const FILE: &str = "/etc/forkwatch/forkwatch.toml";
const DROP_IN: &str = "/run/systemd/system/forkwatch.service.d/test.conf";

/// While it lives, the configuration is another. Taking it on is left to the test.
pub(crate) struct Configuration {
    before: String,
}

impl Configuration {
    /// Everything that is not in this text has its default.
    pub(crate) fn of(text: &str) -> Result<Self> {
        let before = fs::read_to_string(FILE).with_context(|| format!("cannot read {FILE}"))?;
        fs::write(FILE, text).with_context(|| format!("cannot write {FILE}"))?;
        Ok(Self { before })
    }
}

impl Drop for Configuration {
    fn drop(&mut self) {
        if let Err(error) = fs::write(FILE, &self.before) {
            eprintln!("cannot restore {FILE}: {error}");
        }
    }
}

/// While it lives, the unit has these settings too.
pub(crate) struct DropIn(());

impl DropIn {
    /// Settings of the section `[Service]`.
    pub(crate) fn of(settings: &str) -> Result<Self> {
        Path::new(DROP_IN).parent().map_or(Ok(()), fs::create_dir_all)?;
        fs::write(DROP_IN, format!("[Service]\n{settings}\n"))
            .with_context(|| format!("cannot write {DROP_IN}"))?;
        systemctl(&["daemon-reload"])?;
        Ok(Self(()))
    }
}

impl Drop for DropIn {
    fn drop(&mut self) {
        let directory = Path::new(DROP_IN).parent().map_or(Ok(()), fs::remove_dir_all);
        let removed = directory.context("cannot remove it");
        if let Err(error) = removed.and_then(|()| systemctl(&["daemon-reload"])) {
            eprintln!("{DROP_IN} stays in force: {error:#}");
        }
    }
}
