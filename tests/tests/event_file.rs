//! The daemon's event file: rotated by size, whole lines whatever happens, and no reason to stop the watch.

use std::{
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use forkwatch_tests::{
    daemon::Daemon,
    event::Event,
    fixture,
    host::{needs_root, skip},
    runner::Tests,
    schema, tests,
    wait::until,
};
use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    sys::signal::Signal,
};

/// A configuration under which findings come soon.
const SOON: &str = "[judge]\ngrace = \"200ms\"\n";

pub(crate) fn tests() -> Tests {
    Tests::alone(tests![
        it_is_rotated_by_size_into_whole_lines,
        a_full_disk_loses_events_and_nothing_else,
        after_a_rename_sighup_begins_it_anew,
    ])
}

/// The events of a file, each checked against the schema; the last line, too, has to be whole.
fn events(file: &Path) -> Result<Vec<Event>> {
    let text = fs::read_to_string(file).with_context(|| format!("no {}", file.display()))?;
    ensure!(text.is_empty() || text.ends_with('\n'), "{} ends in the middle of a line", file.display());
    text.lines().map(|line| schema::event(line).map(Event)).collect()
}

/// Checks that these follow on each other, but for so many that are missing.
fn numbered_in_order(events: &[Event], missing: f64) -> Result<()> {
    let numbers: Vec<u64> = events.iter().filter_map(Event::sequence).collect();
    ensure!(numbers.len() == events.len() && numbers.is_sorted(), "numbers in disorder: {numbers:?}");
    let (first, last) = numbers.first().zip(numbers.last()).context("no events")?;
    let gaps = u32::try_from(last - first + 1 - numbers.len() as u64)?;
    ensure!((f64::from(gaps) - missing).abs() < 0.5, "{gaps} numbers are missing, not {missing}");
    Ok(())
}

/// Forks `processes` times `forks` children, each of which is two events.
fn storm(processes: u32, forks: u32) -> Result<()> {
    let mut storm = fixture::hold("fork_storm", &[&processes.to_string(), &forks.to_string()])?;
    storm.release()?;
    storm.next_json()?;
    storm.end(None).map(drop)
}

/// Makes an unsafe fork and waits until this file has the finding.
fn finding_in(file: &Path, alias: &str) -> Result<()> {
    let mut program = fixture::hold_as("mt_fork", alias, &[])?;
    program.release()?;
    let told = program.next_json()?;
    let child = told.get("child").and_then(serde_json::Value::as_i64).context("no child")?;
    let needle = format!("\"program\":\"{alias}\"");
    until("the finding in the file", || {
        Ok(fs::read_to_string(file).unwrap_or_default().contains(&needle).then_some(()))
    })?;
    let found = |event: &Event| event.finding().is_some() && event.pid() == Some(child);
    // It may be read while a line is being written.
    let all = until("whole lines", || Ok(events(file).ok()))?;
    ensure!(all.iter().any(found), "the finding is about another");
    program.end(None).map(drop)
}

fn numbered(file: &Path, number: u32) -> PathBuf {
    PathBuf::from(format!("{}.{number}", file.display()))
}

fn it_is_rotated_by_size_into_whole_lines() -> Result<()> {
    const LEAST: u64 = 1 << 20;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("events.json");
    let configuration =
        format!("{SOON}[events]\noutput = \"{}\"\nmax_bytes = {LEAST}\nkeep = 2\n", file.display());
    let daemon = Daemon::start(&configuration, &[])?;
    storm(2, 1500)?;
    until("two rotated files", || Ok(numbered(&file, 2).exists().then_some(())))?;
    finding_in(&file, "fw-rotated")?;
    daemon.stop()?;

    let mut all = Vec::new();
    for file in [numbered(&file, 2), numbered(&file, 1), file.clone()] {
        let size = fs::metadata(&file)?.len();
        ensure!(size <= LEAST, "{} has {size} bytes", file.display());
        all.extend(events(&file)?);
    }
    numbered_in_order(&all, 0.0)?;
    let listed = fs::read_dir(folder.path())?.count();
    ensure!(listed == 3, "{listed} files instead of 3");
    Ok(())
}

/// A file system of so many bytes, for as long as this lives.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount(bytes: usize) -> Result<Self> {
        needs_root()?;
        let folder = tempfile::tempdir()?;
        let options = format!("size={bytes}");
        let (name, options) = (Some("tmpfs"), Some(options.as_str()));
        match mount(name, folder.path(), name, MsFlags::empty(), options) {
            Ok(()) => Ok(Self(folder)),
            Err(error) => skip(format!("needs to mount a tmpfs: {error}")),
        }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // It can fail only where the mount did.
        let _ = umount2(self.0.path(), MntFlags::MNT_DETACH);
    }
}

fn a_full_disk_loses_events_and_nothing_else() -> Result<()> {
    let disk = SmallDisk::mount(1 << 20)?;
    let (file, ballast) = (disk.0.path().join("events.json"), disk.0.path().join("ballast"));
    File::create(&ballast)?.write_all(&vec![0; 1 << 19])?;
    let daemon = Daemon::start(SOON, &["--events", file.to_str().context("not UTF-8")?])?;
    storm(2, 500)?;
    let lost = || daemon.metric("forkwatch_event_file_dropped_total", "");
    until("lost events", || Ok((lost()? > 0.5).then_some(())))?;
    ensure!(daemon.forkwatch.stderr().contains("cannot write to the event file"), "the log does not say so");
    fs::remove_file(ballast)?;
    finding_in(&file, "fw-full-disk")?;

    let counted = lost()?;
    daemon.stop()?;
    // Nothing is lost after there is room, so all that was lost lies between.
    numbered_in_order(&events(&file)?, counted)
}

fn after_a_rename_sighup_begins_it_anew() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (file, away) = (folder.path().join("events.json"), folder.path().join("events.json.yesterday"));
    let configuration = format!("{SOON}[events]\noutput = \"{}\"\nmax_bytes = 0\n", file.display());
    let daemon = Daemon::start(&configuration, &[])?;
    finding_in(&file, "fw-before")?;
    fs::rename(&file, &away)?;
    finding_in(&away, "fw-between")?;
    daemon.forkwatch.signal(Signal::SIGHUP)?;
    until("the file anew", || Ok(file.exists().then_some(())))?;
    let old = events(&away)?;
    finding_in(&file, "fw-after")?;
    ensure!(events(&away)?.len() == old.len(), "the old file grows on");
    daemon.stop()?;
    let all = [events(&away)?, events(&file)?].concat();
    numbered_in_order(&all, 0.0)
}
