//! Whose a process is. Reads what never waits.

use super::{cgroup::Membership, file, stat::Stat, status::Status};
use crate::model::process::{Comm, ProcessKey};

/// A process in every version 1 hierarchy, with long paths in each.
const MAX_CGROUP: u64 = 64 * 1024;

/// Whose a process is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// What it calls itself.
    pub comm: Comm,
    /// Its real uid; absent where that may not be read.
    pub uid: Option<u32>,
    /// Its unit or container, else the path of its cgroup.
    pub unit: Option<String>,
}

/// Whose the process with that pid is now; absent where it has ended, or is hidden.
pub fn owner(tgid: u32) -> Option<(ProcessKey, Owner)> {
    let stat = Stat::of_process(tgid).ok()?;
    let uid = Status::of_process(tgid).ok().map(|status| status.uid);
    let membership = file::read(format!("/proc/{tgid}/cgroup"), MAX_CGROUP)
        .ok()
        .and_then(|text| Membership::parse(&String::from_utf8_lossy(&text)))
        .unwrap_or_default();
    let unit = membership.unit.or(membership.container).or(membership.path);
    Some((stat.key(), Owner { comm: stat.comm, uid, unit }))
}
