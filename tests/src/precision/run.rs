//! One run of a case, and what was found in it.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use jiff::Timestamp;

use super::{Case, Start, Step, cases};
use crate::{
    event::{Event, Finding},
    forkwatch::Forkwatch,
};

/// How long a case is watched from the moment on when its fault is there: a third longer than the slowest finding
/// takes.
pub(super) const WATCHED: Duration = Duration::from_secs(120);
/// The same for descriptors left behind, which are looked for twice a minute.
const WATCHED_FOR_DESCRIPTORS: Duration = Duration::from_secs(200);
/// How old children are before a fixture takes its later step: five times the grace.
const LATER: Duration = Duration::from_secs(5);
/// And before one does whose children a daemon's could be: longer than a daemon's forker is thought to stay.
const OLD: Duration = Duration::from_secs(40);

/// A finding.
#[derive(Clone, Debug)]
pub struct Found {
    /// What is wrong.
    pub hazard: String,
    /// `heuristic`, `strong` or `certain`.
    pub certainty: String,
    /// Seconds from the fault to the finding, where an event tells when the fault was.
    pub after: Option<f64>,
    /// Whether forkwatch has taken it back.
    pub withdrawn: bool,
    /// What it says.
    pub summary: String,
}

/// What was found in one run.
#[derive(Clone, Debug)]
pub struct Run {
    /// In the order in which it was found.
    pub found: Vec<Found>,
}

/// Runs a case once.
pub fn run(case: &Case) -> Result<Run> {
    let mut program = case.hold()?;
    let mut forkwatch = Forkwatch::tail_pids(&[program.pid()])?;
    program.release()?;
    match case.start {
        Start::Real(scenario) | Start::Server(scenario, _) => scenario.work(&mut program)?,
        Start::C(..) | Start::Python(..) => drop(program.next_json()?),
    }
    match case.step {
        Step::None => {}
        Step::Later => {
            // Nothing tells that forkwatch has come to know the children: that it had the time for it has to do.
            thread::sleep(LATER);
            match case.start {
                Start::Server(_, later) => later(&mut program)?,
                _ => program.step()?,
            }
        }
        Step::WhenOld => {
            thread::sleep(OLD);
            program.step()?;
        }
        Step::Once(hazard) => {
            let is_it = |event: &Event| event.finding().is_some_and(|finding| finding.hazard() == hazard);
            // A miss is a result too, and what follows would tell nothing more.
            if forkwatch.wait_for(hazard, is_it).is_ok() {
                program.step()?;
            }
        }
    }
    let (begun, told) = (Instant::now(), Timestamp::now());
    // No condition ends this: that nothing is said in all this time is what is measured.
    thread::sleep(case.watched().saturating_sub(begun.elapsed()));
    // How a real program ends is its own affair, and may go wrong; the others' children are killed to clear them away.
    if let Start::Real(scenario) = case.start {
        scenario.end(&mut program)?;
    }
    let (events, _) = forkwatch.stop()?;
    let first = |finding: &Finding<'_>| finding.state() != "resolved" && finding.repeats() == 0;
    let found = events.iter().filter(|event| event.finding().is_some_and(|finding| first(&finding)));
    Ok(Run { found: found.map(|event| look(case, event, &events, told)).collect::<Result<_>>()? })
}

impl Case {
    fn watched(&self) -> Duration {
        let slow = self.truth.iter().chain(self.look_alike).any(|hazard| cases::SLOW.contains(hazard));
        if slow { WATCHED_FOR_DESCRIPTORS } else { WATCHED }
    }

    /// The action of the event with which a fault begins; none where that is what the fixture has told.
    fn fault(&self, hazard: &str) -> Option<&'static str> {
        match hazard {
            // It is there from the start, of which no event tells.
            "server-setup" => Some("fork"),
            _ if matches!(self.step, Step::Later | Step::WhenOld) => None,
            "crash-loop" => None,
            "blocked-signals" => Some("exec"),
            "unreaped-children" | "worker-killed-while-stuck" => Some("exit"),
            _ => Some("fork"),
        }
    }
}

fn look(case: &Case, event: &Event, events: &[Event], told: Timestamp) -> Result<Found> {
    let finding = event.finding().context("not a finding")?;
    let is_end = |other: &Event| {
        other.finding().is_some_and(|other| other.state() == "resolved" && other.id() == finding.id())
    };
    let end = events.iter().find(|other| is_end(other));
    let withdrawn =
        end.is_some_and(|end| matches!(end.text("/forkwatch/finding/resolution"), "execed" | "woke"));
    let at = |event: &Event| event.text("/@timestamp").parse::<Timestamp>();
    let fault = match case.fault(finding.hazard()) {
        None => Some(told),
        Some(action) => {
            let is_fault = |other: &&Event| other.action() == action && other.pid() == finding.pid();
            events.iter().find(is_fault).map(at).transpose()?
        }
    };
    let found = at(event)?;
    Ok(Found {
        hazard: finding.hazard().to_owned(),
        certainty: event.text("/forkwatch/finding/certainty").to_owned(),
        after: fault.map(|fault| found.duration_since(fault).as_secs_f64()),
        withdrawn,
        summary: event.text("/forkwatch/finding/summary").to_owned(),
    })
}
