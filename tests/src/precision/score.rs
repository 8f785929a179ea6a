//! What the runs come to, hazard by hazard.

use std::collections::BTreeMap;

use super::{Case, Run};

/// One hazard in all runs.
#[derive(Clone, Debug, Default)]
pub struct Row {
    /// Runs of cases that have it.
    pub there: usize,
    /// Those of them in which it was found.
    pub found: usize,
    /// Runs of cases that look like it.
    pub look_alikes: usize,
    /// Findings of it in cases that do not have it, by certainty; those that were withdrawn count only where they had
    /// been more than a suspicion.
    pub wrong: BTreeMap<String, usize>,
    /// Findings that were taken back.
    pub withdrawn: usize,
    /// Seconds from fault to finding.
    pub after: Vec<f64>,
}

impl Row {
    /// Runs in which it was there and was not found.
    pub fn missed(&self) -> usize {
        self.there - self.found
    }
}

/// A finding that is not so.
#[derive(Clone, Debug)]
pub struct Wrong {
    /// How sure it was.
    pub certainty: String,
    /// The hazard and the case.
    pub what: String,
    /// The same with all that was said.
    pub sentence: String,
}

/// All hazards in all runs.
#[derive(Clone, Debug, Default)]
pub struct Score {
    /// By hazard.
    pub rows: BTreeMap<String, Row>,
    /// Findings that were wrong, the surest first.
    pub wrong: Vec<Wrong>,
    /// What was not found where.
    pub missed: Vec<String>,
}

impl Score {
    /// Whether anything was wrong that had been called certain.
    pub fn is_certainty_broken(&self) -> bool {
        self.wrong.iter().any(|wrong| wrong.certainty == "certain")
    }
}

/// Adds up the runs.
pub fn score<'a>(runs: impl IntoIterator<Item = (&'a Case, &'a Run)>) -> Score {
    let mut score = Score::default();
    for (case, run) in runs {
        for hazard in case.look_alike {
            score.rows.entry((*hazard).to_owned()).or_default().look_alikes += 1;
        }
        for hazard in case.truth {
            let row = score.rows.entry((*hazard).to_owned()).or_default();
            row.there += 1;
            match run.found.iter().find(|found| found.hazard == *hazard && !found.withdrawn) {
                Some(found) => {
                    row.found += 1;
                    row.after.extend(found.after);
                }
                None => score.missed.push(format!("{hazard} in {}", case.name())),
            }
        }
        for found in &run.found {
            let row = score.rows.entry(found.hazard.clone()).or_default();
            row.withdrawn += usize::from(found.withdrawn);
            let is_wrong =
                if found.withdrawn { found.certainty != "heuristic" } else { !case.has(&found.hazard) };
            if is_wrong {
                *row.wrong.entry(found.certainty.clone()).or_default() += 1;
                let what = format!("{} in {}", found.hazard, case.name());
                let how = if found.withdrawn { "withdrawn" } else { "false" };
                let sentence = format!("{how}: {what} ({}): {}", found.certainty, found.summary);
                score.wrong.push(Wrong { certainty: found.certainty.clone(), what, sentence });
            }
        }
    }
    // In the order of the alphabet the surest comes first.
    score.wrong.sort_by_key(|wrong| (wrong.certainty == "heuristic", wrong.certainty.clone()));
    score
}

#[cfg(test)]
mod tests {
    use super::{super::all, *};
    use crate::precision::Found;

    fn case(name: &str) -> Case {
        all().into_iter().find(|case| case.name() == name).unwrap()
    }

    fn found(hazard: &str, certainty: &str, withdrawn: bool) -> Found {
        Found {
            hazard: hazard.to_owned(),
            certainty: certainty.to_owned(),
            after: Some(1.5),
            withdrawn,
            summary: String::new(),
        }
    }

    #[test]
    fn what_is_there_is_found_or_missed() {
        let case = case("orphan_mutex");
        let some = Run { found: vec![found("held-locks", "strong", false)] };
        let score = score([(&case, &some)]);
        assert_eq!(score.rows["held-locks"].found, 1);
        assert_eq!(score.rows["held-locks"].after, [1.5]);
        assert_eq!(score.rows["orphaned-lock"].missed(), 1);
        assert_eq!(score.missed, ["orphaned-lock in orphan_mutex"]);
        assert!(score.wrong.is_empty() && !score.is_certainty_broken());
    }

    #[test]
    fn what_is_not_there_is_wrong_by_its_certainty() {
        let case = case("forker_held");
        let threads = found("multithreaded-fork", "heuristic", false);
        let lock = |certainty| found("orphaned-lock", certainty, false);
        let run = Run { found: vec![threads, lock("strong"), lock("certain")] };
        let score = score([(&case, &run)]);
        let row = &score.rows["orphaned-lock"];
        assert_eq!((row.there, row.look_alikes, row.wrong["strong"], row.wrong["certain"]), (0, 1, 1, 1));
        assert!(score.is_certainty_broken());
        assert_eq!(score.wrong[0].certainty, "certain");
    }

    #[test]
    fn a_suspicion_may_be_withdrawn_and_a_certainty_may_not() {
        let late = case("mt_fork_exec_late");
        let run = Run { found: vec![found("multithreaded-fork", "heuristic", true)] };
        let fine = score([(&late, &run)]);
        assert_eq!((fine.rows["multithreaded-fork"].withdrawn, fine.wrong.len()), (1, 0));
        let stuck = case("orphan_mutex");
        let run = Run { found: vec![found("orphaned-lock", "certain", true)] };
        let broken = score([(&stuck, &run)]);
        assert!(broken.is_certainty_broken());
        assert_eq!(broken.rows["orphaned-lock"].missed(), 1);
    }
}
