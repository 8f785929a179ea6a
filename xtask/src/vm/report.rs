//! What a guest says.

use std::fmt;

/// The guest's report on its serial port.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Report {
    /// `NAME: passed ...`, `NAME: failed: WHY` or `NAME: skipped: WHY`
    tests: Vec<String>,
    /// What its init said last: the exit status of the tests. None if it died.
    verdict: Option<String>,
    /// Machines that died before this one.
    deaths: u32,
}

impl Report {
    pub(crate) fn parse(text: &str, deaths: u32) -> Self {
        // A terminal ends its lines with both.
        let lines = || text.lines().map(|line| line.trim_end_matches('\r'));
        Self {
            tests: lines().filter_map(|line| line.strip_prefix("test ")).map(str::to_owned).collect(),
            verdict: lines().find_map(|line| line.strip_prefix("verdict: ")).map(str::to_owned),
            deaths,
        }
    }

    /// Whether the machine ended without a verdict.
    pub(crate) const fn guest_died(&self) -> bool {
        self.verdict.is_none()
    }

    /// Whether it ran to its end, and nothing failed. A guest that ran no test at all has not passed.
    pub(crate) fn is_success(&self) -> bool {
        self.verdict.as_deref() == Some("0") && self.count(": passed") > 0
    }

    fn count(&self, outcome: &str) -> usize {
        self.tests.iter().filter(|test| test.contains(outcome)).count()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for test in &self.tests {
            writeln!(f, "  {test}")?;
        }
        let [passed, failed, skipped] =
            [": passed", ": failed", ": skipped"].map(|outcome| self.count(outcome));
        write!(f, "  {passed} passed, {failed} failed, {skipped} skipped")?;
        match self.verdict.as_deref() {
            None => write!(f, "; the guest died")?,
            Some("0" | "1") => {}
            Some(other) => write!(f, "; the tests did not run to their end: {other}")?,
        }
        if self.deaths > 0 {
            write!(f, "; guests that died before: {}", self.deaths)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_verdict_and_a_passed_test_make_a_success() {
        let passed = "test a: passed (1.0 s)\r\nnoise\r\ntest b: skipped: no doctor\r\nverdict: 0\r\n";
        let report = Report::parse(passed, 0);
        assert!(report.is_success() && !report.guest_died());
        assert!(report.to_string().ends_with("1 passed, 0 failed, 1 skipped"), "{report}");
        assert!(!Report::parse("verdict: 0\n", 0).is_success());
        assert!(!Report::parse("test a: passed (1.0 s)\ntest b: failed: x\nverdict: 1\n", 0).is_success());
        assert!(!Report::parse("test a: passed (1.0 s)\nverdict: broken: signal: 9\n", 0).is_success());
    }

    #[test]
    fn a_guest_without_a_verdict_died() {
        let report = Report::parse("test a: passed (1.0 s)\n", 1);
        assert!(report.guest_died() && !report.is_success());
        assert!(report.to_string().contains("the guest died; guests that died before: 1"), "{report}");
    }
}
