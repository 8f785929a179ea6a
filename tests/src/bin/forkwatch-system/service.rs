//! The service as it runs: what it sees, takes on and keeps.

use std::{
    collections::BTreeMap,
    fs,
    net::{Ipv4Addr, SocketAddr},
    os::unix::fs::MetadataExt as _,
};

use anyhow::{Context as _, Result, ensure};
use forkwatch_tests::{bpf::tracing_programs, metrics::Scrape, process};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;

use crate::{
    configuration::Changed,
    systemd::{UNIT, journal, main_pid, property, run, systemctl, until, until_journal_has},
    unsafe_fork,
};

/// Where it listens unless told otherwise.
const ADDRESS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 10047);
/// Its state and its logs; with a dynamic user these are links.
const DIRECTORIES: [&str; 2] = ["/var/lib/forkwatch", "/var/log/forkwatch"];
/// More than happen by themselves while a daemon starts.
const FORKS: u32 = 100;

/// Asks the daemon for its metrics.
pub(crate) fn scrape() -> Result<Scrape> {
    Scrape::of(ADDRESS)
}

/// Which detectors are enabled, as the metrics say.
fn enabled(scrape: &Scrape) -> BTreeMap<String, bool> {
    let detector = |line: &str| {
        let (name, value) =
            line.strip_prefix("forkwatch_detector_enabled{detector=\"")?.split_once("\"} ")?;
        Some((name.to_owned(), value == "1"))
    };
    scrape.0.lines().filter_map(detector).collect()
}

/// Which detectors work for one who may do everything.
fn as_root() -> Result<BTreeMap<String, bool>> {
    let document: Value = serde_json::from_str(&run("/usr/bin/forkwatch", &["doctor", "--output", "json"])?)?;
    let detectors = document.pointer("/detectors").and_then(Value::as_array);
    let detector = |detector: &Value| {
        let text = |name: &str| detector.get(name)?.as_str();
        Some((text("name")?.to_owned(), matches!(text("state")?, "on" | "limited")))
    };
    Ok(detectors.context("doctor tells of no detectors")?.iter().filter_map(detector).collect())
}

pub(crate) fn hardening_takes_no_detector_away() -> Result<()> {
    let wanted = as_root()?;
    ensure!(wanted.len() > 10 && wanted.values().all(|works| *works), "not even as root: {wanted:?}");
    let found = enabled(&scrape()?);
    let unless_asked =
        |name: &str| if name == "clone-calls" { Some(false) } else { wanted.get(name).copied() };
    let names: Vec<_> = found.keys().collect();
    ensure!(names.iter().copied().eq(wanted.keys()), "as root {wanted:?}, here {found:?}");
    ensure!(found.iter().all(|(name, works)| Some(*works) == unless_asked(name)), "enabled are {found:?}");

    let _configuration = Changed::configuration("[kernel]\nclone_calls = true\n")?;
    systemctl(&["restart", UNIT])?;
    let found = enabled(&scrape()?);
    ensure!(found == wanted, "as root {wanted:?}, here with clone calls {found:?}");
    let complaints = journal(&["--priority=warning"])?;
    ensure!(complaints.is_empty(), "it complains: {complaints}");
    Ok(())
}

pub(crate) fn a_reload_takes_effect() -> Result<()> {
    const HAZARD: &str = "hazard=\"multithreaded-fork\"";
    systemctl(&["restart", UNIT])?;
    let pid = main_pid()?;
    let allowed = |scrape: &Scrape| scrape.sum("forkwatch_findings_suppressed_total", HAZARD);
    let found = |scrape: &Scrape| scrape.sum("forkwatch_findings_total", HAZARD);
    let rule = "[[suppress]]\nunit = \"accepted.service\"\nreason = \"a test\"\n";
    let configuration = Changed::configuration(&format!("[log]\nlevel = \"debug\"\n\n{rule}"))?;
    systemctl(&["reload", UNIT])?;
    until_journal_has("the configuration was reloaded")?;

    unsafe_fork::start("accepted")?;
    let accepted = until("the accepted fork", || Ok(Some(scrape()?).filter(|page| allowed(page) > 0.5)))?;
    ensure!(found(&accepted) < 0.5, "what was accepted is a finding: {}", accepted.0);
    // Of the level that was reloaded.
    until_journal_has("a finding is accepted")?;
    unsafe_fork::start("unaccepted")?;
    until("the other fork", || Ok((found(&scrape()?) > 0.5).then_some(())))?;
    ensure!(main_pid()? == pid, "the reload was a restart");

    systemctl(&["stop", "accepted.service", "unaccepted.service"])?;
    drop(configuration);
    systemctl(&["reload", UNIT]).and_then(|_| {
        until("the second reload", || {
            Ok((journal(&[])?.matches("the configuration was reloaded").count() == 2).then_some(()))
        })
    })
}

pub(crate) fn a_restart_keeps_files_and_counts_anew() -> Result<()> {
    (0..FORKS).try_for_each(|_| run("true", &[]).map(drop))?;
    let before = scrape()?;
    for directory in DIRECTORIES {
        fs::write(format!("{directory}/kept"), "kept").with_context(|| format!("nothing at {directory}"))?;
    }
    let (old, detectors) = (main_pid()?, enabled(&before));
    systemctl(&["restart", UNIT])?;
    let after = scrape()?;
    ensure!(main_pid()? != old, "it was not restarted");
    let (had, has) = (before.tasks(), after.tasks());
    ensure!(
        had >= f64::from(FORKS) && has < f64::from(FORKS),
        "{has} forks counted after the restart, and {had} before"
    );
    ensure!(enabled(&after) == detectors, "the detectors are others: {}", after.0);
    let uid = fs::metadata(format!("/proc/{}", main_pid()?))?.uid();
    for directory in DIRECTORIES {
        ensure!(fs::read_to_string(format!("{directory}/kept"))? == "kept");
        let owner = fs::metadata(format!("{directory}/"))?.uid();
        ensure!(owner == uid && owner != 0, "{directory} is {owner}'s, and the daemon {uid}'s");
    }
    let loaded = tracing_programs()?.len();
    ensure!(loaded >= 4, "{loaded} BPF programs while it watches");
    systemctl(&["stop", UNIT])?;
    // The kernel frees them in its own time.
    until("all BPF programs to be gone", || Ok(tracing_programs()?.is_empty().then_some(())))?;
    systemctl(&["start", UNIT]).map(drop)
}

pub(crate) fn exposure_is_at_most_2_1() -> Result<()> {
    run("systemd-analyze", &["security", "--no-pager", "--threshold=21", UNIT]).map(drop)
}

/// A reader that hangs is as one that is stopped: it does not end by itself.
pub(crate) fn a_stop_ends_all_its_processes() -> Result<()> {
    let watch = main_pid()?.cast_signed();
    let others = process::descendants(watch);
    let reader = others.iter().find(|one| process::thread_names(one.pid) == ["fw-reader"]);
    let reader = reader.with_context(|| format!("no reader among {} processes", others.len()))?;
    let status = fs::read_to_string(format!("/proc/{}/status", reader.pid))?;
    for line in ["CapEff:\t0000000000080004", "Seccomp:\t2", "NoNewPrivs:\t1"] {
        ensure!(status.contains(line), "not confined: {status}");
    }
    ensure!(property("KillMode")? == "mixed", "every process is told to end");
    kill(Pid::from_raw(reader.pid), Signal::SIGSTOP)?;
    systemctl(&["stop", UNIT])?;
    ensure!(property("ActiveState")? == "inactive" && property("Result")? == "success", "it failed");
    ensure!(!others.iter().any(|one| one.lives()), "something of it lives on");
    systemctl(&["start", UNIT])?;
    scrape().map(drop)
}
