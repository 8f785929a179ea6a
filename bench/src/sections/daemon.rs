//! The daemon in a storm of forks on all CPUs: are its counters exact, does it lose a record, what does it cost?

use std::thread;
use std::time::Duration;

use anyhow::Result;

use crate::Options;
use crate::daemon::Daemon;
use crate::process;
use crate::report::Report;
use crate::statistics::{median, show};
use crate::table::Table;
use crate::workload::{self, Load};

/// How long the daemon may rest before its memory counts as steady.
const REST: Duration = Duration::from_secs(3);

/// Measures, and reports a table.
pub(crate) fn run(options: &Options, report: &Report) -> Result<()> {
    let rounds = (0..options.rounds).map(|_| round(options)).collect::<Result<Vec<_>>>()?;
    let mut table =
        Table::new("The daemon in a storm of forks on all CPUs", &["", "median", "least", "greatest"]);
    let rows: [Row; 8] = [
        ("forks a second", 0, |round| round.rate),
        ("forks of the load that it did not count", 0, |round| round.uncounted),
        ("tasks that the kernel counted and it did not", 0, |round| round.difference),
        ("records shed", 0, |round| round.dropped),
        ("CPU seconds for a million forks", 3, |round| round.cpu),
        ("memory when ready, MiB", 1, |round| round.fresh),
        ("memory afterwards, MiB", 1, |round| round.steady),
        ("peak memory, MiB", 1, |round| round.peak),
    ];
    for (name, digits, value) in rows {
        let values: Vec<_> = rounds.iter().map(value).collect();
        let least = values.iter().copied().reduce(f64::min);
        let greatest = values.iter().copied().reduce(f64::max);
        table.row([
            name.to_owned(),
            show(median(&values), digits),
            show(least, digits),
            show(greatest, digits),
        ]);
    }
    report.table("daemon", &table)?;
    let of = |value: fn(&Round) -> f64, digits| {
        show(median(&rounds.iter().map(value).collect::<Vec<_>>()), digits)
    };
    let lost = |round: &Round| round.uncounted + round.difference.abs() + round.dropped;
    report.aim(
        "no fork uncounted and no record lost, at the defaults, in a storm on all CPUs",
        &format!("{} of {} a second", of(lost, 0), of(|round| round.rate, 0)),
    )?;
    report.aim("at most 1 CPU second of the daemon for a million plain forks", &of(|round| round.cpu, 3))?;
    report.aim("at most 10 MiB of memory", &format!("{} MiB", of(|round| round.steady, 1)))
}

/// Name, digits after the point, and which value.
type Row = (&'static str, usize, fn(&Round) -> f64);

struct Round {
    rate: f64,
    uncounted: f64,
    difference: f64,
    dropped: f64,
    cpu: f64,
    fresh: f64,
    steady: f64,
    peak: f64,
}

/// The counts of one moment.
struct Counts {
    /// By the kernel, just before and just after the daemon was asked.
    kernel: (u64, u64),
    all: f64,
    copying: f64,
    dropped: f64,
}

impl Counts {
    fn take(daemon: &Daemon) -> Result<Self> {
        let before = process::tasks_created()?;
        let all = daemon.metric("forkwatch_forks_total", "")?;
        let after = process::tasks_created()?;
        let copying = daemon.metric("forkwatch_forks_total", "kind=\"fork\"")?;
        let dropped = daemon.metric("forkwatch_events_dropped_total", "")?;
        Ok(Self { kernel: (before, after), all, copying, dropped })
    }
}

fn round(options: &Options) -> Result<Round> {
    let daemon = Daemon::start(&options.program)?;
    let fresh = process::memory(daemon.pid())?;
    let before = Counts::take(&daemon)?;
    let cpu_before = process::cpu_seconds(daemon.pid())?;
    let outcome = workload::run(Load::Fork, options.forks)?;
    // What the ring still holds is work for these forks too.
    thread::sleep(REST);
    let cpu = process::cpu_seconds(daemon.pid())? - cpu_before;
    let after = Counts::take(&daemon)?;
    let count = outcome.count as f64;
    let cpus = thread::available_parallelism()?.get() as f64;
    Ok(Round {
        rate: cpus / outcome.each.as_secs_f64(),
        uncounted: (count - (after.copying - before.copying)).max(0.0),
        difference: difference(&before, &after),
        dropped: after.dropped - before.dropped,
        cpu: cpu / count * 1e6,
        fresh,
        steady: process::memory(daemon.pid())?,
        peak: process::peak_memory(daemon.pid())?,
    })
}

/// By how much the daemon's count of new tasks lies outside what the kernel's allows: the kernel's is read before
/// and after, since others fork meanwhile.
fn difference(before: &Counts, after: &Counts) -> f64 {
    let counted = after.all - before.all;
    let least = after.kernel.0.saturating_sub(before.kernel.1) as f64;
    let most = after.kernel.1.saturating_sub(before.kernel.0) as f64;
    if counted < least { least - counted } else { (most - counted).min(0.0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_within_the_kernels_bounds_is_exact() {
        let at = |kernel, all| Counts { kernel, all, copying: 0.0, dropped: 0.0 };
        let before = at((100, 102), 0.0);
        for (counted, expected) in [(98.0, 0.0), (101.0, 0.0), (102.0, 0.0), (97.0, 1.0), (105.0, -3.0)] {
            let found = difference(&before, &at((200, 202), counted));
            assert!((found - expected).abs() < f64::EPSILON, "{counted}: {found}");
        }
    }
}
