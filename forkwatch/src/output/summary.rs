//! The closing summary: what was told and what was lost.

use std::{
    collections::{BTreeMap, HashSet},
    io::{self, Write},
};

use super::Output;
use crate::{
    core,
    model::{
        event::{Event, Lost},
        finding::Finding,
        particulars::Particulars,
        process::ProcessKey,
        time::BootTime,
        written::Unshown,
    },
};

/// Most children whose outcome is waited for.
const MOST_OPEN: usize = 1 << 16;

/// Counts what it is told, and writes the counts at the end.
pub struct Summary<W> {
    out: W,
    tally: Tally,
    /// The highest number of a finding so far.
    last_finding: u64,
}

impl<W: Write> Summary<W> {
    /// Begins at 0. What was counted is written there.
    pub fn new(out: W) -> Self {
        Self { out, tally: Tally::default(), last_finding: 0 }
    }
}

impl<W: Write> Output for Summary<W> {
    fn event(&mut self, event: &Event, _: &Particulars) -> io::Result<()> {
        self.tally.event(event);
        Ok(())
    }

    fn lost(&mut self, lost: &Lost) -> io::Result<()> {
        *self.tally.lost.entry(lost.reason.name()).or_default() += lost.count;
        Ok(())
    }

    fn finding(&mut self, finding: &Finding) -> io::Result<()> {
        // A later state is no finding of its own.
        if finding.repeats > 0 || finding.number > self.last_finding {
            self.tally.findings += 1;
        }
        self.last_finding = self.last_finding.max(finding.number);
        Ok(())
    }

    fn resolution(&mut self, finding: &Finding) -> io::Result<()> {
        self.last_finding = self.last_finding.max(finding.number);
        Ok(())
    }

    fn said(&mut self, said: &core::Output) -> io::Result<()> {
        match said {
            core::Output::LivesOn(child) => self.tally.lives += self.tally.came_of(child.child),
            core::Output::Undecided { .. } => self.tally.undecided += 1,
            _ => {}
        }
        Ok(())
    }

    fn unshown(&mut self, unshown: &Unshown, _: BootTime, _: BootTime) -> io::Result<()> {
        self.tally.unshown += *unshown;
        Ok(())
    }

    fn end(&mut self) -> io::Result<()> {
        self.out.write_all(self.tally.text().as_bytes())?;
        self.out.flush()
    }
}

/// Counts. Each fork has one outcome: its child exec'd, or exited before, or lived on without; or it is not known yet.
#[derive(Default)]
struct Tally {
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
    /// What workers wrote and was not shown.
    unshown: Unshown,
}

impl Tally {
    fn event(&mut self, event: &Event) {
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
            Event::Lost(_) => {}
        }
    }

    /// 1 for the first that becomes of a fork that was counted.
    fn came_of(&mut self, child: ProcessKey) -> u64 {
        u64::from(self.open.remove(&child))
    }

    /// The summary, in lines of 80 columns at most.
    fn text(&self) -> String {
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
        parts.extend(self.unshown.words());
        if lost.is_empty() && self.unshown.is_nothing() {
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
    use crate::{
        core::LivesOn,
        model::{
            event::{CloneKind, Exit, ExitStatus, LossReason, Origin},
            time::BootTime,
        },
        output::samples,
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

    /// What is said at the end, after this.
    fn said(tell: impl FnOnce(&mut Summary<&mut Vec<u8>>)) -> String {
        let mut written = Vec::new();
        let mut summary = Summary::new(&mut written);
        tell(&mut summary);
        summary.end().unwrap();
        String::from_utf8(written).unwrap()
    }

    #[test]
    fn what_workers_wrote_and_was_not_shown_is_summed_up() {
        let unshown = Unshown { lines: 178_000, passed_over: 0, taken: 1 };
        let text = said(|summary| {
            for _ in 0..2 {
                summary.unshown(&unshown, BootTime(1), BootTime(2)).unwrap();
            }
        });
        assert_eq!(
            text,
            "forkwatch: 0 forks, 0 findings, 356000 lines of workers too many to show,\n  \
             2 bytes of workers gone from pipes unseen\n"
        );
    }

    #[test]
    fn outcomes_add_up_to_the_forks() {
        let text = said(|summary| {
            for tgid in 1..5 {
                let fork = crate::model::event::Fork { child: key(tgid), ..samples::fork(1, 1, "x", tgid) };
                summary.event(&Event::Fork(fork), &Particulars::None).unwrap();
            }
            let lives = LivesOn {
                child: key(1),
                parent: key(9),
                comm: "x".into(),
                at: BootTime(8),
                since_fork: std::time::Duration::from_secs(1),
            };
            summary.said(&core::Output::LivesOn(lives)).unwrap();
            // The end of one that has lived on is no second outcome, and that of a stranger is none at all.
            for tgid in [1, 2, 77] {
                summary.event(&exit(tgid), &Particulars::None).unwrap();
            }
        });
        assert_eq!(
            text,
            "forkwatch: 4 forks (1 exited without exec, 1 lived on, 2 not known yet),\n  0 findings, nothing lost\n"
        );
    }

    #[test]
    fn nothing_is_told_of_what_there_was_not() {
        assert_eq!(said(|_| {}), "forkwatch: 0 forks, 0 findings, nothing lost\n");
    }

    #[test]
    fn what_was_lost_or_not_judged_is_told_and_a_finding_once() {
        let text = said(|summary| {
            let lost = Lost { at: BootTime(1), since: BootTime(0), count: 2, reason: LossReason::RingFull };
            summary.lost(&lost).unwrap();
            let hazard = samples::finding().hazard;
            summary.said(&core::Output::Undecided { hazard, child: key(1), why: String::new() }).unwrap();
            summary.finding(&samples::finding()).unwrap();
            summary.finding(&samples::finding()).unwrap();
            summary.resolution(&samples::resolved()).unwrap();
        });
        assert!(text.contains("1 finding,") && text.contains("1 could not be judged"), "{text}");
        assert!(text.contains("2 records lost ("), "{text}");
    }
}
