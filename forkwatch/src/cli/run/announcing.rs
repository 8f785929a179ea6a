//! A line on stderr for each finding when it comes: a command that hangs for ever has its reason in the log already.

use std::io::{self, Write as _};

use crate::{
    model::{
        event::{Event, Lost},
        finding::{Finding, Severity},
        particulars::Particulars,
        process::escape,
    },
    output::Output,
};

/// Says what is found, once for each finding and each worse state of it.
#[derive(Default)]
pub(super) struct Announcing {
    /// Numbers and severities of findings that were said.
    said: Vec<(u64, Severity)>,
}

impl Output for Announcing {
    fn event(&mut self, _: &Event, _: &Particulars) -> io::Result<()> {
        Ok(())
    }

    fn lost(&mut self, _: &Lost) -> io::Result<()> {
        Ok(())
    }

    fn finding(&mut self, finding: &Finding) -> io::Result<()> {
        /// What is beyond is told by the report alone.
        const MOST: usize = 100;
        let is_said = self.said.iter().any(|(number, severity)| {
            *number == finding.number && (finding.repeats > 0 || *severity >= finding.severity)
        });
        if is_said || finding.severity == Severity::Info || self.said.len() >= MOST {
            return Ok(());
        }
        self.said.push((finding.number, finding.severity));
        let word = if finding.severity == Severity::Critical { "CRITICAL" } else { "WARNING" };
        let (hazard, number) = (finding.hazard.name(), finding.number);
        writeln!(io::stderr(), "forkwatch: {word} {hazard} #{number}: {}", escape(finding.summary.as_bytes()))
    }

    fn resolution(&mut self, _: &Finding) -> io::Result<()> {
        Ok(())
    }
}
