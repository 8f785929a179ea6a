//! Whether forkwatch sleeps while nothing happens.

use std::thread;
use std::time::Duration;

use anyhow::Result;

use crate::daemon::Daemon;
use crate::statistics::{median, show};
use crate::table::Table;
use crate::{Options, process};

/// How long is watched, and how long the daemon may settle before.
const WATCHED: Duration = Duration::from_secs(5);
const SETTLE: Duration = Duration::from_secs(2);

/// Measures, and prints a table.
pub(crate) fn run(options: &Options) -> Result<()> {
    let (mut wakeups, mut forks, mut cpu) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..options.rounds {
        let daemon = Daemon::start(&options.program)?;
        thread::sleep(SETTLE);
        let before =
            (process::wakeups(daemon.pid())?, process::tasks_created()?, process::cpu_seconds(daemon.pid())?);
        thread::sleep(WATCHED);
        wakeups.push((process::wakeups(daemon.pid())? - before.0) as f64);
        forks.push((process::tasks_created()? - before.1) as f64);
        cpu.push((process::cpu_seconds(daemon.pid())? - before.2) * 1e6);
    }
    let mut table = Table::new("The daemon while nothing happens, in 5 seconds", &["", "median", "greatest"]);
    for (name, values) in
        [("wake-ups", wakeups), ("CPU time, us", cpu), ("tasks that others created meanwhile", forks)]
    {
        table.row([
            name.to_owned(),
            show(median(&values), 0),
            show(values.iter().copied().reduce(f64::max), 0),
        ]);
    }
    print!("{table}");
    Ok(())
}
