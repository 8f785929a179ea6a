//! Where the metrics come from at a scrape.

use std::{error::Error, fs, time::Instant};

use super::pipeline::{SharedKernel, lock};
use crate::{
    health::{PATIENCE, Pulse},
    host::{self, cgroup::Membership, cgroup_tree},
    model::counters::KernelReading,
    output::metrics::{Answering, Sources},
};

/// The kernel side, this host, and forkwatch itself.
pub(crate) struct KernelSources {
    pub(crate) kernel: SharedKernel,
    pub(crate) pulse: Pulse,
}

impl Sources for KernelSources {
    fn kernel(&self) -> Result<KernelReading, Box<dyn Error + Send + Sync>> {
        lock(&self.kernel).reading().map_err(Into::into)
    }

    fn answering(&self) -> Answering {
        let (unanswered, lag) = self.pulse.backlog();
        let looks = self.pulse.looks_so_far();
        // One that has ended is none that cannot be seen.
        let now = Instant::now();
        let living = looks
            .unreadable
            .iter()
            .filter(|(process, until)| now < *until && host::look_again(*process).is_some());
        Answering {
            failing: self.pulse.failing(PATIENCE).iter().map(|failing| failing.part).collect(),
            unanswered: count(unanswered),
            lag,
            unreadable: count(living.count()),
            lost_readers: count(looks.lost),
            replaced_readers: looks.replaced,
            sleepers_are_late: self.pulse.sleepers_are_late(),
        }
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

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}
