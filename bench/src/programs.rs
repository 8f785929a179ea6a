//! The kernel's own account of what each eBPF program costs.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::time::Duration;

use anyhow::{Context as _, Result};
use aya::programs::loaded_programs;
use aya::sys::{Stats, enable_stats};

/// What a program has cost so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cost {
    /// Its name, as far as the kernel keeps it: 15 characters.
    pub(crate) name: String,
    /// Times it ran.
    pub(crate) runs: u64,
    /// For how long, in all.
    pub(crate) time: Duration,
}

/// Costs by program id.
pub(crate) type Costs = BTreeMap<u32, Cost>;

/// Has the kernel keep account while the descriptor is open.
pub(crate) fn keep_account() -> Result<OwnedFd> {
    enable_stats(Stats::RunTime).context("cannot turn on the kernel's BPF statistics (Linux 5.8 and later)")
}

/// What every loaded program has cost.
pub(crate) fn costs() -> Result<Costs> {
    let mut costs = Costs::new();
    for program in loaded_programs() {
        let program = program.context("cannot list the loaded eBPF programs")?;
        let name = program.name_as_str().unwrap_or("?").to_owned();
        costs.insert(program.id(), Cost { name, runs: program.run_count(), time: program.run_time() });
    }
    Ok(costs)
}

/// What each program has cost since `before`, without those that did not run.
pub(crate) fn since(before: &Costs) -> Result<Costs> {
    let mut costs = costs()?;
    for (id, cost) in &mut costs {
        let earlier = before.get(id).cloned().unwrap_or_default();
        cost.runs -= earlier.runs;
        cost.time -= earlier.time;
    }
    costs.retain(|_, cost| cost.runs > 0);
    Ok(costs)
}
