//! Connections that are open at a fork, what the processes then do with them, and what forkwatch is to say.
//!
//! forkwatch learns of such a connection only once the child has lived on for the grace, so each program waits with
//! what it does until the tail has shown that it knows (`shares`), or that it has looked and found nothing. Afterwards
//! the recording is asked what was looked at: a test that expects silence fails if nobody looked.

mod look;
mod postgresql;
mod redis;
mod sockets;

use std::{
    ffi::OsString,
    net::{Ipv4Addr, TcpListener},
    path::Path,
    sync::atomic::{AtomicU8, Ordering},
};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use serde_json::Value;

use self::look::Look;
use crate::{
    event::Event,
    expectation::{self, Expected},
    program::{Launch, Program},
    scenario::{python, python_fixtures},
    wait::until,
};

/// A program with a connection that is open when it forks.
#[derive(Clone, Copy)]
pub struct Case {
    /// What it does, as the name of a test.
    pub name: &'static str,
    /// What forkwatch is to report about it.
    expected: Option<Report>,
    /// Whether the children hold a connection of their parent's once they have lived on.
    shares: Shares,
    /// Prepares its folder and says what to start.
    prepare: fn(&Path) -> Result<Launch>,
    /// Has it fork, hands the children to the function, and then has it use the connection; gives what came of it.
    work: fn(&mut Program, Forked<'_>) -> Result<String>,
    /// What came of it.
    outcome: &'static str,
    /// What asks it to end; absent where the end of its stdin does.
    stop: Option<Signal>,
}

/// Whether children hold a connection together with their parent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shares {
    /// One that forkwatch is to watch.
    One,
    /// None, or only what is shared on purpose: forkwatch is to look, and to watch nothing.
    Nothing,
    /// They exec, perhaps after somebody has looked: from then on nothing is shared that matters.
    Execed,
}

impl Shares {
    /// What a tail shows of such a child once it has looked.
    const fn event(self) -> &'static str {
        match self {
            Self::One => "shares",
            Self::Nothing => "lives",
            Self::Execed => "exec",
        }
    }

    /// Whether so many connections, or none because nobody looked, are right.
    fn fits(self, shared: Option<usize>) -> bool {
        match self {
            Self::One => shared.is_some_and(|shared| shared > 0),
            Self::Nothing => shared == Some(0),
            Self::Execed => shared.is_none_or(|shared| shared <= 1),
        }
    }
}

/// What is to happen once there are these children, before any of them uses a connection.
type Forked<'a> = &'a mut dyn FnMut(&[i64]) -> Result<()>;

/// All of them.
pub fn all() -> impl Iterator<Item = &'static Case> {
    [postgresql::ALL, redis::ALL, sockets::ALL].into_iter().flatten()
}

/// A finding, and what it is to tell.
#[derive(Clone, Copy)]
struct Report {
    finding: Expected,
    told: &'static [&'static str],
}

/// Two processes have used one connection.
const fn used(program: &'static str, told: &'static [&'static str]) -> Report {
    Report { finding: finding("shared-connection", "critical", program), told }
}

/// The same, each in its turn and by no client library.
const fn used_in_turn(program: &'static str, told: &'static [&'static str]) -> Report {
    Report { finding: finding("shared-connection", "warning", program), told }
}

/// A child has closed its parent's connection.
const fn closed(program: &'static str, told: &'static [&'static str]) -> Report {
    Report { finding: finding("shared-connection-closed", "warning", program), told }
}

const fn finding(hazard: &'static str, severity: &'static str, program: &'static str) -> Expected {
    Expected { hazard, severity, program: Some(program), threads: &[], signals: &[] }
}

impl Report {
    /// Checks that one of these events is it, and tells all.
    fn is_told(self, events: &[Event]) -> Result<()> {
        let is_it = |event: &&Event| event.finding().is_some_and(|finding| self.finding.is_met_by(finding));
        let text = events.iter().find(is_it).context("there is no such finding")?.0.to_string();
        let untold = self.told.iter().find(|told| !text.contains(**told));
        ensure!(untold.is_none(), "{untold:?} is not told in {text}");
        Ok(())
    }
}

impl Case {
    /// Runs it without forkwatch, and checks that what is said to come of it comes of it.
    pub fn run_alone(&self) -> Result<()> {
        let mut program = Program::hold(self.prepare)?;
        program.release()?;
        self.work(&mut program, &mut |_| Ok(()))?;
        program.end(self.stop).map(drop)
    }

    /// Runs it under a watching forkwatch and checks what this reports, and what it has looked at.
    pub fn watch(&self) -> Result<()> {
        let mut program = Program::hold(self.prepare)?;
        let mut look = Look::at(&program)?;
        program.release()?;
        let mut watched = Vec::new();
        self.work(&mut program, &mut |children| {
            watched = children.to_vec();
            children.iter().try_for_each(|child| look.shows(self.shares.event(), *child))?;
            look.has_judged()
        })?;
        if let Some(report) = self.expected {
            look.reports(report.finding.hazard)?;
        }
        look.has_judged()?;
        program.end(self.stop)?;
        let seen = look.end()?;
        for child in watched {
            let shared = seen.shared_by(child);
            ensure!(
                self.shares.fits(shared),
                "{child} was to share {:?}, and was seen to {shared:?}",
                self.shares
            );
        }
        let expected: Vec<Expected> = self.expected.iter().map(|report| report.finding).collect();
        expectation::check(&expected, &seen.events)?;
        self.expected.map_or(Ok(()), |report| report.is_told(&seen.events))
    }

    fn work(&self, program: &mut Program, forked: Forked<'_>) -> Result<()> {
        let outcome = (self.work)(program, forked)?;
        ensure!(
            outcome == self.outcome,
            "{outcome:?} came of it, not {:?}; it said: {}",
            self.outcome,
            program.output()
        );
        Ok(())
    }
}

/// Runs a case of a script.
fn run(script: &str, case: &str) -> Result<Launch> {
    let arguments: [OsString; 2] = [python_fixtures().join(script).into(), case.into()];
    Ok(python("python", "python")?.args(arguments))
}

/// For a fixture: it names its children, and at the next step says what came of what they do.
fn script(program: &mut Program, forked: Forked<'_>) -> Result<String> {
    let told = program.next_json()?;
    let children = told.get("children").and_then(Value::as_array).context("it named no children")?;
    forked(&children.iter().filter_map(Value::as_i64).collect::<Vec<_>>())?;
    program.step()?;
    let told = program.next_json()?;
    Ok(told.get("outcome").and_then(Value::as_str).context("it told no outcome")?.to_owned())
}

/// An address of the loopback of which nobody uses this port: what is behind a connection is told by its port.
fn free_loopback(port: u16) -> Result<Ipv4Addr> {
    static NEXT: AtomicU8 = AtomicU8::new(1);
    let [_, _, high, low] = std::process::id().to_be_bytes();
    until("a free address", || {
        let address =
            Ipv4Addr::new(127, NEXT.fetch_add(1, Ordering::Relaxed).max(1), high, low.clamp(1, 254));
        Ok(TcpListener::bind((address, port)).is_ok().then_some(address))
    })
}
