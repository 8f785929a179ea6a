//! The answer for a reader, in 80 columns.

use crate::{
    detect::fork_check::{Assessment, Verdict, share},
    model::{
        inventory::{Inventory, Unknown},
        lasted::lasted,
        sampling::Sampling,
        time::nanoseconds,
    },
    output::identity::identity,
    paragraph,
};

/// Where what belongs to a reason begins.
const INDENT: &str = "           ";

pub(super) fn text(pid: u32, inventory: &Inventory, assessment: &Assessment) -> String {
    let (mut out, program) = (String::new(), &inventory.program);
    paragraph::add(
        &mut out,
        "",
        "",
        &format!(
            "{} (pid {pid}, {}): {}",
            super::name(program),
            identity(program).join(", "),
            headline(assessment.verdict)
        ),
    );
    for reason in &assessment.reasons {
        out.push('\n');
        paragraph::add(&mut out, &format!("  {:<8} ", reason.weight.name()), INDENT, &reason.what);
        paragraph::add(&mut out, INDENT, INDENT, reason.why);
        paragraph::add(&mut out, &format!("{INDENT}-> "), &format!("{INDENT}   "), &reason.remedy.text);
        paragraph::add(&mut out, &format!("{INDENT}   "), INDENT, &reason.remedy.link);
    }
    if let Some(sampling) = &inventory.sampling {
        out.push('\n');
        paragraph::add(&mut out, &format!("  {:<8} ", "sampled"), INDENT, &sampled(sampling));
    }
    if !inventory.unknown.is_empty() {
        out.push('\n');
    }
    for (why, denied, subjects) in by_reason(&inventory.unknown) {
        let advice = if denied { "; that takes root, or CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH" } else { "" };
        let content = format!("{}: {why}{advice}", subjects.join(", "));
        paragraph::add(&mut out, &format!("  {:<8} ", "unknown"), INDENT, &content);
    }
    out
}

/// How the locks were looked at, and what that cost.
fn sampled(sampling: &Sampling) -> String {
    let span = nanoseconds(sampling.until.since(sampling.from));
    let what = match (sampling.looks, sampling.held) {
        (0, _) => "no look at known locks was made".to_owned(),
        (looks, 0) => format!("in none of {looks} looks a lock was held that a child would get locked"),
        (looks, held) => format!(
            "in {held} of {looks} looks ({}) a lock was held that a child would get locked",
            share(held, looks)
        ),
    };
    let searches = match sampling.searches {
        1 => "1 search".to_owned(),
        count => format!("{count} searches"),
    };
    let ended = sampling.ended.as_ref().map_or_else(String::new, |why| format!("; ended early: {why}"));
    format!(
        "{what}. It took {} in all, with {searches} of its memory, and {} of a CPU{ended}",
        lasted(span),
        lasted(sampling.took)
    )
}

/// What could not be looked at, by why: most share their reason but for the number of the error.
fn by_reason(unknown: &[Unknown]) -> Vec<(String, bool, Vec<&'static str>)> {
    let mut reasons: Vec<(String, bool, Vec<&'static str>)> = Vec::new();
    for Unknown { what, why, denied } in unknown {
        match reasons.iter_mut().find(|(known, ..)| reason(known) == reason(why)) {
            Some((_, _, subjects)) => subjects.push(what.name()),
            None => reasons.push((why.clone(), *denied, vec![what.name()])),
        }
    }
    reasons
}

/// A reason without the words of the error that led to it, where there is more to it.
fn reason(why: &str) -> &str {
    why.split_once(": ").map_or(why, |(_, reason)| reason)
}

const fn headline(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Safe => "a fork now would be safe.",
        Verdict::Risky => {
            "a fork now would be risky: the child has to mind the warnings, unless it execs at once."
        }
        Verdict::Unsafe => "a fork now would be unsafe, unless the child execs at once.",
        Verdict::Undecided => "whether a fork now would be safe is undecided: not all could be looked at.",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        detect::fork_check::assess,
        model::{
            connection::Peer,
            inventory::{Connection, Subject},
            process::Program,
            thread::SeenThread,
        },
    };

    #[test]
    fn the_answer_fits_into_eighty_columns() {
        let seen = Inventory {
            program: Program { comm: "app".into(), uid: Some(0), ..Program::default() },
            threads: vec![SeenThread { tid: 8, comm: "\u{1b}[2J".into() }],
            thread_count: 1,
            connections: vec![Connection {
                fd: 4,
                peer: Peer::Tcp("10.0.0.7:5432".to_owned()),
                accepted: false,
            }],
            unknown: vec![Unknown {
                what: Subject::FileLocks,
                why: "Permission denied (os error 13)".to_owned(),
                denied: true,
            }],
            ..Inventory::default()
        };
        let text = text(7, &seen, &assess(&seen));
        assert!(text.starts_with(
            "app (pid 7, uid 0): a fork now would be unsafe, unless the child execs at once.\n"
        ));
        assert!(text.contains("\n  unsafe   1 other thread runs: \\x1b[2J\n"));
        assert!(text.contains("\n  warning  connected to PostgreSQL: 10.0.0.7:5432\n"));
        assert!(text.contains("\n  unknown  file-locks: Permission denied (os error 13); that takes root"));
        assert!(text.lines().all(|line| line.len() <= 80 || line.contains("https://")), "{text}");
        assert!(text.lines().all(|line| line == line.trim_end()), "{text}");
    }

    #[test]
    fn a_safe_process_takes_one_line() {
        let text = text(7, &Inventory::default(), &assess(&Inventory::default()));
        assert_eq!(text, "unnamed (pid 7, uid unknown): a fork now would be safe.\n");
    }
}
