//! Looks at the limits.

use std::{
    collections::HashMap,
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Component, Path, PathBuf},
};

use super::{Facts, Level, Usage, User, decide};
use crate::{
    host::{
        cgroup_tree::{self, Hierarchy, Mount},
        clock, file, mountinfo,
        stat::Stat,
        status::Status,
    },
    model::{event::CloneFailure, limit::Limit},
};

/// A process in every version 1 hierarchy, with long paths in each.
const MAX_CGROUP: u64 = 64 * 1024;
/// Processes whose user is looked at. Beyond, the user's tasks are not counted: that would take too long.
const MAX_PROCESSES: usize = 4096;
/// Cgroups whose refusals are remembered.
const MAX_REMEMBERED: usize = 1024;
/// Pids below are not given out again once the numbers have wrapped (`RESERVED_PIDS`, kernel/pid.c).
const RESERVED_PIDS: u64 = 300;
/// `CAP_SYS_ADMIN` and `CAP_SYS_RESOURCE`, either of which lifts `RLIMIT_NPROC` (`copy_process`, kernel/fork.c).
const EXEMPTING: u64 = 1 << 21 | 1 << 24;
/// Inode of the first user namespace (`PROC_USER_INIT_INO`, `include/linux/proc_ns.h`): capabilities in another one
/// lift no limit.
const INITIAL_USER_NAMESPACE: u64 = 0xefff_fffd;
/// Version 1 has no word for "no limit": it is the greatest multiple of the page size.
const UNLIMITED: u64 = 1 << 62;

/// Finds the limits behind failures.
#[derive(Debug, Default)]
pub struct Limits {
    /// Refusals that were counted at the last look.
    refusals: HashMap<PathBuf, u64>,
}

/// Where a controller keeps its limit, what is used of it, and how often it refused.
struct Files {
    max: &'static str,
    used: &'static str,
    /// The file, and the word in front of the count; none where the file holds nothing else.
    refusals: (&'static str, Option<&'static str>),
}

const PIDS: Files = Files { max: "pids.max", used: "pids.current", refusals: ("pids.events", Some("max ")) };
const MEMORY: Files =
    Files { max: "memory.max", used: "memory.current", refusals: ("memory.events", Some("max ")) };
const MEMORY_1: Files =
    Files { max: "memory.limit_in_bytes", used: "memory.usage_in_bytes", refusals: ("memory.failcnt", None) };

impl Limits {
    /// The limit behind a failure; absent where it cannot be told, because the caller has ended, has been given room
    /// again, or may not be looked at.
    pub fn find(&mut self, failure: &CloneFailure) -> Option<Limit> {
        let errno = i32::try_from(failure.errno).unwrap_or_default();
        if !matches!(errno, libc::EAGAIN | libc::ENOMEM) {
            return decide(failure.errno, &Facts::default());
        }
        let mut facts = of_the_host();
        // The pid may be another's by now.
        let is_caller = |stat: &Stat| stat.start <= failure.at.ticks() && !stat.process_has_ended();
        if Stat::of_process(failure.tgid).is_ok_and(|stat| is_caller(&stat)) {
            facts.user = user(failure);
            facts.foreign_namespace = forks_into_another_namespace(failure.tgid);
            let memberships = file::read(format!("/proc/{}/cgroup", failure.tgid), MAX_CGROUP);
            if let (Ok(memberships), Ok(mounts)) = (memberships, mountinfo::read()) {
                let memberships = String::from_utf8_lossy(&memberships);
                facts.pids = self.levels(&mounts, &memberships, "pids", &PIDS, &PIDS);
                facts.memory = self.levels(&mounts, &memberships, "memory", &MEMORY_1, &MEMORY);
            }
        }
        decide(failure.errno, &facts)
    }

    /// A controller's limits from the caller's cgroup upwards, in the version 1 tree or, where there is none, in that
    /// of version 2.
    fn levels(
        &mut self,
        mounts: &str,
        memberships: &str,
        controller: &str,
        version_1: &Files,
        version_2: &Files,
    ) -> Vec<Level> {
        let hierarchies = [(Hierarchy::Controller(controller), version_1), (Hierarchy::Unified, version_2)];
        let found = hierarchies.into_iter().find_map(|(hierarchy, files)| {
            let path = membership(memberships, hierarchy)?;
            Some((cgroup_tree::find_mount(mounts, hierarchy)?, path, files))
        });
        let Some((mount, path, files)) = found else { return Vec::new() };
        let cgroups = directories(&mount, path);
        cgroups.into_iter().filter_map(|(cgroup, directory)| self.level(cgroup, &directory, files)).collect()
    }

    fn level(&mut self, cgroup: String, directory: &Path, files: &Files) -> Option<Level> {
        let max = number(&directory.join(files.max)).filter(|max| *max < UNLIMITED)?;
        let used = number(&directory.join(files.used))?;
        let (name, word) = files.refusals;
        let refused =
            count(&directory.join(name), word).is_some_and(|count| self.is_more(directory, name, count));
        Some(Level { cgroup, usage: Usage { used, max }, refused })
    }

    /// Whether a count has grown since the last look; the first look cannot tell.
    fn is_more(&mut self, directory: &Path, name: &str, count: u64) -> bool {
        if self.refusals.len() >= MAX_REMEMBERED {
            self.refusals.clear();
        }
        self.refusals.insert(directory.join(name), count).is_some_and(|before| count > before)
    }
}

/// The most memory that forkwatch's own cgroup may take, or one above it; none where there is no limit.
pub fn own_memory() -> Option<u64> {
    let memberships = file::read("/proc/self/cgroup", MAX_CGROUP).ok()?;
    let mounts = mountinfo::read().ok()?;
    let memberships = String::from_utf8_lossy(&memberships);
    let levels = Limits::default().levels(&mounts, &memberships, "memory", &MEMORY_1, &MEMORY);
    levels.iter().map(|level| level.usage.max).min()
}

/// What concerns all of the host.
fn of_the_host() -> Facts {
    // The fourth field of /proc/loadavg is running tasks, a slash and all tasks (proc(5)).
    let tasks = file::read_small("/proc/loadavg").ok().and_then(|text| {
        let text = String::from_utf8(text).ok()?;
        text.split(' ').nth(3)?.split_once('/')?.1.parse::<u64>().ok()
    });
    let of = |max: Option<u64>| tasks.zip(max).map(|(used, max)| Usage { used, max });
    Facts {
        threads: of(number(Path::new("/proc/sys/kernel/threads-max"))),
        pid_numbers: of(clock::pid_max().map(|max| u64::from(max).saturating_sub(RESERVED_PIDS))),
        strict_overcommit: number(Path::new("/proc/sys/vm/overcommit_memory")) == Some(2),
        ..Facts::default()
    }
}

/// How the caller's user stands to the caller's `RLIMIT_NPROC`.
fn user(failure: &CloneFailure) -> User {
    let tgid = failure.tgid;
    let Some(max) = process_limit(tgid) else { return User::Exempt };
    let namespace = fs::metadata(format!("/proc/{tgid}/ns/user"));
    let is_initial = namespace.is_ok_and(|namespace| namespace.ino() == INITIAL_USER_NAMESPACE);
    let capabilities = Status::effective_capabilities(tgid).unwrap_or_default();
    if failure.uid == 0 || (is_initial && capabilities & EXEMPTING != 0) {
        return User::Exempt;
    }
    let Ok(processes) = file::numbers("/proc", MAX_PROCESSES + 1) else { return User::Uncounted };
    if processes.len() > MAX_PROCESSES {
        return User::Uncounted;
    }
    let mut tasks = 0;
    for process in processes {
        // One that ends meanwhile counts no more.
        if Status::of_process(process).is_ok_and(|status| status.uid == failure.uid) {
            tasks += Stat::of_process(process).map_or(0, |stat| u64::from(stat.threads));
        }
        if tasks >= max {
            return User::Full;
        }
    }
    User::Below
}

/// The soft `RLIMIT_NPROC`; absent where it is unlimited or cannot be read.
fn process_limit(tgid: u32) -> Option<u64> {
    let limits = file::read_small(format!("/proc/{tgid}/limits")).ok()?;
    file::field(&limits, "Max processes")?.split_ascii_whitespace().next()?.parse().ok()
}

/// Whether the caller's children go to another pid namespace than its own (`unshare(2)`, `setns(2)`).
fn forks_into_another_namespace(tgid: u32) -> bool {
    let link = |name: &str| fs::read_link(format!("/proc/{tgid}/ns/{name}")).ok();
    link("pid").zip(link("pid_for_children")).is_some_and(|(own, children)| own != children)
}

/// The path of a process in a hierarchy, by its `/proc/PID/cgroup`: `hierarchy:controllers:path` a line (cgroups(7)).
fn membership<'a>(text: &'a str, hierarchy: Hierarchy<'_>) -> Option<&'a str> {
    text.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':');
        let (id, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
        let is_it = match hierarchy {
            Hierarchy::Unified => id == "0" && controllers.is_empty(),
            Hierarchy::Controller(name) => controllers.split(',').any(|controller| controller == name),
        };
        is_it.then_some(path)
    })
}

/// A cgroup and those above it, as far as the mount shows them, with their directories.
fn directories(mount: &Mount, path: &str) -> Vec<(String, PathBuf)> {
    let Ok(relative) = Path::new(path).strip_prefix(&mount.root) else { return Vec::new() };
    // A cgroup outside of forkwatch's cgroup namespace has a path that begins with `..`.
    if relative.components().any(|component| !matches!(component, Component::Normal(_))) {
        return Vec::new();
    }
    let cgroup = |relative: &Path| Path::new(&mount.root).join(relative).components().collect::<PathBuf>();
    relative
        .ancestors()
        .map(|relative| (cgroup(relative).to_string_lossy().into_owned(), mount.point.join(relative)))
        .collect()
}

/// What a file of one number says; absent where it says `max`.
fn number(path: &Path) -> Option<u64> {
    String::from_utf8(file::read_small(path).ok()?).ok()?.trim().parse().ok()
}

fn count(path: &Path, word: Option<&str>) -> Option<u64> {
    match word {
        None => number(path),
        Some(word) => file::field(&file::read_small(path).ok()?, word)?.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{event::Origin, limit::Cause};

    const HYBRID: &str = "9:name=systemd:/s\n8:pids:/a/b\n4:memory,cpu:/m\n0::/u\n";

    #[test]
    fn a_process_is_found_in_each_hierarchy() {
        assert_eq!(membership(HYBRID, Hierarchy::Controller("pids")), Some("/a/b"));
        assert_eq!(membership(HYBRID, Hierarchy::Controller("memory")), Some("/m"));
        assert_eq!(membership(HYBRID, Hierarchy::Controller("devices")), None);
        assert_eq!(membership(HYBRID, Hierarchy::Unified), Some("/u"));
    }

    #[test]
    fn all_cgroups_up_to_the_mounted_one_are_looked_at() {
        let mount = Mount { point: "/mnt".into(), root: "/outer".to_owned() };
        let names: Vec<_> = directories(&mount, "/outer/a/b").into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["/outer/a/b", "/outer/a", "/outer"]);
        assert_eq!(directories(&mount, "/other"), []);
        assert_eq!(directories(&Mount { root: "/".to_owned(), ..mount }, "/../x"), []);
    }

    fn write(directory: &Path, files: &[(&str, &str)]) {
        fs::create_dir_all(directory).unwrap();
        for (name, text) in files {
            fs::write(directory.join(name), text).unwrap();
        }
    }

    #[test]
    fn limits_are_read_from_both_versions_of_the_tree() {
        let root = tempfile::tempdir().unwrap();
        let inner = root.path().join("m");
        write(&inner, &[("memory.limit_in_bytes", "4096\n"), ("memory.usage_in_bytes", "4000\n")]);
        write(
            root.path(),
            &[("memory.limit_in_bytes", "9223372036854771712\n"), ("memory.usage_in_bytes", "1\n")],
        );
        let mounts = format!("1 0 0:1 / {} rw - cgroup c rw,cpu,memory\n", root.path().display());
        let levels = Limits::default().levels(&mounts, HYBRID, "memory", &MEMORY_1, &MEMORY);
        let usage = Usage { used: 4000, max: 4096 };
        assert_eq!(levels, [Level { cgroup: "/m".to_owned(), usage, refused: false }]);

        let inner = root.path().join("u");
        write(&inner, &[("pids.max", "max\n"), ("pids.current", "3\n")]);
        write(root.path(), &[("pids.max", "7\n"), ("pids.current", "7\n"), ("pids.events", "max 1\n")]);
        let mounts = format!("1 0 0:1 / {} rw - cgroup2 c rw\n", root.path().display());
        let mut limits = Limits::default();
        let mut level = || limits.levels(&mounts, HYBRID, "pids", &PIDS, &PIDS).pop().unwrap();
        let first = level();
        assert_eq!(
            (first.cgroup.as_str(), first.usage, first.refused),
            ("/", Usage { used: 7, max: 7 }, false)
        );
        write(root.path(), &[("pids.events", "max 2\n")]);
        assert!(level().refused);
        assert!(!level().refused);
    }

    #[test]
    fn what_the_host_says_of_itself_is_read() {
        let Facts { threads, pid_numbers, .. } = of_the_host();
        for usage in [threads.unwrap(), pid_numbers.unwrap()] {
            assert!(usage.used > 0 && !usage.is_full(), "{usage:?}");
        }
        assert!(!forks_into_another_namespace(std::process::id()));
    }

    #[test]
    fn what_no_limit_concerns_needs_no_look() {
        let status = Status::of_process(std::process::id()).unwrap();
        let failure = |uid| CloneFailure {
            origin: Origin::default(),
            at: clock::now(),
            tgid: std::process::id(),
            tid: std::process::id(),
            comm: "test".into(),
            uid,
            cgroup: 0,
            errno: libc::EAGAIN.unsigned_abs(),
            duration: 1,
        };
        assert_eq!(user(&failure(0)), User::Exempt);
        let mut other = failure(status.uid);
        other.errno = libc::EINVAL.unsigned_abs();
        assert_eq!(Limits::default().find(&other), Some(Cause::Other.into()));
    }
}
