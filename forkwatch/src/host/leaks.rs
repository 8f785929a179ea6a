//! Descriptors that a fork left behind: what a process sleeps on, and who else on the host holds it.

mod calls;
mod holders;
mod listeners;
mod rest;
mod table;

use std::{collections::HashMap, io};

use self::listeners::Tables;
use super::{clock, stat::Stat, status::Status};
use crate::model::{
    leak::{Descriptors, Object},
    process::ProcessKey,
};

pub(super) use holders::holders;

/// See [`crate::model::evidence::Request::Descriptors`].
pub(super) fn descriptors(process: ProcessKey, forker: Option<ProcessKey>) -> Option<Descriptors> {
    let before = Stat::of_process(process.tgid).ok().filter(|stat| stat.is(process))?;
    let seen = look(&before, forker).ok()?;
    Stat::of_process(process.tgid)
        .is_ok_and(|stat| stat.is(process) && !stat.process_has_ended())
        .then_some(seen)
}

fn look(stat: &Stat, forker: Option<ProcessKey>) -> io::Result<Descriptors> {
    let at = clock::now();
    let (calls, rest) = rest::of_process(stat)?;
    let parent = Stat::of_process(stat.parent).ok();
    let reparented = is_reparented(stat, parent.as_ref(), forker);
    let may_be_pinned = reparented && !rest.stopped && !calls.may_serve();
    let fds = if rest.pipe.is_some() || may_be_pinned { table::fds(stat)? } else { Vec::new() };
    let holds_other_end = rest.pipe.is_some_and(|wait| {
        fds.iter()
            .filter(|(_, object)| *object == Object::Pipe(wait.inode))
            .any(|(fd, _)| table::access(stat, *fd).is_ok_and(|access| access.holds(wait.end.other())))
    });
    let listeners = if may_be_pinned { listeners(stat, &fds) } else { Vec::new() };
    let parent = parent.map(|parent| parent.key());
    Ok(Descriptors { at, parent, reparented, rest, holds_other_end, listeners })
}

fn listeners(stat: &Stat, fds: &[(u32, Object)]) -> Vec<u64> {
    let sockets: HashMap<u64, u32> = fds
        .iter()
        .filter_map(|(fd, object)| match object {
            Object::Socket(inode) if *fd > STANDARD => Some((*inode, *fd)),
            Object::Socket(_) | Object::Pipe(_) => None,
        })
        .collect();
    if sockets.is_empty() {
        return Vec::new();
    }
    // Tables that cannot be read show no listener: silence, not an accusation.
    let tables = Tables::of_process(stat.id).unwrap_or_default();
    let mut found: Vec<u64> = tables.listening().filter(|inode| sockets.contains_key(inode)).collect();
    found.sort_unstable();
    found
}

/// The last of the standard descriptors.
const STANDARD: u32 = 2;

/// Whether a process has another parent than the one that forked it. Where that one is not known: whether its parent
/// is younger than itself, or one that takes in orphans. /proc does not show who has set `PR_SET_CHILD_SUBREAPER`;
/// the init of a pid namespace and systemd's user managers are known to.
fn is_reparented(stat: &Stat, parent: Option<&Stat>, forker: Option<ProcessKey>) -> bool {
    let Some(parent) = parent else { return false };
    match forker {
        Some(forker) => !parent.is(forker),
        None if is_init(stat.id) => false,
        None => parent.start > stat.start || parent.comm.bytes() == b"systemd" || is_init(parent.id),
    }
}

/// Whether a process is the init of its pid namespace.
fn is_init(tgid: u32) -> bool {
    Status::of_process(tgid).is_ok_and(|status| status.own_id == 1)
}
