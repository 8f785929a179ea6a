//! Descriptors that a fork left behind: what a process sleeps on, and who else on the host holds it.

mod calls;
mod elsewhere;
mod holders;
mod listeners;
mod rest;

use std::{collections::HashSet, io};

use self::listeners::Tables;
use super::{
    clock,
    descriptors::{Descriptor, STANDARD, Table},
    file, place,
    stat::Stat,
    status::Status,
};
use crate::model::{
    leak::{Access, Descriptors, End, MAX_KEPT, Object},
    process::ProcessKey,
};

pub(super) use holders::holders;

/// See [`crate::model::evidence::Request::Descriptors`].
pub(super) fn descriptors(process: ProcessKey, forker: Option<ProcessKey>) -> Option<Descriptors> {
    let before = Stat::of(process)?;
    let seen = look(&before, forker).ok()?;
    Stat::lives(process).then_some(seen)
}

fn look(stat: &Stat, forker: Option<ProcessKey>) -> io::Result<Descriptors> {
    let at = clock::now();
    let (calls, rest) = rest::of_process(stat)?;
    let parent = Stat::of_process(stat.parent).ok();
    let reparented = is_reparented(stat, parent.as_ref(), forker);
    let may_be_pinned = reparented && !rest.stopped && !calls.may_serve();
    // A forked child beside its forker, that may have been left with what it has no use for.
    let is_beside = forker.is_some() && !reparented && stat.is_unexeced();
    let wrote = is_beside.then(|| wrote(stat.id)).flatten();
    let looks = rest.pipe.is_some() || may_be_pinned || wrote.is_some();
    let held = if looks { held(stat)? } else { Held::default() };
    let (kept, fed) = match wrote {
        None => (Vec::new(), Vec::new()),
        Some(0) => (writable(&held)?, Vec::new()),
        Some(_) => (Vec::new(), writable(&held)?),
    };
    let may_keep = !kept.is_empty() || !fed.is_empty();
    let forker_awaits = forker.filter(|_| may_keep).and_then(|forker| place::awaited_child(forker.tgid));
    let holds_other_end = match rest.pipe {
        Some(wait) => {
            let access = held.access(Object::Pipe(wait.inode))?;
            access.iter().any(|(_, access)| access.holds(wait.end.other()))
        }
        None => false,
    };
    let forker_holds = match (rest.pipe, forker.filter(|_| holds_other_end && !reparented)) {
        (Some(wait), Some(forker)) => holds(forker, Object::Pipe(wait.inode), wait.end.other()),
        _ => false,
    };
    let listeners = if may_be_pinned { listeners(stat, &held) } else { Vec::new() };
    let parent = parent.map(|parent| parent.key());
    Ok(Descriptors {
        at,
        parent,
        reparented,
        rest,
        holds_other_end,
        forker_holds,
        kept,
        fed,
        forker_awaits,
        listeners,
    })
}

/// Bytes that a process has written since it was forked, to whatever (`proc_pid_io(5)`).
fn wrote(tgid: u32) -> Option<u64> {
    file::field(&file::read_small(format!("/proc/{tgid}/io")).ok()?, "wchar:")?.trim().parse().ok()
}

/// The pipes to which a process can write, beside its standard descriptors. Those that it could read as well come last:
/// most are a program's own means to wake itself.
fn writable(held: &Held) -> io::Result<Vec<u64>> {
    let (mut write, mut read) = (Vec::new(), HashSet::new());
    for descriptor in &held.descriptors {
        let (Some(Object::Pipe(inode)), Some(table)) = (descriptor.object(), &held.table) else { continue };
        match table.access(descriptor.number)? {
            Some(Access::Write) if descriptor.number > STANDARD => write.push(inode),
            Some(_) => drop(read.insert(inode)),
            None => {}
        }
    }
    write.sort_unstable_by_key(|inode| (read.contains(inode), *inode));
    write.dedup();
    write.truncate(MAX_KEPT);
    Ok(write)
}

/// Whether a process holds an end of a pipe. That it cannot be seen says nothing: a search will tell.
fn holds(process: ProcessKey, pipe: Object, end: End) -> bool {
    let access = || held(&Stat::of(process)?).ok()?.access(pipe).ok();
    access().is_some_and(|found| found.iter().any(|(_, access)| access.holds(end)))
}

/// A process with more descriptors is not looked at.
const MAX_DESCRIPTORS: usize = 65_536;

/// What a process holds; nothing where all of its threads are ending: it will neither write nor accept any more, and
/// its table is being given up.
fn held(stat: &Stat) -> io::Result<Held> {
    let Some(table) = Table::of_living(stat)? else { return Ok(Held::default()) };
    let descriptors = table.list(MAX_DESCRIPTORS + 1)?;
    if descriptors.len() > MAX_DESCRIPTORS {
        return Err(io::Error::other("too many descriptors"));
    }
    Ok(Held { table: Some(table), descriptors })
}

/// The descriptors of a process.
#[derive(Default)]
struct Held {
    table: Option<Table>,
    descriptors: Vec<Descriptor>,
}

impl Held {
    /// The descriptors that keep a pipe or a socket open, and what each may be used for.
    fn access(&self, object: Object) -> io::Result<Vec<(u32, Access)>> {
        let Some(table) = &self.table else { return Ok(Vec::new()) };
        let mut found = Vec::new();
        for descriptor in self.descriptors.iter().filter(|held| held.object() == Some(object)) {
            let access = table.access(descriptor.number)?;
            found.extend(access.map(|access| (descriptor.number, access)));
        }
        Ok(found)
    }
}

fn listeners(stat: &Stat, held: &Held) -> Vec<u64> {
    let above = held.descriptors.iter().filter(|descriptor| descriptor.number > STANDARD);
    let sockets: HashSet<u64> = above.filter_map(Descriptor::socket).collect();
    if sockets.is_empty() {
        return Vec::new();
    }
    // Tables that cannot be read show no listener: silence, not an accusation.
    let tables = Tables::of_process(stat.id).unwrap_or_default();
    let mut found: Vec<u64> = tables.listening().filter(|inode| sockets.contains(inode)).collect();
    found.sort_unstable();
    found
}

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
