//! Where the metrics come from at a scrape.

use std::{error::Error, fs};

use super::pipeline::{SharedKernel, lock};
use crate::{
    host::{cgroup::Membership, cgroup_tree},
    model::counters::KernelReading,
    report::metrics::Sources,
};

/// The kernel side, and this host.
pub(super) struct KernelSources(pub(super) SharedKernel);

impl Sources for KernelSources {
    fn kernel(&self) -> Result<KernelReading, Box<dyn Error + Send + Sync>> {
        lock(&self.0).reading().map_err(Into::into)
    }

    fn tasks_created(&self) -> Option<u64> {
        let stat = fs::read_to_string("/proc/stat").ok()?;
        stat.lines().find_map(|line| line.strip_prefix("processes "))?.trim().parse().ok()
    }

    fn unit(&self, cgroup: u64) -> Option<String> {
        let path = cgroup_tree::names(&[cgroup]).ok()?.remove(&cgroup)?;
        let Membership { unit, container, path: _ } = Membership::of_path(&path);
        unit.or(container).or(Some(path))
    }
}
