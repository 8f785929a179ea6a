//! Bytes at positions: of another process's memory, or of a file. Never mapped: whoever owns a file may cut it short,
//! and that would end forkwatch with SIGBUS.

use std::{
    fs::{File, OpenOptions},
    io,
    os::{
        fd::AsRawFd,
        unix::fs::{FileExt, OpenOptionsExt},
    },
    path::Path,
};

use object::pod::{self, Pod};

/// The most that one call takes.
const MAX_TAKEN: usize = 1024 * 1024;

/// Memory by its addresses, or a file by its offsets.
pub(super) struct Bytes(File);

impl Bytes {
    /// The memory of a process, of the program that it runs now: after an exec there is none to be read.
    pub(super) fn of_memory(tgid: u32) -> io::Result<Self> {
        File::open(format!("/proc/{tgid}/mem")).map(Self)
    }

    /// The same by one of its threads: that of a process whose main thread has ended can be read by the others alone.
    pub(super) fn of_memory_by(process: u32, thread: u32) -> io::Result<Self> {
        File::open(format!("/proc/{process}/task/{thread}/mem")).map(Self)
    }

    /// A regular file. Another process chose the path: a device that it leads to must not even be opened, some do
    /// things then.
    pub(super) fn of_file(path: &Path) -> io::Result<Self> {
        let place = OpenOptions::new().read(true).custom_flags(libc::O_PATH).open(path)?;
        if !place.metadata()?.is_file() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        File::open(format!("/proc/self/fd/{}", place.as_raw_fd())).map(Self)
    }

    /// Exactly that many bytes, read at once.
    pub(super) fn array<const N: usize>(&self, position: u64) -> Option<[u8; N]> {
        let mut bytes = [0; N];
        self.0.read_exact_at(&mut bytes, position).ok()?;
        Some(bytes)
    }

    /// Exactly so many bytes.
    pub(super) fn take(&self, position: u64, length: usize) -> Option<Vec<u8>> {
        if length > MAX_TAKEN {
            return None;
        }
        let mut bytes = vec![0; length];
        self.0.read_exact_at(&mut bytes, position).ok()?;
        Some(bytes)
    }

    /// Up to so many bytes: fewer where no more can be read.
    pub(super) fn take_up_to(&self, position: u64, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length.min(MAX_TAKEN)];
        let mut filled = 0;
        while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match self.0.read_at(rest, position.wrapping_add(filled as u64)) {
                Ok(count @ 1..) => filled += count,
                _ => break,
            }
        }
        bytes.truncate(filled);
        bytes
    }

    /// A number or structure in the machine's own byte order.
    pub(super) fn get<T: Pod>(&self, position: u64) -> Option<T> {
        let bytes = self.take(position, size_of::<T>())?;
        pod::from_bytes(&bytes).ok().map(|(value, _)| *value)
    }

    /// Eight bytes as a number.
    pub(super) fn word(&self, position: u64) -> Option<u64> {
        self.array(position).map(u64::from_ne_bytes)
    }

    /// Four bytes as a number.
    pub(super) fn half(&self, position: u64) -> Option<u32> {
        self.array(position).map(u32::from_ne_bytes)
    }

    /// A text that a NUL ends, at most `limit` bytes of it.
    pub(super) fn text(&self, position: u64, limit: usize) -> Vec<u8> {
        let mut text = self.take_up_to(position, limit);
        if let Some(end) = text.iter().position(|byte| *byte == 0) {
            text.truncate(end);
        }
        text
    }
}
