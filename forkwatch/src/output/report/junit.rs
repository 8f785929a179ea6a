//! `JUnit`'s XML, which CI services show as tests: a test for each hazard.

use anyhow::{Context as _, Result};
use quick_junit::{NonSuccessKind, Report as Document, TestCase, TestCaseStatus, TestSuite};

use super::{Found, Introduced, Report, text};

/// The report as `JUnit`'s XML: a hazard that made the run fail is a failed test, any other one a passed test, and what was
/// found below the level stands in its output.
pub fn junit(report: &Report<'_>) -> Result<String> {
    let mut suite = TestSuite::new("forkwatch");
    suite.set_time(report.took);
    suite.add_property(("command", report.command.join(" ").as_str()));
    if report.seen.lost > 0 {
        suite.add_property(("lost events", report.seen.lost.to_string().as_str()));
    }
    suite.add_test_cases(report.hazards.iter().map(|hazard| case(report, hazard)));
    let mut document = Document::new("forkwatch");
    document.set_time(report.took).add_test_suite(suite);
    document.to_string().context("cannot write JUnit's XML")
}

fn case(report: &Report<'_>, hazard: &Introduced) -> TestCase {
    let found = || report.seen.found.iter().filter(|found| found.finding.hazard.name() == hazard.id);
    let texts = |which: &mut dyn Iterator<Item = &Found>| which.map(text).collect::<Vec<_>>().join("\n\n");
    let failed: Vec<&Found> = found().filter(|found| (report.fails)(found)).collect();
    let mut status = TestCaseStatus::success();
    if let Some(first) = failed.first() {
        status = TestCaseStatus::non_success(NonSuccessKind::Failure);
        status
            .set_message(first.finding.summary.as_str())
            .set_type(hazard.id)
            .set_description(texts(&mut failed.iter().copied()));
    }
    let mut case = TestCase::new(hazard.id, status);
    case.set_classname("forkwatch");
    let beside = texts(&mut found().filter(|found| !(report.fails)(found)));
    if !beside.is_empty() {
        case.set_system_out(beside);
    }
    case
}
