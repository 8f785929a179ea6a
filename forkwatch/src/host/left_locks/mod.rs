//! Locks on files that a forked process carries although somebody else took them, and who waits for them.
//!
//! A lock by `flock(2)` belongs to the open file, and so does one by `F_OFD_SETLK`. A fork copies the descriptor and not the
//! open file, so that the lock lasts until the last copy is closed. Whoever took one by `flock` is named in `fdinfo` and
//! in `/proc/locks`, also after its end (`locks_translate_pid`, fs/locks.c). Locks of the other kind name nobody, and
//! those that belong to the process (`fcntl`, `F_SETLK`) do not come along.

mod kept;

use std::io;

pub(super) use self::kept::{holders, waits};

use super::{
    absence::{self, is_gone, unless_gone},
    budget, clock,
    descriptors::{Descriptor, Table},
    file,
    kcmp::same_file,
    lock_line::Line,
    program,
    stat::Stat,
};
use crate::model::{
    inventory::{FileLockKind, OpenFile},
    left_lock::{CarriedLock, CarriedLocks, CarriedLocksSeen, LockWaiter, MAX_LOCKS, Taker},
    process::ProcessKey,
};

/// Descriptors that are looked at, from the lowest.
const MAX_DESCRIPTORS: usize = 4096;
/// Of the table of all locks, so many bytes are read: some 20,000 locks.
const MAX_TABLE: u64 = 1024 * 1024;

/// See [`crate::model::evidence::Request::CarriedLocks`].
pub(super) fn carried_locks(child: ProcessKey, forker: Option<ProcessKey>) -> CarriedLocksSeen {
    let seen = look(child, forker).unwrap_or_else(|error| {
        let why = absence::reason(child.tgid, "fdinfo", &error);
        why.map_or(CarriedLocksSeen::Gone, CarriedLocksSeen::Unreadable)
    });
    // What was read is another's where the pid has changed hands meanwhile.
    if Stat::lives(child) { seen } else { CarriedLocksSeen::Gone }
}

fn look(child: ProcessKey, forker: Option<ProcessKey>) -> io::Result<CarriedLocksSeen> {
    let stat = Stat::of_process(child.tgid)?;
    if !stat.is(child) || stat.process_has_ended() || !stat.is_unexeced() {
        return Ok(CarriedLocksSeen::Gone);
    }
    let foreign = |lock: &Held| lock.line.pid != Some(child.tgid);
    let carried: Vec<Held> = locks(child.tgid)?.into_iter().filter(foreign).take(MAX_LOCKS).collect();
    if carried.is_empty() {
        return Ok(CarriedLocksSeen::None);
    }
    let forker = Forker::look(forker)?;
    let takers: Vec<Taker> =
        carried.iter().map(|lock| forker.taker(lock, child.tgid)).collect::<io::Result<_>>()?;
    let waits = if takers.iter().all(|taker| *taker == Taker::Holds) { Vec::new() } else { waiting_lines()? };
    let locks = carried.into_iter().zip(takers).map(|(lock, taker)| {
        let for_it = |wait: &&Line| wait.kind == lock.line.kind && wait.place == lock.line.place;
        let is_left = taker != Taker::Holds;
        let waiters = waits.iter().filter(|_| is_left).filter(for_it).filter_map(|wait| wait.pid);
        let waiters = waiters.filter_map(waiter).take(MAX_LOCKS).collect();
        CarriedLock { file: lock.file, kind: lock.line.kind, taker, waiters }
    });
    Ok(CarriedLocksSeen::Carried(Box::new(CarriedLocks {
        at: clock::now(),
        comm: stat.comm,
        program: program::read(child.tgid, &stat),
        in_background: is_in_background(&stat),
        locks: locks.collect(),
    })))
}

/// A lock, and the descriptor of the open file that it belongs to.
struct Held {
    file: OpenFile,
    line: Line,
}

/// The locks that belong to open files of a process.
fn locks(tgid: u32) -> io::Result<Vec<Held>> {
    let mut found = Vec::new();
    for descriptor in Table::of_process(tgid).list(MAX_DESCRIPTORS)? {
        let Some(file) = on_path(&descriptor) else { continue };
        let path = format!("/proc/{tgid}/fdinfo/{}", descriptor.number);
        let Some(text) = unless_gone(file::read_small(path))? else { continue };
        let of_file = Line::of_fdinfo(&text).filter(Line::is_of_file);
        found.extend(of_file.map(|line| Held { file: file.clone(), line }));
    }
    Ok(found)
}

fn on_path(descriptor: &Descriptor) -> Option<OpenFile> {
    descriptor.link().starts_with(b"/").then(|| OpenFile {
        fd: descriptor.number,
        path: String::from_utf8_lossy(descriptor.link()).into_owned(),
    })
}

/// What can be seen of the process that forked the one that is looked at.
enum Forker {
    /// Nothing is known of it.
    Unknown,
    /// It has ended.
    Ended(u32),
    /// It lives, with these locks.
    Lives(u32, Vec<Held>),
}

impl Forker {
    fn look(forker: Option<ProcessKey>) -> io::Result<Self> {
        let Some(forker) = forker else { return Ok(Self::Unknown) };
        if !Stat::lives(forker) {
            return Ok(Self::Ended(forker.tgid));
        }
        let locks = match locks(forker.tgid) {
            Err(error) if is_gone(&error) => return Ok(Self::Ended(forker.tgid)),
            locks => locks?,
        };
        Ok(if Stat::lives(forker) { Self::Lives(forker.tgid, locks) } else { Self::Ended(forker.tgid) })
    }

    fn taker(&self, lock: &Held, child: u32) -> io::Result<Taker> {
        let is_it = |taker: u32| lock.line.kind == FileLockKind::Flock && lock.line.pid == Some(taker);
        Ok(match self {
            Self::Ended(tgid) if is_it(*tgid) => Taker::Ended,
            Self::Lives(tgid, held) => {
                for its in held.iter().filter(|its| its.line.place == lock.line.place) {
                    budget::steps(1)?;
                    if same_file((child, lock.file.fd), (*tgid, its.file.fd))? {
                        return Ok(Taker::Holds);
                    }
                }
                if is_it(*tgid) { Taker::Closed } else { other_taker(&lock.line) }
            }
            Self::Ended(_) | Self::Unknown => other_taker(&lock.line),
        })
    }
}

/// Where the taker is not the forker: whether it lives, and so may hold the lock.
fn other_taker(line: &Line) -> Taker {
    if line.pid.is_some_and(absence::exists) { Taker::Holds } else { Taker::Unknown }
}

/// Whether a process has begun a session of its own, or is in one whose first process has ended.
fn is_in_background(stat: &Stat) -> bool {
    stat.session == stat.id || stat.session != 0 && !absence::exists(stat.session)
}

fn waiter(tgid: u32) -> Option<LockWaiter> {
    let stat = Stat::of_process(tgid).ok()?;
    Some(LockWaiter { process: stat.key(), comm: stat.comm })
}

/// What the host's table of locks says about those who wait. While it is read nobody takes or gives up a lock
/// (`locks_start`, fs/locks.c), so it is read only where a lock was left behind.
fn waiting_lines() -> io::Result<Vec<Line>> {
    let text = file::read("/proc/locks", MAX_TABLE)?;
    let lines = text.split(|byte| *byte == b'\n').filter_map(Line::parse);
    Ok(lines.filter(|line| line.waits && line.is_of_file()).collect())
}

#[cfg(test)]
mod tests;
