//! Examples that look into a process or send it a signal, for which their drop-ins give the right.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use forkwatch_tests::{event::Event, hooks_page::Example, host::skip, process::Identity, wait::until_within};

use super::{Installed, SOON, about, count, hook, shown, until_run};
use crate::{
    events::{Events, found},
    shop::Shop,
    systemd::until,
};

/// The service's folder for what it keeps.
const KEPT: &str = "/var/lib/forkwatch-hooks";
/// Debuggers are slow on a machine that is emulated. The example may take this long twice.
const PATIENCE: Duration = Duration::from_secs(360);
/// Tools of the bundle that a machine may lack.
const TOOLS: [&str; 2] = ["gdb", "py-spy"];

pub(super) fn what_debuggers_see_is_kept() -> Result<()> {
    let events = Events::begin(SOON)?;
    let installed = Installed::of(&[&shown("Keep what a debugger sees")?])?;
    let shop = Shop::hanging()?;
    let finding = shop.finding("orphaned-lock", "confirmed")?;
    bundled(&finding)?;
    drop((shop, installed));
    events.end()?;
    skip_what_is_missing()
}

/// Waits until there is a bundle of this finding, and looks into it.
fn bundled(finding: &Event) -> Result<()> {
    until_within(PATIENCE, "the bundle", || {
        let hook = hook("bundle")?;
        ensure!(count(&hook, "failed")? + count(&hook, "timed_out")? == 0, "it failed: {hook:#}");
        Ok((count(&hook, "good")? > 0).then_some(()))
    })?;
    let pids = [finding.pid(), finding.parent_pid()].map(|pid| pid.context("no pid"));
    let [Ok(pid), Ok(parent)] = pids else { anyhow::bail!("no pids in {}", finding.0) };
    let folder = folder_of(pid)?;
    let read = |name: &str| {
        let path = folder.join(name);
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
    };
    about(&read("event.json")?, finding)?;
    // What the unit's drop-in is for: both are another user's. The arbiter's thread waits, and so does the worker.
    for (tool, pid, wanted) in [
        ("gdb", pid, "pthread_mutex_lock"),
        ("gdb", parent, "Thread 2 "),
        ("py-spy", pid, "post_fork ("),
        ("py-spy", parent, "hold ("),
    ] {
        let said = read(&format!("{tool}-{pid}.txt"))?;
        ensure!(is_missing(tool) || said.contains(wanted), "{tool} does not show {wanted:?}: {said}");
    }
    let inspected = read("inspect.txt")?;
    for wanted in ["gunicorn", &pid.to_string(), "orphaned-lock"] {
        ensure!(inspected.contains(wanted), "inspect does not show {wanted:?}: {inspected}");
    }
    Ok(())
}

/// The folder of this process. There is one for each time that something was said of it.
fn folder_of(pid: i64) -> Result<PathBuf> {
    let entries = fs::read_dir(KEPT).with_context(|| format!("cannot read {KEPT}"))?;
    let mut folders = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let is_it = |folder: &PathBuf| {
        folder.file_name().is_some_and(|name| name.to_string_lossy().contains(&format!("-{pid}-")))
    };
    folders.find(is_it).with_context(|| format!("nothing of {pid} in {KEPT}"))
}

fn is_missing(tool: &str) -> bool {
    !["/usr/bin", "/usr/local/bin"].iter().any(|folder| Path::new(folder).join(tool).exists())
}

/// Everything else has been found as the page says.
fn skip_what_is_missing() -> Result<()> {
    let missing: Vec<&str> = TOOLS.into_iter().filter(|tool| is_missing(tool)).collect();
    if missing.is_empty() {
        Ok(())
    } else {
        skip(format!("all but this was right: there is no {}", missing.join(", no ")))
    }
}

pub(super) fn a_worker_is_drained() -> Result<()> {
    let events = Events::begin("")?;
    let installed = Installed::of(&[&shown("Drain a worker")?])?;
    let shop = Shop::sharing()?;
    let finding = shop.finding("shared-connection", "confirmed")?;
    ensure!(found(&finding)?.certainty() == "strong", "it is {}", finding.0);
    let pid = finding.pid().context("no pid")?;
    until_run("drain")?;
    // It ends by itself, and gunicorn starts another.
    until("a new worker", || {
        let said = shop.journal()?;
        let booted = said.matches("Booting worker with pid").count();
        Ok((said.contains(&format!("Worker exiting (pid: {pid})")) && booted > 2).then_some(()))
    })
    .with_context(|| format!("it said {:?}", shop.journal()))?;
    ensure!(Identity::of(i32::try_from(pid)?).is_none(), "the worker lives on");
    ensure!(shop.answer()? == "served", "the new worker does not serve");
    drop((shop, installed));
    events.end()
}

pub(super) fn what_hangs_is_killed() -> Result<()> {
    let (bundle, kill) = (shown("Keep what a debugger sees")?, shown("Kill what is proven to hang")?);
    let events = Events::begin(SOON)?;
    // The page says that the order of these in the file does not matter.
    let installed = Installed::of(&[&kill, &bundle])?;
    let shop = Shop::hanging()?;
    let finding = shop.finding("orphaned-lock", "confirmed")?;
    let pid = i32::try_from(finding.pid().context("no pid")?)?;
    until_within(PATIENCE, "the worker to be killed", || {
        let hook = hook("kill")?;
        ensure!(count(&hook, "failed")? == 0, "it failed: {hook:#}");
        Ok((count(&hook, "good")? > 0).then_some(()))
    })?;
    // Looked at before it was killed.
    bundled(&finding)?;
    let resolved = shop.finding("orphaned-lock", "resolved")?;
    let how = found(&resolved)?.resolution().to_owned();
    ensure!(how.starts_with("killed") && resolved.pid() == finding.pid(), "it ended so: {}", resolved.0);
    ensure!(Identity::of(pid).is_none(), "the worker lives on");
    ensure!(shop.answer()? == "served", "the new worker does not serve");
    drop((shop, installed));
    events.end()
}

pub(super) fn without_its_drop_in_it_fails() -> Result<()> {
    let kill = shown("Kill what is proven to hang")?;
    let events = Events::begin(SOON)?;
    let installed = Installed::of(&[&Example { drop_in: String::new(), ..kill }])?;
    let shop = Shop::hanging()?;
    let failed = until("the hook to fail", || {
        let hook = hook("kill")?;
        ensure!(count(&hook, "good")? == 0, "it needs no right: {hook:#}");
        Ok((count(&hook, "failed")? > 0).then_some(hook))
    })?;
    let output = failed.pointer("/last/output").and_then(serde_json::Value::as_str);
    ensure!(output.is_some_and(|output| output.contains("not permitted")), "it failed otherwise: {failed:#}");
    drop((shop, installed));
    events.end()
}
