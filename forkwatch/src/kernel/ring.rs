//! The reader's end of the ring.

use std::{
    io,
    num::NonZeroUsize,
    os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd},
    ptr::NonNull,
    sync::atomic::{AtomicU64, Ordering, fence},
    time::Duration,
};

use aya::maps::{Array, MapData, MapError, RingBuf};
use forkwatch_ebpf::{Wake, map, wake};
use nix::{
    sys::mman::{MapFlags, ProtFlags, mmap, munmap},
    unistd::{SysconfVar, sysconf},
};

use super::{error::KernelError, probes::decode, wire::WakeCell};
use crate::model::reported::Reported;

/// How soon the reader looks again by itself after it has found something. Bounds both the wake-ups in a storm and the
/// time until a record is seen.
pub const DRAIN_AFTER: Duration = Duration::from_millis(25);

/// The records on their way to user space.
pub struct Ring {
    buffer: RingBuf<MapData>,
    wake: Array<MapData, WakeCell>,
    received: u64,
    malformed: u64,
}

impl Ring {
    pub(super) const fn new(buffer: RingBuf<MapData>, wake: Array<MapData, WakeCell>) -> Self {
        Self { buffer, wake, received: 0, malformed: 0 }
    }

    /// Asks to be woken by the next record. Until this is called, nobody is: drain once more after it, because a
    /// record may have come just before.
    pub fn sleep(&mut self) -> Result<(), KernelError> {
        self.ask_to_be_woken(wake::BY_RECORD)?;
        // The request must be visible before the ring is looked at: the other half of the barrier in the kernel.
        fence(Ordering::SeqCst);
        Ok(())
    }

    /// Asks to be woken when the next process is created, whether or not a record tells of it. One that is created just
    /// before this is missed.
    pub fn await_fork(&mut self) -> Result<(), KernelError> {
        self.ask_to_be_woken(wake::BY_FORK)
    }

    /// Whether a process was created since [`await_fork`](Self::await_fork) asked for that.
    pub fn has_forked(&self) -> Result<bool, KernelError> {
        let WakeCell(Wake { asleep, filling: _ }) = self.wake.get(&wake::BY_FORK, 0).map_err(wake_error)?;
        Ok(asleep == 0)
    }

    fn ask_to_be_woken(&mut self, by: u32) -> Result<(), KernelError> {
        self.wake.set(by, WakeCell(Wake { asleep: 1, filling: 0 }), 0).map_err(wake_error)
    }

    /// Takes up to `limit` records out, each gone from the ring before `each` sees it. Returns how many: fewer than
    /// `limit` means that the ring is empty.
    pub fn drain(&mut self, limit: usize, mut each: impl FnMut(Reported)) -> usize {
        for taken in 0..limit {
            let Some(item) = self.buffer.next() else { return taken };
            let reported = decode(&item);
            drop(item);
            self.received += 1;
            match reported {
                Some(reported) => each(reported),
                None => self.malformed += 1,
            }
        }
        limit
    }

    /// Records taken out so far, malformed ones included.
    pub const fn received(&self) -> u64 {
        self.received
    }

    /// Records that were not of the layout this build knows.
    pub const fn malformed(&self) -> u64 {
        self.malformed
    }
}

fn wake_error(error: MapError) -> KernelError {
    KernelError::Map { map: map::WAKE, error: Box::new(error) }
}

impl AsRawFd for Ring {
    fn as_raw_fd(&self) -> RawFd {
        self.buffer.as_raw_fd()
    }
}

/// Both positions of the ring, read without a system call (`struct bpf_ringbuf`, kernel/bpf/ringbuf.c: the first
/// page holds the consumer's, the second the producer's).
pub(super) struct Gauge {
    pages: NonNull<AtomicU64>,
    page_size: usize,
}

// SAFETY: two positions that are only ever read, atomically.
unsafe impl Send for Gauge {}
// SAFETY: likewise.
unsafe impl Sync for Gauge {}

impl Gauge {
    pub(super) fn map(ring: BorrowedFd<'_>) -> io::Result<Self> {
        let page_size = page_size();
        let length = NonZeroUsize::new(2 * page_size).ok_or(io::ErrorKind::InvalidInput)?;
        // SAFETY: a new read-only mapping at an address of the kernel's choice.
        let pages =
            unsafe { mmap(None, length, ProtFlags::PROT_READ, MapFlags::MAP_SHARED, ring.as_fd(), 0)? };
        Ok(Self { pages: pages.cast(), page_size })
    }

    /// Bytes that are written and not yet taken.
    pub(super) fn used(&self) -> u64 {
        // SAFETY: the first word of the first page, mapped for as long as `self` lives.
        let consumer = unsafe { self.pages.as_ref() }.load(Ordering::Acquire);
        // SAFETY: within the mapping of two pages.
        let producer = unsafe { self.pages.byte_add(self.page_size) };
        // SAFETY: the first word of the second page, likewise.
        let producer = unsafe { producer.as_ref() }.load(Ordering::Acquire);
        producer.saturating_sub(consumer)
    }
}

impl Drop for Gauge {
    fn drop(&mut self) {
        // SAFETY: the mapping made in `map`; no reference into it outlives `self`. Nothing can be done about a failure.
        let _ = unsafe { munmap(self.pages.cast(), 2 * self.page_size) };
    }
}

fn page_size() -> usize {
    sysconf(SysconfVar::PAGE_SIZE).ok().flatten().and_then(|size| usize::try_from(size).ok()).unwrap_or(4096)
}
