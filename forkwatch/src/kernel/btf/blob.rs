//! The bytes of a blob of type information.

use std::{
    fs::{self, File},
    io,
    num::NonZeroUsize,
    ops::Deref,
    path::Path,
    ptr::NonNull,
};

use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};

use super::BtfError;

/// A blob, in memory for as long as this lives.
pub enum Blob {
    /// Mapped from sysfs, which kernels since 6.16 allow: a read of it goes page by page, over a thousand system calls.
    Mapped(Mapping),
    /// Read into memory.
    Read(Vec<u8>),
}

/// Reads a blob from a file, for [`Btf::parse`](super::Btf::parse).
pub fn read(path: &Path) -> Result<Blob, BtfError> {
    let mapped = File::open(path).and_then(|file| Mapping::of(&file));
    mapped
        .map(Blob::Mapped)
        .or_else(|_| fs::read(path).map(Blob::Read))
        .map_err(|source| BtfError::Read { path: path.to_owned(), source })
}

impl Deref for Blob {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Mapped(mapping) => mapping.bytes(),
            Self::Read(bytes) => bytes,
        }
    }
}

/// A private mapping of a whole file, read only.
pub struct Mapping {
    start: NonNull<u8>,
    length: NonZeroUsize,
}

impl Mapping {
    fn of(file: &File) -> io::Result<Self> {
        let length = usize::try_from(file.metadata()?.len()).ok().and_then(NonZeroUsize::new);
        let length = length.ok_or(io::ErrorKind::InvalidInput)?;
        // SAFETY: a new mapping at an address of the kernel's choice.
        let start = unsafe { mmap(None, length, ProtFlags::PROT_READ, MapFlags::MAP_PRIVATE, file, 0)? };
        Ok(Self { start: start.cast(), length })
    }

    fn bytes(&self) -> &[u8] {
        // SAFETY: mapped, readable, and never written for as long as `self` lives: the kernel's own types do not change.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.length.get()) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the mapping made in `of`; no reference into it outlives `self`. Nothing can be done about a failure.
        let _ = unsafe { munmap(self.start.cast(), self.length.get()) };
    }
}
