//! What the tail shows: columns or JSON on stdout, a summary on stderr.

use std::{
    collections::HashSet,
    io::{self, BufWriter, Stdout, Write},
};

use clap::ValueEnum;
use wildmatch::WildMatch;

use super::{
    causes::Causes,
    tally::Tally,
    terminal::{ColorChoice, width},
    thread_names::ThreadNames,
};
use crate::{
    core::{self, LivesOn, Shared},
    engine::{Asker, standing::Standing},
    host::clock,
    model::{
        event::Event,
        finding::State,
        process::{Comm, ProcessKey},
    },
    report::{
        Context,
        columns::{Columns, Times},
        json::{
            self,
            document::{Assessment, AssessmentReason},
        },
    },
};

/// `--output`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum Output {
    /// A line an event, aligned
    #[default]
    Columns,
    /// A document of the schema `forkwatch.event/1` a line
    Json,
}

/// `--time`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum TimeStyle {
    /// Seconds since the start
    #[default]
    Relative,
    /// The wall clock, in the local zone
    Wall,
}

/// Which of the events are shown.
#[derive(Clone, Debug, Default)]
pub(super) struct Selection {
    /// A pattern for comms.
    pub(super) comm: Option<String>,
    /// Nothing but findings.
    pub(super) findings_only: bool,
    /// How many events and findings to show at most.
    pub(super) most: Option<u64>,
}

/// Shows events and findings on stdout.
pub(super) struct TailSink {
    out: BufWriter<Stdout>,
    layout: Layout,
    context: Context,
    selection: Selection,
    comm: Option<WildMatch>,
    /// Children whose fork the pattern selected, so that their outcome is shown too.
    shown: HashSet<ProcessKey>,
    names: ThreadNames,
    causes: Causes,
    /// Events and findings so far.
    written: u64,
    /// Documents about how processes stand.
    standing: u64,
    /// Whether the last line was an empty one.
    gap: bool,
    tally: Tally,
    /// The highest number of a finding so far.
    last_finding: u64,
}

/// How documents are laid out.
enum Layout {
    Columns { columns: Box<Columns>, terminal: Option<Terminal> },
    Json,
}

/// What it takes to lay columns out again when the terminal's width changes.
struct Terminal {
    times: Times,
    pid_max: u32,
    color: bool,
    width: usize,
}

impl TailSink {
    pub(super) fn new(
        output: Output,
        time: TimeStyle,
        color: ColorChoice,
        selection: Selection,
        context: &Context,
        asker: Option<Asker>,
    ) -> Self {
        let layout = match output {
            Output::Json => Layout::Json,
            Output::Columns => columns(time, color, context),
        };
        Self {
            out: BufWriter::with_capacity(64 << 10, io::stdout()),
            layout,
            context: context.clone(),
            comm: selection.comm.as_deref().map(WildMatch::new),
            selection,
            shown: HashSet::new(),
            names: ThreadNames::default(),
            causes: Causes::new(asker),
            written: 0,
            standing: 0,
            gap: false,
            tally: Tally::default(),
            last_finding: 0,
        }
    }

    /// The header, once the watch has begun.
    pub(super) fn ready(&mut self) -> io::Result<()> {
        if let Layout::Columns { columns, .. } = &self.layout {
            writeln!(self.out, "{}", columns.header())?;
        }
        self.out.flush()
    }

    /// What was shown and what was lost, on stderr.
    pub(super) fn summary(&mut self) -> io::Result<()> {
        self.out.flush()?;
        write!(io::stderr(), "{}", self.tally.text())
    }

    /// Whether an event is to be shown, and what it changes for the events to come.
    fn selects(&mut self, event: &Event) -> bool {
        match event {
            Event::Lost(_) => true,
            // Evidence, and no events of their own.
            Event::Signal(_) | Event::SocketUse(_) => false,
            _ if self.selection.findings_only => false,
            Event::Fork(fork) => {
                let selected = self.matches(&fork.comm);
                if selected && self.comm.is_some() {
                    self.shown.insert(fork.child);
                }
                selected
            }
            Event::Exec(exec) => self.shown.remove(&exec.process) || self.matches(&exec.comm),
            Event::Exit(exit) => self.shown.remove(&exit.process) || self.matches(&exit.comm),
            Event::Thread(thread) => self.matches(&thread.comm),
            Event::CloneFailure(failure) => self.matches(&failure.comm),
        }
    }

    fn matches(&self, comm: &Comm) -> bool {
        self.comm.as_ref().is_none_or(|pattern| pattern.matches(&comm.to_text()))
    }

    fn lives_on(&mut self, child: &LivesOn) -> io::Result<()> {
        if self.comm.is_some() && !self.shown.contains(&child.child) {
            return Ok(());
        }
        self.tally.lives_on(child.child);
        match &self.layout {
            Layout::Json => Ok(()),
            Layout::Columns { columns, .. } => {
                self.gap = false;
                let age = u64::try_from(child.since_fork.as_nanos()).unwrap_or(u64::MAX);
                writeln!(self.out, "{}", columns.lives_on(child.at, child.child, &child.comm, age))
            }
        }
    }

    fn shares(&mut self, shared: &Shared) -> io::Result<()> {
        let hidden =
            self.selection.findings_only || self.comm.is_some() && !self.shown.contains(&shared.child);
        match &self.layout {
            Layout::Columns { columns, .. } if !hidden => {
                self.gap = false;
                let Shared { child, parent, at, peer, .. } = shared;
                writeln!(self.out, "{}", columns.shares(*at, *child, parent.tgid, &peer.to_string()))
            }
            _ => Ok(()),
        }
    }

    /// The number of the document that is being written.
    fn next_number(&mut self) -> u64 {
        self.written += 1;
        self.written + self.standing - 1
    }
}

impl crate::engine::pipeline::Sink for TailSink {
    fn event(&mut self, event: &Event) -> io::Result<()> {
        if self.is_done() || !self.selects(event) {
            return Ok(());
        }
        self.tally.event(event);
        let limit = self.causes.of_event(event);
        let number = self.next_number();
        match &self.layout {
            Layout::Json => {
                let names = self.names.of(event);
                match json::event(&self.context, number, event, &names, limit.as_ref()) {
                    Some(document) => json::write_line(&mut self.out, &document),
                    None => Ok(()),
                }
            }
            Layout::Columns { columns, .. } => {
                self.gap = false;
                writeln!(self.out, "{}", columns.event(event, limit.as_ref()))
            }
        }
    }

    fn output(&mut self, output: &core::Output) -> io::Result<()> {
        match output {
            core::Output::LivesOn(child) => self.lives_on(child),
            core::Output::Shares(shared) => self.shares(shared),
            core::Output::Finding(finding) => {
                if self.is_done()
                    || !(self.matches(&finding.program.comm) || self.matches(&finding.child_comm))
                {
                    return Ok(());
                }
                // A resolution, or another later state, is no finding of its own.
                let is_new = finding.repeats > 0 || finding.number > self.last_finding;
                if is_new && !matches!(finding.state, State::Resolved(_)) {
                    self.tally.finding();
                }
                self.last_finding = self.last_finding.max(finding.number);
                let number = self.next_number();
                match &self.layout {
                    Layout::Json => {
                        json::write_line(&mut self.out, &json::finding(&self.context, number, finding))
                    }
                    Layout::Columns { columns, .. } => {
                        let block = columns.finding(finding);
                        // Neighbours share the empty line between them.
                        let block = if self.gap { block.trim_start_matches('\n') } else { &block };
                        self.gap = true;
                        writeln!(self.out, "{block}")
                    }
                }
            }
            core::Output::Undecided { .. } => {
                self.tally.undecided();
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn standing(&mut self, standing: &Standing) -> io::Result<()> {
        match &self.layout {
            Layout::Columns { .. } => {
                self.gap = false;
                write!(self.out, "{}", standing.text())
            }
            Layout::Json => {
                let reasons = standing.assessment.reasons.iter().map(|reason| AssessmentReason {
                    id: reason.id,
                    weight: reason.weight.name(),
                    what: reason.what.clone(),
                });
                let assessment = Assessment {
                    verdict: standing.assessment.verdict.name(),
                    reasons: reasons.collect(),
                    forked_children: standing.children as u64,
                    stuck_children: standing.stuck.clone(),
                };
                let process = (standing.process, &standing.program);
                // It is no event, and does not count as one of those that were asked for.
                let number = self.written + self.standing;
                self.standing += 1;
                let document = json::assessment(&self.context, number, standing.at, process, assessment);
                json::write_line(&mut self.out, &document)
            }
        }
    }

    fn batch(&mut self, _received: u64, _malformed: u64) -> io::Result<()> {
        self.layout.follow_the_terminal();
        self.out.flush()
    }

    fn is_done(&self) -> bool {
        self.selection.most.is_some_and(|most| self.written >= most)
    }
}

fn columns(time: TimeStyle, color: ColorChoice, context: &Context) -> Layout {
    let times = match time {
        TimeStyle::Relative => Times::Since(clock::now()),
        TimeStyle::Wall => Times::Wall { context: context.clone(), zone: jiff::tz::TimeZone::system() },
    };
    let color = color.is_on();
    // The kernel's greatest pid_max (include/linux/threads.h) where it cannot be read.
    let pid_max = clock::pid_max().unwrap_or(1 << 22);
    let width = width();
    let columns = Box::new(Columns::new(times.clone(), width, pid_max, color));
    Layout::Columns { columns, terminal: width.map(|width| Terminal { times, pid_max, color, width }) }
}

impl Layout {
    /// Lays out anew where the terminal has another width than before.
    fn follow_the_terminal(&mut self) {
        if let Self::Columns { columns, terminal: Some(terminal) } = self
            && let Some(width) = width()
            && width != terminal.width
        {
            terminal.width = width;
            **columns = Columns::new(terminal.times.clone(), Some(width), terminal.pid_max, terminal.color);
        }
    }
}
