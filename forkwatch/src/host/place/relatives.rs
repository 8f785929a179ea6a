//! Who waits for a stuck child: its parent, and the other children of that.

use std::collections::HashSet;

use super::held;
use crate::host::{
    call::{Activity, SystemCall},
    descriptors::Table,
    file,
    stat::Stat,
    status::Status,
    task,
};
use crate::model::{
    leak::{End, Object},
    lock::Blocked,
    process::{ProcessKey, escape},
};

/// Children of the parent that are looked at.
const MAX_RELATIVES: usize = 64;
/// Generations between a process and one whose end it waits for.
const MAX_GENERATIONS: usize = 4;
/// Threads of one process that are looked at.
const MAX_THREADS: usize = 512;

/// Who waits for the child to end, or for it to close a pipe.
pub(super) fn blocked(child: ProcessKey, parent: ProcessKey) -> Vec<Blocked> {
    let siblings = children(parent.tgid, MAX_RELATIVES);
    let only_child = siblings.iter().all(|sibling| *sibling == child.tgid);
    let siblings = siblings.into_iter().filter(|sibling| *sibling != child.tgid);
    let mut relatives: Vec<u32> = [parent.tgid].into_iter().chain(siblings).collect();
    // Who reads a pipe waits for all that can write to it: for the child alone where no relative can, the reader
    // itself included.
    let mut pipes: HashSet<u64> = written_pipes(child.tgid).collect();
    for relative in &relatives {
        if pipes.is_empty() {
            break;
        }
        for pipe in written_pipes(*relative) {
            pipes.remove(&pipe);
        }
    }
    // Siblings matter for pipes alone, and there may be many.
    if pipes.is_empty() {
        relatives.truncate(1);
    }
    let mut found = Vec::new();
    for relative in relatives {
        for call in sleeping(relative) {
            if relative == parent.tgid && waits_for(&call, child, parent, only_child) {
                let name = Stat::of_process(relative).map(|stat| escape(stat.comm.bytes()));
                let uid = Status::of_process(relative).ok().map(|status| status.uid);
                found.extend(name.map(|name| Blocked::Waiter {
                    pid: relative,
                    name,
                    uid,
                    call: call.name(),
                }));
            }
            let read = read_pipe(&call, relative).filter(|inode| pipes.contains(inode));
            found.extend(read.map(|inode| Blocked::Pipe { inode, reader: relative }));
        }
    }
    found
}

/// Whether a process sleeps until this descendant of its ends, and so does whoever stands between them, such as a shell.
pub(in crate::host) fn awaits_end_of(process: ProcessKey, descendant: ProcessKey) -> bool {
    let mut child = descendant;
    for _ in 0..MAX_GENERATIONS {
        let parent = Stat::of(child).and_then(|stat| Stat::of_process(stat.parent).ok());
        let Some(stat) = parent else { return false };
        let parent = stat.key();
        let only_child = children(parent.tgid, 2) == [child.tgid];
        if !sleeping(parent.tgid).any(|call| waits_for(&call, child, parent, only_child)) {
            return false;
        }
        if stat.is(process) {
            return true;
        }
        child = parent;
    }
    false
}

/// The one child until whose end a thread of a process sleeps, by the pid that it has for it.
pub(in crate::host) fn awaited_child(tgid: u32) -> Option<u32> {
    sleeping(tgid).find_map(|call| match call.number {
        libc::SYS_wait4 => call.word(0).filter(|pid| pid.cast_signed() > 0),
        libc::SYS_waitid => match (call.word(0)?, call.word(1)?) {
            (libc::P_PID, pid) => Some(pid),
            (libc::P_PIDFD, descriptor) => pidfd(tgid, descriptor),
            _ => None,
        },
        _ => None,
    })
}

/// The living children of a process: none where the kernel does not list them (`CONFIG_PROC_CHILDREN`).
pub(in crate::host) fn children(tgid: u32, most: usize) -> Vec<u32> {
    let threads = file::numbers(format!("/proc/{tgid}/task"), MAX_THREADS).unwrap_or_default();
    let lists = threads
        .into_iter()
        .filter_map(|tid| file::read_small(format!("/proc/{tgid}/task/{tid}/children")).ok());
    lists
        .flat_map(|list| {
            String::from_utf8_lossy(&list)
                .split_ascii_whitespace()
                .filter_map(|pid| pid.parse().ok())
                .collect::<Vec<_>>()
        })
        .take(most)
        .collect()
}

/// The system calls that the threads of a process sleep in.
fn sleeping(tgid: u32) -> impl Iterator<Item = SystemCall> {
    let threads = task::user_threads(tgid).unwrap_or_default();
    threads
        .into_iter()
        .take(MAX_THREADS)
        .filter_map(move |thread| Activity::of_thread(tgid, thread.id).ok()?.call().copied())
}

fn written_pipes(tgid: u32) -> impl Iterator<Item = u64> {
    let table = Table::of_process(tgid);
    held(tgid).into_iter().filter_map(move |descriptor| {
        let Object::Pipe(inode) = descriptor.object()? else { return None };
        let access = table.access(descriptor.number).ok()??;
        access.holds(End::Write).then_some(inode)
    })
}

/// The pipe that a call reads from.
fn read_pipe(call: &SystemCall, tgid: u32) -> Option<u64> {
    (call.number == libc::SYS_read || call.number == libc::SYS_readv).then_some(())?;
    match Table::of_process(tgid).get(call.word(0)?).ok()??.object()? {
        Object::Pipe(inode) => Some(inode),
        Object::Socket(_) => None,
    }
}

/// Whether a call waits for the child to end: for it by name, or for any child where there is but one.
fn waits_for(call: &SystemCall, child: ProcessKey, parent: ProcessKey, only_child: bool) -> bool {
    let named = |pid: u32| name_in(child, parent) == Some(pid);
    if call.number == libc::SYS_wait4 {
        match call.word(0).map(u32::cast_signed) {
            Some(-1) => only_child,
            Some(pid) => u32::try_from(pid).is_ok_and(named),
            None => false,
        }
    } else if call.number == libc::SYS_waitid {
        match (call.word(0), call.word(1)) {
            (Some(libc::P_ALL), _) => only_child,
            (Some(libc::P_PID), Some(pid)) => named(pid),
            (Some(libc::P_PIDFD), Some(descriptor)) => pidfd(parent.tgid, descriptor) == Some(child.tgid),
            _ => false,
        }
    } else {
        false
    }
}

/// The pid of the child as its parent knows it: in the parent's pid namespace, which may be an outer one.
fn name_in(child: ProcessKey, parent: ProcessKey) -> Option<u32> {
    let depth = Status::ids(parent.tgid).ok()?.len();
    Status::ids(child.tgid).ok()?.get(depth.checked_sub(1)?).copied()
}

/// The process that a pidfd stands for.
fn pidfd(tgid: u32, descriptor: u32) -> Option<u32> {
    file::field(&file::read_small(format!("/proc/{tgid}/fdinfo/{descriptor}")).ok()?, "Pid:")?.parse().ok()
}
