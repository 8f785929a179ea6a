//! An upgrade from the first edition, on a host whose administrator has changed the configuration.

use std::{
    fs::{self, OpenOptions},
    io::Write as _,
};

use anyhow::{Context as _, Result, ensure};
use forkwatch::config::renamed::{Named, RENAMED};

use crate::{
    configuration::FILE,
    package::{PACKAGE, it_watches},
    systemd::{UNIT, run, systemctl, until_journal_has},
};

/// Where the host has put the first edition's package.
const FIRST: &str = "/root/forkwatch-first-edition.deb";
/// What the administrator has added to the configuration.
const RULES: &str = include_str!("../../../fixtures/first-edition-rules.toml");

/// `dpkg` keeps a changed configuration, with the old names in it. A watch that refused one of them would end for good:
/// the unit says so (`RestartPreventExitStatus=2`).
pub(crate) fn old_rules_do_not_end_the_watch() -> Result<()> {
    run("apt-get", &["install", "--yes", "--quiet", FIRST])?;
    let mut file =
        OpenOptions::new().append(true).open(FILE).with_context(|| format!("cannot open {FILE}"))?;
    file.write_all(RULES.as_bytes()).with_context(|| format!("cannot write {FILE}"))?;
    systemctl(&["restart", UNIT])?;
    let (before, old) = (fs::read_to_string(FILE)?, version()?);

    // As unattended-upgrades answers dpkg's question.
    let keep = ["--option", "Dpkg::Options::=--force-confdef", "--option", "Dpkg::Options::=--force-confold"];
    run("apt-get", &[&["install", "--yes", "--quiet"][..], &keep, &[PACKAGE]].concat())?;
    run("dpkg", &["--compare-versions", &version()?, "gt", &old])?;
    ensure!(fs::read_to_string(FILE)? == before, "the administrator's configuration was not kept");
    it_watches()?;
    for renamed in RENAMED.iter().filter(|renamed| renamed.what == Named::Table) {
        until_journal_has(&renamed.warning())?;
    }
    Ok(())
}

fn version() -> Result<String> {
    run("dpkg-query", &["--show", "--showformat=${Version}", "forkwatch"])
}
