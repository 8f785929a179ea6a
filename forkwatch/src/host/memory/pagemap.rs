//! What stands behind each page of a process: `/proc/PID/pagemap` (Documentation/admin-guide/mm/pagemap.rst). The flags
//! that are used here are shown to everybody who may look at the process; page numbers take more.

use std::{fs::File, os::unix::fs::FileExt as _, sync::OnceLock};

/// Pages that are asked about at once.
const MAX_PAGES: usize = 64;
const ENTRY: usize = size_of::<u64>();

const PRESENT: u64 = 1 << 63;
const SWAPPED: u64 = 1 << 62;
const OF_FILE: u64 = 1 << 61;
/// Mapped once, by this process alone.
const EXCLUSIVE: u64 = 1 << 56;

/// The pages of one process.
pub(super) struct Pagemap(File);

/// An entry of `/proc/PID/pagemap` (`Documentation/admin-guide/mm/pagemap.rst`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Page(u64);

impl Pagemap {
    /// Absent where the kernel shows none, or nothing in it.
    pub(super) fn of_thread(process: u32, thread: u32) -> Option<Self> {
        static IS_SHOWN: OnceLock<bool> = OnceLock::new();
        let of = |process: &str| File::open(format!("/proc/{process}/pagemap")).ok().map(Self);
        let here = 0_u8;
        let shows_this = || {
            let address = (&raw const here).addr() as u64;
            of("self").is_some_and(|own| own.pages(address, 1).first().is_some_and(|page| page.is_present()))
        };
        if !*IS_SHOWN.get_or_init(shows_this) {
            return None;
        }
        of(&format!("{process}/task/{thread}"))
    }

    /// The page of an address and those that follow it; fewer where no more are told.
    pub(super) fn pages(&self, address: u64, count: usize) -> Vec<Page> {
        let mut bytes = vec![0; count.min(MAX_PAGES) * ENTRY];
        let position = (address / page_size()).saturating_mul(ENTRY as u64);
        let read = self.0.read_at(&mut bytes, position).unwrap_or(0);
        bytes.truncate(read);
        bytes.as_chunks().0.iter().map(|entry| Page(u64::from_ne_bytes(*entry))).collect()
    }
}

impl Page {
    /// Whether it is in memory.
    pub(super) const fn is_present(self) -> bool {
        self.0 & PRESENT != 0
    }

    /// Whether it is in memory or on its way there: a swap device is the host's, and answers.
    pub(super) const fn is_there(self) -> bool {
        self.0 & (PRESENT | SWAPPED) != 0
    }

    /// Whether it is a file's, or memory that processes share.
    pub(super) const fn is_of_file(self) -> bool {
        self.0 & OF_FILE != 0
    }

    /// Whether it is in memory, no file's, and that of another process too, as a fork leaves it until one of them writes.
    pub(super) const fn is_shared_memory_of_forks(self) -> bool {
        self.0 & (PRESENT | SWAPPED | OF_FILE | EXCLUSIVE) == PRESENT
    }

    #[cfg(test)]
    pub(super) const fn with(present: bool, swapped: bool, of_file: bool) -> Self {
        Self(((present as u64) << 63) | ((swapped as u64) << 62) | ((of_file as u64) << 61))
    }
}

/// The size of a page of this machine.
pub(super) fn page_size() -> u64 {
    // SAFETY: sysconf(3) touches no memory of ours.
    let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    u64::try_from(size).ok().filter(|size| *size > 0).unwrap_or(4096)
}
