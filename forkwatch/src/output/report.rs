//! What was found while a command ran, as reports for those who read it afterwards: CI services, editors, people.

use std::{cell::RefCell, env, io, path::Path, rc::Rc, time::Duration};

use super::{Context, Output};
use crate::{
    core,
    model::{
        event::{Event, Lost},
        finding::{Finding, State},
        particulars::Particulars,
    },
};

mod document;
mod github;
mod junit;
mod sarif;

pub use document::document;
pub use github::github;
pub use junit::junit;
pub use sarif::sarif;

/// Most findings that a report has in full. What is beyond them is counted.
const MOST_FOUND: usize = 1000;

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommandEnd {
    /// It exited with this code.
    Code(u8),
    /// This signal killed it.
    Signal(i32),
}

/// A hazard, as a report introduces it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Introduced {
    /// Its id, as in findings.
    pub id: &'static str,
    /// A few words.
    pub title: &'static str,
    /// What goes wrong.
    pub what: &'static str,
    /// The page that explains it.
    pub link: &'static str,
}

/// Something that was found, and what has become of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The first report, in the worst state that was told.
    pub finding: Finding,
    /// How many times the same was done again.
    pub repeats: u64,
    /// How it ended, where it did.
    pub end: Option<Finding>,
}

impl Found {
    /// Whether forkwatch took it back.
    pub fn is_withdrawn(&self) -> bool {
        matches!(self.end, Some(Finding { state: State::Resolved(resolution), .. }) if resolution.withdraws())
    }
}

/// What was seen while the command ran.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// What was found, in the order of its numbers.
    pub found: Vec<Found>,
    /// Findings beyond those that are kept.
    pub left_out: u64,
    /// Forks that were told; none where somebody else watched.
    pub forks: Option<u64>,
    /// Events that were lost.
    pub lost: u64,
    /// Findings that rules of the operator accept.
    pub accepted: u64,
    /// Hazards that could not be judged, because a process was gone or could not be read.
    pub undecided: u64,
}

/// All that reports are made of.
pub struct Report<'a> {
    /// The host, and when the watch began.
    pub context: &'a Context,
    /// The command with its arguments.
    pub command: &'a [String],
    /// How it ended.
    pub end: CommandEnd,
    /// How long it ran.
    pub took: Duration,
    /// What was seen, or why nothing was.
    pub seen: &'a Seen,
    /// What there is to be found.
    pub hazards: &'a [Introduced],
    /// Whether a finding makes the run fail.
    pub fails: &'a dyn Fn(&Found) -> bool,
}

impl Report<'_> {
    /// What makes the run fail.
    pub fn failures(&self) -> impl Iterator<Item = &Found> {
        self.seen.found.iter().filter(|found| (self.fails)(found))
    }
}

/// Keeps what it is told of, for a report.
pub struct Collecting(Rc<RefCell<Seen>>);

impl Collecting {
    /// An output, and what it collects.
    pub fn new() -> (Self, Rc<RefCell<Seen>>) {
        let seen = Rc::new(RefCell::new(Seen { forks: Some(0), ..Seen::default() }));
        (Self(Rc::clone(&seen)), seen)
    }
}

impl Output for Collecting {
    fn event(&mut self, event: &Event, _: &Particulars) -> io::Result<()> {
        *self.0.borrow_mut().forks.get_or_insert(0) += u64::from(matches!(event, Event::Fork(_)));
        Ok(())
    }

    fn lost(&mut self, lost: &Lost) -> io::Result<()> {
        self.0.borrow_mut().lost += lost.count;
        Ok(())
    }

    fn finding(&mut self, finding: &Finding) -> io::Result<()> {
        let mut seen = self.0.borrow_mut();
        if let Some(found) = seen.found.iter_mut().find(|found| found.finding.number == finding.number) {
            found.repeats += finding.repeats;
            // A summary of repeats has no evidence, and who cannot be looked at any more was confirmed before.
            if finding.repeats == 0 && finding.state != State::Unknown {
                found.finding = finding.clone();
            }
        } else if seen.found.len() < MOST_FOUND {
            seen.found.push(Found { finding: finding.clone(), repeats: finding.repeats, end: None });
        } else {
            seen.left_out += 1;
        }
        Ok(())
    }

    fn resolution(&mut self, finding: &Finding) -> io::Result<()> {
        let mut seen = self.0.borrow_mut();
        if let Some(found) = seen.found.iter_mut().find(|found| found.finding.number == finding.number) {
            found.end = Some(finding.clone());
        }
        Ok(())
    }

    fn said(&mut self, said: &core::Output) -> io::Result<()> {
        let mut seen = self.0.borrow_mut();
        match said {
            core::Output::Suppressed { .. } => seen.accepted += 1,
            core::Output::Undecided { .. } => seen.undecided += 1,
            _ => {}
        }
        Ok(())
    }
}

/// The place in a script that a finding names, as file and line: where its thread waits, innermost first.
fn place(finding: &Finding) -> Option<(&str, u32)> {
    let script = finding.facts.lock.as_deref()?.script.as_ref()?;
    // A frame of the standard library says less than the one that called it, but files alone do not tell them apart
    // for every language. What is installed lies below such a directory.
    let installed =
        |path: &str| path.contains("/lib/python") || path.contains("/lib/ruby/") || path.starts_with('<');
    let frames = || script.frames.iter().filter_map(|frame| Some((frame.module.as_deref()?, frame.line?)));
    frames().find(|(path, _)| !installed(path)).or_else(|| frames().next())
}

/// The path as it is from the working directory, which in CI is the checkout; unchanged where it lies elsewhere.
fn relative(path: &str) -> &str {
    let here = env::current_dir().ok();
    let relative = here.as_deref().and_then(|here| Path::new(path).strip_prefix(here).ok());
    relative.and_then(Path::to_str).unwrap_or(path)
}

/// What a finding says, in paragraphs: the summary, what to change, where that is explained.
fn text(found: &Found) -> String {
    let Found { finding, repeats, end } = found;
    let again = match repeats {
        0 => None,
        1 => Some("The same happened once more.".to_owned()),
        count => Some(format!("The same happened {count} times more.")),
    };
    let end =
        end.as_ref().and_then(|end| end.facts.end.as_ref()).map(|end| format!("The child {}.", end.words()));
    let remedy = [format!("Fix: {}", finding.remedy.text), format!("See: {}", finding.remedy.link)];
    [finding.summary.clone()].into_iter().chain(again).chain(end).chain(remedy).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests;
