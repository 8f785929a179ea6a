//! The package: installed on a system that has what it depends on, and purged.

use std::{
    collections::BTreeSet,
    fs,
    path::Path,
    sync::{Mutex, PoisonError},
};

use anyhow::{Context as _, Result, ensure};
use forkwatch_tests::bpf::tracing_programs;

use crate::systemd::{UNIT, journal, main_pid, property, run, systemctl, until, until_journal_has};

/// Where the host has put it.
pub(crate) const PACKAGE: &str = "/root/forkwatch.deb";
/// What others write at any time: dpkg's and apt's own notes, the journal and systemd's state.
const OTHERS: [&str; 8] = [
    "/var/lib/dpkg/",
    "/var/lib/apt/",
    "/var/cache/",
    "/var/log/apt/",
    "/var/log/dpkg.log",
    "/var/log/journal",
    "/etc/apt/",
    // Made by dpkg at midnight.
    "/var/backups/",
];

/// All files of the system before the installation.
static BEFORE: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

pub(crate) fn it_installs_and_starts() -> Result<()> {
    *BEFORE.lock().unwrap_or_else(PoisonError::into_inner) = files()?;
    ensure!(tracing_programs()?.is_empty(), "BPF programs trace before forkwatch is there");
    run("apt-get", &["install", "--yes", "--quiet", PACKAGE])?;
    run("dpkg", &["--verify", "forkwatch"])?;

    it_watches()?;
    let status = systemctl(&["status", "--no-pager", UNIT])?;
    for text in [
        "Loaded: loaded (/usr/lib/systemd/system/forkwatch.service; enabled",
        "Active: active (running)",
        "Docs: man:forkwatch(1)",
        "Status: \"watching every fork on this host\"",
    ] {
        // Debian 12 says /lib, which is the same.
        let found = status.contains(text) || status.contains(&text.replace("(/usr/lib", "(/lib"));
        ensure!(found, "systemctl status does not say {text:?}: {status}");
    }
    until_journal_has("ready, watching every fork on this host")?;
    let complaints = journal(&["--priority=warning"])?;
    ensure!(complaints.is_empty(), "it complains: {complaints}");
    it_is_confined()
}

/// Installs it unless it is there.
pub(crate) fn is_there() -> Result<()> {
    if Path::new("/usr/bin/forkwatch").exists() { Ok(()) } else { it_installs_and_starts() }
}

/// An installation starts the service; `Type=notify` ends the job once it is ready.
pub(crate) fn it_watches() -> Result<()> {
    let state = ["ActiveState", "SubState", "UnitFileState", "StatusText", "NRestarts"].map(property);
    let state = state.into_iter().collect::<Result<Vec<_>>>()?;
    let wanted = ["active", "running", "enabled", "watching every fork on this host", "0"];
    ensure!(state == wanted, "the state is {state:?}");
    Ok(())
}

/// The process is not root's, and has nothing left but what it needs.
fn it_is_confined() -> Result<()> {
    let status = fs::read_to_string(format!("/proc/{}/status", main_pid()?))?;
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.map(str::trim).with_context(|| format!("no {name} in {status}"))
    };
    ensure!(!field("Uid")?.split_whitespace().any(|uid| uid == "0"), "it runs as root");
    for set in ["CapEff", "CapPrm"] {
        ensure!(u64::from_str_radix(field(set)?, 16)? == 0, "{set} is {}", field(set)?);
    }
    ensure!(field("NoNewPrivs")? == "1" && field("Seccomp")? == "2", "it is not confined: {status}");
    Ok(())
}

pub(crate) fn a_purge_leaves_nothing() -> Result<()> {
    let pid = main_pid()?;
    let installed = run("dpkg-query", &["--listfiles", "forkwatch"])?;
    ensure!(installed.lines().any(|file| file == "/usr/bin/forkwatch"), "installed are {installed}");
    run("dpkg", &["--purge", "forkwatch"])?;
    ensure!(!Path::new(&format!("/proc/{pid}")).exists(), "the daemon still runs");
    ensure!(property("LoadState")? == "not-found", "systemd still knows the unit");
    // The kernel frees them in its own time.
    until("all BPF programs to be gone", || Ok(tracing_programs()?.is_empty().then_some(())))?;
    let after = files()?;
    let before = BEFORE.lock().unwrap_or_else(PoisonError::into_inner);
    let left: Vec<_> = after.difference(&before).collect();
    ensure!(left.is_empty(), "left behind: {left:?}");
    let lost: Vec<_> = before.difference(&after).collect();
    ensure!(lost.is_empty(), "taken along: {lost:?}");
    Ok(())
}

/// Every file, directory and link of the system, and of what runs on it.
fn files() -> Result<BTreeSet<String>> {
    let found = run("find", &["/etc", "/opt", "/root", "/srv", "/usr", "/var", "/run/systemd/system"])?;
    let is_ours = |path: &&str| !OTHERS.iter().any(|other| path.starts_with(other));
    Ok(found.lines().filter(is_ours).map(str::to_owned).collect())
}
