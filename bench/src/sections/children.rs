//! What it costs to watch a thousand children that live on without exec and do nothing.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::Options;
use crate::crowd::{Crowd, Sleep};
use crate::daemon::Daemon;
use crate::process;
use crate::report::Report;
use crate::statistics::{median, show};
use crate::table::Table;

/// How many.
const CHILDREN: u32 = 1000;
/// How long is measured. No child is looked at less often than twice a minute for long.
const WATCHED: Duration = Duration::from_secs(60);
/// How old the children are when the second measurement begins: they are looked at ever less often, down to every 30 s.
const AGE: Duration = Duration::from_secs(150);
/// Each round takes so long that there is only one for so many of other sections.
const ROUNDS_IN_ONE: usize = 5;

/// What the daemon used while it watched.
struct Sample {
    /// CPUs.
    share: f64,
    /// A second.
    wakeups: f64,
    memory: f64,
}

/// Measures, and reports a table.
pub(crate) fn run(options: &Options, report: &Report) -> Result<()> {
    let kinds = [None, Some(Sleep::Pause), Some(Sleep::Futex)];
    let mut samples: Vec<(Option<Sleep>, Vec<Sample>, Vec<Sample>)> =
        kinds.map(|kind| (kind, Vec::new(), Vec::new())).into();
    for _ in 0..options.rounds.div_ceil(ROUNDS_IN_ONE) {
        for (kind, young, old) in &mut samples {
            let daemon = Daemon::start(&options.program)?;
            let born = Instant::now();
            let _crowd = kind.map(|kind| Crowd::start(kind, CHILDREN)).transpose()?;
            young.push(watch(&daemon)?);
            if kind.is_some() {
                thread::sleep(AGE.saturating_sub(born.elapsed()));
                old.push(watch(&daemon)?);
            }
        }
    }
    let mut table = Table::new(
        "The daemon and a thousand children that live on",
        &["children", "age", "% of a CPU", "wake-ups a second", "memory, MiB"],
    );
    for (kind, young, old) in &samples {
        for (age, samples) in [("first minute", young), ("after 150 s", old)] {
            if samples.is_empty() {
                continue;
            }
            let of = |value: fn(&Sample) -> f64| median(&samples.iter().map(value).collect::<Vec<_>>());
            table.row([
                kind.map_or_else(|| "none".to_owned(), |kind| format!("{CHILDREN} {kind}")),
                if kind.is_some() { age.to_owned() } else { "-".to_owned() },
                show(of(|sample| 100.0 * sample.share), 3),
                show(of(|sample| sample.wakeups), 1),
                show(of(|sample| sample.memory), 1),
            ]);
        }
    }
    report.table("children", &table)?;
    let share = |samples: &[Sample]| {
        let shares: Vec<f64> = samples.iter().map(|sample| 100.0 * sample.share).collect();
        show(median(&shares), 2)
    };
    let old: Vec<String> =
        samples.iter().filter(|(kind, ..)| kind.is_some()).map(|(_, _, old)| share(old)).collect();
    report.aim(
        "some 1 % of a CPU for a thousand idle forked children",
        &format!(
            "{} % once they are old: in pause(2), and in futex(2), where all are found stuck",
            old.join(" and ")
        ),
    )
}

fn watch(daemon: &Daemon) -> Result<Sample> {
    let begun = Instant::now();
    let before = (process::cpu_seconds(daemon.pid())?, process::wakeups(daemon.pid())?);
    thread::sleep(WATCHED);
    let seconds = begun.elapsed().as_secs_f64();
    Ok(Sample {
        share: (process::cpu_seconds(daemon.pid())? - before.0) / seconds,
        wakeups: (process::wakeups(daemon.pid())? - before.1) as f64 / seconds,
        memory: process::memory(daemon.pid())?,
    })
}
