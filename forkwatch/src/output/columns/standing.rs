//! How a process stands, in a few lines.

use crate::{
    model::{
        process::escape,
        program_name::program_name,
        standing::{Standing, Verdict, Weight},
    },
    paragraph,
};

/// Most reasons that are told of one process: `forkwatch check` tells them all.
const MOST: usize = 4;
/// Most waiting children that are named.
const MOST_NAMED: usize = 8;

/// A few lines of at most 80 columns, each ended.
pub(super) fn text(standing: &Standing) -> String {
    let pid = standing.process.tgid;
    // Safe for a terminal.
    let name = escape(program_name(&standing.program).as_bytes());
    let mut out = String::new();
    let verdict = match standing.verdict {
        Verdict::Safe => "a fork would be safe now",
        Verdict::Risky => "a fork would be risky now, unless the child execs at once",
        Verdict::Unsafe => "a fork would be unsafe now, unless the child execs at once",
        Verdict::Undecided => "it is undecided whether a fork would be safe now",
    };
    let children = match (standing.children, standing.stuck.len(), standing.unseen) {
        (0, ..) => String::new(),
        (1, 0, 0) => ". Its forked child is not seen to hang".to_owned(),
        (1, 0, _) => ". Whether its forked child hangs cannot be told".to_owned(),
        (count, 0, 0) => format!(". None of its {count} forked children is seen to hang"),
        (count, 0, unseen) => {
            format!(". Of {unseen} of its {count} forked children it cannot be told whether they hang")
        }
        (count, stuck, 0) => format!(". {stuck} of its {count} forked children may be stuck"),
        (count, stuck, unseen) => format!(
            ". {stuck} of its {count} forked children may be stuck; of {unseen} others that cannot be told"
        ),
    };
    paragraph::add(&mut out, "", "  ", &format!("{name} (pid {pid}): {verdict}{children}."));
    let (shown, more) = grave(standing);
    for (weight, what) in shown {
        paragraph::add(&mut out, &format!("  {:<8} ", weight.name()), "           ", what);
    }
    if let Some(waiting) = named_waiting(standing) {
        paragraph::add(&mut out, "  waits    ", "           ", &waiting);
    }
    if more > 0 || standing.verdict != Verdict::Safe {
        let more = if more > 0 { format!("{more} more, and ") } else { String::new() };
        let line = format!("`forkwatch check {pid}` tells {more}what to change.");
        paragraph::add(&mut out, "           ", "           ", &line);
    }
    out
}

/// What speaks against a fork, and how much more of it there is.
fn grave(standing: &Standing) -> (Vec<(Weight, &str)>, usize) {
    let mut grave: Vec<(Weight, &str)> = standing
        .reasons
        .iter()
        .filter(|reason| reason.weight < Weight::Info)
        .map(|reason| (reason.weight, reason.what.as_str()))
        .collect();
    let more = grave.len().saturating_sub(MOST);
    grave.truncate(MOST);
    (grave, more)
}

fn named_waiting(standing: &Standing) -> Option<String> {
    let named: Vec<String> = standing.stuck.iter().take(MOST_NAMED).map(ToString::to_string).collect();
    let more = standing.stuck.len().saturating_sub(MOST_NAMED);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    (!named.is_empty())
        .then(|| format!("{}{more}: a finding comes once it is known to be stuck", named.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{
        process::{ProcessKey, Program},
        standing::Reason,
        time::BootTime,
    };

    fn reason(weight: Weight, what: &str) -> Reason {
        Reason { id: "threads".to_owned(), weight, what: what.to_owned() }
    }

    fn standing(verdict: Verdict, reasons: Vec<Reason>, children: u64, stuck: Vec<u32>) -> Standing {
        Standing {
            at: BootTime(0),
            process: ProcessKey { tgid: 7, start: BootTime(0) },
            program: Program { comm: "app".into(), ..Program::default() },
            verdict,
            reasons,
            children,
            stuck,
            unseen: 0,
        }
    }

    #[test]
    fn of_a_child_that_cannot_be_looked_into_nothing_is_claimed() {
        let said = |children, stuck: &[u32], unseen| {
            text(&Standing { unseen, ..standing(Verdict::Safe, vec![], children, stuck.to_vec()) })
                .replace("\n  ", " ")
        };
        assert!(said(1, &[], 1).ends_with("Whether its forked child hangs cannot be told.\n"));
        assert!(
            said(3, &[], 2).contains("Of 2 of its 3 forked children it cannot be told whether they hang.")
        );
        assert!(
            said(3, &[9], 1)
                .contains("1 of its 3 forked children may be stuck; of 1 others that cannot be told.")
        );
        assert!(said(1, &[], 0).ends_with("Its forked child is not seen to hang.\n"));
    }

    #[test]
    fn a_safe_process_takes_one_line() {
        assert_eq!(
            text(&standing(Verdict::Safe, vec![], 0, vec![])),
            "app (pid 7): a fork would be safe now.\n"
        );
        let informed = vec![reason(Weight::Info, "listens on 0.0.0.0:80")];
        assert_eq!(
            text(&standing(Verdict::Safe, informed, 3, vec![])),
            "app (pid 7): a fork would be safe now. None of its 3 forked children is seen to\n  hang.\n"
        );
    }

    #[test]
    fn what_is_wrong_is_told_in_a_few_lines_of_eighty_columns() {
        let mut reasons = vec![reason(Weight::Unsafe, &"2 other threads run: ".repeat(6))];
        reasons.extend((0..5).map(|_| reason(Weight::Warning, "connected to PostgreSQL: 10.0.0.7:5432")));
        let text = text(&standing(Verdict::Unsafe, reasons, 20, (100..120).collect()));
        assert!(text.lines().all(|line| line.len() <= 80 && line == line.trim_end()), "{text}");
        assert!(
            text.starts_with(
                "app (pid 7): a fork would be unsafe now, unless the child execs at once. 20 of\n"
            )
        );
        assert!(
            text.contains("\n  waits    100, 101, 102, 103, 104, 105, 106, 107 and 12 more: a finding"),
            "{text}"
        );
        assert!(
            text.ends_with("\n           `forkwatch check 7` tells 2 more, and what to change.\n"),
            "{text}"
        );
        assert!(text.lines().count() <= 10, "{text}");
    }
}
