//! A line an event, and some for a finding.

use std::io::{self, Write};

use super::{Columns, Times, standing};
use crate::{
    core::{self, LivesOn, Shared},
    model::{
        event::{Event, Lost},
        finding::Finding,
        particulars::Particulars,
        standing::Standing,
        written::WrittenLine,
    },
    output::{Batch, Output},
};

/// How lines look, whatever the terminal's width.
#[derive(Clone, Debug)]
pub struct Look {
    /// How times are shown.
    pub times: Times,
    /// Pids are below this.
    pub pid_max: u32,
    /// Whether there are colours.
    pub color: bool,
}

impl Look {
    fn columns(&self, width: Option<usize>) -> Columns {
        Columns::new(self.times.clone(), width, self.pid_max, self.color)
    }
}

/// Writes columns.
pub struct ColumnLines<W> {
    out: W,
    look: Look,
    /// The terminal's width now.
    terminal: fn() -> Option<usize>,
    /// That for which the lines are laid out; absent where it is no terminal.
    width: Option<usize>,
    columns: Columns,
    /// Whether the last line was an empty one.
    gap: bool,
}

impl<W: Write> ColumnLines<W> {
    /// Writes there. `terminal` says how wide that is, if it is a terminal.
    pub fn new(out: W, look: Look, terminal: fn() -> Option<usize>) -> Self {
        let width = terminal();
        let columns = look.columns(width);
        Self { out, look, terminal, width, columns, gap: false }
    }

    fn line(&mut self, line: &str) -> io::Result<()> {
        self.gap = false;
        writeln!(self.out, "{line}")
    }

    /// Lays out anew where the terminal has another width than before.
    fn follow_the_terminal(&mut self) {
        if self.width.is_some()
            && let Some(width) = (self.terminal)()
            && self.width != Some(width)
        {
            self.width = Some(width);
            self.columns = self.look.columns(self.width);
        }
    }
}

impl<W: Write> Output for ColumnLines<W> {
    fn begin(&mut self) -> io::Result<()> {
        writeln!(self.out, "{}", self.columns.header())?;
        self.out.flush()
    }

    fn wants_particulars(&self, event: &Event) -> bool {
        matches!(event, Event::CloneFailure(_))
    }

    fn event(&mut self, event: &Event, particulars: &Particulars) -> io::Result<()> {
        let line = self.columns.event(event, particulars.limit());
        self.line(&line)
    }

    fn lost(&mut self, lost: &Lost) -> io::Result<()> {
        let line = self.columns.lost(lost);
        self.line(&line)
    }

    fn finding(&mut self, finding: &Finding) -> io::Result<()> {
        let block = self.columns.finding(finding);
        // Neighbours share the empty line between them.
        let block = if self.gap { block.trim_start_matches('\n') } else { &block };
        self.gap = true;
        writeln!(self.out, "{block}")
    }

    fn resolution(&mut self, finding: &Finding) -> io::Result<()> {
        self.finding(finding)
    }

    fn said(&mut self, said: &core::Output) -> io::Result<()> {
        let line = match said {
            core::Output::LivesOn(LivesOn { child, comm, at, since_fork, .. }) => {
                let age = u64::try_from(since_fork.as_nanos()).unwrap_or(u64::MAX);
                self.columns.lives_on(*at, *child, comm, age)
            }
            core::Output::Shares(Shared { child, parent, at, peer, .. }) => {
                self.columns.shares(*at, *child, parent.tgid, &peer.to_string())
            }
            core::Output::Worker(event) => {
                let lines = self.columns.worker(event).into_iter().chain(self.columns.last_words(event));
                return lines.into_iter().try_for_each(|line| self.line(&line));
            }
            _ => return Ok(()),
        };
        self.line(&line)
    }

    fn written(&mut self, line: &WrittenLine) -> io::Result<()> {
        match self.columns.written(line) {
            Some(line) => self.line(&line),
            None => Ok(()),
        }
    }

    fn standing(&mut self, standing: &Standing) -> io::Result<()> {
        self.gap = false;
        write!(self.out, "{}", standing::text(standing))
    }

    fn batch(&mut self, _: Batch) -> io::Result<()> {
        self.follow_the_terminal();
        self.out.flush()
    }

    fn end(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
