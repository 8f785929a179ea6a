//! A program and the sentinel beside it under one forkwatch.

use anyhow::{Context, Result};

use crate::{
    event::Event,
    expectation::{self, Expected},
    fixture,
    forkwatch::Forkwatch,
    program::Program,
};

/// A held program, a sentinel, and a forkwatch that watches both and their descendants, and nothing else.
pub struct Watched {
    /// The program under watch.
    pub program: Program,
    /// The forkwatch.
    pub forkwatch: Forkwatch,
    sentinel: Program,
}

impl Watched {
    /// Watches a held program, then releases it.
    pub fn start(mut program: Program) -> Result<Self> {
        let mut sentinel = fixture::hold("sentinel", &[])?;
        let forkwatch = Forkwatch::tail_pids(&[program.pid(), sentinel.pid()])?;
        sentinel.release()?;
        program.release()?;
        Ok(Self { program, forkwatch, sentinel })
    }

    /// Holds a fixture, watches it and releases it.
    pub fn fixture(name: &str, arguments: &[&str]) -> Result<Self> {
        Self::start(fixture::hold(name, arguments)?)
    }

    /// Waits until every fork so far has been judged: until a fork made now has been found unsafe, which takes the
    /// whole grace.
    pub fn judged(&mut self) -> Result<()> {
        self.sentinel.step()?;
        let fork = self.sentinel.next_json()?;
        let child =
            fork.get("child").and_then(serde_json::Value::as_i64).context("the sentinel names no child")?;
        let is_it = |event: &Event| event.finding().is_some_and(|finding| finding.pid() == Some(child));
        self.forkwatch.wait_for("the finding about the sentinel", is_it).map(drop)
    }

    /// Waits for a finding about the program.
    pub fn finding(&mut self, expected: &Expected) -> Result<Event> {
        let is_it = |event: &Event| event.finding().is_some_and(|finding| expected.is_met_by(finding));
        self.forkwatch.wait_for(&format!("{expected:?}"), is_it)
    }

    /// Waits for what is expected, then until everything has been judged, then checks that nothing else was found.
    pub fn expect(&mut self, expected: &[Expected]) -> Result<()> {
        for one in expected {
            self.finding(one)?;
        }
        self.judged()?;
        expectation::check(expected, &self.events_of_program(self.forkwatch.events()))
    }

    /// Ends all three, and gives back the events about the program alone.
    pub fn stop(mut self) -> Result<Vec<Event>> {
        let sentinel = i64::from(self.sentinel.pid());
        self.program.end(None)?;
        let (events, _) = self.forkwatch.stop()?;
        self.sentinel.end(None)?;
        Ok(without(events, sentinel))
    }

    /// Of these events, those that are not about the sentinel.
    pub fn events_of_program(&self, events: Vec<Event>) -> Vec<Event> {
        without(events, i64::from(self.sentinel.pid()))
    }
}

fn without(events: Vec<Event>, sentinel: i64) -> Vec<Event> {
    let about = |event: &Event| event.parent_pid() == Some(sentinel) || event.pid() == Some(sentinel);
    events.into_iter().filter(|event| !about(event)).collect()
}
