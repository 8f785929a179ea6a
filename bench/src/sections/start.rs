//! How soon after its start forkwatch watches.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

use crate::Options;
use crate::daemon::{Daemon, end};
use crate::report::Report;
use crate::statistics::{median, show};
use crate::table::Table;
use crate::workload;

/// A start is soon over: there are so many for each round of other sections.
const STARTS: usize = 4;

/// What is timed, of which program.
type Timed<'a> = (String, fn(&Path) -> Result<Duration>, &'a Path);

/// Measures, and reports a table.
pub(crate) fn run(options: &Options, report: &Report) -> Result<()> {
    let program = options.program.as_path();
    let mut timed: Vec<Timed> = vec![
        ("`forkwatch --version` ends".to_owned(), version, program),
        ("the daemon is ready".to_owned(), ready, program),
        ("`forkwatch -o json` shows a fork".to_owned(), first_fork_seen, program),
    ];
    timed.extend(options.beside.iter().map(|path| {
        let timed: Timed = (format!("{} is ready", path.display()), ready, path);
        timed
    }));
    let mut samples: Vec<(Vec<f64>, Vec<f64>)> = vec![Default::default(); timed.len()];
    for _ in 0..options.rounds * STARTS {
        let mut first = None;
        for ((_, time, program), (times, ratios)) in timed.iter().zip(&mut samples) {
            let time = time(program)?.as_secs_f64() * 1e3;
            ratios.push(time / *first.get_or_insert(time));
            times.push(time);
        }
    }
    let mut table =
        Table::new("From start", &["until", "median ms", "least ms", "greatest ms", "times the first"]);
    for ((name, ..), (times, ratios)) in timed.iter().zip(&samples) {
        let least = times.iter().copied().reduce(f64::min);
        let greatest = times.iter().copied().reduce(f64::max);
        table.row([
            name.clone(),
            show(median(times), 1),
            show(least, 1),
            show(greatest, 1),
            show(median(ratios), 1),
        ]);
    }
    report.table("start", &table)?;
    let after = |index: usize| show(samples.get(index).and_then(|(times, _)| median(times)), 1);
    report.aim(
        "a fork is seen within 50 ms of the start",
        &format!("{} ms until it is shown; the daemon is ready after {} ms", after(2), after(1)),
    )
}

/// Until a process of forkwatch that does nothing has come and gone.
fn version(program: &Path) -> Result<Duration> {
    let start = Instant::now();
    let status = Command::new(program)
        .arg("--version")
        .stdout(Stdio::null())
        .status()
        .with_context(|| format!("cannot start {}", program.display()))?;
    ensure!(status.success(), "{} --version failed: {status}", program.display());
    Ok(start.elapsed())
}

fn ready(program: &Path) -> Result<Duration> {
    Ok(Daemon::start(program)?.time_to_ready)
}

/// From start to the first line of output, while this process forks all the time.
fn first_fork_seen(program: &Path) -> Result<Duration> {
    let start = Instant::now();
    let mut child = Command::new(program)
        .args(["-o", "json"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .context("cannot start forkwatch")?;
    let output = child.stdout.take().context("forkwatch has no output")?;
    let seen = AtomicBool::new(false);
    let elapsed = thread::scope(|scope| {
        let forker = scope.spawn(|| -> Result<()> {
            while !seen.load(Ordering::Relaxed) && start.elapsed() < Duration::from_secs(20) {
                workload::fork_one()?;
                thread::sleep(Duration::from_millis(1));
            }
            Ok(())
        });
        let mut line = String::new();
        let read = BufReader::new(output).read_line(&mut line);
        let elapsed = start.elapsed();
        seen.store(true, Ordering::Relaxed);
        forker.join().map_err(|_| anyhow::anyhow!("the forking thread panicked"))??;
        if read.context("cannot read forkwatch's output")? == 0 {
            bail!("forkwatch ended without seeing a fork");
        }
        Ok(elapsed)
    });
    end(&mut child);
    elapsed
}
