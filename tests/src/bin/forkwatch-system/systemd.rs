//! What systemd does, and what it says.

use std::{
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use forkwatch_tests::wait::until_within;

/// The unit under test.
pub(crate) const UNIT: &str = "forkwatch.service";
/// An emulated machine is ten times slower than a real one, and its host may be busy.
const PATIENCE: Duration = Duration::from_secs(120);

/// Waits for an answer.
pub(crate) fn until<T>(what: &str, look: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    until_within(PATIENCE, what, look)
}

/// Runs a program, which must succeed; gives what it wrote.
pub(crate) fn run(program: &str, arguments: &[&str]) -> Result<String> {
    let output = Command::new(program)
        .args(arguments)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot run {program}"))?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        let error = String::from_utf8_lossy(&output.stderr);
        bail!("{program} {}: {}: {said}{error}", arguments.join(" "), output.status);
    }
    Ok(said)
}

/// Runs systemctl.
pub(crate) fn systemctl(arguments: &[&str]) -> Result<String> {
    run("systemctl", arguments)
}

/// A property of a unit.
pub(crate) fn property_of(unit: &str, name: &str) -> Result<String> {
    Ok(systemctl(&["show", "--value", "--property", name, unit])?.trim().to_owned())
}

/// A property of the unit under test.
pub(crate) fn property(name: &str) -> Result<String> {
    property_of(UNIT, name)
}

/// The daemon's pid.
pub(crate) fn main_pid() -> Result<u32> {
    let pid = property("MainPID")?.parse()?;
    if pid == 0 {
        bail!("{UNIT} does not run");
    }
    Ok(pid)
}

/// What the unit's present or last run wrote, and what systemd said of it.
pub(crate) fn journal(options: &[&str]) -> Result<String> {
    let run_id = property("InvocationID")?;
    let [own, managers] =
        ["_SYSTEMD_INVOCATION_ID", "INVOCATION_ID"].map(|field| format!("{field}={run_id}"));
    let select = ["--no-pager", "--output=cat", &own, "+", &managers];
    run("journalctl", &[options, &select].concat())
}

/// Waits until the present run has written this.
pub(crate) fn until_journal_has(text: &str) -> Result<String> {
    until(&format!("{text:?} in the journal"), || {
        let journal = journal(&[])?;
        Ok(journal.contains(text).then_some(journal))
    })
}
