//! Which file systems answer for sure: those of the kernel itself, on devices of this machine. One that somebody
//! else answers for (FUSE, network) may never do so, and whoever asked sleeps until then, deaf even to SIGKILL.

use std::{fs, sync::OnceLock};

use super::{
    answering::{Answering, Answers, own},
    host_mounts,
    maps::Maps,
    mountinfo,
};

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::answering::{mount_of, number, place};

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
