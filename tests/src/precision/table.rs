//! The score as the part of `docs/hazards.md` that tells it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
};

use super::{Score, run::WATCHED, score::Row};

/// What was run where.
pub struct Measured {
    /// How many different cases.
    pub cases: usize,
    /// How often each at least.
    pub runs: usize,
    /// What could not be run here, and why.
    pub left_out: Vec<(String, String)>,
    /// The kernel's release.
    pub kernel: String,
    /// How many CPUs there were.
    pub cpus: usize,
}

/// A section in Markdown, with a row for each of these hazards.
pub fn markdown(measured: &Measured, hazards: &[&str], score: &Score) -> String {
    let Measured { cases, runs, kernel, cpus, .. } = measured;
    let watched = WATCHED.as_secs();
    let mut out = format!(
        "## How precise it is\n\n\
         Measured by `cargo xtask precision` on Linux {kernel} with {cpus} CPUs: {cases} programs whose faults are \
         known, test programs and real servers and tools, each run {runs} times or more under `forkwatch tail` with \
         its default settings and watched for {watched} s. *There* counts the runs of programs that have the hazard, \
         *look-alikes* the runs of programs that look as if they had it. *False* counts findings where the hazard is \
         not there, in any of the runs, *withdrawn* findings that forkwatch itself took back, because the child \
         exec'd or woke after all. Times are from the fault (the fork, for blocked signals the exec, for children \
         that ended their end) to the finding.\n\n\
         | Hazard | There | Found | Missed | Look-alikes | False | Withdrawn | Median time | Longest |\n\
         | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n"
    );
    for hazard in hazards {
        let row = score.rows.get(*hazard).cloned().unwrap_or_default();
        let Row { there, found, look_alikes, withdrawn, .. } = row;
        let (missed, wrong, times) = (row.missed(), wrong(&row), times(&row.after));
        // Writing to a String cannot fail.
        let _ = writeln!(
            out,
            "| `{hazard}` | {there} | {found} | {missed} | {look_alikes} | {wrong} | {withdrawn} | {} | {} |",
            times.0, times.1
        );
    }
    let untested: Vec<_> =
        hazards.iter().filter(|hazard| !score.rows.contains_key(**hazard)).copied().collect();
    let wrong: BTreeSet<_> = score.wrong.iter().map(|wrong| wrong.what.as_str()).collect();
    let missed: BTreeSet<_> = score.missed.iter().map(String::as_str).collect();
    for (what, list) in
        [("Missed", Vec::from_iter(missed)), ("Wrong", Vec::from_iter(wrong)), ("Not measured", untested)]
    {
        if !list.is_empty() {
            let _ = write!(out, "\n{what}: {}.\n", list.join(", "));
        }
    }
    let mut left_out: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (name, why) in &measured.left_out {
        left_out.entry(why).or_default().push(name);
    }
    for (why, names) in left_out {
        let _ = write!(out, "\nNot run, as that {why}: {}.\n", names.join(", "));
    }
    out
}

fn wrong(row: &Row) -> String {
    let sum: usize = row.wrong.values().sum();
    let parts: Vec<_> = row.wrong.iter().map(|(certainty, count)| format!("{count} {certainty}")).collect();
    if parts.is_empty() { sum.to_string() } else { format!("{sum} ({})", parts.join(", ")) }
}

/// The median and the longest.
fn times(seconds: &[f64]) -> (String, String) {
    let mut sorted = seconds.to_vec();
    sorted.sort_by(f64::total_cmp);
    let show = |seconds: Option<&f64>| seconds.map_or_else(|| "-".to_owned(), |time| format!("{time:.1} s"));
    (show(sorted.get(sorted.len() / 2)), show(sorted.last()))
}

#[cfg(test)]
mod tests {
    use super::{super::Found, *};
    use crate::precision::{Run, all, score};

    #[test]
    fn every_hazard_has_its_row() {
        let case = all().into_iter().find(|case| case.name() == "orphan_mutex").unwrap();
        let found = |hazard: &str, certainty: &str, after| Found {
            hazard: hazard.to_owned(),
            certainty: certainty.to_owned(),
            after: Some(after),
            withdrawn: false,
            summary: String::new(),
        };
        let run = Run {
            found: vec![found("orphaned-lock", "certain", 11.04), found("crash-loop", "certain", 1.0)],
        };
        let measured = Measured {
            cases: 1,
            runs: 1,
            left_out: vec![("celery".to_owned(), "needs python".to_owned())],
            kernel: "6.18".to_owned(),
            cpus: 2,
        };
        let hazards = ["orphaned-lock", "crash-loop", "leaked-pipe"];
        let text = markdown(&measured, &hazards, &score([(&case, &run)]));
        assert!(text.contains("| `orphaned-lock` | 1 | 1 | 0 | 0 | 0 | 0 | 11.0 s | 11.0 s |\n"), "{text}");
        assert!(text.contains("| `crash-loop` | 0 | 0 | 0 | 0 | 1 (1 certain) | 0 | - | - |\n"), "{text}");
        assert!(text.contains("\nWrong: crash-loop in orphan_mutex.\n"), "{text}");
        assert!(text.contains("\nNot measured: leaked-pipe.\n"), "{text}");
        assert!(text.contains("\nNot run, as that needs python: celery.\n"), "{text}");
    }
}
