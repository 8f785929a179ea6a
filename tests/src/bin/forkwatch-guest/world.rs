//! Machines on which other file systems are mounted.

use std::{panic::resume_unwind, path::Path, thread};

use anyhow::{Context as _, Result};
use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::{CloneFlags, unshare},
};

use crate::role::private_mounts;

/// Does something in a thread with mounts of its own, which `build` changes first, and which the programs that it
/// starts share.
pub(crate) fn within(
    build: impl FnOnce() -> Result<()> + Send,
    test: impl FnOnce() -> Result<()> + Send,
) -> Result<()> {
    thread::scope(|scope| {
        let world = scope.spawn(|| {
            unshare(CloneFlags::CLONE_NEWNS).context("cannot have a mount namespace")?;
            private_mounts().context("cannot have mounts of one's own")?;
            build()?;
            test()
        });
        world.join().unwrap_or_else(|panic| resume_unwind(panic))
    })
}

/// Mounts a file system, whose options are `options`.
pub(crate) fn put(kind: &str, on: impl AsRef<Path>, options: &str) -> Result<()> {
    let on = on.as_ref();
    mount(Some(kind), on, Some(kind), MsFlags::empty(), Some(options))
        .with_context(|| format!("cannot mount {kind} ({options}) on {}", on.display()))
}

/// Takes a mounted file system away.
pub(crate) fn take_away(from: &str) -> Result<()> {
    umount2(from, MntFlags::empty()).with_context(|| format!("cannot unmount {from}"))
}
