//! Provides what the end-to-end tests run beside forkwatch, and notes where it is.
//!
//! Tools are installed, servers are unpacked into the project's cache; Python packages go, pinned by version and hash,
//! into virtual environments there, never into the system's Python. What could not be had is noted with the reason,
//! and the tests that need it report themselves as skipped.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

mod environment;
mod later;
mod pattern;
mod unpacked;

use crate::project;
use environment::Environment;
use later::Later;
use pattern::newest_match;
use unpacked::Unpacked;

/// `tests/provision.toml`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    installed: Vec<Installed>,
    unpacked: Vec<Unpacked>,
    later: Vec<Later>,
    environment: Vec<Environment>,
}

impl Wanted {
    fn read(root: &Path) -> Result<Self> {
        let list = root.join("tests/provision.toml");
        let text = fs::read_to_string(&list).with_context(|| format!("cannot read {}", list.display()))?;
        toml::from_str(&text).with_context(|| format!("{} is malformed", list.display()))
    }
}

/// A file, and the Debian package that brings it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Installed {
    name: String,
    package: String,
    path: String,
}

/// What the tests read: where each thing is, or why it is not there.
#[derive(Default, Serialize)]
pub(crate) struct Provided {
    present: BTreeMap<String, Present>,
    missing: BTreeMap<String, String>,
}

/// Something that is there.
#[derive(Serialize)]
struct Present {
    path: PathBuf,
    /// The directory that it was unpacked in with all that the host lacks, and where in it the libraries are.
    #[serde(skip_serializing_if = "Option::is_none")]
    tree: Option<PathBuf>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    libraries: Vec<PathBuf>,
}

impl Present {
    const fn at(path: PathBuf) -> Self {
        Self { path, tree: None, libraries: Vec::new() }
    }
}

impl Provided {
    /// The path of something that is there.
    pub(crate) fn path(&self, name: &str) -> Option<&Path> {
        self.present.get(name).map(|present| present.path.as_path())
    }

    fn note(&mut self, name: &str, outcome: Result<Present, String>) {
        match outcome {
            Ok(present) => drop(self.present.insert(name.to_owned(), present)),
            Err(why) => drop(self.missing.insert(name.to_owned(), why)),
        }
    }
}

/// Provides what `tests/provision.toml` lists and writes `real/provided.json` into the cache, for the tests.
///
/// With `no_install` nothing is installed or unpacked: what is missing is an error that says how it would be. Without
/// it, what cannot be had is named on stderr, and is no error.
pub(crate) fn run(no_install: bool) -> Result<Provided> {
    let root = project::root()?;
    let wanted = Wanted::read(&root)?;
    let cache = project::cache()?.join("real");
    fs::create_dir_all(&cache).with_context(|| format!("cannot create {}", cache.display()))?;

    let mut provided = Provided::default();
    let failures = if no_install { BTreeMap::new() } else { install(&wanted.installed) };
    for tool in &wanted.installed {
        let found = newest_match(Path::new("/"), &tool.path).map(Present::at).ok_or_else(|| {
            let command = format!("apt-get install --no-install-recommends {}", tool.package);
            failures.get(&tool.package).map_or(command, Clone::clone)
        });
        provided.note(&tool.name, found);
    }
    for programs in &wanted.unpacked {
        let found = programs.provide(&cache, !no_install).map_err(|error| format!("{error:#}"));
        for name in programs.files.keys() {
            let present = found.as_ref().map_err(Clone::clone).and_then(|found| {
                let path = found.files.get(name).cloned().ok_or("it was not looked for")?;
                let libraries = found.tree.as_deref().map(unpacked::libraries).unwrap_or_default();
                Ok(Present { path, tree: found.tree.clone(), libraries })
            });
            provided.note(name, present);
        }
    }
    for program in &wanted.later {
        let found = program.provide(&cache, !no_install).map(Present::at);
        provided.note(&program.name, found.map_err(|error| format!("{error:#}")));
    }
    for wanted in &wanted.environment {
        let folder = cache.join(&wanted.name);
        let made = environment::provide(wanted, &root, &folder, &provided, no_install);
        provided.note(&wanted.name, made.map(|()| Present::at(folder)).map_err(|error| format!("{error:#}")));
    }

    let note = cache.join("provided.json");
    fs::write(&note, serde_json::to_vec_pretty(&provided)?)
        .with_context(|| format!("cannot write {}", note.display()))?;
    let missing: Vec<String> =
        provided.missing.iter().map(|(name, why)| format!("\n  {name}: {why}")).collect();
    let missing = missing.concat();
    if no_install && !missing.is_empty() {
        bail!("the tests need more than is there; without --no-install this is done for you:{missing}");
    }
    if !missing.is_empty() {
        eprintln!("not available, the tests that need it are skipped:{missing}");
    }
    Ok(provided)
}

/// Provides one of the virtual environments that `tests/provision.toml` lists, and nothing else. Gives its folder.
pub(crate) fn environment(name: &str) -> Result<PathBuf> {
    let root = project::root()?;
    let wanted = Wanted::read(&root)?;
    let mut provided = Provided::default();
    for tool in &wanted.installed {
        let found = newest_match(Path::new("/"), &tool.path).map(Present::at);
        provided.note(&tool.name, found.ok_or_else(String::new));
    }
    let wanted = wanted.environment.iter().find(|environment| environment.name == name);
    let wanted = wanted.with_context(|| format!("no environment {name}"))?;
    let folder = project::cache()?.join("real").join(name);
    environment::provide(wanted, &root, &folder, &provided, false)?;
    Ok(folder)
}

/// Installs the packages of what is missing; answers why those that could not be installed could not.
fn install(tools: &[Installed]) -> BTreeMap<String, String> {
    let absent = tools.iter().filter(|tool| newest_match(Path::new("/"), &tool.path).is_none());
    let packages: BTreeSet<&str> = absent.map(|tool| tool.package.as_str()).collect();
    if packages.is_empty() {
        return BTreeMap::new();
    }
    eprintln!("installing {}", packages.iter().copied().collect::<Vec<_>>().join(" "));
    let install = |packages: &[&str]| {
        run_command(
            Command::new("apt-get")
                .args(["install", "--yes", "--quiet=2", "--no-install-recommends"])
                .args(packages)
                .env("DEBIAN_FRONTEND", "noninteractive"),
        )
    };
    let all: Vec<&str> = packages.iter().copied().collect();
    if updated(|| install(&all)).is_ok() {
        return BTreeMap::new();
    }
    // One that cannot be had must not take the others with it.
    let failure =
        |package: &&str| install(&[package]).err().map(|error| ((*package).to_owned(), format!("{error:#}")));
    packages.iter().filter_map(failure).collect()
}

/// Does something with the system's package lists, and if it fails once more with fresh ones: missing and stale lists
/// both show as a failure.
fn updated(attempt: impl Fn() -> Result<()>) -> Result<()> {
    attempt().or_else(|error| {
        run_command(Command::new("apt-get").arg("update")).map_err(|_| error)?;
        attempt()
    })
}

/// Runs a command to its end; an error carries the end of what it said.
fn run_command(command: &mut Command) -> Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.output().with_context(|| format!("cannot run {name}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let last = said.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("it said nothing");
    bail!("{name} failed ({}): {last}", output.status)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_well_formed() {
        let list: Wanted = toml::from_str(include_str!("../../../tests/provision.toml")).unwrap();
        let installed = list.installed.iter().map(|tool| &tool.name);
        let unpacked = list.unpacked.iter().flat_map(|programs| programs.files.keys());
        let later = list.later.iter().map(|program| &program.name);
        let environments = list.environment.iter().map(|environment| &environment.name);
        let names: Vec<_> = installed.chain(unpacked).chain(later).chain(environments).collect();
        let unique: BTreeSet<_> = names.iter().collect();
        assert_eq!(unique.len(), names.len());
    }
}
