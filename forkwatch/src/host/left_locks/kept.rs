//! Who waits for a lock on a file that its taker has left to others, and who these are, exec'd or not.
//!
//! A shell has flock(1) take a lock, which ends at once; what the shell starts in the background has the open file, and
//! after the shell's end nobody else has it.

use std::io;

use super::{MAX_DESCRIPTORS, locks, on_path, waiting_lines};
use crate::{
    host::{
        absence::{self, unless_gone},
        clock,
        descriptors::Table,
        file,
        lock_line::Line,
        pids, program,
        stat::Stat,
        status::Status,
    },
    model::{
        inventory::FileLockKind,
        left_lock::{LockHolder, LockHolders, LockWait, MAX_LOCKS},
    },
};

/// On a host with more processes nothing is concluded.
const MAX_PROCESSES: usize = 65_536;

/// Processes that wait for a lock by flock(2) whose taker does not hold it: the first [`MAX_LOCKS`].
pub(in crate::host) fn waits() -> Vec<LockWait> {
    let Ok(lines) = table() else { return Vec::new() };
    let waiting = lines.iter().filter(|line| line.waits && line.kind == FileLockKind::Flock);
    let of = |wait: &Line| -> Option<LockWait> {
        let is_held = |line: &&Line| !line.waits && line.kind == wait.kind && line.place == wait.place;
        let mut takers = lines.iter().filter(is_held).map(|line| line.pid);
        let taker = takers.next()??;
        // Locks that are shared have several, and each may be held.
        if takers.next().is_some() || holds(taker, &wait.place) {
            return None;
        }
        let waiter = Stat::of_process(wait.pid?).ok()?.key();
        Some(LockWait { waiter, taker, place: wait.place.clone() })
    };
    waiting.filter_map(of).take(MAX_LOCKS).collect()
}

/// What the host's table of locks says, of those who hold and of those who wait.
fn table() -> io::Result<Vec<Line>> {
    let text = file::read("/proc/locks", super::MAX_TABLE)?;
    Ok(text.split(|byte| *byte == b'\n').filter_map(Line::parse).collect())
}

/// Whether a process has an open file with a lock on that file, or may have.
fn holds(tgid: u32, place: &str) -> bool {
    match locks(tgid) {
        Ok(held) => held.iter().any(|held| held.line.place == place),
        Err(error) => absence::reason(tgid, "fdinfo", &error).is_some(),
    }
}

/// See [`crate::model::evidence::Request::LockHolders`].
pub(in crate::host) fn holders(wait: &LockWait) -> Option<LockHolders> {
    let at = clock::now();
    let waiter = Stat::of(wait.waiter)?.comm;
    let waits = |line: &Line| line.pid == Some(wait.waiter.tgid) && line.place == wait.place;
    if !waiting_lines().ok()?.iter().any(waits) {
        return None;
    }
    let tgids = file::numbers("/proc", MAX_PROCESSES + 1).ok()?;
    // Pid 1 always lives: where it is not listed, /proc hides others' processes (hidepid).
    let mut complete = tgids.contains(&1) && tgids.len() <= MAX_PROCESSES;
    let mut holders = Vec::new();
    for tgid in tgids {
        match holder(tgid, wait) {
            Ok(Some(_)) if holders.len() >= MAX_LOCKS => complete = false,
            Ok(holder) => holders.extend(holder),
            // On some hosts nobody may look into that one. It is older than all that could have left it a file.
            Err(_) if tgid == 1 => {}
            // It has ended meanwhile.
            Err(_) if Stat::of_process(tgid).is_ok_and(|stat| stat.process_has_ended()) => {}
            Err(error) => complete &= absence::reason(tgid, "fd", &error).is_none(),
        }
    }
    Some(LockHolders { at, waiter, holders, complete })
}

fn holder(tgid: u32, wait: &LockWait) -> io::Result<Option<LockHolder>> {
    let Some(stat) = unless_gone(Stat::of_process(tgid))? else { return Ok(None) };
    if stat.is_kernel_thread() || stat.process_has_ended() {
        return Ok(None);
    }
    let Some(table) = Table::of_living(&stat)? else { return Ok(None) };
    for descriptor in table.list(MAX_DESCRIPTORS)? {
        let Some(file) = on_path(&descriptor) else { continue };
        let info = file::read_small(format!("/proc/{tgid}/fdinfo/{}", descriptor.number));
        let Some(text) = unless_gone(info)? else { continue };
        let is_it = |line: Line| {
            line.kind == FileLockKind::Flock && line.place == wait.place && line.pid == Some(wait.taker)
        };
        if !Line::of_fdinfo(&text).any(is_it) {
            continue;
        }
        let takes_in = |parent: u32| parent == 1 || takes_in_orphans(parent);
        return Ok(Some(LockHolder {
            process: stat.key(),
            comm: stat.comm,
            program: program::read(tgid, &stat),
            file,
            parent: Some(stat.parent).filter(|parent| !takes_in(*parent)),
            in_background: stat.session == tgid || !pids::is_older(stat.session, wait.taker),
            unexeced: stat.is_unexeced(),
            older: pids::is_older(tgid, wait.taker),
        }));
    }
    Ok(None)
}

/// Whether a process takes in those whose parent has ended: the init of a pid namespace, or a user's service manager.
fn takes_in_orphans(tgid: u32) -> bool {
    let is_manager = || Stat::of_process(tgid).is_ok_and(|stat| stat.comm.bytes() == b"systemd");
    Status::of_process(tgid).is_ok_and(|status| status.own_id == 1) || is_manager()
}
