//! What `check` and `scan` see of a process when a watch of it begins.

use std::time::Duration;

use super::collector::Asker;
use crate::{
    detect::{
        fork_check::{Assessment, Verdict, Weight, assess},
        orphaned_lock::hazard,
    },
    host::{self, clock},
    model::{
        evidence::{Evidence, Request},
        lock::LocksSeen,
        process::{ProcessKey, Program, escape},
        program_name::program_name,
        time::BootTime,
    },
    paragraph,
    reader::{Answer, Question, unanswered},
};

/// Most reasons that are told of one process: `forkwatch check` tells them all.
const MOST: usize = 4;
/// Most stuck children that are named.
const MOST_NAMED: usize = 8;

/// How long one answer is waited for.
const PATIENCE: Duration = Duration::from_secs(5);

/// How a process stands.
#[derive(Debug)]
pub(crate) struct Standing {
    pub(crate) at: BootTime,
    pub(crate) process: ProcessKey,
    pub(crate) program: Program,
    pub(crate) assessment: Assessment,
    /// Its forked and never exec'd descendants.
    pub(crate) children: usize,
    /// Those of them that wait in a way that proves something.
    pub(crate) stuck: Vec<u32>,
}

/// Looks at the processes. One that has ended meanwhile is left out.
pub(crate) fn look(processes: &[host::Process], asker: &Asker) -> Vec<Standing> {
    let all = host::processes().unwrap_or_default();
    let standing = |process: &host::Process| {
        let Some(Answer::Inventory(Ok(inventory))) = asker.ask_now(Question::Inventory(*process), PATIENCE)
        else {
            return None;
        };
        let descendants = host::descendants(process.key.tgid, &all);
        let unexeced: Vec<_> = descendants.into_iter().filter(|child| child.unexeced).collect();
        let look = |request: &Request| match asker.ask_now(Question::Core(*request), PATIENCE) {
            Some(Answer::Core(evidence)) => *evidence,
            _ => unanswered(request, "no answer came"),
        };
        let stuck = unexeced.iter().filter(|child| waits_as_if_stuck(child, look));
        Some(Standing {
            at: clock::now(),
            process: process.key,
            assessment: assess(&inventory),
            program: inventory.program,
            children: unexeced.len(),
            stuck: stuck.map(|child| child.key.tgid).collect(),
        })
    };
    processes.iter().filter_map(standing).collect()
}

fn waits_as_if_stuck(child: &host::Process, look: impl FnOnce(&Request) -> Evidence) -> bool {
    let parent = host::find(child.parent).ok().map(|parent| parent.key);
    let (child, forked_at) = (child.key, Some(child.key.start));
    let seen = look(&Request::Locks { child, parent, forked_at, forking_tid: None });
    matches!(seen, Evidence::Locks { seen: LocksSeen::Alive(locks), .. } if hazard::waits_as_if_stuck(child, &locks))
}

impl Standing {
    /// The name that the program goes by, safe for a terminal.
    pub(crate) fn name(&self) -> String {
        escape(program_name(&self.program).as_bytes())
    }

    /// A few lines of at most 80 columns, each ended.
    pub(crate) fn text(&self) -> String {
        let pid = self.process.tgid;
        let mut out = String::new();
        let verdict = match self.assessment.verdict {
            Verdict::Safe => "a fork would be safe now",
            Verdict::Risky => "a fork would be risky now, unless the child execs at once",
            Verdict::Unsafe => "a fork would be unsafe now, unless the child execs at once",
            Verdict::Undecided => "it is undecided whether a fork would be safe now",
        };
        let children = match (self.children, self.stuck.len()) {
            (0, _) => String::new(),
            (1, 0) => ". Its forked child does not hang".to_owned(),
            (count, 0) => format!(". None of its {count} forked children hangs"),
            (count, stuck) => format!(". {stuck} of its {count} forked children wait as if stuck"),
        };
        paragraph::add(&mut out, "", "  ", &format!("{} (pid {pid}): {verdict}{children}.", self.name()));
        let (shown, more) = self.grave();
        for (weight, what) in shown {
            paragraph::add(&mut out, &format!("  {:<8} ", weight.name()), "           ", what);
        }
        if let Some(stuck) = self.named_stuck() {
            paragraph::add(&mut out, "  stuck    ", "           ", &stuck);
        }
        if more > 0 || self.assessment.verdict != Verdict::Safe {
            let more = if more > 0 { format!("{more} more, and ") } else { String::new() };
            let line = format!("`forkwatch check {pid}` tells {more}what to change.");
            paragraph::add(&mut out, "           ", "           ", &line);
        }
        out
    }

    /// What speaks against a fork, and how much more of it there is.
    fn grave(&self) -> (Vec<(Weight, &str)>, usize) {
        let reasons = &self.assessment.reasons;
        let mut grave: Vec<(Weight, &str)> = reasons
            .iter()
            .filter(|reason| reason.weight < Weight::Info)
            .map(|reason| (reason.weight, reason.what.as_str()))
            .collect();
        let more = grave.len().saturating_sub(MOST);
        grave.truncate(MOST);
        (grave, more)
    }

    fn named_stuck(&self) -> Option<String> {
        let named: Vec<String> = self.stuck.iter().take(MOST_NAMED).map(ToString::to_string).collect();
        let more = self.stuck.len().saturating_sub(MOST_NAMED);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        (!named.is_empty())
            .then(|| format!("{}{more}: a finding says why, once it is proven", named.join(", ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{detect::fork_check::Reason, model::finding::Remedy};

    fn reason(weight: Weight, what: &str) -> Reason {
        let remedy = Remedy { text: String::new(), link: String::new() };
        Reason { id: "threads", weight, what: what.to_owned(), why: "", remedy }
    }

    fn standing(verdict: Verdict, reasons: Vec<Reason>, children: usize, stuck: Vec<u32>) -> Standing {
        Standing {
            at: BootTime(0),
            process: ProcessKey { tgid: 7, start: BootTime(0) },
            program: Program { comm: "app".into(), ..Program::default() },
            assessment: Assessment { verdict, reasons },
            children,
            stuck,
        }
    }

    #[test]
    fn a_safe_process_takes_one_line() {
        assert_eq!(
            standing(Verdict::Safe, vec![], 0, vec![]).text(),
            "app (pid 7): a fork would be safe now.\n"
        );
        let informed = vec![reason(Weight::Info, "listens on 0.0.0.0:80")];
        assert_eq!(
            standing(Verdict::Safe, informed, 3, vec![]).text(),
            "app (pid 7): a fork would be safe now. None of its 3 forked children hangs.\n"
        );
    }

    #[test]
    fn what_is_wrong_is_told_in_a_few_lines_of_eighty_columns() {
        let mut reasons = vec![reason(Weight::Unsafe, &"2 other threads run: ".repeat(6))];
        reasons.extend((0..5).map(|_| reason(Weight::Warning, "connected to PostgreSQL: 10.0.0.7:5432")));
        let text = standing(Verdict::Unsafe, reasons, 20, (100..120).collect()).text();
        assert!(text.lines().all(|line| line.len() <= 80 && line == line.trim_end()), "{text}");
        assert!(
            text.starts_with(
                "app (pid 7): a fork would be unsafe now, unless the child execs at once. 20 of\n"
            )
        );
        assert!(
            text.contains("\n  stuck    100, 101, 102, 103, 104, 105, 106, 107 and 12 more: a finding"),
            "{text}"
        );
        assert!(
            text.ends_with("\n           `forkwatch check 7` tells 2 more, and what to change.\n"),
            "{text}"
        );
        assert!(text.lines().count() <= 10, "{text}");
    }
}
