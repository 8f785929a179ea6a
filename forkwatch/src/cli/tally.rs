//! What the closing summary of a tail tells.

use std::collections::{BTreeMap, HashSet};

use crate::model::{
    event::{Event, LossReason},
    process::ProcessKey,
};

/// Most children whose outcome is waited for.
const MOST_OPEN: usize = 1 << 16;

/// Counts of what was shown. Each fork has one outcome: its child exec'd, or exited before, or lived on without; or it
/// is not known yet.
#[derive(Default)]
pub(super) struct Tally {
    forks: u64,
    execs: u64,
    exits: u64,
    lives: u64,
    /// Children of which the outcome is not known yet.
    open: HashSet<ProcessKey>,
    threads: u64,
    findings: u64,
    undecided: u64,
    failures: u64,
    lost: BTreeMap<&'static str, u64>,
}

impl Tally {
    /// Counts an event that is shown.
    pub(super) fn event(&mut self, event: &Event) {
        match event {
            Event::Fork(fork) => {
                self.forks += 1;
                if self.open.len() < MOST_OPEN {
                    self.open.insert(fork.child);
                }
            }
            Event::Exec(exec) => self.execs += self.came_of(exec.process),
            Event::Exit(exit) => self.exits += self.came_of(exit.process),
            Event::Thread(_) => self.threads += 1,
            Event::CloneFailure(_) => self.failures += 1,
            Event::Signal(_) | Event::SocketUse(_) => {}
            Event::Lost(lost) => self.lost(lost.reason, lost.count),
        }
    }

    /// Counts a child that lives on.
    pub(super) fn lives_on(&mut self, child: ProcessKey) {
        self.lives += self.came_of(child);
    }

    /// Counts a finding.
    pub(super) fn finding(&mut self) {
        self.findings += 1;
    }

    /// Counts a child that could not be judged.
    pub(super) fn undecided(&mut self) {
        self.undecided += 1;
    }

    fn lost(&mut self, reason: LossReason, count: u64) {
        *self.lost.entry(reason.name()).or_default() += count;
    }

    /// 1 for the first that becomes of a fork that was counted.
    fn came_of(&mut self, child: ProcessKey) -> u64 {
        u64::from(self.open.remove(&child))
    }

    /// The summary, in lines of 80 columns at most.
    pub(super) fn text(&self) -> String {
        let Self { forks, execs, exits, lives, threads, findings, undecided, failures, lost, .. } = self;
        let count = |count: u64, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
        let open = forks.saturating_sub(execs + exits + lives);
        let outcomes: Vec<String> = [
            (*execs, "exec'd"),
            (*exits, "exited without exec"),
            (*lives, "lived on"),
            (open, "not known yet"),
        ]
        .iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, what)| format!("{count} {what}"))
        .collect();
        // A part is never broken, so each outcome is one.
        let mut parts = vec![count(*forks, "fork")];
        if let Some((first, further)) = outcomes.split_first() {
            parts = vec![format!("{} ({first}", count(*forks, "fork"))];
            parts.extend(further.iter().cloned());
            if let Some(last) = parts.last_mut() {
                last.push(')');
            }
        }
        let optional = [(*threads, "thread"), (*failures, "failed clone call")];
        parts.extend(
            optional.iter().filter(|(count, _)| *count > 0).map(|(number, what)| count(*number, what)),
        );
        parts.push(count(*findings, "finding"));
        if *undecided > 0 {
            parts.push(format!("{undecided} could not be judged"));
        }
        parts.extend(lost.iter().map(|(reason, lost)| format!("{} lost ({reason})", count(*lost, "record"))));
        if lost.is_empty() {
            parts.push("nothing lost".to_owned());
        }
        lines("forkwatch: ", &parts)
    }
}

/// The parts with commas between them, in lines of 80 columns that end after a part.
fn lines(first: &str, parts: &[String]) -> String {
    const WIDTH: usize = 80;
    let mut text = first.to_owned();
    let mut column = first.len();
    for (index, part) in parts.iter().enumerate() {
        let comma = if index + 1 < parts.len() { "," } else { "" };
        let length = part.chars().count() + comma.len();
        if index > 0 && column + 1 + length > WIDTH {
            text.push_str("\n  ");
            column = 2;
        } else if index > 0 {
            text.push(' ');
            column += 1;
        }
        text.push_str(part);
        text.push_str(comma);
        column += length;
    }
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{
        event::{CloneKind, Exit, ExitStatus, Lost, Origin},
        time::BootTime,
    };

    fn key(tgid: u32) -> ProcessKey {
        ProcessKey { tgid, start: BootTime(7) }
    }

    fn exit(tgid: u32) -> Event {
        Event::Exit(Exit {
            origin: Origin::default(),
            at: BootTime(9),
            process: key(tgid),
            parent_tgid: 1,
            kind: CloneKind::Copying,
            comm: "x".into(),
            status: ExitStatus::Code(0),
            lifetime: 2,
        })
    }

    /// A tally that has seen forks of these.
    fn forks(children: std::ops::Range<u32>) -> Tally {
        let open: HashSet<ProcessKey> = children.clone().map(key).collect();
        Tally { forks: u64::try_from(children.len()).unwrap(), open, ..Tally::default() }
    }

    #[test]
    fn outcomes_add_up_to_the_forks() {
        let mut tally = forks(1..5);
        tally.lives_on(key(1));
        // The end of one that has lived on is no second outcome, and that of a stranger is none at all.
        for tgid in [1, 2, 77] {
            tally.event(&exit(tgid));
        }
        assert_eq!(
            tally.text(),
            "forkwatch: 4 forks (1 exited without exec, 1 lived on, 2 not known yet),\n  0 findings, nothing lost\n"
        );
    }

    #[test]
    fn nothing_is_told_of_what_there_was_not() {
        assert_eq!(Tally::default().text(), "forkwatch: 0 forks, 0 findings, nothing lost\n");
    }

    #[test]
    fn what_was_lost_or_not_judged_is_told() {
        let mut tally = Tally::default();
        let lost = Lost { at: BootTime(1), since: BootTime(0), count: 2, reason: LossReason::RingFull };
        tally.event(&Event::Lost(lost));
        tally.undecided();
        tally.finding();
        let text = tally.text();
        assert!(text.contains("1 finding,") && text.contains("1 could not be judged"), "{text}");
        assert!(text.contains("2 records lost ("), "{text}");
    }
}
