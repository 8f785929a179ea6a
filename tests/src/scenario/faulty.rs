//! Servers that are set up so that their workers are missing sooner or later, or whose workers never come to wait for work;
//! and those that look like them. They are killed in the end: some leave workers behind that nobody else ends.

use std::os::unix::net::UnixStream;

use anyhow::{Context as _, Result, ensure};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::{
    Scenario,
    web::{gunicorn, uwsgi, uwsgi_with},
};
use crate::{
    expectation::SILENCE,
    http::ask,
    process,
    program::{Launch, Program},
    wait::until,
};

/// Of these findings other tests say what is expected.
const fn scenario(
    name: &'static str,
    prepare: fn(&std::path::Path) -> Result<Launch>,
    work: fn(&mut Program) -> Result<()>,
) -> Scenario {
    Scenario { name, expected: SILENCE, prepare, work, stop: Some(Signal::SIGKILL) }
}

/// No process looks after its workers.
pub(crate) const NO_MASTER: Scenario = scenario(
    "uwsgi_runs_without_a_master",
    |folder| uwsgi_with(folder, "wsgi.py", &[]),
    |program| workers(program, 1),
);
/// The same, and somebody kills one.
pub(crate) const NO_MASTER_AND_A_KILL: Scenario = scenario(
    "uwsgi_loses_a_worker_without_a_master",
    |folder| uwsgi_with(folder, "wsgi.py", &[]),
    |program| workers(program, 1),
);
/// The same with an application that crashes.
pub(crate) const NO_MASTER_AND_A_CRASH: Scenario = scenario(
    "uwsgi_loses_a_worker_that_crashes_without_a_master",
    |folder| uwsgi_with(folder, "wsgi_aborts.py", &["--processes", "3"]),
    |program| workers(program, 2),
);
/// The thread that the application starts in each worker never runs.
pub(crate) const THREADS_OFF: Scenario = scenario(
    "uwsgi_loads_an_application_with_a_thread_and_has_threads_off",
    |folder| uwsgi_with(folder, "wsgi_with_thread.py", &["--master", "--lazy-apps"]),
    |program| workers(program, 2),
);
/// The same as [`NO_MASTER_AND_A_KILL`] with a master.
pub(crate) const MASTER_AND_A_KILL: Scenario = scenario(
    "uwsgi_replaces_a_worker_with_a_master",
    |folder| uwsgi(folder, "wsgi.py", &[]),
    |program| workers(program, 2),
);
/// Its workers load an application that never comes to an end with that.
pub(crate) const GUNICORN_WAITS: Scenario = scenario(
    "gunicorn_loads_an_application_that_waits_for_ever",
    |folder| gunicorn("python", folder, &["--timeout", "600", "wsgi_waits"]),
    |program| started(program, 2),
);
/// The same.
pub(crate) const UWSGI_WAITS: Scenario = scenario(
    "uwsgi_loads_an_application_that_waits_for_ever",
    |folder| uwsgi(folder, "wsgi_waits.py", &["--lazy-apps"]),
    |program| started(program, 2),
);
/// It takes long, and is ready then.
pub(crate) const GUNICORN_IS_SLOW: Scenario = scenario(
    "gunicorn_loads_an_application_that_waits_for_30_seconds",
    |folder| Ok(gunicorn("python", folder, &["--timeout", "600", "wsgi_waits"])?.env("WAITS", "30")),
    |program| started(program, 2),
);

/// Waits until it has forked so many.
fn started(program: &mut Program, count: usize) -> Result<()> {
    program.wait_for("its workers", |program| Ok(process::descendants(program.pid()).len() == count))
}

/// The same, and that they can be asked.
fn workers(program: &mut Program, count: usize) -> Result<()> {
    started(program, count)?;
    let socket = program.folder().join("socket");
    program.wait_for("a server at its socket", |_| Ok(UnixStream::connect(&socket).is_ok()))
}

/// Somebody kills a worker.
pub(crate) fn kill_a_worker(program: &mut Program) -> Result<()> {
    let workers = process::descendants(program.pid());
    let worker = workers.first().context("it has no worker")?;
    kill(Pid::from_raw(worker.pid), Signal::SIGKILL).context("the worker is gone")
}

/// Requests come until a worker crashes over one.
pub(crate) fn crash_a_worker(program: &mut Program) -> Result<()> {
    let before = process::descendants(program.pid()).len();
    let socket = program.folder().join("socket");
    until("a worker to crash", || {
        // Over this one it may be.
        let _ = ask(UnixStream::connect(&socket)?, "/abort");
        let now = process::descendants(program.pid()).len();
        ensure!(now <= before, "there are more");
        Ok((now < before).then_some(()))
    })
}
