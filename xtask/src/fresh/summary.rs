//! What `cargo xtask test` says at its end.

use crate::vm::Sum;

/// Its last lines: what was skipped, and the sum.
#[derive(Default)]
pub(super) struct Summary {
    skipped: Vec<String>,
    /// Whether the lines are those that name what was skipped.
    names: bool,
    /// Passed and failed.
    sum: Option<(usize, usize)>,
}

impl Summary {
    /// Takes note of a line of its output.
    pub(super) fn read(&mut self, line: &str) {
        if line == "skipped:" {
            self.names = true;
            self.skipped.clear();
        } else if self.names
            && let Some(name) = line.strip_prefix("  ")
        {
            self.skipped.push(name.to_owned());
        } else {
            self.names = false;
            self.sum = counts(line).or(self.sum);
        }
    }

    /// Adds it to the sum of all releases. Tests that did not run to their end are a failure.
    pub(super) fn add_to(self, sum: &mut Sum, succeeded: bool, release: &str) {
        let (passed, failed) = self.sum.unwrap_or_default();
        sum.passed += passed;
        sum.failed += if succeeded { failed } else { failed.max(1) };
        if succeeded && self.sum.is_none() {
            sum.failed += 1;
        }
        sum.skipped.extend(self.skipped.into_iter().map(|name| format!("on a bare {release}: {name}")));
    }
}

/// `12 passed, 0 failed, 3 skipped`
fn counts(line: &str) -> Option<(usize, usize)> {
    let mut parts = line.split(", ");
    let mut count = |word: &str| parts.next()?.strip_suffix(word)?.parse().ok();
    let (passed, failed, _) = (count(" passed")?, count(" failed")?, count(" skipped")?);
    Some((passed, failed))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(text: &str, succeeded: bool) -> Sum {
        let (mut summary, mut sum) = (Summary::default(), Sum::default());
        text.lines().for_each(|line| summary.read(line));
        summary.add_to(&mut sum, succeeded, "bookworm");
        sum
    }

    #[test]
    fn the_last_lines_are_the_sum() {
        let said = "test result: ok. 1 passed; 0 failed\n  a line\n\nskipped:\n  a: no such file\n  b: long\n\n\
                    12 passed, 3 failed, 2 skipped\n";
        let sum = sum(said, false);
        assert_eq!((sum.passed, sum.failed), (12, 3));
        assert_eq!(sum.skipped, ["on a bare bookworm: a: no such file", "on a bare bookworm: b: long"]);
    }

    #[test]
    fn without_a_sum_there_is_a_failure() {
        assert_eq!(sum("error: could not compile", false).failed, 1);
        assert_eq!(sum("", true).failed, 1);
        assert_eq!(sum("2 passed, 0 failed, 0 skipped", false).failed, 1);
        assert_eq!(sum("2 passed, 0 failed, 0 skipped", true).failed, 0);
    }
}
