//! A stream with both ends in this process.

use std::{
    fs::File,
    io::{Read as _, Write as _},
    net::{Ipv4Addr, TcpListener, TcpStream},
    os::{
        fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd},
        unix::{fs::MetadataExt as _, net::UnixStream},
    },
    time::Duration,
};

use anyhow::{Context as _, Result};

/// One end is watched and shared with children; the other is the server's, as it were.
pub(super) struct Connection {
    shared: File,
    other: File,
}

impl Connection {
    pub(super) fn tcp() -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        // As most clients do: by a connect(2) that does not wait, after which the kernel says for good that the socket is
        // connecting.
        let shared = TcpStream::connect_timeout(&listener.local_addr()?, Duration::from_secs(10))?;
        let (other, _) = listener.accept()?;
        Ok(Self::of(shared.into(), other.into()))
    }

    /// The descriptor of the shared end.
    pub(super) fn descriptor(&self) -> u32 {
        self.shared.as_raw_fd().unsigned_abs()
    }

    pub(super) fn unix() -> Result<Self> {
        let (shared, other) = UnixStream::pair()?;
        Ok(Self::of(shared.into(), other.into()))
    }

    fn of(shared: OwnedFd, other: OwnedFd) -> Self {
        Self { shared: shared.into(), other: other.into() }
    }

    pub(super) fn socket(&self) -> BorrowedFd<'_> {
        self.shared.as_fd()
    }

    /// What `/proc/PID/fd` shows.
    pub(super) fn inode(&self) -> Result<u64> {
        Ok(self.shared.metadata()?.ino())
    }

    pub(super) fn send(&self, bytes: usize) -> Result<()> {
        (&self.shared).write_all(&vec![b'x'; bytes]).context("cannot send")
    }

    pub(super) fn receive(&self, bytes: usize) -> Result<()> {
        (&self.shared).read_exact(&mut vec![0; bytes]).context("cannot receive")
    }

    /// The other end sends.
    pub(super) fn answer(&self, bytes: usize) -> Result<()> {
        (&self.other).write_all(&vec![b'x'; bytes]).context("cannot answer")
    }
}
