//! What is expected of forkwatch, as data.

use anyhow::{Result, bail};

use crate::event::{Event, Finding};

/// A finding that has to come.
#[derive(Clone, Copy, Debug)]
pub struct Expected {
    /// What is wrong.
    pub hazard: &'static str,
    /// How much it matters.
    pub severity: &'static str,
    /// The name that the program goes by; absent where nothing depends on it.
    pub program: Option<&'static str>,
    /// Threads that it names, among others.
    pub threads: &'static [&'static str],
    /// Signals that it names, and no others.
    pub signals: &'static [&'static str],
}

/// Nothing to report: the fork is safe.
pub const SILENCE: &[Expected] = &[];

/// A warning that a program of this name forks beside these threads, among others.
pub const fn multithreaded(program: &'static str, threads: &'static [&'static str]) -> Expected {
    Expected {
        hazard: "multithreaded-fork",
        severity: "warning",
        program: Some(program),
        threads,
        signals: &[],
    }
}

impl Expected {
    /// Whether this finding is the expected one.
    pub fn is_met_by(&self, finding: Finding<'_>) -> bool {
        let names = finding.thread_names();
        let mut signals = finding.signals();
        signals.sort_unstable();
        // Where a thread held something, `held-locks` takes the place of the finding about the threads.
        let is_more = self.hazard == "multithreaded-fork" && finding.hazard() == "held-locks";
        (finding.hazard() == self.hazard || is_more)
            && finding.severity() == self.severity
            && self.program.is_none_or(|program| program == finding.program())
            && self.threads.iter().all(|thread| names.contains(thread))
            && (signals == self.signals || self.hazard == "multithreaded-fork")
    }
}

/// Checks findings against what is expected: each expected one is there, and no other. Resolutions do not count.
pub fn check(expected: &[Expected], events: &[Event]) -> Result<()> {
    let findings =
        || events.iter().filter_map(Event::finding).filter(|finding| finding.state() != "resolved");
    if let Some(absent) =
        expected.iter().find(|expected| !findings().any(|finding| expected.is_met_by(finding)))
    {
        bail!("expected {absent:?}, found {:#?}", findings().collect::<Vec<_>>());
    }
    if let Some(wrong) =
        findings().find(|finding| !expected.iter().any(|expected| expected.is_met_by(*finding)))
    {
        bail!("did not expect {wrong:#?}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn finding(hazard: &str, severity: &str, threads: &[&str], state: &str) -> Event {
        let threads: Vec<_> = threads.iter().map(|comm| json!({"id": 7, "name": comm})).collect();
        Event(json!({"event": {"action": "finding"}, "forkwatch": {"finding": {
            "hazard": hazard, "severity": severity, "state": state, "program": "gunicorn",
            "evidence": {"threads": threads},
        }}}))
    }

    #[test]
    fn a_missing_a_wrong_and_an_unexpected_finding_are_told() {
        let expected = [multithreaded("gunicorn", &["metrics"])];
        let right = finding("multithreaded-fork", "warning", &["other", "metrics"], "suspected");
        assert!(check(&expected, std::slice::from_ref(&right)).is_ok());
        assert!(check(&expected, &[]).is_err());
        assert!(check(SILENCE, std::slice::from_ref(&right)).is_err());
        for wrong in [
            finding("multithreaded-fork", "info", &["metrics"], "suspected"),
            finding("multithreaded-fork", "warning", &["other"], "suspected"),
            finding("pending-signals", "warning", &["metrics"], "confirmed"),
        ] {
            assert!(check(&expected, std::slice::from_ref(&wrong)).is_err());
            assert!(check(&expected, &[right.clone(), wrong]).is_err());
        }
    }

    #[test]
    fn a_resolution_is_no_finding_of_its_own() {
        assert!(check(SILENCE, &[finding("multithreaded-fork", "warning", &[], "resolved")]).is_ok());
    }
}
