//! What the daemon writes while the events go to a file.

use std::{fs, io::ErrorKind};

use anyhow::{Context as _, Result};
use forkwatch_tests::event::{Event, Finding};

use crate::{
    configuration::Changed,
    systemd::{UNIT, systemctl, until},
};

/// In the directory that the unit gives it for logs.
const FILE: &str = "/var/log/forkwatch/events.json";

/// While it lives, events are written.
pub(crate) struct Events {
    configuration: Changed,
}

impl Events {
    /// Starts the daemon anew with these settings too.
    pub(crate) fn begin(settings: &str) -> Result<Self> {
        let configuration = Changed::configuration(&format!("{settings}[events]\noutput = \"{FILE}\"\n"))?;
        systemctl(&["restart", UNIT])?;
        Ok(Self { configuration })
    }

    /// Starts the daemon anew with the settings from before.
    pub(crate) fn end(self) -> Result<()> {
        drop(self.configuration);
        systemctl(&["restart", UNIT]).map(drop)
    }
}

/// Waits for a finding about a unit.
pub(crate) fn finding(hazard: &str, unit: &str) -> Result<Event> {
    finding_that(&format!("{hazard} of {unit}"), |event, found| {
        event.text("/service/name") == unit && found.hazard() == hazard
    })
}

/// Waits for a finding of which this is true.
pub(crate) fn finding_that(what: &str, fits: impl Fn(&Event, Finding<'_>) -> bool) -> Result<Event> {
    until(&format!("{what} among the events"), || {
        let text = match fs::read_to_string(FILE) {
            Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
            other => other.with_context(|| format!("cannot read {FILE}"))?,
        };
        // The last line may not be whole yet.
        let mut events = text.lines().filter_map(|line| serde_json::from_str(line).ok()).map(Event);
        Ok(events.find(|event| event.finding().is_some_and(|found| fits(event, found))))
    })
}

/// The finding in an event that is one.
pub(crate) fn found(event: &Event) -> Result<Finding<'_>> {
    event.finding().with_context(|| format!("no finding: {}", event.0))
}
