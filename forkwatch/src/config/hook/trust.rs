//! Who may decide what a hook does: whoever may write the file, or replace it by way of the folders that lead to it.

use std::{
    ffi::OsString,
    fmt, fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Component, Path, PathBuf, absolute},
};

/// Most symbolic links on a way, as for the kernel.
const MOST_LINKS: usize = 40;
const BY_GROUP: u32 = 0o020;
const BY_ALL: u32 = 0o002;
/// In such a folder only the owner of a file may rename or remove it.
const STICKY: u32 = 0o1000;

/// Somebody who may decide what is in a file, beside root and us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Writer {
    who: Who,
    /// What he may write: the file, or a link or a folder on the way to it.
    what: PathBuf,
    is_folder: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Who {
    Everybody,
    Owner(u32),
    Group(u32),
}

impl Writer {
    /// The first of those who may decide what is in a file; those of a group, whom an administrator has chosen, only where
    /// there is nobody else. The error is that the way cannot be followed.
    pub fn of(path: &Path) -> io::Result<Option<Self>> {
        let own = nix::unistd::geteuid().as_raw();
        Self::beside(path, &[0, own])
    }

    /// Whether it is a group, to which somebody has given the right.
    pub const fn is_group(&self) -> bool {
        matches!(self.who, Who::Group(_))
    }

    /// The same, beside these users.
    fn beside(path: &Path, trusted: &[u32]) -> io::Result<Option<Self>> {
        let path = absolute(path)?;
        let mut left: Vec<OsString> = parts(&path);
        let mut at = PathBuf::from("/");
        let mut group = None;
        let mut links = 0;
        let mut here = at.clone();
        loop {
            let found = fs::symlink_metadata(&here)?;
            match Self::at(&here, &found, trusted) {
                Some(writer) if writer.is_group() => group = group.or(Some(writer)),
                Some(writer) => return Ok(Some(writer)),
                None => {}
            }
            if found.is_symlink() {
                links += 1;
                if links > MOST_LINKS {
                    return Err(io::Error::from_raw_os_error(libc::ELOOP));
                }
                let target = here.read_link()?;
                if target.is_absolute() {
                    at = PathBuf::from("/");
                }
                left.extend(parts(&target));
            } else {
                at = here;
            }
            let Some(part) = left.pop() else { return Ok(group) };
            let is_up = part == "..";
            if is_up {
                at.pop();
            }
            here = if is_up { at.clone() } else { at.join(part) };
        }
    }

    /// Who may write this one.
    fn at(path: &Path, found: &fs::Metadata, trusted: &[u32]) -> Option<Self> {
        let (mode, owner, group) = (found.mode(), found.uid(), found.gid());
        let is_sticky = found.is_dir() && mode & STICKY != 0;
        // Nobody writes a link, and what its mode says means nothing.
        let may = |who: u32| !found.is_symlink() && !is_sticky && mode & who != 0;
        let who = if !trusted.contains(&owner) {
            Who::Owner(owner)
        } else if may(BY_ALL) {
            Who::Everybody
        // A group that is called as its user has nobody else in it.
        } else if may(BY_GROUP) && group != 0 && group != owner {
            Who::Group(group)
        } else {
            return None;
        };
        Some(Self { who, what: path.to_owned(), is_folder: found.is_dir() })
    }
}

/// The parts of a path, the last first.
fn parts(path: &Path) -> Vec<OsString> {
    let parts = path.components().filter_map(|part| match part {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        _ => None,
    });
    parts.rev().collect()
}

impl fmt::Display for Writer {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = self.what.display();
        let folder = if self.is_folder { "the folder " } else { "" };
        match self.who {
            Who::Everybody => write!(out, "everybody may write to {folder}{what}: chmod o-w {what}"),
            Who::Owner(uid) => write!(out, "{folder}{what} belongs to uid {uid}: chown root {what}"),
            Who::Group(gid) => write!(out, "group {gid} may write to {folder}{what}: chmod g-w {what}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    fn mode(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    fn said(path: &Path) -> Option<String> {
        Writer::of(path).unwrap().map(|writer| writer.to_string())
    }

    #[test]
    fn whoever_may_write_the_file_or_a_folder_above_it_is_named() {
        // Below /tmp, which everybody may write to: but it is sticky.
        let folder = tempfile::tempdir().unwrap();
        let path = fs::canonicalize(folder.path()).unwrap();
        let (inner, file) = (path.join("inner"), path.join("inner/file"));
        fs::create_dir(&inner).unwrap();
        fs::write(&file, "").unwrap();
        for path in [&inner, &path] {
            mode(path, 0o755);
        }
        for (bits, expected) in [(0o600, false), (0o644, false), (0o646, true), (0o666, true), (0o602, true)]
        {
            mode(&file, bits);
            let name = file.display();
            let expected = expected.then(|| format!("everybody may write to {name}: chmod o-w {name}"));
            assert_eq!(said(&file), expected, "{bits:o}");
        }
        mode(&file, 0o755);
        for (bits, is_open) in [(0o755, false), (0o757, true), (0o777, true), (0o1777, false)] {
            mode(&inner, bits);
            let said = said(&file);
            let expected = format!("everybody may write to the folder {0}: chmod o-w {0}", inner.display());
            assert_eq!(said, is_open.then_some(expected), "{bits:o}");
        }
        mode(&inner, 0o755);
        assert_eq!(said(&file), None);
    }

    #[test]
    fn links_are_followed_and_what_they_lead_through_is_looked_at() {
        let folder = tempfile::tempdir().unwrap();
        let path = fs::canonicalize(folder.path()).unwrap();
        let (open, shut) = (path.join("open"), path.join("shut"));
        for folder in [&open, &shut] {
            fs::create_dir(folder).unwrap();
        }
        fs::write(shut.join("file"), "").unwrap();
        symlink("../shut/file", open.join("link")).unwrap();
        symlink(open.join("link"), path.join("far")).unwrap();
        assert_eq!(said(&path.join("far")), None);
        // Who may write to the folder of a link may let it lead elsewhere.
        mode(&open, 0o777);
        assert!(said(&path.join("far")).unwrap().contains("the folder"));
        assert_eq!(said(&shut.join("file")), None);
        assert_eq!(said(&path.join("shut/../shut/./file")), None);
        symlink("round", path.join("round")).unwrap();
        assert_eq!(Writer::of(&path.join("round")).unwrap_err().raw_os_error(), Some(libc::ELOOP));
        assert_eq!(Writer::of(&path.join("none")).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn an_owner_who_is_neither_root_nor_we_is_named_and_a_group_only_where_there_is_nobody_else() {
        let root = Writer::beside(Path::new("/"), &[12345]).unwrap().unwrap();
        assert_eq!(root.to_string(), "the folder / belongs to uid 0: chown root /");
        assert!(!root.is_group());
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let file = fs::canonicalize(folder.path()).unwrap().join("file");
        fs::write(&file, "").unwrap();
        mode(&file, 0o664);
        std::os::unix::fs::chown(&file, None, Some(50)).unwrap();
        let group = Writer::of(&file).unwrap().unwrap();
        assert!(group.is_group() && group.to_string().starts_with("group 50 may write to /"), "{group}");
        std::os::unix::fs::chown(&file, Some(65534), None).unwrap();
        let owner = Writer::of(&file).unwrap().unwrap();
        assert!(!owner.is_group() && owner.to_string().contains("belongs to uid 65534"), "{owner}");
        // Unless it is we who run.
        assert!(Writer::beside(&file, &[0, 65534]).unwrap().unwrap().is_group());
    }
}
