//! Celery's prefork pool.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;

use super::{Scenario, python, python_fixtures, redis};
use crate::{
    expectation::{Expected, SILENCE, multithreaded},
    program::{Launch, Program},
    provided::provided,
};

const THREAD: &[Expected] = &[multithreaded("celery", &["metrics-push"])];

pub(super) const ALL: &[Scenario] = &[
    Scenario {
        name: "celery_forks_workers_beside_a_thread_started_at_import",
        expected: THREAD,
        prepare: |_| worker("celery_with_thread"),
        work: add,
        stop: Some(Signal::SIGTERM),
    },
    Scenario {
        name: "celery_forks_workers_without_threads",
        expected: SILENCE,
        prepare: |_| worker("celery_plain"),
        work: add,
        stop: Some(Signal::SIGTERM),
    },
];

/// A worker on a Redis of its own, whose socket both find in the environment.
fn worker(module: &str) -> Result<Launch> {
    let server = redis::running(None)?;
    let socket = server.folder().join(redis::SOCKET);
    Ok(python("python", "celery")?
        .args(["--app", module, "worker", "--pool", "prefork", "--concurrency", "2", "--loglevel", "INFO"])
        .env("REDIS_SOCKET", socket)
        // Celery warns root off pickle, which is not used here.
        .env("C_FORCE_ROOT", "1")
        .beside(server, redis::STOP))
}

/// A worker with a task that waits for threads of the parent's, and that is killed after these many seconds.
pub fn celery_with_a_task_that_waits(limit: u32) -> Result<Program> {
    Program::hold(|_| Ok(worker("celery_executor")?.env("TASK_TIME_LIMIT", limit.to_string())))
}

/// Hands such a worker its task.
pub fn send_task(program: &mut Program) -> Result<()> {
    program.said(" ready.")?;
    let server = program.companion().context("celery has a redis")?;
    let sent = Command::new(provided("python")?.join("bin/python"))
        .arg(python_fixtures().join("celery_executor.py"))
        .env("REDIS_SOCKET", server.folder().join(redis::SOCKET))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .output()
        .context("cannot run the client")?;
    ensure!(sent.status.success(), "the task was not sent: {}", String::from_utf8_lossy(&sent.stderr));
    Ok(())
}

/// Has a worker process add two numbers.
fn add(program: &mut Program) -> Result<()> {
    program.said(" ready.")?;
    let server = program.companion().context("celery has a redis")?;
    let client = Command::new(provided("python")?.join("bin/python"))
        .arg(python_fixtures().join("celery_client.py"))
        .env("REDIS_SOCKET", server.folder().join(redis::SOCKET))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .output()
        .context("cannot run the client")?;
    ensure!(client.stdout == b"4\n", "the client failed: {}", String::from_utf8_lossy(&client.stderr));
    Ok(())
}
