//! The processes that `--pid` names.

use std::{io, os::fd::OwnedFd};

use anyhow::{Context, Result};
use tokio::{
    io::{Interest, unix::AsyncFd},
    task::JoinSet,
};

use crate::{host, model::process::Comm};

/// A process to watch, and the means to know of its end.
pub(crate) struct Target {
    tgid: u32,
    comm: Comm,
    descriptor: OwnedFd,
}

/// Finds the processes. The error says which is not there.
pub(crate) fn find(pids: &[u32]) -> Result<(Vec<host::Process>, Vec<Target>)> {
    let mut processes = Vec::new();
    let mut targets = Vec::new();
    for pid in pids {
        // First the descriptor, then the look: what the look finds is what the descriptor stands for.
        let descriptor = host::pidfd_open(*pid);
        let process = host::find(*pid)?;
        let descriptor = descriptor.with_context(|| format!("cannot wait for process {pid}"))?;
        targets.push(Target { tgid: process.key.tgid, comm: process.comm, descriptor });
        processes.push(process);
    }
    Ok((processes, targets))
}

/// Says of each on stderr when it ends, and returns when all have.
pub(crate) async fn ended(targets: Vec<Target>) -> Result<()> {
    let mut waiting = JoinSet::new();
    for Target { tgid, comm, descriptor } in targets {
        // A pidfd is readable when its process has ended (pidfd_open(2)).
        // SAFETY: an owned descriptor stays the same and open for as long as it lives.
        let descriptor = unsafe { AsyncFd::register_with_interest(descriptor, Interest::READABLE) }
            .map_err(io::Error::from)
            .with_context(|| format!("cannot wait for process {tgid}"))?;
        waiting.spawn(async move {
            if descriptor.readable().await.is_ok() {
                eprintln!("forkwatch: process {tgid} ({comm}) has ended");
            }
        });
    }
    while waiting.join_next().await.is_some() {}
    Ok(())
}
