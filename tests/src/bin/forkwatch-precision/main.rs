//! Measures how precise forkwatch is: `cargo xtask precision` runs this. Prints a table, what was missed, and what was
//! found that is not so; fails if something was wrong that had been called certain.

use std::{
    collections::BTreeMap,
    fs,
    path::PathBuf,
    process::ExitCode,
    sync::{Mutex, PoisonError},
    thread,
};

use anyhow::{Context, Result};
use clap::Parser;
use forkwatch::{detect, model::finding::HazardId};
use forkwatch_tests::{
    host::Skip,
    precision::{self, Case, Measured, Run},
};

#[derive(Parser)]
#[command(name = "cargo xtask precision", about = "Measures what is found, missed and wrongly found")]
struct Arguments {
    /// Only cases whose name contains this
    filter: Option<String>,
    /// How often each case is run at least
    #[arg(long, default_value_t = 2)]
    runs: usize,
    /// In how many runs each hazard is there at least: cases that have a rare one are run more often
    #[arg(long, default_value_t = 6)]
    there: usize,
    /// How many run at a time: nearly all they do is wait
    #[arg(long, default_value_t = 48)]
    jobs: usize,
    /// Write the table into this file, unless only some cases were run
    #[arg(long)]
    write: Option<PathBuf>,
}

fn main() -> ExitCode {
    match measure(&Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Whether all ran, and nothing certain was wrong.
fn measure(arguments: &Arguments) -> Result<bool> {
    let is_wanted =
        |case: &Case| arguments.filter.as_ref().is_none_or(|filter| case.name().contains(filter.as_str()));
    let cases: Vec<Case> = precision::all().into_iter().filter(is_wanted).collect();
    anyhow::ensure!(!cases.is_empty(), "no case has such a name");
    let results = run_all(&cases, arguments);

    let (mut runs, mut left_out, mut failed) = (Vec::new(), BTreeMap::new(), 0);
    for (case, result) in &results {
        match result {
            Ok(run) => runs.push((*case, run)),
            Err(error) => {
                let name = case.name();
                if let Some(Skip(reason)) = error.downcast_ref::<Skip>() {
                    left_out.insert(name, reason.clone());
                } else {
                    failed += 1;
                    println!("could not be run: {name}: {error:#}");
                }
            }
        }
    }
    let score = precision::score(runs);
    for missed in &score.missed {
        println!("missed: {missed}");
    }
    for wrong in &score.wrong {
        println!("{}", wrong.sentence);
    }
    let measured = Measured {
        cases: cases.len() - left_out.len(),
        runs: arguments.runs,
        left_out: left_out.into_iter().collect(),
        kernel: fs::read_to_string("/proc/sys/kernel/osrelease")?.trim().to_owned(),
        cpus: thread::available_parallelism().context("cannot count the CPUs")?.get(),
    };
    let table =
        precision::markdown(&measured, &detect::ids().map(HazardId::name).collect::<Vec<_>>(), &score);
    println!("\n{table}");
    if let (Some(path), None, 0) = (&arguments.write, &arguments.filter, failed) {
        fs::write(path, &table).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(failed == 0 && !score.is_certainty_broken())
}

/// Runs them all, several at a time.
fn run_all<'a>(cases: &'a [Case], arguments: &Arguments) -> Vec<(&'a Case, Result<Run>)> {
    let work = precision::plan(cases, arguments.runs, arguments.there);
    let count = work.len();
    let (work, results) = (Mutex::new(work.into_iter().enumerate()), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for _ in 0..arguments.jobs.clamp(1, count) {
            scope.spawn(|| {
                loop {
                    let next = work.lock().unwrap_or_else(PoisonError::into_inner).next();
                    let Some((number, case)) = next else { return };
                    eprintln!("{} of {count}: {}", number + 1, case.name());
                    let result = precision::run(case);
                    results.lock().unwrap_or_else(PoisonError::into_inner).push((case, result));
                }
            });
        }
    });
    results.into_inner().unwrap_or_else(PoisonError::into_inner)
}
