//! What `forkwatch scan` costs on a host of thousands of processes.

use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike as _;

use crate::Options;
use crate::crowd::{Crowd, Sleep};
use crate::report::Report;
use crate::statistics::{median, show};
use crate::table::Table;

/// How many forked children there are besides what runs here anyway.
const CHILDREN: u32 = 2000;

/// What a scan took.
struct Sample {
    processes: f64,
    cpu: f64,
    elapsed: f64,
}

/// Measures, and reports a table.
pub(crate) fn run(options: &Options, report: &Report) -> Result<()> {
    let mut samples = [None, Some(Sleep::Pause), Some(Sleep::Futex)].map(|kind| (kind, Vec::new()));
    for _ in 0..options.rounds {
        for (kind, samples) in &mut samples {
            let _crowd = kind.map(|kind| Crowd::start(kind, CHILDREN)).transpose()?;
            samples.push(scan(options)?);
        }
    }
    let mut table = Table::new(
        "forkwatch scan",
        &["forked children", "processes", "CPU ms", "CPU ms for a thousand processes", "elapsed ms"],
    );
    for (kind, samples) in &samples {
        let of = |value: fn(&Sample) -> f64| median(&samples.iter().map(value).collect::<Vec<_>>());
        table.row([
            kind.map_or_else(|| "none".to_owned(), |kind| format!("{CHILDREN} {kind}")),
            show(of(|sample| sample.processes), 0),
            show(of(|sample| sample.cpu), 1),
            show(of(|sample| sample.cpu / sample.processes * 1e3), 1),
            show(of(|sample| sample.elapsed), 1),
        ]);
    }
    report.table("scan", &table)?;
    let cost = |(_, samples): &(Option<Sleep>, Vec<Sample>)| {
        let each: Vec<f64> = samples.iter().map(|sample| sample.cpu / sample.processes).collect();
        show(median(&each), 2)
    };
    let [_, pause, futex] = &samples;
    report.aim(
        "a scan below 1 CPU second for a thousand forked children",
        &format!("{} s; {} s where all of them are stuck", cost(pause), cost(futex)),
    )
}

fn scan(options: &Options) -> Result<Sample> {
    let (before, begun) = (cpu_of_children()?, Instant::now());
    let output = Command::new(&options.program)
        .args(["scan", "-o", "json"])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .context("cannot run forkwatch scan")?;
    let elapsed = begun.elapsed().as_secs_f64() * 1e3;
    let cpu = cpu_of_children()? - before;
    let report: serde_json::Value =
        serde_json::from_slice(&output.stdout).context("forkwatch scan printed no document")?;
    let processes = report.get("processes").and_then(serde_json::Value::as_f64);
    Ok(Sample { processes: processes.context("the document of the scan counts no processes")?, cpu, elapsed })
}

/// Milliseconds of CPU of all children that have been waited for.
fn cpu_of_children() -> Result<f64> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).context("cannot read the CPU time of children")?;
    Ok((usage.user_time().num_microseconds() + usage.system_time().num_microseconds()) as f64 / 1e3)
}
