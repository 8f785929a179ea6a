//! The cgroup version 2 tree: from paths to ids and back.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    fs, io,
    os::unix::fs::{DirEntryExt, MetadataExt},
    path::{Path, PathBuf},
};

use super::mountinfo::{self, unescape};

/// Cgroups that are looked at for one map of names.
const MAX_CGROUPS: usize = 65_536;
/// Inode of the first cgroup namespace (`PROC_CGROUP_INIT_INO`, `include/linux/proc_ns.h`).
const INITIAL_NAMESPACE: u64 = 0xefff_fffb;

/// Why a cgroup cannot be found.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    /// No cgroup version 2 tree is mounted.
    #[error("no cgroup version 2 tree is mounted here: mount one (mount -t cgroup2 none /sys/fs/cgroup)")]
    NotMounted,
    /// The path is not that of a cgroup.
    #[error("{path} is no cgroup: {reason}; give a path below {mount}, such as /system.slice/nginx.service")]
    NotACgroup {
        /// What was asked for.
        path: String,
        /// The mount point of the tree.
        mount: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// forkwatch sees only a part of the tree.
    #[error(
        "this is a cgroup namespace, in which the place of a cgroup in the host's tree is hidden: run forkwatch outside of it (docker run --cgroupns=host)"
    )]
    Namespace,
    /// Something could not be read.
    #[error("cannot read {path}: {source}")]
    Unreadable {
        /// What could not be read.
        path: PathBuf,
        /// What the system or the parser said.
        source: io::Error,
    },
}

/// A cgroup as the kernel names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cgroup {
    /// Its id: the inode number of its directory.
    pub id: u64,
    /// Its depth in the tree; the root's is 0.
    pub level: u32,
    /// Its path from the root of the tree.
    pub path: String,
}

/// Finds a cgroup by its path, from the root of the tree (`/system.slice/nginx.service`) or of the file system
/// (`/sys/fs/cgroup/system.slice/nginx.service`).
pub fn find(path: &str) -> Result<Cgroup, CgroupError> {
    let namespace = fs::metadata("/proc/self/ns/cgroup").map(|namespace| namespace.ino());
    if namespace.is_ok_and(|inode| inode != INITIAL_NAMESPACE) {
        return Err(CgroupError::Namespace);
    }
    find_below(&mount()?, path)
}

/// The paths of those ids; without those whose cgroup is gone.
pub fn names(ids: &[u64]) -> Result<HashMap<u64, String>, CgroupError> {
    names_below(&mount()?, &ids.iter().copied().collect())
}

/// A mount of a hierarchy of cgroups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mount {
    /// Where it is mounted.
    pub(super) point: PathBuf,
    /// Which cgroup is mounted there.
    pub(super) root: String,
}

/// One of the trees of cgroups (cgroups(7)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hierarchy<'a> {
    /// That of version 2.
    Unified,
    /// The version 1 tree of this controller.
    Controller(&'a str),
}

impl Hierarchy<'_> {
    /// Whether a mount is of it, by the mount's type and its super block's options.
    fn is(self, kind: &str, options: &str) -> bool {
        match self {
            Self::Unified => kind == "cgroup2",
            Self::Controller(name) => kind == "cgroup" && options.split(',').any(|option| option == name),
        }
    }
}

fn mount() -> Result<Mount, CgroupError> {
    let text = mountinfo::read()
        .map_err(|source| CgroupError::Unreadable { path: mountinfo::PATH.into(), source })?;
    find_mount(&text, Hierarchy::Unified).ok_or(CgroupError::NotMounted)
}

/// Where it is mounted. A mount of the whole tree is preferred to one of a part.
pub(super) fn find_mount(mountinfo: &str, hierarchy: Hierarchy<'_>) -> Option<Mount> {
    mountinfo::entries(mountinfo)
        .filter(|entry| hierarchy.is(entry.kind, entry.options))
        .map(|entry| Mount { point: unescape(entry.point).into(), root: unescape(entry.root) })
        .min_by_key(|mount| mount.root.len())
}

fn find_below(mount: &Mount, path: &str) -> Result<Cgroup, CgroupError> {
    let refuse = |reason: String| CgroupError::NotACgroup {
        path: path.to_owned(),
        mount: mount.point.clone(),
        reason,
    };
    let asked = Path::new(path);
    let relative = asked
        .strip_prefix(&mount.point)
        .or_else(|_| asked.strip_prefix(&mount.root))
        .or_else(|_| asked.strip_prefix("/"))
        .unwrap_or(asked);
    if relative.components().any(|component| !matches!(component, std::path::Component::Normal(_))) {
        return Err(refuse("it has '..' in it".to_owned()));
    }
    let directory = mount.point.join(relative);
    let metadata = fs::metadata(&directory).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => refuse("there is none of that name".to_owned()),
        _ => CgroupError::Unreadable { path: directory.clone(), source: error },
    })?;
    if !metadata.is_dir() {
        return Err(refuse("it is a file".to_owned()));
    }
    let path = full_path(mount, relative);
    let level = Path::new(&path).components().count().saturating_sub(1);
    Ok(Cgroup { id: metadata.ino(), level: u32::try_from(level).unwrap_or(u32::MAX), path })
}

fn full_path(mount: &Mount, relative: &Path) -> String {
    // Collected by component, so that no slash stands at the end.
    Path::new(&mount.root).join(relative).components().collect::<PathBuf>().to_string_lossy().into_owned()
}

/// Walks the tree breadth first, because what is asked for is rarely deep, and ends when all is found.
fn names_below(mount: &Mount, ids: &HashSet<u64>) -> Result<HashMap<u64, String>, CgroupError> {
    let unreadable = |source| CgroupError::Unreadable { path: mount.point.clone(), source };
    let mut found = HashMap::new();
    let root = fs::metadata(&mount.point).map_err(unreadable)?;
    if ids.contains(&root.ino()) {
        found.insert(root.ino(), full_path(mount, Path::new("")));
    }
    let mut open = VecDeque::from([PathBuf::new()]);
    for _ in 0..MAX_CGROUPS {
        let Some(parent) = open.pop_front().filter(|_| found.len() < ids.len()) else { break };
        // A cgroup may be gone by the time that its turn comes.
        let Ok(entries) = fs::read_dir(mount.point.join(&parent)) else { continue };
        for entry in entries.map_while(Result::ok) {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                let path = parent.join(entry.file_name());
                if ids.contains(&entry.ino()) {
                    found.insert(entry.ino(), full_path(mount, &path));
                }
                open.push_back(path);
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mount_is_found_among_others() {
        let hybrid = "31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw\n\
            35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
            41 31 0:38 / /sys/fs/cgroup/unified rw,relatime shared:5 master:2 - cgroup2 cgroup2 rw\n";
        let expected = Mount { point: "/sys/fs/cgroup/unified".into(), root: "/".into() };
        assert_eq!(find_mount(hybrid, Hierarchy::Unified), Some(expected));
        let memory = find_mount(hybrid, Hierarchy::Controller("memory")).unwrap();
        assert_eq!(memory.point, Path::new("/sys/fs/cgroup/memory"));
        assert_eq!(find_mount(hybrid, Hierarchy::Controller("pids")), None);
        let part_and_whole =
            "9 1 0:9 /a.slice /mnt/part rw - cgroup2 c rw\n9 1 0:9 / /mnt/the\\040whole rw - cgroup2 c rw";
        let mount = find_mount(part_and_whole, Hierarchy::Unified).unwrap();
        assert_eq!(mount.point, Path::new("/mnt/the whole"));
        let other = "31 23 0:28 / /sys rw - sysfs sysfs rw\nnonsense";
        assert_eq!(find_mount(other, Hierarchy::Unified), None);
    }

    fn tree() -> (tempfile::TempDir, Mount) {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir_all(directory.path().join("system.slice/a.service")).unwrap();
        fs::create_dir_all(directory.path().join("system.slice/b.service/inner")).unwrap();
        fs::write(directory.path().join("cgroup.procs"), "").unwrap();
        let mount = Mount { point: directory.path().to_owned(), root: "/".into() };
        (directory, mount)
    }

    #[test]
    fn both_ways_of_naming_a_cgroup_give_the_same_one() {
        let (_directory, mount) = tree();
        let short = find_below(&mount, "/system.slice/a.service").unwrap();
        assert_eq!((short.level, short.path.as_str()), (2, "/system.slice/a.service"));
        let inode = fs::metadata(mount.point.join("system.slice/a.service")).unwrap().ino();
        assert_eq!(short.id, inode);
        for other in ["system.slice/a.service", "/system.slice/a.service/"] {
            assert_eq!(find_below(&mount, other).unwrap(), short);
        }
        let long = mount.point.join("system.slice/a.service");
        assert_eq!(find_below(&mount, long.to_str().unwrap()).unwrap(), short);
        for root in ["/", "", mount.point.to_str().unwrap()] {
            let found = find_below(&mount, root).unwrap();
            assert_eq!((found.level, found.path.as_str()), (0, "/"), "{root:?}");
        }
    }

    #[test]
    fn levels_count_from_the_root_of_the_whole_tree() {
        let (_directory, mount) = tree();
        let part = Mount { root: "/outer.slice".into(), ..mount };
        let found = find_below(&part, "/outer.slice/system.slice").unwrap();
        assert_eq!((found.level, found.path.as_str()), (2, "/outer.slice/system.slice"));
    }

    #[test]
    fn what_is_no_cgroup_is_refused_with_the_reason() {
        let (_directory, mount) = tree();
        for (path, reason) in
            [("/no.such", "none of that name"), ("/cgroup.procs", "a file"), ("/system.slice/../..", "'..'")]
        {
            let message = find_below(&mount, path).unwrap_err().to_string();
            assert!(message.contains(reason), "{message}");
        }
    }

    #[test]
    fn names_are_found_by_id() {
        let (_directory, mount) = tree();
        let id = |path: &str| find_below(&mount, path).unwrap().id;
        let (root, inner) = (id("/"), id("/system.slice/b.service/inner"));
        let names = names_below(&mount, &HashSet::from([root, inner, u64::MAX])).unwrap();
        assert_eq!(
            names,
            HashMap::from([(root, "/".to_owned()), (inner, "/system.slice/b.service/inner".to_owned())])
        );
    }

    #[test]
    fn the_root_of_this_hosts_tree_has_a_name() {
        if let Ok(root) = find("/") {
            assert_eq!(names(&[root.id]).unwrap(), HashMap::from([(root.id, "/".to_owned())]));
        }
    }
}
