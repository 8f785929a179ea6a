//! Real programs, how each is started and made to fork, and what forkwatch is expected to say about it.

mod celery;
mod cpython;
pub(crate) mod faulty;
pub(crate) mod redis;
pub(crate) mod servers;
mod tools;
pub(crate) mod web;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use nix::sys::signal::Signal;

use crate::{
    expectation::{self, Expected},
    host::workspace,
    program::{Launch, Program},
    provided::provided,
    watched::Watched,
};

pub use celery::{celery_with_a_task_that_waits, send_task};
pub use web::{
    gunicorn_with_a_stuck_worker, gunicorn_with_connection, gunicorn_with_connection_and_thread,
    gunicorn_with_forksafe, gunicorn_with_one_worker, gunicorn_with_pipes, gunicorn_with_stuck_threads,
    plain_gunicorn, plain_uwsgi, uwsgi, uwsgi_with, uwsgi_with_forksafe,
};

/// A real program that forks.
#[derive(Clone, Copy)]
pub struct Scenario {
    /// What it is, as the name of a test.
    pub name: &'static str,
    /// All that forkwatch is to report about it.
    pub expected: &'static [Expected],
    /// Prepares its folder and says what to start.
    prepare: fn(&Path) -> Result<Launch>,
    /// Has it fork, and returns when it has.
    work: fn(&mut Program) -> Result<()>,
    /// What asks it to end; absent where the end of its stdin, or of its work, does.
    stop: Option<Signal>,
}

/// All of them.
pub fn all() -> impl Iterator<Item = &'static Scenario> {
    [web::ALL, celery::ALL, cpython::ALL, servers::ALL, redis::ALL, tools::ALL].into_iter().flatten()
}

impl Scenario {
    /// The scenario of this name.
    pub fn named(name: &str) -> Result<&'static Self> {
        all().find(|scenario| scenario.name == name).with_context(|| format!("no scenario {name}"))
    }

    /// Holds it before its exec.
    pub fn hold(&self) -> Result<Program> {
        Program::hold(self.prepare)
    }

    /// Has it, released, fork; returns when it has.
    pub fn work(&self, program: &mut Program) -> Result<()> {
        (self.work)(program)
    }

    /// Runs it under a watching forkwatch and checks that this reports what is expected, and nothing else.
    pub fn watch(&self) -> Result<()> {
        let mut watched = Watched::start(Program::hold(self.prepare)?)?;
        (self.work)(&mut watched.program)?;
        watched.expect(self.expected)?;
        watched.program.end(self.stop)?;
        let events = watched.stop()?;
        // Also what it forked while it ended.
        expectation::check(self.expected, &events)
    }

    /// Asks it to end, and waits until it has.
    pub fn end(&self, program: &mut Program) -> Result<()> {
        program.end(self.stop).map(drop)
    }

    /// Runs it without forkwatch: does it start, work, and end with all its children?
    pub fn run_alone(&self) -> Result<()> {
        let mut program = Program::hold(self.prepare)?;
        program.release()?;
        (self.work)(&mut program)?;
        program.end(self.stop).map(drop)
    }
}

/// For a script of ours: waits until it says it is done.
fn done(program: &mut Program) -> Result<()> {
    program.next_json().map(drop)
}

/// The folder of the Python fixtures.
pub(crate) fn python_fixtures() -> PathBuf {
    workspace().join("tests/fixtures/python")
}

/// A program of a Python environment, which finds our fixtures.
pub(crate) fn python(environment: &str, program: &str) -> Result<Launch> {
    let launch = Launch::new(provided(environment)?.join("bin").join(program));
    Ok(launch.env("PYTHONPATH", python_fixtures()).env("PYTHONDONTWRITEBYTECODE", "1"))
}
