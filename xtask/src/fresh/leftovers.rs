//! What the two commands must not leave behind on a machine.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use super::CLONE;
use crate::project;

/// Where temporary files go.
const TEMPORARY: [&str; 2] = ["tmp", "var/tmp"];

/// A system before the commands ran.
pub(super) struct Before {
    services: BTreeSet<PathBuf>,
}

impl Before {
    pub(super) fn of(root: &Path) -> Result<Self> {
        Ok(Self { services: services(root)? })
    }

    /// What was left, a line each.
    pub(super) fn leftovers(&self, root: &Path) -> Result<Vec<String>> {
        let mut left = Vec::new();
        for directory in TEMPORARY {
            for entry in listing(&root.join(directory))? {
                left.push(format!("a temporary file, {}", shown(root, &entry)));
            }
        }
        for service in services(root)?.difference(&self.services) {
            left.push(format!("a service that starts with the machine, {}", shown(root, service)));
        }
        let policy = root.join("usr/sbin/policy-rc.d");
        if policy.exists() {
            left.push(format!("{}, which keeps every service from starting", shown(root, &policy)));
        }
        let mut status = Command::new("git");
        status.arg("-C").arg(root.join(CLONE)).args(["status", "--porcelain"]);
        let changed = project::output(&mut status)?;
        left.extend(changed.lines().map(|line| format!("a change in the clone, {line}")));
        Ok(left)
    }
}

/// The processes in a mount namespace.
pub(super) fn processes(namespace: &Path) -> Result<Vec<u32>> {
    let mut found = Vec::new();
    for entry in listing(Path::new("/proc"))? {
        let pid = entry.file_name().and_then(|name| name.to_str()?.parse().ok());
        // One that has ended meanwhile is none.
        if let Some(pid) = pid
            && fs::read_link(entry.join("ns/mnt")).is_ok_and(|of_it| of_it == namespace)
        {
            found.push(pid);
        }
    }
    Ok(found)
}

/// Every link that has a service started.
fn services(root: &Path) -> Result<BTreeSet<PathBuf>> {
    let etc = listing(&root.join("etc"))?;
    let is_of_init = |path: &PathBuf| {
        let name = path.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
        name.starts_with("rc") && path.extension().is_some_and(|extension| extension == "d")
    };
    let mut found = BTreeSet::new();
    for directory in etc.iter().filter(|path| is_of_init(path)) {
        // The others say what is ended.
        let starts =
            |path: &PathBuf| path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"S"));
        found.extend(listing(directory)?.into_iter().filter(starts));
    }
    let systemd = root.join("etc/systemd");
    if systemd.is_dir() {
        links(&systemd, &mut found)?;
    }
    Ok(found)
}

fn links(directory: &Path, found: &mut BTreeSet<PathBuf>) -> Result<()> {
    for path in listing(directory)? {
        if path.is_symlink() {
            found.insert(path);
        } else if path.is_dir() {
            links(&path, found)?;
        }
    }
    Ok(())
}

fn listing(directory: &Path) -> Result<Vec<PathBuf>> {
    let read = || fs::read_dir(directory)?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<_>>();
    read().with_context(|| format!("cannot list {}", directory.display()))
}

/// A path as it is called within the system.
fn shown(root: &Path, path: &Path) -> String {
    Path::new("/").join(path.strip_prefix(root).unwrap_or(path)).display().to_string()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn what_is_left_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        let wants = "etc/systemd/system/multi-user.target.wants";
        for part in ["tmp", "var/tmp", wants, "etc/rc2.d", CLONE] {
            fs::create_dir_all(root.join(part)).unwrap();
        }
        let git = |arguments: &[&str]| {
            project::output(Command::new("git").arg("-C").arg(root.join(CLONE)).args(arguments)).unwrap()
        };
        git(&["init", "--quiet"]);
        symlink("/lib/old.service", root.join(wants).join("old.service")).unwrap();
        let before = Before::of(root).unwrap();
        assert_eq!(before.leftovers(root).unwrap(), Vec::<String>::new());

        symlink("/lib/new.service", root.join(wants).join("new.service")).unwrap();
        symlink("../init.d/new", root.join("etc/rc2.d/S01new")).unwrap();
        symlink("../init.d/new", root.join("etc/rc2.d/K01new")).unwrap();
        fs::write(root.join("tmp/file"), "").unwrap();
        fs::write(root.join(CLONE).join("file"), "").unwrap();
        let expected = [
            "a temporary file, /tmp/file".to_owned(),
            "a service that starts with the machine, /etc/rc2.d/S01new".to_owned(),
            format!("a service that starts with the machine, /{wants}/new.service"),
            "a change in the clone, ?? file".to_owned(),
        ];
        assert_eq!(before.leftovers(root).unwrap(), expected);
    }

    #[test]
    fn this_process_is_in_its_own_namespace() {
        let namespace = fs::read_link("/proc/self/ns/mnt").unwrap();
        assert!(processes(&namespace).unwrap().contains(&std::process::id()));
        assert!(processes(Path::new("mnt:[0]")).unwrap().is_empty());
    }
}
