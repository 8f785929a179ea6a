//! Threads are told by the names that their programs gave them, and with what they do.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use forkwatch_tests::{
    binary, event::Event, python::Python, runner::Tests, tests, wait::until, watched::Watched,
};
use serde_json::Value;

pub(crate) fn tests() -> Tests {
    Tests::side_by_side(tests![
        check_names_the_threads_of_every_python,
        a_finding_names_the_threads_of_python_with_what_they_do,
    ])
}

const SCRIPT: &str = "named_workers.py";
const WORKERS: [(&str, &str); 2] = [("cache-refresher", "holder"), ("metrics-of-the-shop", "waiter")];

/// Whether these are the workers of the script: by their own names, and by the functions they are in, with a line each.
fn are_workers(threads: &[Value], file: &str) -> bool {
    threads.len() == WORKERS.len()
        && threads.iter().zip(WORKERS).all(|(thread, (name, function))| {
            let text = |path: &str| thread.pointer(path).and_then(Value::as_str).unwrap_or_default();
            let own = if text("/own_name").is_empty() { text("/name") } else { text("/own_name") };
            let line = thread.pointer("/at/line").and_then(Value::as_u64);
            own == name
                && text("/at/function") == function
                && text("/at/module").ends_with(file)
                && line.is_some()
        })
}

fn pythons() -> Result<impl Iterator<Item = Python>> {
    Ok(Python::all()?.into_iter().filter(Python::has_known_frames))
}

fn check_names_the_threads_of_every_python() -> Result<()> {
    for python in pythons()? {
        let (name, mut program) = python.hold_script(SCRIPT, "beside")?;
        program.release()?;
        program.next_json()?;
        let check = |format: &str| -> Result<String> {
            let pid = program.pid().to_string();
            let output = Command::new(binary::forkwatch()?).args(["check", "-o", format, &pid]).output()?;
            Ok(String::from_utf8_lossy(&output.stdout).into_owned())
        };
        until("both workers to be where they stay", || {
            let document: Value = serde_json::from_str(&check("json")?).context("no document")?;
            let threads = document.pointer("/facts/threads").and_then(Value::as_array);
            Ok(threads.is_some_and(|threads| are_workers(threads, &name)).then_some(()))
        })
        .with_context(|| format!("{name}: {}", check("json").unwrap_or_default()))?;
        let text = check("text")?.split_whitespace().collect::<Vec<_>>().join(" ");
        for (name_of_thread, function) in WORKERS {
            let words = format!("{name_of_thread}: {function} ({name}:");
            ensure!(text.contains(&words), "{name}: no {words} in {text}");
        }
    }
    Ok(())
}

fn a_finding_names_the_threads_of_python_with_what_they_do() -> Result<()> {
    for python in pythons()? {
        let (name, program) = python.hold_script(SCRIPT, "fork")?;
        let mut watched = Watched::start(program)?;
        let child = watched.program.next_json()?.pointer("/child").and_then(Value::as_i64);
        let is_it = |event: &Event| event.finding().is_some_and(|finding| finding.pid() == child);
        let event = watched.forkwatch.wait_for(&format!("a finding about {name}"), is_it)?;
        let threads = event.0.pointer("/forkwatch/finding/evidence/threads").and_then(Value::as_array);
        ensure!(threads.is_some_and(|threads| are_workers(threads, &name)), "{name}: {event:#?}");
        let summary = event.finding().context("it is a finding")?.summary();
        ensure!(summary.contains(&format!("cache-refresher: holder ({name}:")), "{summary}");
        watched.stop()?;
    }
    Ok(())
}
