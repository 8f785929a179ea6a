//! Installs what the end-to-end tests run beside forkwatch, and notes where it is.
//!
//! Programs are the distribution's packages; Python packages go, pinned by version and hash, into virtual
//! environments in the project's cache, never into the system's Python. What could not be had is noted with the reason,
//! and the tests that need it report themselves as skipped.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::project;

/// Debian's policy layer for init scripts: while it exits with 101, no package starts its service.
const POLICY: &str = "/usr/sbin/policy-rc.d";

/// `tests/provision.toml`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    program: Vec<Program>,
    environment: Vec<Environment>,
}

/// A file, and the Debian package that brings it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Program {
    name: String,
    package: String,
    path: String,
}

/// A Python virtual environment.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Environment {
    name: String,
    requirements: PathBuf,
}

/// What the tests read: where each thing is, or why it is not there.
#[derive(Default, Serialize)]
struct Provided {
    present: BTreeMap<String, PathBuf>,
    missing: BTreeMap<String, String>,
}

/// Provides what `tests/provision.toml` lists and writes `real/provided.json` into the cache, for the tests.
///
/// With `no_install` nothing is installed: what is missing is an error that says how it would be. Without it, what
/// cannot be installed is named on stderr, and is no error.
pub(crate) fn run(no_install: bool) -> Result<()> {
    let root = project::root()?;
    let list = root.join("tests/provision.toml");
    let text = fs::read_to_string(&list).with_context(|| format!("cannot read {}", list.display()))?;
    let wanted: Wanted = toml::from_str(&text).with_context(|| format!("{} is malformed", list.display()))?;
    let cache = project::cache()?.join("real");
    fs::create_dir_all(&cache).with_context(|| format!("cannot create {}", cache.display()))?;

    let mut provided = Provided::default();
    let failures = if no_install { BTreeMap::new() } else { install(&wanted.program) };
    for program in &wanted.program {
        match newest_match(&program.path) {
            Some(path) => drop(provided.present.insert(program.name.clone(), path)),
            None => drop(provided.missing.insert(program.name.clone(), {
                let command = format!("apt-get install --no-install-recommends {}", program.package);
                failures.get(&program.package).map_or(command, Clone::clone)
            })),
        }
    }
    for environment in &wanted.environment {
        let folder = cache.join(&environment.name);
        match provide_environment(environment, &root, &folder, &provided, no_install) {
            Ok(()) => drop(provided.present.insert(environment.name.clone(), folder)),
            Err(error) => drop(provided.missing.insert(environment.name.clone(), format!("{error:#}"))),
        }
    }

    let note = cache.join("provided.json");
    fs::write(&note, serde_json::to_vec_pretty(&provided)?)
        .with_context(|| format!("cannot write {}", note.display()))?;
    let missing: Vec<String> =
        provided.missing.iter().map(|(name, why)| format!("\n  {name}: {why}")).collect();
    let missing = missing.concat();
    if no_install && !missing.is_empty() {
        bail!(
            "the tests need more than is installed here; without --no-install this is done for you:{missing}"
        );
    }
    if !missing.is_empty() {
        eprintln!("not available, the tests that need it are skipped:{missing}");
    }
    Ok(())
}

/// Installs the packages of what is missing; answers why those that could not be installed could not.
fn install(programs: &[Program]) -> BTreeMap<String, String> {
    let absent = programs.iter().filter(|program| newest_match(&program.path).is_none());
    let packages: BTreeSet<&str> = absent.map(|program| program.package.as_str()).collect();
    if packages.is_empty() {
        return BTreeMap::new();
    }
    eprintln!("installing {}", packages.iter().copied().collect::<Vec<_>>().join(" "));
    let _no_services = match NoServices::begin() {
        Ok(guard) => guard,
        Err(error) => {
            let why = format!("{error:#}");
            return packages.iter().map(|package| ((*package).to_owned(), why.clone())).collect();
        }
    };
    let install = |packages: &[&str]| {
        run_command(
            Command::new("apt-get")
                .args(["install", "--yes", "--quiet=2", "--no-install-recommends"])
                .args(packages)
                .env("DEBIAN_FRONTEND", "noninteractive"),
        )
    };
    let all: Vec<&str> = packages.iter().copied().collect();
    // Missing and stale package lists both show as a failure, which `update` mends.
    if install(&all).is_ok()
        || (run_command(Command::new("apt-get").arg("update")).is_ok() && install(&all).is_ok())
    {
        return BTreeMap::new();
    }
    // One that cannot be had must not take the others with it.
    let failure =
        |package: &&str| install(&[package]).err().map(|error| ((*package).to_owned(), format!("{error:#}")));
    packages.iter().filter_map(failure).collect()
}

/// Makes the virtual environment unless one of the same requirements and Python is there.
fn provide_environment(
    wanted: &Environment,
    root: &Path,
    folder: &Path,
    provided: &Provided,
    no_install: bool,
) -> Result<()> {
    let requirements = root.join(&wanted.requirements);
    let pins = fs::read(&requirements).with_context(|| format!("cannot read {}", requirements.display()))?;
    let python = provided.present.get("python3").context("needs python3")?;
    let version = fs::canonicalize(python).with_context(|| format!("cannot resolve {}", python.display()))?;
    let digest =
        Sha256::new().chain_update(&pins).chain_update(version.as_os_str().as_encoded_bytes()).finalize();
    let stamp_file = folder.join("stamp");
    if fs::read(&stamp_file).is_ok_and(|stamp| stamp == digest.as_slice()) {
        return Ok(());
    }
    if no_install {
        bail!("python3 -m venv, then pip install --require-hashes -r {}", wanted.requirements.display());
    }
    if !provided.present.contains_key("python3-venv") {
        bail!("needs python3-venv");
    }
    eprintln!("making the Python environment {}", wanted.name);
    if folder.exists() {
        fs::remove_dir_all(folder).with_context(|| format!("cannot remove {}", folder.display()))?;
    }
    run_command(Command::new(python).args(["-m", "venv"]).arg(folder))?;
    run_command(
        Command::new(folder.join("bin/pip"))
            .args([
                "install",
                "--quiet",
                "--disable-pip-version-check",
                "--no-deps",
                "--only-binary",
                ":all:",
            ])
            .args(["--require-hashes", "--requirement"])
            .arg(&requirements),
    )?;
    fs::write(&stamp_file, digest).with_context(|| format!("cannot write {}", stamp_file.display()))
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

/// The existing file that a path with `*` in its components stands for; of several, the one of the highest version.
fn newest_match(pattern: &str) -> Option<PathBuf> {
    let mut found = vec![PathBuf::from("/")];
    for part in pattern.split('/').filter(|part| !part.is_empty()) {
        found = match part.split_once('*') {
            None => found.iter().map(|folder| folder.join(part)).filter(|path| path.exists()).collect(),
            Some((prefix, suffix)) => {
                found.iter().flat_map(|folder| entries(folder, prefix, suffix)).collect()
            }
        };
    }
    found.into_iter().max_by_key(|path| version_key(&path.to_string_lossy()))
}

/// What of a folder begins and ends like this.
fn entries(folder: &Path, prefix: &str, suffix: &str) -> Vec<PathBuf> {
    let matches = |name: &str| name.strip_prefix(prefix).is_some_and(|rest| rest.ends_with(suffix));
    let Ok(listing) = fs::read_dir(folder) else { return Vec::new() };
    listing
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| matches(name))
        .map(|name| folder.join(name))
        .collect()
}

/// Every number in a path, in order: 3.9 comes before 3.11.
fn version_key(path: &str) -> Vec<u64> {
    path.split(|character: char| !character.is_ascii_digit())
        .filter_map(|digits| digits.parse().ok())
        .collect()
}

/// While it lives, packages do not start their services.
struct NoServices {
    /// Whether the policy is ours to remove: where there was one before (containers have one), it stays.
    ours: bool,
}

impl NoServices {
    fn begin() -> Result<Self> {
        if Path::new(POLICY).exists() {
            return Ok(Self { ours: false });
        }
        fs::write(POLICY, "#!/bin/sh\nexit 101\n").context("installing packages needs root")?;
        let guard = Self { ours: true };
        fs::set_permissions(POLICY, fs::Permissions::from_mode(0o755))
            .with_context(|| format!("cannot make {POLICY} executable"))?;
        Ok(guard)
    }
}

impl Drop for NoServices {
    fn drop(&mut self) {
        if self.ours
            && let Err(error) = fs::remove_file(POLICY)
        {
            eprintln!("remove {POLICY} by hand, or no service will start any more: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_finds_the_highest_version() {
        let folder = std::env::temp_dir().join(format!("forkwatch-provide-{}", std::process::id()));
        for version in ["9", "15", "junk"] {
            fs::create_dir_all(folder.join(version).join("bin")).unwrap();
        }
        fs::write(folder.join("9/bin/postgres"), "").unwrap();
        fs::write(folder.join("15/bin/postgres"), "").unwrap();
        let found = newest_match(&format!("{}/*/bin/postgres", folder.display()));
        let nothing = newest_match(&format!("{}/*/bin/absent", folder.display()));
        let wanted = folder.join("15/bin/postgres");
        fs::remove_dir_all(&folder).unwrap();
        assert_eq!(found, Some(wanted));
        assert_eq!(nothing, None);
    }

    #[test]
    fn the_list_is_well_formed() {
        let list: Wanted = toml::from_str(include_str!("../../tests/provision.toml")).unwrap();
        let names = list.program.iter().map(|program| &program.name);
        let unique: BTreeSet<_> =
            names.chain(list.environment.iter().map(|environment| &environment.name)).collect();
        assert_eq!(unique.len(), list.program.len() + list.environment.len());
    }
}
