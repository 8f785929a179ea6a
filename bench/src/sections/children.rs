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
/// What is measured: from which age of the children to which. First each is asked about in many ways; then they are
/// looked at ever less often, down to every 30 s.
const AGES: [(Duration, Duration); 3] = [
    (Duration::ZERO, Duration::from_secs(20)),
    (Duration::from_secs(20), Duration::from_secs(60)),
    (Duration::from_secs(75), Duration::from_secs(135)),
];
/// What a thousand idle children may take of a CPU once they are old.
const BOUND: f64 = 0.003;
/// Each round takes so long that there is only one for so many of other sections.
const ROUNDS_IN_ONE: usize = 5;

/// What the daemon used while it watched, with the processes that look into others for it.
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
    let mut samples: Vec<(Option<Sleep>, [Vec<Sample>; AGES.len()])> =
        kinds.map(|kind| (kind, Default::default())).into();
    for _ in 0..options.rounds.div_ceil(ROUNDS_IN_ONE) {
        for (kind, by_age) in &mut samples {
            let daemon = Daemon::start(&options.program)?;
            let born = Instant::now();
            let _crowd = kind.map(|kind| Crowd::start(kind, CHILDREN)).transpose()?;
            for (samples, age) in by_age.iter_mut().zip(AGES) {
                samples.push(watch(&daemon, born, age)?);
            }
        }
    }
    let mut table = Table::new(
        "The daemon and a thousand children that live on",
        &["children", "age, s", "% of a CPU", "wake-ups a second", "memory, MiB"],
    );
    for (kind, by_age) in &samples {
        for (samples, (from, to)) in by_age.iter().zip(AGES) {
            let of = |value: fn(&Sample) -> f64| median(&samples.iter().map(value).collect::<Vec<_>>());
            table.row([
                kind.map_or_else(|| "none".to_owned(), |kind| format!("{CHILDREN} {kind}")),
                format!("{} to {}", from.as_secs(), to.as_secs()),
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
        samples.iter().filter(|(kind, _)| kind.is_some()).map(|(_, [.., old])| share(old)).collect();
    report.aim(
        &format!("at most {} % of a CPU for a thousand idle forked children", 100.0 * BOUND),
        &format!(
            "{} % once they are old: in pause(2), and in futex(2), where all are found stuck",
            old.join(" and ")
        ),
    )
}

/// What is used from one age of the children to another.
fn watch(daemon: &Daemon, born: Instant, (from, to): (Duration, Duration)) -> Result<Sample> {
    thread::sleep(from.saturating_sub(born.elapsed()));
    let begun = Instant::now();
    let family = process::family(daemon.pid())?;
    let sum = |of: fn(u32) -> Result<f64>| family.iter().map(|pid| of(*pid)).sum::<Result<f64>>();
    let wakeups = |pid| process::wakeups(pid).map(|count| count as f64);
    let before = (sum(process::cpu_seconds)?, sum(wakeups)?);
    thread::sleep(to.saturating_sub(born.elapsed()));
    let seconds = begun.elapsed().as_secs_f64();
    Ok(Sample {
        share: (sum(process::cpu_seconds)? - before.0) / seconds,
        wakeups: (sum(wakeups)? - before.1) / seconds,
        memory: process::memory(daemon.pid())?,
    })
}
