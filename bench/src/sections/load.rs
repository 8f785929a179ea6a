//! Time that watching adds to a load on all CPUs, and how much of it each watcher sees.

use anyhow::Result;

use crate::Options;
use crate::report::Report;
use crate::statistics::{median, micros, show};
use crate::table::Table;
use crate::watcher::{Running, Watcher};
use crate::workload::{self, Load};

/// Measures, and reports a table for each load.
pub(crate) fn run(options: &Options, report: &Report) -> Result<()> {
    let (missing, watchers): (Vec<_>, Vec<_>) =
        Watcher::ALL.into_iter().partition(|watcher| watcher.missing().is_some());
    for reason in missing.into_iter().filter_map(Watcher::missing) {
        eprintln!("left out: {reason}");
    }
    for (load, name, title) in [
        (Load::Fork, "load-fork", "Fork and wait, on all CPUs"),
        (Load::Thread, "load-thread", "Create and join a thread, on all CPUs"),
    ] {
        let mut samples: Vec<_> = watchers.iter().map(|watcher| (*watcher, Sample::default())).collect();
        for round in 0..options.rounds {
            eprintln!("{title}: round {} of {}", round + 1, options.rounds);
            let mut unwatched = None;
            for (watcher, sample) in &mut samples {
                unwatched = Some(measure(options, *watcher, load, unwatched, sample)?);
            }
        }
        let mut table = Table::new(
            title,
            &["watched by", "us an event", "added us", "times nothing", "its own CPU us", "seen"],
        );
        for (watcher, sample) in &samples {
            table.row([
                watcher.name().to_owned(),
                show(median(&sample.each), 2),
                show(median(&sample.added), 2),
                show(median(&sample.ratio), 3),
                show(median(&sample.own), 2),
                percent(median(&sample.seen)),
            ]);
        }
        report.table(name, &table)?;
        let tail = samples.iter().find(|(watcher, _)| *watcher == Watcher::Tail);
        if let (Load::Thread, Some((_, sample))) = (load, tail) {
            report.aim(
                "the tail's own CPU time for each thread, all of them shown, at most 1 us",
                &format!(
                    "{} us, as JSON; {} are seen",
                    show(median(&sample.own), 2),
                    percent(median(&sample.seen))
                ),
            )?;
        }
    }
    Ok(())
}

fn percent(share: Option<f64>) -> String {
    share.map_or_else(|| "-".to_owned(), |share| format!("{:.2} %", 100.0 * share))
}

/// One watcher's results, a value a round.
#[derive(Default)]
struct Sample {
    each: Vec<f64>,
    added: Vec<f64>,
    ratio: Vec<f64>,
    own: Vec<f64>,
    seen: Vec<f64>,
}

/// One run; returns the time of an event unwatched, which is this run's own where there is none yet.
fn measure(
    options: &Options,
    watcher: Watcher,
    load: Load,
    unwatched: Option<f64>,
    sample: &mut Sample,
) -> Result<f64> {
    let running = match Running::start(watcher, load, &options.program) {
        Ok(running) => running,
        // What others cannot do is not forkwatch's failure.
        Err(error) if !matches!(watcher, Watcher::Nothing | Watcher::Daemon | Watcher::Tail) => {
            eprintln!("left out: {error:#}");
            return Ok(unwatched.unwrap_or(f64::NAN));
        }
        Err(error) => return Err(error),
    };
    let before = running.cpu_seconds()?;
    let outcome = workload::run(load, options.count(load))?;
    let each = micros(outcome.each);
    let unwatched = unwatched.unwrap_or(each);
    sample.each.push(each);
    sample.added.push(each - unwatched);
    sample.ratio.push(each / unwatched);
    running.settle();
    if let (Some(before), Some(after)) = (before, running.cpu_seconds()?) {
        sample.own.push((after - before) * 1e6 / outcome.count as f64);
    }
    if let Some(seen) = running.finish(&outcome.workers)? {
        sample.seen.push(seen as f64 / outcome.count as f64);
    }
    Ok(unwatched)
}
