//! How soon after its start forkwatch watches.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::Options;
use crate::daemon::{Daemon, end};
use crate::statistics::{median, show};
use crate::table::Table;
use crate::workload;

/// Measures, and prints a table.
pub(crate) fn run(options: &Options) -> Result<()> {
    let (mut ready, mut first) = (Vec::new(), Vec::new());
    for _ in 0..options.rounds {
        ready.push(Daemon::start(&options.program)?.time_to_ready.as_secs_f64() * 1e3);
        first.push(first_fork_seen(options)?.as_secs_f64() * 1e3);
    }
    let mut table = Table::new("From start", &["until", "median ms", "least ms", "greatest ms"]);
    for (name, values) in [("daemon ready", ready), ("first fork shown by `forkwatch -o json`", first)] {
        let least = values.iter().copied().reduce(f64::min);
        let greatest = values.iter().copied().reduce(f64::max);
        table.row([name.to_owned(), show(median(&values), 1), show(least, 1), show(greatest, 1)]);
    }
    print!("{table}");
    Ok(())
}

/// From start to the first line of output, while this process forks all the time.
fn first_fork_seen(options: &Options) -> Result<Duration> {
    let start = Instant::now();
    let mut child = Command::new(&options.program)
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
