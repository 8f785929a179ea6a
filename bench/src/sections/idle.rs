//! Whether forkwatch sleeps while nothing happens, beside a program that wakes each second.

use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::daemon::{Daemon, end};
use crate::report::Report;
use crate::statistics::{median, show};
use crate::table::Table;
use crate::{Options, process, this_program};

/// How long is watched, and how long the daemons may settle before.
const WATCHED: Duration = Duration::from_secs(60);
const SETTLE: Duration = Duration::from_secs(15);
/// Each round takes so long that there is only one for so many of other sections.
const ROUNDS_IN_ONE: usize = 2;
/// What the service manager asks for in the unit that comes with forkwatch.
const WATCHDOG: Duration = Duration::from_secs(30);

/// What one program did in each round.
struct Sample {
    name: String,
    wakeups: Vec<f64>,
    ratio: Vec<f64>,
    cpu: Vec<f64>,
}

/// Measures, and reports a table.
pub(crate) fn run(options: &Options, report: &Report) -> Result<()> {
    let watchdog = format!("forkwatch daemon, WatchdogSec={}", WATCHDOG.as_secs());
    let names = ["a program that wakes each second".to_owned(), "forkwatch daemon".to_owned(), watchdog];
    let beside = options.beside.iter().map(|path| format!("{} daemon", path.display()));
    let mut samples: Vec<Sample> = names
        .into_iter()
        .chain(beside)
        .map(|name| Sample { name, wakeups: Vec::new(), ratio: Vec::new(), cpu: Vec::new() })
        .collect();
    let (mut created, mut followed) = (Vec::new(), Vec::new());
    for _ in 0..options.rounds.div_ceil(ROUNDS_IN_ONE) {
        let waker = Waker::start()?;
        let daemon = Daemon::start(&options.program)?;
        let watched = Daemon::start_watched(&options.program, WATCHDOG)?;
        let beside = options.beside.as_deref().map(Daemon::start).transpose()?;
        followed.push(daemon.metric("forkwatch_unexeced_children", "")?);
        thread::sleep(SETTLE);
        let pids: Vec<u32> = [waker.0.id(), daemon.pid(), watched.pid()]
            .into_iter()
            .chain(beside.iter().map(Daemon::pid))
            .collect();
        let before = (look(&pids)?, process::tasks_created()?);
        thread::sleep(WATCHED);
        let after = look(&pids)?;
        created.push((process::tasks_created()? - before.1) as f64);
        let each_second =
            after.first().zip(before.0.first()).map_or(f64::NAN, |(after, before)| after.0 - before.0);
        for ((sample, after), before) in samples.iter_mut().zip(after).zip(before.0) {
            sample.wakeups.push(after.0 - before.0);
            sample.ratio.push((after.0 - before.0) / each_second);
            sample.cpu.push((after.1 - before.1) * 1e6);
        }
    }
    let mut table = Table::new(
        "A minute in which nothing happens",
        &["program", "wake-ups", "greatest", "times the first", "CPU time, us"],
    );
    for sample in &samples {
        table.row([
            sample.name.clone(),
            show(median(&sample.wakeups), 0),
            show(greatest(&sample.wakeups), 0),
            show(median(&sample.ratio), 2),
            show(median(&sample.cpu), 0),
        ]);
    }
    for (name, values) in
        [("tasks that others created meanwhile", created), ("forked children that lived meanwhile", followed)]
    {
        let dash = || "-".to_owned();
        table.row([name.to_owned(), show(median(&values), 0), show(greatest(&values), 0), dash(), dash()]);
    }
    report.table("idle", &table)?;
    let wakeups = |index: usize| show(samples.get(index).and_then(|sample| median(&sample.wakeups)), 0);
    report.aim(
        "no wake-up in an idle minute; at most 12 under `WatchdogSec=30`",
        &format!("{}; {}", wakeups(1), wakeups(2)),
    )
}

fn greatest(values: &[f64]) -> Option<f64> {
    values.iter().copied().reduce(f64::max)
}

/// Wake-ups and CPU seconds so far of each process and its descendants.
fn look(pids: &[u32]) -> Result<Vec<(f64, f64)>> {
    let of = |pid: &u32| -> Result<(f64, f64)> {
        let mut sum = (0.0, 0.0);
        for pid in process::family(*pid)? {
            sum.0 += process::wakeups(pid)? as f64;
            sum.1 += process::cpu_seconds(pid)?;
        }
        Ok(sum)
    };
    pids.iter().map(of).collect()
}

/// A program that does nothing but wake each second.
struct Waker(Child);

impl Waker {
    fn start() -> Result<Self> {
        let mut command = Command::new(this_program()?);
        let child =
            command.arg("wake").stdin(Stdio::null()).spawn().context("cannot start a program that wakes")?;
        Ok(Self(child))
    }
}

impl Drop for Waker {
    fn drop(&mut self) {
        end(&mut self.0);
    }
}

/// The work of that program.
pub(crate) fn wake() -> ! {
    loop {
        thread::sleep(Duration::from_secs(1));
    }
}
