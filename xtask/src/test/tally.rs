//! The sum of what the test harnesses report.

use std::collections::BTreeSet;
use std::fmt;

use crate::vm::Sum;

/// Tests by how they ended.
#[derive(Default)]
pub(crate) struct Tally {
    passed: usize,
    failed: usize,
    /// `NAME: REASON`
    skipped: BTreeSet<String>,
    /// Suites that ended badly without saying that a test failed: they did not compile, or a test killed them.
    broken: usize,
    failed_before: usize,
    /// What failed tests said, which lies far above the sum otherwise, where a shortened log has nothing of it.
    said: Vec<String>,
    /// Lines of this failure that may still be kept; none outside of a harness's list of failures.
    wanted: Option<usize>,
}

/// How much of what a failed test said is repeated beside the sum.
const LINES_OF_A_FAILURE: usize = 30;
/// Most characters of one such line: a guest says all on one.
const LENGTH_OF_A_LINE: usize = 400;

impl Tally {
    /// Takes note of one line of a harness's output.
    pub(crate) fn read(&mut self, line: &str) {
        self.repeat(line);
        let line = line.trim();
        if let Some(counts) = line.strip_prefix("test result: ") {
            self.passed += count(counts, "passed");
            self.failed += count(counts, "failed");
        } else if let Some((name, reason)) = ignored(line) {
            self.skipped.insert(format!("{name}: {reason}"));
        }
    }

    /// Keeps the beginning of what each failed test said. A harness says `failures:` before that, and again before
    /// their names alone.
    fn repeat(&mut self, line: &str) {
        if line.trim() == "failures:" {
            self.wanted = if self.wanted.is_some() { None } else { Some(0) };
            return;
        }
        let Some(wanted) = &mut self.wanted else { return };
        if line.starts_with("---- ") {
            *wanted = LINES_OF_A_FAILURE;
        }
        if *wanted > 0 && !line.trim().is_empty() {
            *wanted -= 1;
            self.said.push(shortened(line.trim_end()));
        }
    }

    /// Takes note of tests that no harness of this host ran.
    pub(crate) fn add(&mut self, sum: Sum) {
        let Sum { passed, failed, failures, skipped } = sum;
        self.passed += passed;
        self.failed += failed;
        self.skipped.extend(skipped);
        self.said.extend(failures.into_iter().map(|failure| shortened(&failure)));
        self.failed_before = self.failed;
    }

    /// Takes note of how a whole suite ended.
    pub(crate) fn suite_ended(&mut self, succeeded: bool) {
        if !succeeded && self.failed == self.failed_before {
            self.broken += 1;
        }
        self.wanted = None;
        self.failed_before = self.failed;
    }

    /// Moves tests that found they cannot run here, one a line, from the passed ones to the skipped.
    pub(crate) fn skip_at_run_time(&mut self, lines: &str) {
        for line in lines.lines().filter(|line| !line.trim().is_empty()) {
            if self.skipped.insert(line.to_owned()) {
                self.passed = self.passed.saturating_sub(1);
            }
        }
    }

    /// Whether nothing failed. That something ran at all is for the reader of the sum to judge.
    pub(crate) fn is_success(&self) -> bool {
        self.failed == 0 && self.broken == 0
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { passed, failed, skipped, broken, failed_before: _, said, wanted: _ } = self;
        if !skipped.is_empty() {
            writeln!(f, "\nskipped:")?;
            skipped.iter().try_for_each(|line| writeln!(f, "  {line}"))?;
        }
        if !said.is_empty() {
            writeln!(f, "\nfailed:")?;
            said.iter().try_for_each(|line| writeln!(f, "  {line}"))?;
        }
        if *broken > 0 {
            writeln!(f, "\n{broken} of the suites did not run to their end; see above")?;
        }
        // A suite that broke counts as one failure, so that nobody who reads only the sum is misled.
        writeln!(f, "\n{passed} passed, {} failed, {} skipped", failed + broken, skipped.len())
    }
}

/// A line that says where to look, and not all that there is to see.
fn shortened(line: &str) -> String {
    match line.char_indices().nth(LENGTH_OF_A_LINE) {
        Some((end, _)) => format!("{} …", &line[..end]),
        None => line.to_owned(),
    }
}

/// The number before a word, as in `3 passed`.
fn count(counts: &str, word: &str) -> usize {
    let before = counts.split(';').find_map(|part| part.trim().strip_suffix(word));
    before
        .and_then(|before| before.split_whitespace().last())
        .and_then(|number| number.parse().ok())
        .unwrap_or(0)
}

/// Name and reason of a test that is marked `#[ignore]`.
fn ignored(line: &str) -> Option<(&str, &str)> {
    let (name, outcome) = line.strip_prefix("test ")?.split_once(" ... ignored")?;
    // libtest's way, and that of the end-to-end tests, which know their reason only when they have begun.
    let reason = outcome
        .strip_prefix(", ")
        .or_else(|| outcome.trim().strip_prefix('(')?.strip_suffix(')'))
        .unwrap_or("a long one, which --full runs");
    Some((name.trim_end(), reason))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(output: &str) -> Tally {
        let mut tally = Tally::default();
        output.lines().for_each(|line| tally.read(line));
        tally
    }

    #[test]
    fn all_harnesses_are_summed() {
        let tally = tally(
            "test a::b ... ok\ntest long ... ignored, takes minutes\n\
             test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s\n\
             test result: FAILED. 3 passed; 2 failed; 0 ignored; 0 measured; 7 filtered out; finished in 0.01s\n",
        );
        assert!(!tally.is_success());
        assert_eq!(
            tally.to_string(),
            "\nskipped:\n  long: takes minutes\n\n15 passed, 2 failed, 1 skipped\n"
        );
    }

    #[test]
    fn what_failed_tests_said_is_repeated_before_the_sum() {
        let tally = tally(
            "test a ... FAILED\n\nfailures:\n\n---- a ----\nno metric\n\nfailures:\n    a\n\n\
             test result: FAILED. 0 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out\n",
        );
        assert_eq!(
            tally.to_string(),
            "\nfailed:\n  ---- a ----\n  no metric\n\n0 passed, 1 failed, 0 skipped\n"
        );
    }

    #[test]
    fn a_long_failure_is_cut() {
        let lines = "line\n".repeat(100);
        let tally = tally(&format!("failures:\n\n---- a ----\n{lines}\n---- b ----\nshort\n\nfailures:\n"));
        let text = tally.to_string();
        assert_eq!(text.matches("  line\n").count(), LINES_OF_A_FAILURE - 1);
        assert!(text.contains("---- b ----\n  short\n"), "{text}");
    }

    #[test]
    fn what_failed_in_a_guest_is_named_before_the_sum() {
        let mut tally = Tally::default();
        let failures = vec![format!("a scan on 5.10: {}", "é".repeat(1000))];
        tally.add(Sum { passed: 1, failed: 1, failures, skipped: Vec::new() });
        let text = tally.to_string();
        assert!(text.contains("\nfailed:\n  a scan on 5.10: é") && text.chars().count() < 500, "{text}");
        assert!(text.ends_with(" …\n\n1 passed, 1 failed, 0 skipped\n"), "{text}");
    }

    #[test]
    fn a_skip_at_run_time_is_no_pass() {
        let mut tally = tally("test result: ok. 2 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out");
        tally.skip_at_run_time("gunicorn: not installed\n\n");
        assert!(tally.is_success());
        assert!(tally.to_string().ends_with("  gunicorn: not installed\n\n1 passed, 0 failed, 1 skipped\n"));
    }

    #[test]
    fn a_reason_that_a_test_found_itself_is_kept() {
        let tally = tally("test short     ... ignored (needs (some) root)\ntest long_one  ... ignored\n");
        let text = tally.to_string();
        assert!(text.contains("\n  short: needs (some) root\n"), "{text}");
        assert!(text.contains("\n  long_one: a long one, which --full runs\n"), "{text}");
    }

    #[test]
    fn a_suite_that_did_not_compile_is_a_failure() {
        let mut tally = tally("error: could not compile");
        tally.suite_ended(false);
        assert!(!tally.is_success());
        assert!(tally.to_string().ends_with("\n0 passed, 1 failed, 0 skipped\n"));
    }

    #[test]
    fn a_failed_test_is_not_counted_twice() {
        let mut tally = tally("test result: FAILED. 0 passed; 1 failed; 0 ignored");
        tally.suite_ended(false);
        tally.suite_ended(true);
        assert!(tally.to_string().ends_with("\n0 passed, 1 failed, 0 skipped\n"));
    }
}
