//! Time in the kernel for each fork and thread, by the kernel's own account, beside an empty program on the same
//! trace point in the same run.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};

use crate::Options;
use crate::empty::{self, Empty};
use crate::programs::{self, Costs};
use crate::report::Report;
use crate::statistics::{median, show};
use crate::table::Table;
use crate::watcher::{Running, Watcher};
use crate::workload::{self, Load};

/// How the kernel names `sched_process_exec` and `sched_process_exit`, of which it keeps 15 bytes.
const ENDINGS: &str = "sched_process_e";

/// The row of what runs when a task is created.
const CREATION: &str = "creation, all programs";

/// Measures, and reports a table.
pub(crate) fn run(options: &Options, report: &Report) -> Result<()> {
    let _account = programs::keep_account()?;
    let mut table = Table::new(
        "Time in the kernel",
        &["program", "watched by", "load", "runs an event", "ns a run", "times the empty program"],
    );
    // Events under another name would be counted too, so the empty program is there first and stays.
    let _empty = Empty::attach("sched_process_fork")?;
    let mut ratios = Vec::new();
    for watcher in [Watcher::Daemon, Watcher::Tail] {
        for load in [Load::Fork, Load::Thread] {
            let mut samples: BTreeMap<String, Sample> = BTreeMap::new();
            for _ in 0..options.rounds {
                round(options, watcher, load, &mut samples)?;
            }
            let creation = samples.get(CREATION).and_then(|sample| median(&sample.ratio));
            ratios.push(show(creation, 1));
            for (name, sample) in samples {
                table.row([
                    name,
                    watcher.name().to_owned(),
                    format!("{load:?}").to_lowercase(),
                    show(median(&sample.runs), 2),
                    show(median(&sample.nanoseconds), 0),
                    show(median(&sample.ratio), 2),
                ]);
            }
        }
    }
    report.table("kernel", &table)?;
    if let [fork, thread, ..] = ratios.as_slice() {
        let aim = |aim, ratio: &str| report.aim(aim, &format!("{ratio} times, under the daemon"));
        aim("the creation of a copying fork costs at most 8 times the empty program", fork)?;
        aim("that of a thread at most 2.5 times", thread)?;
    }
    Ok(())
}

/// One program's results, a value a round.
#[derive(Default)]
struct Sample {
    runs: Vec<f64>,
    nanoseconds: Vec<f64>,
    ratio: Vec<f64>,
}

fn round(
    options: &Options,
    watcher: Watcher,
    load: Load,
    samples: &mut BTreeMap<String, Sample>,
) -> Result<()> {
    let others = programs::costs()?;
    let running = Running::start(watcher, load, &options.program)?;
    let before = programs::costs()?;
    let outcome = workload::run(load, options.count(load))?;
    let costs = programs::since(&before)?;
    running.finish(&outcome.workers)?;

    let empty =
        each(&costs, |_, name| name == empty::NAME).next().context("the empty program did not run")?;
    let mut ours: Vec<_> = each(&costs, |id, _| !others.contains_key(&id)).collect();
    // The programs on exit and exec share the bytes of their names that the kernel keeps; the first was loaded first.
    let endings = ours.iter_mut().filter(|(name, ..)| name == ENDINGS);
    for ((name, ..), full) in endings.zip(["sched_process_exit", "sched_process_exec"]) {
        full.clone_into(name);
    }
    let events = outcome.count as f64;
    // What an event costs in all: at its creation, and with the end of what it created.
    let total = |wanted: fn(&str) -> bool| -> f64 {
        ours.iter().filter(|(name, ..)| wanted(name)).map(|(_, runs, each)| runs * each).sum::<f64>() / events
    };
    let totals = [
        (CREATION.to_owned(), events, total(|name| !name.starts_with(ENDINGS))),
        ("creation and end, all programs".to_owned(), events, total(|_| true)),
    ];
    for (name, runs, nanoseconds) in ours.iter().cloned().chain(totals).chain([empty.clone()]) {
        let sample = samples.entry(name).or_default();
        sample.runs.push(runs / events);
        sample.nanoseconds.push(nanoseconds);
        sample.ratio.push(nanoseconds / empty.2);
    }
    Ok(())
}

/// Name, runs and nanoseconds a run of the programs that are wanted.
fn each(costs: &Costs, wanted: impl Fn(u32, &str) -> bool) -> impl Iterator<Item = (String, f64, f64)> {
    costs.iter().filter(move |(id, cost)| wanted(**id, &cost.name)).map(|(_, cost)| {
        (cost.name.clone(), cost.runs as f64, cost.time.as_nanos() as f64 / cost.runs as f64)
    })
}
