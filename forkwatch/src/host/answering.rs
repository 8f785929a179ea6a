//! Who answers for the file systems of a list of mounts.

use std::{
    collections::HashMap,
    fs::File,
    io,
    os::{fd::AsRawFd as _, unix::fs::OpenOptionsExt as _},
    sync::OnceLock,
};

use super::{file, mountinfo};

/// Types of file systems that need nobody else. What is not named here may.
const LOCAL: [&str; 24] = [
    "bcachefs",
    "btrfs",
    "cramfs",
    "devtmpfs",
    "erofs",
    "exfat",
    "ext2",
    "ext3",
    "ext4",
    "f2fs",
    "hugetlbfs",
    "iso9660",
    "jfs",
    "nilfs2",
    "overlay",
    "ramfs",
    "reiserfs",
    "rootfs",
    "squashfs",
    "tmpfs",
    "udf",
    "vfat",
    "xfs",
    "zfs",
];
/// This one is as good as those below it. Every user can put it over a file system of his own.
const LAYERED: &str = "overlay";

/// Those that another machine answers for, which only the host's root can mount.
const REMOTE: [&str; 10] = ["9p", "afs", "ceph", "cifs", "gfs2", "nfs", "nfs4", "ocfs2", "smb3", "virtiofs"];

/// Who answers for a file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answers {
    /// This kernel alone.
    Itself,
    /// Another machine, or what lies below. It may be asked where the wait can be ended.
    Others,
    /// Anybody: FUSE, or what is not known. It is better not asked.
    Anybody,
}

impl Answers {
    /// For a file system of this type, mounted by the host's root or not.
    fn of(kind: &str, by_host: bool) -> Self {
        if LOCAL.contains(&kind) && (by_host || kind != LAYERED) {
            Self::Itself
        } else if REMOTE.contains(&kind) || kind == LAYERED {
            Self::Others
        } else {
            Self::Anybody
        }
    }
}

/// The mounts of the host of which that is known, by their ids, and their file systems by device.
pub(super) struct Answering {
    pub(super) by_id: HashMap<u32, Answers>,
    pub(super) by_device: HashMap<(u64, u64), Answers>,
}

impl Answering {
    /// Those of a list of mounts. `own` is the device that forkwatch itself runs from: where that does not answer,
    /// neither does forkwatch.
    pub(super) fn of(text: &str, by_host: bool, own: Option<(u64, u64)>) -> Self {
        let mut found = Self { by_id: HashMap::new(), by_device: HashMap::new() };
        for entry in mountinfo::entries(text) {
            let Some(device) = number(entry.device) else { continue };
            let answers =
                if own == Some(device) { Answers::Itself } else { Answers::of(entry.kind, by_host) };
            found.by_id.insert(entry.id, answers);
            found.by_device.insert(device, answers);
        }
        found
    }
}

/// The device of the file system that forkwatch runs from.
pub(super) fn own() -> Option<(u64, u64)> {
    static OWN: OnceLock<Option<(u64, u64)>> = OnceLock::new();
    *OWN.get_or_init(|| {
        let executable = place("/proc/self/exe").ok()?;
        let mount = mount_of(&executable).ok()?;
        let text = mountinfo::read().ok()?;
        mountinfo::entries(&text).find(|entry| entry.id == mount).and_then(|entry| number(entry.device))
    })
}

/// A place, of which its file system is asked nothing yet (`do_o_path`, fs/namei.c).
pub(super) fn place(path: &str) -> io::Result<File> {
    File::options().read(true).custom_flags(libc::O_PATH).open(path)
}

/// The id of the mount that an open file or place lies on. As long as it is open no other mount gets that id.
pub(super) fn mount_of(file: &File) -> io::Result<u32> {
    let about = format!("/proc/self/fdinfo/{}", file.as_raw_fd());
    file::field(&file::read_small(&about)?, "mnt_id:")
        .and_then(|id| id.parse().ok())
        .ok_or_else(|| file::unknown_layout(&about))
}

/// `8:1`.
pub(super) fn number(device: &str) -> Option<(u64, u64)> {
    let (major, minor) = device.split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "\
        1 0 8:1 / / rw - ext4 /dev/sda1 rw\n\
        2 1 0:40 / /home/u/net rw - nfs4 server:/ rw\n\
        3 1 0:41 / /home/u/x rw - fuse.sshfs x rw\n\
        4 1 0:42 / /var/lib/docker/1 rw - overlay overlay rw\n\
        5 1 0:43 / /net rw - autofs x rw\n\
        6 1 0:44 / /host rw - 9p x rw\n";

    #[test]
    fn what_others_answer_for_is_not_asked() {
        let answers = |by_host, own, id, device| {
            let mounts = Answering::of(MOUNTS, by_host, own);
            assert_eq!(mounts.by_id.get(&id), mounts.by_device.get(&device));
            mounts.by_id.get(&id).copied()
        };
        assert_eq!(answers(true, None, 1, (8, 1)), Some(Answers::Itself));
        for (id, minor, expected) in [
            (2, 40, Answers::Others),
            (3, 41, Answers::Anybody),
            (5, 43, Answers::Anybody),
            (6, 44, Answers::Others),
        ] {
            assert_eq!(answers(true, None, id, (0, minor)), Some(expected));
        }
        assert_eq!(answers(true, None, 7, (8, 2)), None);
        // Anybody can put an overlay over a file system of his own, but not among the host's mounts.
        assert_eq!(answers(true, None, 4, (0, 42)), Some(Answers::Itself));
        assert_eq!(answers(false, None, 4, (0, 42)), Some(Answers::Others));
        assert_eq!(answers(false, None, 1, (8, 1)), Some(Answers::Itself));
        assert_eq!(
            answers(true, Some((0, 44)), 6, (0, 44)),
            Some(Answers::Itself),
            "where forkwatch itself lies"
        );
    }
}
