//! Where a stuck thread is, and what it keeps from others.

mod listeners;
mod relatives;
mod threads;

pub(super) use self::{
    relatives::{awaited_child, awaits_end_of, children},
    threads::everywhere,
};

use super::{
    call::Activity,
    clock,
    descriptors::{Descriptor, Table},
    memory_users,
    program::program,
    stack,
    stat::Stat,
};
use crate::model::{
    lock::{Blocked, Doing, Place},
    process::ProcessKey,
    stack::{Stack, Stacks},
};

/// Descriptors of one process that are looked at, from the lowest.
const MAX_DESCRIPTORS: usize = 1024;
/// How often a thread is looked at whose calls cannot be read.
const MOST_LOOKS: usize = 5;

/// See [`crate::model::evidence::Request::Place`].
pub(super) fn place(
    child: ProcessKey,
    parent: Option<ProcessKey>,
    tid: u32,
    address: u64,
    owner: Option<u32>,
    stacks: Stacks,
) -> Option<Place> {
    if !Stat::lives(child) {
        return None;
    }
    let at = clock::now();
    let parent = parent.filter(|parent| Stat::lives(*parent));
    let mut program_of_parent = parent.and_then(program);
    let mut holder = parent.zip(owner).and_then(|(parent, owner)| doing(parent, owner, stacks));
    let mut blocks = parent.map(|parent| relatives::blocked(child, parent)).unwrap_or_default();
    if parent.is_some_and(|parent| !Stat::lives(parent)) {
        // What was seen may be another's.
        (program_of_parent, holder, blocks) = (None, None, Vec::new());
    }
    // Where another thread may accept connections, nothing is blocked.
    let awaited = threads::awaited_by_others(child.tgid, tid);
    let sockets: Vec<u64> = held(child.tgid)
        .iter()
        .filter(|descriptor| awaited.as_ref().is_some_and(|awaited| !awaited.contains(&descriptor.number)))
        .filter_map(Descriptor::socket)
        .collect();
    let listeners = listeners::listeners(child.tgid, &sockets);
    blocks.extend(listeners.into_iter().map(|address| Blocked::Listener { address }));
    let (stack, script) = (stack_of(child, tid, stacks), stack::of_script(child, tid));
    // Where the lock says who has it, no other thread is of interest.
    let is_open = owner.is_none();
    let (others, knows_others) =
        if is_open { threads::others(child, tid, stacks) } else { (Vec::new(), false) };
    let behind = parent.filter(|_| is_open).map(|parent| threads::behind(parent, child, stacks));
    let place = Place {
        at,
        program: program_of_parent.or_else(|| program(child))?,
        symbol: stack::symbol(child, address),
        stack,
        // Always: it may speak against the finding.
        script,
        holder,
        others,
        knows_others,
        behind: behind.unwrap_or_default(),
        blocks,
        memory: Some(memory_users(child, tid)),
    };
    Stat::lives(child).then_some(place)
}

/// The calls of the thread. One that spins sleeps for a moment only, and may wake while it is looked at.
fn stack_of(child: ProcessKey, tid: u32, stacks: Stacks) -> Stack {
    let stack = stack::of_thread(child, tid, stacks);
    let again = || (1..MOST_LOOKS).map(|_| stack::of_thread(child, tid, stacks));
    if stack.frames.is_empty() {
        again().find(|stack| !stack.frames.is_empty()).unwrap_or(stack)
    } else {
        stack
    }
}

/// The descriptors of a process; none where they may not be read.
fn held(tgid: u32) -> Vec<Descriptor> {
    Table::of_process(tgid).list(MAX_DESCRIPTORS).unwrap_or_default()
}

/// What a thread does; absent where it has ended.
fn doing(process: ProcessKey, tid: u32, stacks: Stacks) -> Option<Doing> {
    Stat::of_thread(process.tgid, tid).ok().filter(|stat| !stat.has_ended())?;
    let activity = Activity::of_thread(process.tgid, tid);
    let call = activity.map_or_else(|_| "unknown".to_owned(), |activity| activity.name());
    // Whatever was allowed for the stuck thread: this one is healthy, and is not stopped.
    let stacks = if stacks == Stacks::None { Stacks::None } else { Stacks::Light };
    Some(Doing { call, stack: stack::of_thread(process, tid, stacks) })
}

#[cfg(test)]
mod tests;
