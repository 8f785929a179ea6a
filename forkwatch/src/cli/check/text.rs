//! The answer for a reader, in 80 columns.

use crate::{
    detect::fork_check::{Assessment, Verdict, share},
    model::{
        inventory::{Collector, Inventory, Unknown, Worker},
        lasted::lasted,
        sampling::Sampling,
        time::nanoseconds,
    },
    output::identity::identity,
    paragraph, privilege,
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
    if let Some(collector) = &inventory.collector {
        out.push('\n');
        paragraph::add(&mut out, &format!("  {:<8} ", "python"), INDENT, &collected(collector));
    }
    if !inventory.workers.is_empty() {
        out.push('\n');
        paragraph::add(&mut out, &format!("  {:<8} ", "workers"), INDENT, &forked(&inventory.workers));
    }
    if let Some(sampling) = &inventory.sampling {
        out.push('\n');
        paragraph::add(&mut out, &format!("  {:<8} ", "sampled"), INDENT, &sampled(sampling));
    }
    if !inventory.unknown.is_empty() {
        out.push('\n');
    }
    for (why, denied, subjects) in by_reason(&inventory.unknown) {
        let advice = if denied { format!("; that takes {}", privilege::to_look()) } else { String::new() };
        let content = format!("{}: {why}{advice}", subjects.join(", "));
        paragraph::add(&mut out, &format!("  {:<8} ", "unknown"), INDENT, &content);
    }
    out
}

/// From here on it is said what to do against copies.
const MUCH: u64 = 16 << 20;
/// Workers that are told one by one.
const SHOWN: usize = 4;

/// What the collector does to memory that a child shares.
fn collected(collector: &Collector) -> String {
    let Collector { enabled, frozen, tracked, copies, whole } = collector;
    let enabled_ = if *enabled { "is enabled" } else { "is disabled" };
    let frozen_ = match frozen {
        0 => "no object is frozen".to_owned(),
        1 => "1 object is frozen".to_owned(),
        frozen => format!("{frozen} objects are frozen"),
    };
    let (least, most) = if *whole { ("", "up to") } else { ("at least ", "more than") };
    let mut words = format!(
        "the garbage collector {enabled_}, and {frozen_}. A full collection in a forked child looks at {least}{tracked} \
         objects, and copies {most} {} of what it shares with its parent",
        megabytes(*copies)
    );
    if *copies >= MUCH {
        words.push_str(
            ". gc.disable() at the start of the program, gc.freeze() right before the fork and gc.enable() in the \
             child keep that memory shared",
        );
    }
    words
}

fn forked(workers: &[Worker]) -> String {
    let sum = |of: fn(&Worker) -> u64| workers.iter().map(of).fold(0_u64, u64::saturating_add);
    let mut largest: Vec<&Worker> = workers.iter().collect();
    largest.sort_by_key(|worker| std::cmp::Reverse(worker.copied));
    let mut named: Vec<String> = largest
        .iter()
        .take(SHOWN)
        .map(|worker| format!("{} (pid {}) {}", worker.comm, worker.pid, megabytes(worker.copied)))
        .collect();
    if workers.len() > SHOWN {
        named.push("...".to_owned());
    }
    let count = match workers.len() {
        1 => "1 forked child has".to_owned(),
        count => format!("{count} forked children have"),
    };
    format!(
        "{count} {} resident, of which {} are shared and {} were copied or are new since the fork: {}",
        megabytes(sum(|worker| worker.resident)),
        megabytes(sum(|worker| worker.shared)),
        megabytes(sum(|worker| worker.copied)),
        named.join(", ")
    )
}

/// `114 MiB`, `0.4 MiB`.
fn megabytes(bytes: u64) -> String {
    let tenths = bytes.saturating_mul(10) >> 20;
    match tenths {
        0..100 => format!("{}.{} MiB", tenths / 10, tenths % 10),
        tenths => format!("{} MiB", tenths / 10),
    }
}

/// How the locks were looked at, and what that cost.
fn sampled(sampling: &Sampling) -> String {
    let span = nanoseconds(sampling.until.since(sampling.from));
    let what = match (sampling.looks, sampling.held) {
        _ if sampling.locks.is_empty() => "no lock was found held".to_owned(),
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
        assert!(text.contains("\n  unknown  file-locks: Permission denied (os error 13); that takes"));
        assert!(text.lines().all(|line| line.len() <= 80 || line.contains("https://")), "{text}");
        assert!(text.lines().all(|line| line == line.trim_end()), "{text}");
    }

    #[test]
    fn a_safe_process_takes_one_line() {
        let text = text(7, &Inventory::default(), &assess(&Inventory::default()));
        assert_eq!(text, "unnamed (pid 7, uid unknown): a fork now would be safe.\n");
    }
}
