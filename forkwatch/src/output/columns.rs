//! The terminal view: a line for each event, findings set off from them.
//!
//! ```text
//!      TIME EVENT    PID COMM            DETAIL
//!   +1.234s fork    4242 make            by 4100
//!   +1.235s exec    4242 cc1             0.9 ms after the fork
//! ```
//! On a terminal a detail that does not fit is left out, and `…` says so; elsewhere every line is whole.

use std::iter;

use jiff::tz::TimeZone;
use unicode_width::UnicodeWidthStr;

use self::{
    block::Block,
    style::{Paint, Tone},
};
use super::Context;
use crate::model::{
    event::{CloneFailure, CloneKind, Event, Exec, Exit, ExitStatus, Fork, LossReason, Lost, Thread},
    exit_code::meaning,
    finding::Finding,
    limit::{Cause, Limit},
    process::{Comm, ProcessKey, escape},
    signals::signal_name,
    time::BootTime,
};

mod block;
mod duration;
mod lines;
mod proof;
mod standing;
mod style;
mod workers;

pub use duration::humanly;
pub use lines::{ColumnLines, Look};
pub use proof::frame;

/// Columns of a terminal that nothing is known of, and of what is no terminal.
const DEFAULT_WIDTH: usize = 80;
/// Width of `SHARED`, the longest name of an event.
const EVENT_WIDTH: usize = 6;
/// Widest comm: 15 bytes (an escaped one may be wider and pushes the rest aside).
const COMM_WIDTH: usize = 15;

/// Ends a line that has more to tell.
const LEFT_OUT: &str = " …";
/// From here on there is room for more than the essential.
const WIDE: usize = 100;

/// How times are shown.
#[derive(Clone, Debug)]
pub enum Times {
    /// Since this point: `+12.345s`.
    Since(BootTime),
    /// By the wall clock: `14:03:59.123`.
    Wall {
        /// The host that is watched.
        context: Context,
        /// Whose clock.
        zone: TimeZone,
    },
}

impl Times {
    const fn width(&self) -> usize {
        match self {
            Self::Since(_) => 10,
            Self::Wall { .. } => 12,
        }
    }

    fn show(&self, at: BootTime) -> String {
        match self {
            Self::Since(start) => {
                let sign = if at < *start { '-' } else { '+' };
                let milliseconds = (at.0.abs_diff(start.0)) / 1_000_000;
                format!("{sign}{}.{:03}s", milliseconds / 1000, milliseconds % 1000)
            }
            Self::Wall { context, zone } => {
                context.timestamp(at).to_zoned(zone.clone()).strftime("%H:%M:%S.%3f").to_string()
            }
        }
    }
}

/// How lines are laid out.
#[derive(Clone, Debug)]
pub struct Columns {
    times: Times,
    /// Columns of the terminal; absent where it is none.
    width: Option<usize>,
    pid_width: usize,
    paint: Paint,
}

impl Columns {
    /// Lays out lines for a terminal of `width` columns (at least 80 are used; none means that it is no terminal and
    /// nothing is left out), for pids below `pid_max`, with or without colour.
    pub fn new(times: Times, width: Option<usize>, pid_max: u32, color: bool) -> Self {
        Self {
            times,
            width: width.map(|width| width.max(DEFAULT_WIDTH)),
            pid_width: pid_max.saturating_sub(1).to_string().len().max("PID".len()),
            paint: Paint(color),
        }
    }

    /// The line above all others.
    pub fn header(&self) -> String {
        self.paint
            .apply(Tone::Faint, self.row("TIME", "EVENT", "PID", "COMM", &["DETAIL".to_owned()]).trim_end())
    }

    /// The line of an event. `limit` says why a call failed, where that was looked at.
    pub fn event(&self, event: &Event, limit: Option<&Limit>) -> String {
        match event {
            Event::Fork(fork) => self.fork(fork),
            Event::Exec(exec) => self.exec(exec),
            Event::Exit(exit) => self.exit(exit),
            Event::Thread(thread) => self.thread(thread),
            Event::CloneFailure(failure) => self.clone_failure(failure, limit),
            Event::Lost(lost) => self.lost(lost),
        }
    }

    /// The line of a child that lives on without exec, `age` nanoseconds after its fork.
    pub fn lives_on(&self, at: BootTime, child: ProcessKey, comm: &Comm, age: u64) -> String {
        self.line(
            at,
            "lives",
            Tone::Plain,
            child.tgid,
            comm,
            &[format!("on without exec, {} after the fork", humanly(age))],
        )
    }

    /// The line of a connection that a child holds together with its parent.
    pub fn shares(&self, at: BootTime, child: ProcessKey, parent: u32, peer: &str) -> String {
        self.line(
            at,
            "shares",
            Tone::Plain,
            child.tgid,
            &Comm::default(),
            &[format!("the connection to {peer} with {parent}")],
        )
    }

    /// A finding: several lines, with an empty one before and after.
    pub fn finding(&self, finding: &Finding) -> String {
        let block = Block {
            label_width: self.times.width(),
            width: self.width.unwrap_or(DEFAULT_WIDTH),
            paint: self.paint,
        };
        block.finding(&self.times.show(finding.at), finding)
    }

    /// What a finding rests on and what to change, without its heading and what it says first.
    pub fn evidence(&self, finding: &Finding) -> String {
        let block = Block {
            label_width: self.times.width(),
            width: self.width.unwrap_or(DEFAULT_WIDTH),
            paint: self.paint,
        };
        block.whole_evidence(finding)
    }

    fn is_wide(&self) -> bool {
        self.width.is_none_or(|width| width >= WIDE)
    }

    fn fork(&self, fork: &Fork) -> String {
        let (event, tone) = match fork.kind {
            CloneKind::Copying => ("fork", Tone::Plain),
            CloneKind::Vfork => ("vfork", Tone::Faint),
            CloneKind::SharedMemory => ("shared", Tone::Faint),
            CloneKind::Kernel => ("kernel", Tone::Faint),
        };
        let mut details = vec![format!("by {}", fork.parent.tgid)];
        let mut note = |holds: bool, detail: String| details.extend(holds.then_some(detail));
        note(fork.threads > 1, format!("{} threads", fork.threads));
        note(!fork.pending().is_empty(), format!("{} pending", fork.pending()));
        note(true, format!("uid {}", fork.uid));
        note(fork.parent_tid != fork.parent.tgid, format!("thread {}", fork.parent_tid));
        note(fork.generation > 1, format!("generation {}", fork.generation));
        note(!fork.tracked, "end not tracked".to_owned());
        let inner = fork.child_namespace_pid;
        note(inner != fork.child.tgid && inner != 0, format!("inner pid {inner}"));
        self.line(fork.at, event, tone, fork.child.tgid, &fork.comm, &details)
    }

    fn exec(&self, exec: &Exec) -> String {
        let mut details = vec![match exec.fork {
            Some(fork) => format!("{} after the fork", humanly(fork.since)),
            None => "second exec, or fork not seen".to_owned(),
        }];
        details.push(format!("uid {}", exec.uid));
        if !exec.blocked.is_empty() {
            details.push(format!("blocks {}", exec.blocked));
        }
        if exec.from_tid != exec.process.tgid {
            details.push(format!("from thread {}", exec.from_tid));
        }
        self.line(exec.at, "exec", Tone::Plain, exec.process.tgid, &exec.comm, &details)
    }

    fn exit(&self, exit: &Exit) -> String {
        let after = humanly(exit.lifetime);
        let (mut details, tone) = match exit.status {
            ExitStatus::Code(code) => (vec![format!("code {code} after {after}")], Tone::Plain),
            ExitStatus::Signal { number, core_dumped } => {
                let core = if core_dumped { " (core)" } else { "" };
                let killed = format!("killed by {} after {after}{core}", signal_name(number.into()));
                (vec![killed], Tone::Warning)
            }
        };
        if let ExitStatus::Code(code) = exit.status {
            details.extend(meaning(code, &exit.comm.to_text()));
        }
        self.line(exit.at, "exit", tone, exit.process.tgid, &exit.comm, &details)
    }

    fn thread(&self, thread: &Thread) -> String {
        let details = [
            format!("of {}", thread.tgid),
            format!("now {} threads", thread.threads),
            format!("by thread {}", thread.parent_tid),
        ];
        self.line(thread.at, "thread", Tone::Faint, thread.tid, &thread.comm, &details)
    }

    fn clone_failure(&self, failure: &CloneFailure, limit: Option<&Limit>) -> String {
        let error = i32::try_from(failure.errno).map_or(nix::Error::UnknownErrno, nix::Error::from_raw);
        let after = format!("{error:?} after {}", humanly(failure.duration));
        let uid = format!("uid {}", failure.uid);
        let details = match limit.filter(|limit| limit.cause != Cause::Other) {
            Some(Limit { cause, cgroup }) => {
                // Where there is little room, the last part of the path is what tells most.
                let place = cgroup.as_deref().map(|path| {
                    let last = path.rsplit('/').next().filter(|last| !last.is_empty() && !self.is_wide());
                    format!("in {}", escape(last.unwrap_or(path).as_bytes()))
                });
                iter::once(cause.words().to_owned())
                    .chain(place)
                    .chain([uid, format!("clone: {after}")])
                    .collect()
            }
            None => vec![format!("clone: {after}"), uid, error.desc().to_owned()],
        };
        self.line(failure.at, "failed", Tone::Warning, failure.tgid, &failure.comm, &details)
    }

    /// The line of a loss.
    pub fn lost(&self, lost: &Lost) -> String {
        let why = match lost.reason {
            LossReason::RingFull => "the ring was full",
            LossReason::PlainShed => "plain ones gave way to hazardous ones",
            LossReason::Malformed => "their layout is unknown",
        };
        let details = [format!("{} events: {why}", grouped(lost.count))];
        let row = self.row(&self.times.show(lost.at), "lost", "", "", &details);
        self.paint.apply(Tone::Critical, &row)
    }

    fn line(
        &self,
        at: BootTime,
        event: &str,
        tone: Tone,
        pid: u32,
        comm: &Comm,
        details: &[String],
    ) -> String {
        let row = self.row(&self.times.show(at), event, &pid.to_string(), &escape(comm.bytes()), details);
        self.paint.apply(tone, row.trim_end())
    }

    /// Columns that stand before the details of a line.
    fn beside(&self) -> usize {
        self.times.width() + 1 + EVENT_WIDTH + 1 + self.pid_width + 1 + COMM_WIDTH + 1
    }

    /// Details are ordered by what they matter: the last ones go first.
    fn row(&self, time: &str, event: &str, pid: &str, comm: &str, details: &[String]) -> String {
        let (time_width, pid_width) = (self.times.width(), self.pid_width);
        let gap = " ".repeat(COMM_WIDTH.saturating_sub(comm.width()));
        let mut row = format!("{time:>time_width$} {event:<EVENT_WIDTH$} {pid:>pid_width$} {comm}{gap} ");
        if pid.is_empty() && comm.is_empty() {
            row.truncate(time_width + 1 + EVENT_WIDTH + 1);
        }
        let mut left = self.width.map_or(usize::MAX, |width| width.saturating_sub(row.width()));
        for (index, detail) in details.iter().enumerate() {
            let separator = if index == 0 { "" } else { ", " };
            // Room for the mark must stay, unless this is the last.
            let reserve = if index + 1 == details.len() { 0 } else { LEFT_OUT.width() };
            let needed = separator.len() + detail.width();
            if index > 0 && needed + reserve > left {
                row.push_str(LEFT_OUT);
                break;
            }
            left = left.saturating_sub(needed);
            row.push_str(separator);
            row.push_str(detail);
        }
        row
    }
}

/// A count with commas: `1,234,567`.
fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests;
