//! How soon it is told that a worker waits for work, beside what `pyramid_forksafe` tells the worker's own application.

use std::process::Command;

use anyhow::{Context as _, Result};
use forkwatch_tests::{
    forksafe::{Noted, Teller, time},
    forkwatch::Forkwatch,
    host::Skip,
};
use nix::sys::signal::Signal;

use crate::Options;
use crate::report::Report;
use crate::statistics::{median, show};
use crate::table::Table;

/// Workers of each server.
const WORKERS: usize = 2;
/// How late it may be told, in milliseconds.
const BOUND: f64 = 50.0;

/// Of the workers of one server, a value each: milliseconds from the last that they were told to the moment at which they
/// were said to be ready, and from the end of their hook at the fork to that.
#[derive(Default)]
struct Sample {
    after_last: Vec<f64>,
    after_hook: Vec<f64>,
}

/// Measures, and reports a table.
pub(crate) fn run(options: &Options, report: &Report) -> Result<()> {
    let mut samples: [Sample; Teller::ALL.len()] = Default::default();
    for _ in 0..options.rounds {
        for (teller, sample) in Teller::ALL.into_iter().zip(&mut samples) {
            match start(options, teller, sample) {
                Err(error) if error.is::<Skip>() => {
                    eprintln!("left out: {error}");
                    return Ok(());
                }
                other => other?,
            }
        }
    }
    let mut table = Table::new(
        "Until a worker is told to be ready",
        &["server", "workers", "median ms late", "greatest ms", "within 50 ms", "before the fork hook's end"],
    );
    for (teller, sample) in Teller::ALL.iter().zip(&samples) {
        let count =
            |values: &[f64], is_so: fn(f64) -> bool| values.iter().filter(|value| is_so(**value)).count();
        table.row([
            teller.name(),
            sample.after_last.len().to_string(),
            show(median(&sample.after_last), 1),
            show(sample.after_last.iter().copied().reduce(f64::max), 1),
            count(&sample.after_last, |late| late <= BOUND).to_string(),
            count(&sample.after_hook, |late| late < 0.0).to_string(),
        ]);
    }
    report.table("ready", &table)?;
    let all = || samples.iter().flat_map(|sample| sample.after_last.iter().copied());
    let early = samples.iter().flat_map(|sample| &sample.after_hook).filter(|late| **late < 0.0).count();
    report.aim(
        &format!(
            "a worker is told to be ready at most {BOUND} ms late, and never before its fork hook is done"
        ),
        &format!(
            "{} ms at most, {} of {} within that; {early} before",
            show(all().reduce(f64::max), 1),
            all().filter(|late| *late <= BOUND).count(),
            all().count()
        ),
    )
}

/// Has a server start under watch, and notes how it went with its workers.
fn start(options: &Options, teller: Teller, sample: &mut Sample) -> Result<()> {
    let mut server = teller.hold()?;
    let pid = server.pid().to_string();
    let mut command = Command::new(&options.program);
    let mut forkwatch = Forkwatch::start(command.args(["tail", "--pid", &pid, "-o", "json"]))?;
    server.release()?;
    forkwatch.wait_until("all workers to be ready", |events| {
        events.iter().filter(|event| event.action() == "worker_ready").count() == WORKERS
    })?;
    for ready in forkwatch.events().iter().filter(|event| event.action() == "worker_ready") {
        let noted = Noted::by(&server, ready.pid().context("no pid")?)?;
        let after = |event: &str| Ok::<f64, anyhow::Error>((time(ready)? - noted.at(event)?) as f64 / 1e6);
        sample.after_last.push(after(teller.last())?);
        sample.after_hook.push(after("warm")?);
    }
    server.end(Some(Signal::SIGTERM))?;
    forkwatch.stop().map(drop)
}
