//! What workers write, told with the worker that has written it.

use std::{fs, os::unix::net::UnixStream};

use anyhow::{Context as _, Result, ensure};
use forkwatch_tests::{
    event::Event,
    forkwatch::Forkwatch,
    http,
    program::{Launch, Program},
    runner::Tests,
    scenario::{gunicorn_with_one_worker, gunicorn_with_pipes},
    tests,
    wait::until,
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;

pub(crate) fn tests() -> Tests {
    Tests::side_by_side(tests![
        a_line_is_told_with_its_worker_and_the_last_ones_with_its_end,
        nobody_is_listened_to_without_being_asked,
        a_child_of_the_process_that_was_asked_for_is_heard_from_its_first_line_on,
        what_lies_in_a_pipe_is_told_and_its_reader_misses_neither_a_byte_nor_the_end,
    ])
}

fn request(program: &Program, path: &str) -> Result<String> {
    http::get(UnixStream::connect(program.folder().join("socket"))?, path)
}

/// Waits for the worker of this server to be ready, and gives its pid.
fn ready(forkwatch: &mut Forkwatch, program: &Program) -> Result<i64> {
    let master = i64::from(program.pid());
    let event = forkwatch.wait_for("a worker that is ready", |event| {
        event.action() == "worker_ready" && event.parent_pid() == Some(master)
    })?;
    event.pid().context("no pid")
}

fn says(event: &Event, text: &str) -> bool {
    event.action() == "worker_output" && event.text("/forkwatch/worker/output/text") == text
}

fn a_line_is_told_with_its_worker_and_the_last_ones_with_its_end() -> Result<()> {
    let mut program = gunicorn_with_one_worker("wsgi_says")?;
    let folder = tempfile::tempdir()?;
    let record = folder.path().join("recording");
    let pid = program.pid().to_string();
    let arguments = ["--pid", &pid, "--worker-output", "--record", record.to_str().context("not UTF-8")?];
    let mut forkwatch = Forkwatch::tail(arguments)?;
    program.release()?;
    let worker = ready(&mut forkwatch, &program)?;
    let line = format!("says /one by {worker}");
    // A file is read from where it stood when its worker was known, a moment after that was told.
    let told = until("its line", || {
        ensure!(request(&program, "/one")?.trim() == worker.to_string());
        // One that came together with a line of the master's log may be either's, and says so.
        Ok(forkwatch.events().into_iter().find(|event| says(event, &line) && event.pid() == Some(worker)))
    })?;
    ensure!(told.text("/forkwatch/worker/server") == "gunicorn", "{told:?}");
    // It ends without an answer.
    let _ = request(&program, "/die");
    let ended = forkwatch
        .wait_for("its end", |event| event.action() == "worker_exited" && event.pid() == Some(worker))?;
    let last = ended.0.pointer("/forkwatch/worker/last_output").context("no last lines")?.to_string();
    ensure!(last.contains("Traceback: it fails") && last.contains(&line), "{last}");
    program.end(Some(Signal::SIGTERM))?;
    forkwatch.ended()?;
    let recorded = fs::read_to_string(&record)?;
    ensure!(!recorded.contains("says /one") && !recorded.contains("it fails"), "a recording has it");
    ensure!(recorded.contains("\"event\""), "nothing was recorded");
    Ok(())
}

fn nobody_is_listened_to_without_being_asked() -> Result<()> {
    let mut program = gunicorn_with_one_worker("wsgi_says")?;
    let mut forkwatch = Forkwatch::tail_pids(&[program.pid()])?;
    program.release()?;
    let worker = ready(&mut forkwatch, &program)?;
    request(&program, "/one")?;
    let _ = request(&program, "/die");
    let ended = forkwatch
        .wait_for("its end", |event| event.action() == "worker_exited" && event.pid() == Some(worker))?;
    ensure!(ended.0.pointer("/forkwatch/worker/last_output").is_none(), "{ended:?}");
    program.end(Some(Signal::SIGTERM))?;
    forkwatch.ended()?;
    let events = forkwatch.events();
    ensure!(!events.iter().any(|event| event.action() == "worker_output"), "{events:?}");
    Ok(())
}

fn what_lies_in_a_pipe_is_told_and_its_reader_misses_neither_a_byte_nor_the_end() -> Result<()> {
    let mut program = gunicorn_with_pipes("wsgi_says")?;
    let pid = program.pid().to_string();
    let mut forkwatch = Forkwatch::tail(["--pid", &pid, "--worker-output"])?;
    program.release()?;
    let worker = ready(&mut forkwatch, &program)?;
    let mut expected = "up\n".to_owned();
    // Who reads is looked for once the worker is known, so that the first lines may be gone unseen.
    until("three lines", || {
        let path = format!("/{}", expected.lines().count());
        request(&program, &path)?;
        expected.extend(["says ", &path, " by ", &worker.to_string(), "\n"]);
        let events = forkwatch.events();
        // The other is the log of gunicorn itself.
        let is_of_pipe = |event: &&Event| {
            event.action() == "worker_output"
                && event.0.pointer("/forkwatch/worker/output/descriptor").and_then(Value::as_i64) == Some(1)
        };
        let lines: Vec<&Event> = events.iter().filter(is_of_pipe).collect();
        for line in &lines {
            ensure!(line.pid() == Some(worker), "{line:?}");
            ensure!(expected.contains(line.text("/forkwatch/worker/output/text")), "{line:?}");
        }
        Ok((lines.len() >= 3).then_some(()))
    })?;
    kill(Pid::from_raw(worker.try_into()?), Signal::SIGKILL)?;
    // Forkwatch listens still, and its master sees the end all the same.
    let read = || fs::read_to_string(program.folder().join("read"));
    until("the end of the pipe", || Ok(read()?.contains("end\n").then_some(())))?;
    ensure!(read()?.starts_with(&(expected + "end\n")), "{}", read()?);
    program.end(Some(Signal::SIGTERM))?;
    forkwatch.ended().map(drop)
}

/// A program that is no known server, with one child: forkwatch never takes it for a worker.
fn a_child_of_the_process_that_was_asked_for_is_heard_from_its_first_line_on() -> Result<()> {
    let script = "import os, signal\n\
                  if os.fork() == 0:\n    print('first of', os.getpid(), flush=True)\n    signal.pause()\nos.wait()\n";
    let mut program = Program::hold(|_| Ok(Launch::new("/usr/bin/python3").args(["-c", script])))?;
    let pid = program.pid().to_string();
    let mut forkwatch = Forkwatch::tail(["--pid", &pid, "--worker-output"])?;
    program.release()?;
    let line = forkwatch.wait_for("its first line", |event| event.action() == "worker_output")?;
    let child = line.pid().context("no pid")?;
    ensure!(says(&line, &format!("first of {child}")), "{line:?}");
    kill(Pid::from_raw(child.try_into()?), Signal::SIGKILL)?;
    program.wait_for_success()?;
    forkwatch.ended()?;
    let events = forkwatch.events();
    let told: Vec<&str> =
        events.iter().map(Event::action).filter(|action| action.starts_with("worker_")).collect();
    ensure!(told == ["worker_output"], "{events:#?}");
    Ok(())
}
