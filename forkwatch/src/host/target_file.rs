//! Files of other processes, opened so that no file system can keep the reader waiting, and none that the process itself
//! could not open.
//!
//! Where a path leads is looked up in the mount tables before anything is opened: to open a path, or to ask for a
//! file's mode, is a question to its file system, and one to FUSE may never be answered, nor can the wait be killed.
//! Then a place is taken (`O_PATH`), which asks the last file system on the way nothing; its mount is looked up once
//! more; and only a regular file that is what it should be is opened for reading.

use std::{
    cell::OnceCell,
    ffi::OsStr,
    fs::{self, File, Metadata},
    os::{
        fd::{AsFd as _, AsRawFd as _},
        unix::{
            ffi::{OsStrExt as _, OsStringExt as _},
            fs::{MetadataExt as _, OpenOptionsExt as _},
        },
    },
    path::{Component, Path, PathBuf},
};

use nix::{
    errno::Errno,
    fcntl::{OFlag, OpenHow, ResolveFlag, openat2, readlinkat},
};

use super::{
    answering,
    bytes::Bytes,
    file_systems,
    maps::Mapping,
    mountinfo::{self, Entry},
    status::Status,
};

/// What the kernel puts after the path of a file that has been unlinked (`d_path`, `fs/d_path.c`).
const DELETED: &[u8] = b" (deleted)";

/// From where a path is followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Root {
    /// From the root of the process.
    OfProcess,
    /// From forkwatch's own: `maps` shows paths as forkwatch sees them, whatever root the process has.
    Own,
}

/// The files of one process.
pub(super) struct Files {
    /// Absent where there is no process, and so no files: what is in memory must do.
    tgid: Option<u32>,
    below_its_root: OnceCell<Option<Tree>>,
    below_own_root: OnceCell<Option<Tree>>,
}

/// What can be reached from a root, as it was when it was looked at first.
struct Tree {
    /// The process whose mounts these are.
    of: u32,
    start: File,
    /// The mount that the root lies on.
    at: u32,
    mounts: String,
}

impl Files {
    /// Those of a process.
    pub(super) const fn of(tgid: u32) -> Self {
        Self { tgid: Some(tgid), below_its_root: OnceCell::new(), below_own_root: OnceCell::new() }
    }

    /// None at all.
    #[cfg(any(test, fuzzing))]
    pub(super) const fn none() -> Self {
        Self { tgid: None, below_its_root: OnceCell::new(), below_own_root: OnceCell::new() }
    }

    /// The file that the process has mapped; absent where it cannot be opened. `is_same` says whether a file begins as
    /// the mapped one does.
    pub(super) fn mapped(&self, head: &Mapping, is_same: impl Fn(&Bytes) -> bool) -> Option<Bytes> {
        let tgid = self.tgid?;
        let deleted = head.path.strip_suffix(DELETED);
        // A name may end like that; then the file is the mapped one.
        let paths = [Some(head.path.as_slice()), deleted].into_iter().flatten();
        let by_path = paths.flat_map(|path| [(Root::OfProcess, path), (Root::Own, path)]);
        let by_path = by_path.filter_map(|(root, path)| {
            let (place, about) = self.find(root, Path::new(OsStr::from_bytes(path)))?;
            // Some file systems show other numbers in `maps` than elsewhere (btrfs, overlay). Then it must be a file
            // that the process may read, before it is compared; and a path of other mounts than forkwatch's means
            // nothing here.
            let is_it = is_mapped(&about, head)
                || may_read(tgid, &about) && (root == Root::OfProcess || shares_mounts(tgid));
            if is_it { opened(&place) } else { None }
        });
        // The mapped file itself, which takes CAP_CHECKPOINT_RESTORE; and the program's own, even if it was deleted.
        let links = [format!("map_files/{:x}-{:x}", head.start, head.end), "exe".to_owned()];
        let by_link = links.into_iter().filter_map(|link| {
            let place = answering::place(&format!("/proc/{tgid}/{link}")).ok()?;
            examined(tgid, &place)?;
            opened(&place)
        });
        by_path.chain(by_link).find(is_same)
    }

    /// A file at a path that is the same on every machine, if the process may read it: below its root, else below
    /// forkwatch's own.
    pub(super) fn known(&self, path: &Path, is_it: impl Fn(&Bytes) -> bool) -> Option<Bytes> {
        let tgid = self.tgid?;
        let found = [Root::OfProcess, Root::Own].into_iter().filter_map(|root| {
            let (place, about) = self.find(root, path)?;
            if may_read(tgid, &about) { opened(&place) } else { None }
        });
        found.into_iter().find(is_it)
    }

    /// A place on a local file system, of a regular file, and what is known of that.
    fn find(&self, root: Root, path: &Path) -> Option<(File, Metadata)> {
        let tree = match root {
            Root::OfProcess => self.below_its_root.get_or_init(|| Tree::of(self.tgid?)),
            Root::Own => self.below_own_root.get_or_init(|| Tree::of(std::process::id())),
        };
        let tree = tree.as_ref()?;
        let mounts: Vec<Entry<'_>> = mountinfo::entries(&tree.mounts).collect();
        let walk = Walk { tree, mounts: &mounts };
        let place = match walk.step(path) {
            // Of root's making alone: so do some distributions name debug files by their ids.
            Err(Errno::ELOOP) => walk.step(&walk.link(path)?),
            done => done,
        };
        let place = place.ok()?;
        let about = examined(tree.of, &place)?;
        Some((place, about))
    }
}

impl Tree {
    fn of(tgid: u32) -> Option<Self> {
        let start = answering::place(&format!("/proc/{tgid}/root")).ok()?;
        let at = answering::mount_of(&start).ok()?;
        Some(Self { of: tgid, start, at, mounts: mountinfo::read_of(tgid).ok()? })
    }
}

/// How a path is followed.
struct Walk<'a> {
    tree: &'a Tree,
    mounts: &'a [Entry<'a>],
}

impl Walk<'_> {
    /// The place that a path leads to, without any link on the way.
    fn step(&self, path: &Path) -> nix::Result<File> {
        let text = path.to_str().ok_or(Errno::EILSEQ)?;
        let mount = mountinfo::leads_to(text, self.tree.at, self.mounts);
        if ![self.tree.at, mount].into_iter().all(|mount| file_systems::is_local_mount(self.tree.of, mount)) {
            return Err(Errno::EREMOTE);
        }
        let within = path.strip_prefix("/").map_err(|_| Errno::EINVAL)?;
        let how = OpenHow::new().flags(OFlag::O_PATH | OFlag::O_CLOEXEC).resolve(
            ResolveFlag::RESOLVE_IN_ROOT
                | ResolveFlag::RESOLVE_NO_MAGICLINKS
                | ResolveFlag::RESOLVE_NO_SYMLINKS,
        );
        openat2(self.tree.start.as_fd(), within, how).map(File::from)
    }

    /// Where a link leads that stands at the end of a path, if root has made it.
    fn link(&self, path: &Path) -> Option<PathBuf> {
        let (folder, name) = (path.parent()?, path.file_name()?);
        let folder_place = self.step(folder).ok()?;
        if !file_systems::is_local_mount(self.tree.of, answering::mount_of(&folder_place).ok()?) {
            return None;
        }
        let how = OpenHow::new()
            .flags(OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC)
            .resolve(ResolveFlag::RESOLVE_NO_MAGICLINKS | ResolveFlag::RESOLVE_BENEATH);
        let link = File::from(openat2(folder_place.as_fd(), name, how).ok()?);
        let about = link.metadata().ok()?;
        if !about.is_symlink() || about.uid() != 0 {
            return None;
        }
        let target = PathBuf::from(OsStr::from_bytes(readlinkat(&link, "").ok()?.into_vec().as_slice()));
        Some(plain(&folder.join(target)))
    }
}

/// A path without `.` and `..`.
fn plain(path: &Path) -> PathBuf {
    let mut out = PathBuf::from("/");
    for component in path.components() {
        match component {
            Component::ParentDir => {
                out.pop();
            }
            Component::Normal(name) => out.push(name),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    out
}

/// The file that a process has open at a descriptor, if it is a regular one on a file system that answers. It has opened it
/// itself, so that it is to be read by it.
pub(super) fn of_descriptor(tgid: u32, fd: u32) -> Option<Bytes> {
    file_of_descriptor(tgid, fd).map(|(file, _)| Bytes::of(file))
}

/// The same, as a file, and what is known of it.
pub(super) fn file_of_descriptor(tgid: u32, fd: u32) -> Option<(File, Metadata)> {
    let place = answering::place(&format!("/proc/{tgid}/fd/{fd}")).ok()?;
    let about = examined(tgid, &place)?;
    Some((opened_file(&place)?, about))
}

/// The file at a path as forkwatch sees it, if it is this one, by device and inode.
pub(super) fn file_at(path: &Path, device: u64, inode: u64) -> Option<(File, Metadata)> {
    let (place, about) = Files::of(std::process::id()).find(Root::Own, path)?;
    if (about.dev(), about.ino()) != (device, inode) {
        return None;
    }
    Some((opened_file(&place)?, about))
}

/// What is known of a place, if it is a regular file's on a file system that answers.
fn examined(tgid: u32, place: &File) -> Option<Metadata> {
    let mount = answering::mount_of(place).ok()?;
    if !file_systems::is_local_mount(tgid, mount) {
        return None;
    }
    place.metadata().ok().filter(Metadata::is_file)
}

fn is_mapped(about: &Metadata, head: &Mapping) -> bool {
    let device = about.dev();
    (u64::from(libc::major(device)), u64::from(libc::minor(device)), about.ino()) == head.file
}

/// Whether a process may read a file that it finds: its mode says so to everybody, or to it as the owner; or root runs
/// it. What groups it is in does not count.
fn may_read(tgid: u32, about: &Metadata) -> bool {
    const OWNER: u32 = 0o400;
    const OTHERS: u32 = 0o004;
    let uid = || Status::of_process(tgid).ok().map(|status| status.uid);
    about.mode() & OTHERS != 0
        || uid().is_some_and(|uid| uid == 0 || uid == about.uid() && about.mode() & OWNER != 0)
}

/// Whether a path means the same to a process as to forkwatch.
fn shares_mounts(tgid: u32) -> bool {
    let mounts = |process: &str| fs::read_link(format!("/proc/{process}/ns/mnt")).ok();
    mounts("self").is_some_and(|own| mounts(&tgid.to_string()) == Some(own))
}

fn opened(place: &File) -> Option<Bytes> {
    opened_file(place).map(Bytes::of)
}

fn opened_file(place: &File) -> Option<File> {
    let again = format!("/proc/self/fd/{}", place.as_raw_fd());
    File::options().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(again).ok()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;
    use crate::host::forked::Forked;

    /// What this process has as its own files, seen as another's.
    fn find_here(path: &Path) -> Option<Metadata> {
        Files::of(std::process::id()).find(Root::OfProcess, path).map(|(_, about)| about)
    }

    #[test]
    fn links_lead_nowhere_but_those_of_root() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        fs::write(path("secret"), "x").unwrap();
        fs::create_dir(path("folder")).unwrap();
        fs::write(path("folder/file"), "x").unwrap();
        symlink("secret", path("by-root")).unwrap();
        symlink("secret", path("by-user")).unwrap();
        symlink("folder", path("link-on-the-way")).unwrap();
        symlink("/proc/self/environ", path("to-proc")).unwrap();
        assert!(find_here(&path("secret")).is_some());
        assert!(find_here(&path("folder")).is_none(), "a folder");
        assert!(find_here(&path("link-on-the-way/file")).is_none());
        assert!(find_here(&path("to-proc")).is_none(), "no file system of disks or memory");
        if !nix::unistd::geteuid().is_root() {
            return crate::skip::skip("links of two owners take root");
        }
        let link = path("by-user");
        std::os::unix::fs::lchown(&link, Some(65534), Some(65534)).unwrap();
        assert!(find_here(&path("by-root")).is_some());
        assert!(find_here(&link).is_none());
    }

    #[test]
    fn a_file_that_the_process_may_not_read_is_not_opened() {
        if !nix::unistd::geteuid().is_root() {
            return crate::skip::skip("a process of another user takes root");
        }
        let directory = tempfile::tempdir().unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let path = directory.path().join("file");
        fs::write(&path, "x").unwrap();
        let user = Forked::into(|| {
            // SAFETY: setresuid(2) touches no memory; of the system call, since the child has one thread.
            unsafe { libc::syscall(libc::SYS_setresuid, 65534, 65534, 65534) };
        });
        while Status::of_process(user.tgid()).unwrap().uid != 65534 {
            std::thread::yield_now();
        }
        let files = Files::of(user.tgid());
        let is_it = |file: &Bytes| file.text(0, 10) == b"x";
        for (mode, owner, expected) in [
            (0o600, 0, false),
            (0o640, 0, false),
            (0o644, 0, true),
            (0o600, 65534, true),
            (0o200, 65534, false),
        ] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            std::os::unix::fs::chown(&path, Some(owner), None).unwrap();
            assert_eq!(files.known(&path, is_it).is_some(), expected, "{mode:o} of {owner}");
            // Nor by a mapping that says it is that file, unless it is.
            let about = fs::metadata(&path).unwrap();
            let mut head = Mapping { path: path.as_os_str().as_bytes().to_vec(), ..Mapping::default() };
            assert_eq!(files.mapped(&head, is_it).is_some(), expected, "{mode:o} of {owner}");
            head.file = (libc::major(about.dev()).into(), libc::minor(about.dev()).into(), about.ino());
            assert!(files.mapped(&head, is_it).is_some());
            head.path.extend_from_slice(DELETED);
            assert!(files.mapped(&head, is_it).is_some());
        }
    }

    #[test]
    fn what_was_deleted_is_found_and_what_took_its_place_is_not() {
        if !nix::unistd::geteuid().is_root() {
            return crate::skip::skip("to open a file by its mapping takes root");
        }
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("program");
        fs::write(&path, "old").unwrap();
        let file = File::open(&path).unwrap();
        // SAFETY: a new mapping of one page, which is never touched.
        let memory = unsafe {
            let kind = libc::MAP_PRIVATE;
            libc::mmap(std::ptr::null_mut(), 4096, libc::PROT_READ, kind, file.as_raw_fd(), 0)
        };
        let process = Forked::new();
        fs::remove_file(&path).unwrap();
        fs::write(&path, "new").unwrap();
        let maps = crate::host::maps::Maps::of_process(process.tgid()).unwrap();
        let head = maps.find(memory.addr() as u64).unwrap();
        assert!(head.path.ends_with(DELETED), "{head:?}");
        let files = Files::of(process.tgid());
        let text = |wanted: &'static [u8]| move |file: &Bytes| file.text(0, 10) == wanted;
        assert!(files.mapped(head, text(b"old")).is_some());
        // The other one is looked at, since root runs this process, and refused: it does not begin as the mapped one does.
        assert!(files.mapped(head, |_| false).is_none());
        // SAFETY: the mapping is that long, and nothing points into it.
        unsafe { libc::munmap(memory, 4096) };
    }

    #[test]
    fn a_path_goes_up_and_stays() {
        let debug = plain(Path::new("/usr/lib/debug/.build-id/ab/../../../../../usr/./lib/x.debug"));
        assert_eq!(debug, Path::new("/usr/lib/x.debug"));
        assert_eq!(plain(Path::new("/../../x")), Path::new("/x"));
    }
}
