//! What a guest says.

use std::time::Duration;

/// The guest's report on its serial port.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Report {
    pub(crate) tests: Vec<Test>,
    /// What `forkwatch doctor` has, and in which state.
    pub(crate) capabilities: Vec<(String, String)>,
    /// What its init said last: the exit status of the tests. None if it died.
    verdict: Option<String>,
    /// Machines that died before this one.
    pub(crate) deaths: u32,
    /// How long it took to boot. None if it did not.
    pub(crate) boot: Option<Duration>,
}

/// What came of a test.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Test {
    pub(crate) name: String,
    pub(crate) outcome: Outcome,
    /// How long it took, or why it failed or was skipped.
    pub(crate) remark: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Passed,
    Failed,
    Skipped,
}

impl Report {
    pub(crate) fn parse(text: &str, deaths: u32, boot: Option<Duration>) -> Self {
        // A terminal ends its lines with both.
        let lines = || text.lines().map(|line| line.trim_end_matches('\r'));
        let capability = |line: &str| {
            let (name, state) = line.strip_prefix("capability ")?.split_once(": ")?;
            Some((name.to_owned(), state.to_owned()))
        };
        Self {
            tests: lines().filter_map(Test::parse).collect(),
            capabilities: lines().filter_map(capability).collect(),
            verdict: lines().find_map(|line| line.strip_prefix("verdict: ")).map(str::to_owned),
            deaths,
            boot,
        }
    }

    /// Whether the machine ended without a verdict.
    pub(crate) const fn guest_died(&self) -> bool {
        self.verdict.is_none()
    }

    /// Whether it ran to its end, and nothing failed. A guest that ran no test at all has not passed.
    pub(crate) fn is_success(&self) -> bool {
        self.verdict.as_deref() == Some("0")
            && self.count(Outcome::Failed) == 0
            && self.count(Outcome::Passed) > 0
    }

    /// How many tests ended so.
    pub(crate) fn count(&self, outcome: Outcome) -> usize {
        self.tests.iter().filter(|test| test.outcome == outcome).count()
    }

    /// What is wrong beside failed tests.
    pub(crate) fn complaint(&self) -> Option<String> {
        match self.verdict.as_deref() {
            None => Some("the guest died".to_owned()),
            Some("0") if self.tests.is_empty() => Some("the guest ran no test".to_owned()),
            Some("0") => None,
            Some("1") if self.count(Outcome::Failed) > 0 => None,
            Some(other) => Some(format!("the tests did not run to their end: {other}")),
        }
    }
}

impl Test {
    /// `test NAME: passed (0.1 s)`, `test NAME: failed: WHY` or `test NAME: skipped: WHY`, where the name may have a colon
    fn parse(line: &str) -> Option<Self> {
        let line = line.strip_prefix("test ")?;
        let outcomes =
            [(": passed", Outcome::Passed), (": failed", Outcome::Failed), (": skipped", Outcome::Skipped)];
        let said = outcomes.into_iter().filter_map(|(words, outcome)| {
            let (name, remark) = line.split_once(words)?;
            let remark = remark.trim_start_matches(':').trim().to_owned();
            Some(Self { name: name.to_owned(), outcome, remark })
        });
        // What failed may have said such words itself.
        said.min_by_key(|test| test.name.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Report {
        Report::parse(text, 0, None)
    }

    #[test]
    fn a_report_is_read_line_by_line() {
        let report = parse(
            "capability fork: on\r\ntest a: passed (1.0 s)\r\nnoise\r\ntest b: skipped: no: doctor\r\n\
             test c: failed: x: y\r\ntest d: e: failed: f: passed\r\nverdict: 1\r\n",
        );
        let tests: Vec<_> = report
            .tests
            .iter()
            .map(|test| (test.name.as_str(), test.outcome, test.remark.as_str()))
            .collect();
        assert_eq!(
            tests,
            [
                ("a", Outcome::Passed, "(1.0 s)"),
                ("b", Outcome::Skipped, "no: doctor"),
                ("c", Outcome::Failed, "x: y"),
                ("d: e", Outcome::Failed, "f: passed"),
            ]
        );
        assert_eq!(report.capabilities, [("fork".to_owned(), "on".to_owned())]);
        assert!(!report.is_success() && !report.guest_died() && report.complaint().is_none());
    }

    #[test]
    fn only_a_verdict_and_a_passed_test_make_a_success() {
        assert!(parse("test a: passed (1.0 s)\ntest b: skipped: no doctor\nverdict: 0\n").is_success());
        let empty = parse("verdict: 0\n");
        assert!(!empty.is_success() && empty.complaint().is_some());
        assert!(!parse("test a: passed (1.0 s)\ntest b: failed: x\nverdict: 0\n").is_success());
        let broken = parse("test a: passed (1.0 s)\nverdict: broken: signal: 9\n");
        assert!(!broken.is_success() && broken.complaint().unwrap().contains("signal: 9"));
    }

    #[test]
    fn a_guest_without_a_verdict_died() {
        let report = parse("test a: passed (1.0 s)\n");
        assert!(report.guest_died() && !report.is_success());
        assert_eq!(report.complaint().as_deref(), Some("the guest died"));
    }
}
