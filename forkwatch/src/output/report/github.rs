//! Workflow commands of GitHub Actions: annotations of a run.
//!
//! <https://docs.github.com/en/actions/reference/workflows-and-actions/workflow-commands>

use super::{Report, place, relative, text};
use crate::model::finding::Severity;

/// A line for each finding; what does not make the run fail is no error.
pub fn github(report: &Report<'_>) -> String {
    let mut lines = String::new();
    for found in report.seen.found.iter().filter(|found| !found.is_withdrawn()) {
        let finding = &found.finding;
        let command = match finding.severity {
            _ if (report.fails)(found) => "error",
            Severity::Info => "notice",
            Severity::Warning | Severity::Critical => "warning",
        };
        let mut properties = format!("title={}", property(&format!("forkwatch: {}", finding.hazard.name())));
        if let Some((path, line)) = place(finding) {
            properties = format!("file={},line={line},{properties}", property(relative(path)));
        }
        lines.extend(["::", command, " ", &properties, "::", &message(&text(found)), "\n"]);
    }
    lines
}

/// A command ends with its line.
fn message(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

/// A property ends with a comma or colons as well.
fn property(text: &str) -> String {
    message(text).replace(':', "%3A").replace(',', "%2C")
}
