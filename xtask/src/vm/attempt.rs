//! Boots a machine until it lives to say a verdict, within reason.

use anyhow::{Context as _, Result};

use super::{
    machine::{Emulator, Setup},
    report::Report,
};

/// What is run if a guest dies without a verdict: attaching BPF programs rewrites the kernel's code, and emulators
/// have bugs just there. A second death is a failure.
const ATTEMPTS: u32 = 2;

/// Boots; gives what the guest said, and what its console showed.
pub(crate) fn boot(emulator: &Emulator, setup: &Setup<'_>, name: &str) -> Result<(Report, String)> {
    let mut deaths = 0;
    loop {
        let output = emulator.boot(setup).with_context(|| format!("cannot boot {name}"))?;
        let mut report = Report::parse(&output.report, deaths, output.boot);
        if !report.guest_died() {
            return Ok((report, output.console));
        }
        deaths += 1;
        report.deaths = deaths;
        if deaths == ATTEMPTS {
            return Ok((report, output.console));
        }
        println!("{name}: the guest died, once more\n{}", indented(&output.console));
    }
}

/// For what belongs to the line above.
pub(crate) fn indented(text: &str) -> String {
    text.lines().map(|line| ["    ", line].concat()).collect::<Vec<_>>().join("\n")
}
