//! The kernel's own count, and forkwatch's.

use std::fs;

use anyhow::{Context as _, Result, ensure};

use crate::{expect::until, metrics::Metrics};

/// Both counts at one moment.
pub(crate) struct Counts {
    /// `processes` of `/proc/stat`: every task that was ever created.
    pub(crate) kernel: f64,
    /// What a daemon exposes.
    pub(crate) metrics: Metrics,
}

impl Counts {
    /// Takes them when nothing was created in between.
    pub(crate) fn take() -> Result<Self> {
        until("a moment without a new task", || {
            let before = processes()?;
            let metrics = Metrics::scrape()?;
            let after = processes()?;
            let same = before.total_cmp(&after).is_eq();
            Ok(same.then_some(Self { kernel: after, metrics }))
        })
    }

    /// What a series has grown by since then.
    pub(crate) fn growth(&self, since: &Self, name: &str, label: &str) -> f64 {
        self.metrics.sum(name, label) - since.metrics.sum(name, label)
    }
}

fn processes() -> Result<f64> {
    let stat = fs::read_to_string("/proc/stat")?;
    let count = stat.lines().find_map(|line| line.strip_prefix("processes "));
    let count: f64 = count.context("/proc/stat has no processes")?.trim().parse()?;
    ensure!(count > 0.0, "/proc/stat counts no process");
    Ok(count)
}
