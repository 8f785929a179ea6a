//! What is said of a finding after it was reported.

use super::Output;
use crate::model::{
    finding::{Finding, State},
    resolution::Resolution,
    time::{BootTime, nanoseconds},
};

/// A finding that is over.
pub fn resolved(mut finding: Finding, how: Resolution, at: BootTime, summary: String) -> Output {
    let later = nanoseconds(at.since(finding.at));
    finding.facts.age = finding.facts.age.map(|age| age.saturating_add(later));
    finding.at = at;
    finding.state = State::Resolved(how);
    finding.summary = summary;
    Output::Finding(Box::new(finding))
}

/// A later state of a finding that was reported by itself.
pub fn later(finding: &Finding, state: State, now: BootTime, words: &str) -> Option<Output> {
    let Finding { program_name, parent, child, .. } = finding;
    let summary = format!("{} of {program_name} (pid {}) {words}", child.tgid, parent.tgid);
    let later = Finding { at: now, state, summary, ..finding.clone() };
    (finding.number > 0).then(|| Output::Finding(Box::new(later)))
}
