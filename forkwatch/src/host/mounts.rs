//! What the mounts of this mount namespace say about `/proc` and cgroups.

use std::io;

use super::mountinfo;

/// Which trees of cgroups are mounted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CgroupTrees {
    /// Version 2 alone.
    Unified,
    /// Versions 1 and 2.
    Hybrid,
    /// Version 1 alone.
    Legacy,
    /// Neither version.
    Absent,
}

/// What of the mounts matters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mounts {
    /// The trees of cgroups.
    pub cgroups: CgroupTrees,
    /// The mount option of `/proc` that hides other users' processes, such as `invisible` or `2`; absent where they
    /// are not hidden.
    pub hidepid: Option<String>,
}

/// Reads them.
pub fn mounts() -> io::Result<Mounts> {
    mountinfo::read().map(|text| parse(&text))
}

pub(super) fn parse(text: &str) -> Mounts {
    let (mut unified, mut legacy, mut hidepid) = (false, false, None);
    for entry in mountinfo::entries(text) {
        match entry.kind {
            "cgroup2" => unified = true,
            "cgroup" => legacy = true,
            // The last one mounted lies on top.
            "proc" if entry.point == "/proc" => {
                let mut options = entry.options.split(',');
                hidepid = options.find_map(|option| option.strip_prefix("hidepid=")).map(str::to_owned);
            }
            _ => {}
        }
    }
    let cgroups = match (unified, legacy) {
        (true, false) => CgroupTrees::Unified,
        (true, true) => CgroupTrees::Hybrid,
        (false, true) => CgroupTrees::Legacy,
        (false, false) => CgroupTrees::Absent,
    };
    Mounts { cgroups, hidepid: hidepid.filter(|value| value != "0" && value != "off") }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROC: &str = "22 27 0:21 / /proc rw,relatime shared:5 - proc proc rw,gid=4,hidepid=invisible\n";
    const VERSION_2: &str = "35 23 0:30 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate\n";
    const VERSION_1: &str = "32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n";

    #[test]
    fn the_trees_of_cgroups_are_told_apart() {
        let trees = |text: &str| parse(text).cgroups;
        assert_eq!(trees(VERSION_2), CgroupTrees::Unified);
        assert_eq!(trees(VERSION_1), CgroupTrees::Legacy);
        assert_eq!(trees(&[VERSION_2, VERSION_1].concat()), CgroupTrees::Hybrid);
        assert_eq!(trees(PROC), CgroupTrees::Absent);
    }

    #[test]
    fn the_topmost_proc_tells_whether_processes_are_hidden() {
        let plain = "90 22 0:99 / /proc rw - proc proc rw\n";
        let elsewhere = "91 27 0:98 / /srv/jail/proc rw - proc proc rw,hidepid=2\n";
        let hidden = |text: &str| parse(text).hidepid;
        assert_eq!(hidden(PROC), Some("invisible".to_owned()));
        assert_eq!(hidden(&[PROC, plain].concat()), None);
        assert_eq!(hidden(&[plain, elsewhere].concat()), None);
        assert_eq!(hidden(&PROC.replace("invisible", "0")), None);
    }
}
