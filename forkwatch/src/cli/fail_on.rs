//! `--fail-on`: which findings make a command end with 10.

use clap::ValueEnum;

use super::exit::Exit;
use crate::{
    model::finding::{Severity, State},
    output::report::{Found, Seen},
};

/// From which finding on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum FailOn {
    /// No finding
    Never,
    /// Findings of severity critical
    Critical,
    /// Faults that were seen: confirmed findings, but for those that are only worth knowing
    Confirmed,
    /// Risks too: suspected findings, but for those that are only worth knowing
    Suspected,
    /// Findings of severity warning or critical, the same as suspected
    Warning,
    /// Every finding
    Info,
}

impl FailOn {
    /// Whether this finding is one of those. A finding that was withdrawn is none.
    pub(super) fn counts(self, found: &Found) -> bool {
        let finding = &found.finding;
        let seen = finding.state != State::Suspected;
        !found.is_withdrawn()
            && match self {
                Self::Never => false,
                Self::Critical => finding.severity == Severity::Critical,
                Self::Confirmed => seen && finding.severity >= Severity::Warning,
                Self::Suspected | Self::Warning => finding.severity >= Severity::Warning,
                Self::Info => true,
            }
    }

    /// How a command ends that has seen this.
    pub(super) fn exit(self, seen: &Seen) -> Exit {
        if seen.found.iter().any(|found| self.counts(found)) { Exit::Found } else { Exit::Fine }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{model::resolution::Resolution, output::samples};

    #[test]
    fn each_level_takes_in_what_is_worse() {
        let found = |state, severity| {
            let mut finding = samples::finding();
            (finding.state, finding.severity) = (state, severity);
            Found { finding, repeats: 0, end: None }
        };
        let cases = [
            (found(State::Suspected, Severity::Info), vec![FailOn::Info]),
            (found(State::Confirmed, Severity::Info), vec![FailOn::Info]),
            (
                found(State::Suspected, Severity::Warning),
                vec![FailOn::Suspected, FailOn::Warning, FailOn::Info],
            ),
            (
                found(State::Confirmed, Severity::Warning),
                vec![FailOn::Confirmed, FailOn::Suspected, FailOn::Warning, FailOn::Info],
            ),
            (
                found(State::Confirmed, Severity::Critical),
                vec![FailOn::Critical, FailOn::Confirmed, FailOn::Suspected, FailOn::Warning, FailOn::Info],
            ),
        ];
        for (found, expected) in cases {
            let counting: Vec<FailOn> =
                FailOn::value_variants().iter().copied().filter(|level| level.counts(&found)).collect();
            assert_eq!(counting, expected, "{:?} {:?}", found.finding.state, found.finding.severity);
            let end = |how| {
                let mut end = found.finding.clone();
                end.state = State::Resolved(how);
                Found { end: Some(end), ..found.clone() }
            };
            assert!(FailOn::Info.counts(&end(Resolution::KilledByParent)), "an end takes nothing back");
            assert!(!FailOn::Info.counts(&end(Resolution::Woke)), "withdrawn");
        }
    }
}
