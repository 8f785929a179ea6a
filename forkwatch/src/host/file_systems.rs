//! Which file systems answer for sure: those of the kernel itself, on devices of this machine. One that somebody
//! else answers for (FUSE, network) may never do so, and whoever asked sleeps until then, deaf even to SIGKILL.

use std::{
    collections::HashMap,
    fs::{self, File},
    io,
    os::{fd::AsRawFd as _, unix::fs::OpenOptionsExt as _},
    sync::OnceLock,
};

use super::{file, host_mounts, maps::Maps, mountinfo};

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
    /// The kernel.
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
    by_id: HashMap<u32, Answers>,
    by_device: HashMap<(u64, u64), Answers>,
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

/// Who answers for the file system with that device number, for a process that has mapped a file of it.
pub(super) fn of_device(tgid: u32, device: (u64, u64)) -> Answers {
    if kernels_own().contains(&device) {
        return Answers::Itself;
    }
    of(tgid, |mounts| mounts.by_device.get(&device).copied())
}

/// Whether the file system of that mount does, for a process that has a file from there.
pub(super) fn is_local_mount(tgid: u32, mount: u32) -> bool {
    of(tgid, |mounts| mounts.by_id.get(&mount).copied()) == Answers::Itself
}

/// What is known of the host's mounts, and of the others of that process; what neither knows does not count.
fn of(tgid: u32, look: impl Fn(&Answering) -> Option<Answers>) -> Answers {
    if let Ok(Some(answers)) = host_mounts::with(|_, _, answering| look(answering)) {
        return answers;
    }
    let Ok(text) = mountinfo::read_of(tgid) else { return Answers::Anybody };
    look(&Answering::of(&text, is_in_hosts_user_namespace(tgid), own())).unwrap_or(Answers::Anybody)
}

/// Whether only the host's root can have mounted what a process sees.
fn is_in_hosts_user_namespace(tgid: u32) -> bool {
    let namespace = |process: &str| fs::read_link(format!("/proc/{process}/ns/user")).ok();
    let hosts = namespace("1").or_else(|| namespace("self"));
    hosts.is_some() && namespace(&tgid.to_string()) == hosts
}

/// The devices of what the kernel mounts for itself alone, and no table of mounts shows: for shared memory, such as that
/// of `memfd_create(2)`, and for huge pages (`shmem_init`, mm/shmem.c; `init_hugetlbfs_fs`, fs/hugetlbfs/inode.c). Memory of its
/// own, which is never touched, shows them.
fn kernels_own() -> &'static [(u64, u64)] {
    static OWN: OnceLock<Vec<(u64, u64)>> = OnceLock::new();
    OWN.get_or_init(|| {
        let kinds = [
            libc::MAP_SHARED | libc::MAP_ANONYMOUS,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_HUGETLB | libc::MAP_NORESERVE,
        ];
        kinds.into_iter().filter_map(device_of).collect()
    })
}

/// The device behind a new mapping of this kind; absent where the kernel makes none.
fn device_of(kind: libc::c_int) -> Option<(u64, u64)> {
    // As large as a huge page may have to be.
    const LENGTH: usize = 1 << 30;
    let protection = libc::PROT_READ;
    // SAFETY: a new mapping at an address of the kernel's choice.
    let memory =
        unsafe { libc::mmap(std::ptr::null_mut(), LENGTH, protection, kind | libc::MAP_NORESERVE, -1, 0) };
    if memory == libc::MAP_FAILED {
        return None;
    }
    let maps = Maps::of_process(std::process::id()).ok();
    let found = maps.and_then(|maps| {
        let mapping = maps.find(memory.addr() as u64)?;
        mapping.is_file().then_some((mapping.file.0, mapping.file.1))
    });
    // SAFETY: the mapping is that long, and nothing points into it.
    unsafe { libc::munmap(memory, LENGTH) };
    found
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
fn number(device: &str) -> Option<(u64, u64)> {
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

    #[test]
    fn shared_memory_of_no_file_is_the_kernels_own() {
        let shared = device_of(libc::MAP_SHARED | libc::MAP_ANONYMOUS).unwrap();
        assert_eq!(of_device(std::process::id(), shared), Answers::Itself);
        let text = mountinfo::read().unwrap();
        assert!(mountinfo::entries(&text).all(|entry| number(entry.device) != Some(shared)));
        assert_eq!(device_of(libc::MAP_PRIVATE | libc::MAP_ANONYMOUS), None);
    }

    #[test]
    fn forkwatch_trusts_what_it_runs_from() {
        let own = own().unwrap();
        assert_eq!(of_device(std::process::id(), own), Answers::Itself);
        let here = place("/proc/self/exe").unwrap();
        assert!(is_local_mount(std::process::id(), mount_of(&here).unwrap()));
        assert_eq!(of_device(std::process::id(), (4000, 1)), Answers::Anybody);
        assert!(!is_local_mount(u32::MAX, u32::MAX));
    }
}
