//! What the threads of a process and of its forked children wait for, and what of that several processes share.

use std::io;

use super::{
    absence,
    call::{Activity, SystemCall},
    cgroup::Membership,
    clock, file,
    futex::EndlessWait,
    maps::{Mapping, Maps},
    memory, place,
    program::program,
    stack,
    stat::Stat,
    status::Status,
    task,
};
use crate::model::{
    family::{Family, MAX_CHILDREN, MAX_THREADS, Member, SharedKind, SharedLock, Waiter},
    glibc,
    process::{ProcessKey, escape},
    thread::SeenThread,
};

/// Children of a process that are looked at for those that never exec'd.
const MAX_LISTED: usize = 512;
/// Where the tree of control groups is.
const CGROUPS: &str = "/sys/fs/cgroup";

/// See [`crate::model::evidence::Request::Family`].
pub(super) fn family(forker: ProcessKey) -> Option<Family> {
    let at = clock::now();
    let stat = Stat::of(forker)?;
    let program = program(forker)?;
    let mut whole = true;
    let listed = place::children(forker.tgid, MAX_LISTED);
    whole &= listed.len() < MAX_LISTED;
    let mut children = Vec::new();
    for tgid in listed {
        let Ok(child) = Stat::of_process(tgid) else { continue };
        if !child.is_unexeced() || child.process_has_ended() || child.parent != forker.tgid {
            continue;
        }
        if children.len() >= MAX_CHILDREN {
            whole = false;
            break;
        }
        match member(&child, &mut whole) {
            Ok(found) => children.extend(found),
            Err(error) if absence::is_gone(&error) => {}
            Err(_) => whole = false,
        }
    }
    children.sort_unstable_by_key(|child| child.process);
    let forker_seen = member(&stat, &mut whole).ok()??;
    let out_of_memory = out_of_memory(forker.tgid);
    Stat::lives(forker).then_some(Family { at, program, forker: forker_seen, children, whole, out_of_memory })
}

/// One of the family; absent where it has ended meanwhile.
fn member(stat: &Stat, whole: &mut bool) -> io::Result<Option<Member>> {
    let maps = Maps::of_process(stat.id)?;
    let mut threads = task::user_threads(stat.id)?;
    threads.sort_by_key(|thread| (thread.id != stat.id, thread.start, thread.id));
    *whole &= threads.len() <= MAX_THREADS;
    let mut stopped = threads.iter().any(Stat::is_stopped);
    let mut waiters = Vec::new();
    let mut runs_script = true;
    for thread in threads.iter().take(MAX_THREADS) {
        let activity = match Activity::of_thread(stat.id, thread.id) {
            Ok(activity) => activity,
            Err(error) if absence::is_gone(&error) => continue,
            Err(error) => return Err(error),
        };
        let endless = activity.call().and_then(EndlessWait::of_any);
        let shared = activity.call().and_then(|call| shared(stat.id, thread.id, call, &maps));
        let script = if runs_script { stack::of_script(stat.key(), thread.id) } else { None };
        // Where no interpreter runs, none does in the others.
        runs_script = script.is_some();
        // Its call first and its switches afterwards: two looks with the same of both mean that it slept in between.
        let status = Status::of_thread(stat.id, thread.id)?;
        stopped |= status.traced;
        waiters.push(Waiter {
            thread: SeenThread { tid: thread.id, comm: thread.comm },
            switches: status.switches,
            call: activity.name(),
            endless: endless.is_some(),
            shared,
            script,
        });
    }
    let uid = Status::of_process(stat.id).ok().map(|status| status.uid);
    let seen = Member { process: stat.key(), comm: stat.comm, uid, stopped, threads: waiters };
    Ok(Stat::lives(stat.key()).then_some(seen))
}

/// What a call waits for, if other processes may share it.
fn shared(process: u32, thread: u32, call: &SystemCall, maps: &Maps) -> Option<SharedLock> {
    let wait = EndlessWait::of_any(call).filter(|wait| !wait.is_private())?;
    let mapping = maps.find(wait.address).filter(|mapping| mapping.shared)?;
    let (major, minor, inode) = mapping.file;
    let offset = mapping.offset.checked_add(wait.address.checked_sub(mapping.start)?)?;
    Some(SharedLock {
        place: (major, minor, inode, offset),
        file: escape(&mapping.path),
        kind: kind(process, thread, &wait, mapping),
    })
}

fn kind(process: u32, thread: u32, wait: &EndlessWait, mapping: &Mapping) -> SharedKind {
    const BYTES: usize = 4 * glibc::MUTEX_WORDS;
    let words = |bytes: &[u8]| -> Vec<u32> {
        bytes.as_chunks::<4>().0.iter().map(|word| u32::from_ne_bytes(*word)).collect()
    };
    // A semaphore may lie at the end of its memory, where a mutex would not fit in.
    if let Some(bytes) = memory::part::<BYTES>(process, thread, wait.address, mapping)
        && let Some(owner) = glibc::shared_mutex_owner(&words(&bytes))
        && wait.value == 2
    {
        return SharedKind::Mutex { owner, lives: lives(process, owner) };
    }
    match memory::part::<{ 4 * glibc::SEMAPHORE_WORDS }>(process, thread, wait.address, mapping) {
        Some(bytes) if wait.value == 0 && glibc::is_shared_semaphore_at_zero(&words(&bytes)) => {
            SharedKind::Semaphore
        }
        _ => SharedKind::Other,
    }
}

/// Whether there is a thread of that tid, as a process sees it; absent where it has tids of its own.
fn lives(process: u32, tid: u32) -> Option<bool> {
    let status = Status::of_process(process).ok()?;
    (!status.namespaced).then(|| absence::exists(tid))
}

/// How often the kernel has killed a process of this one's control group for want of memory.
fn out_of_memory(tgid: u32) -> Option<u64> {
    let text = file::read_small(format!("/proc/{tgid}/cgroup")).ok()?;
    let path = Membership::parse(std::str::from_utf8(&text).ok()?)?.path?;
    if path.split('/').any(|part| part == "..") {
        return None;
    }
    let events = file::read_small(format!("{CGROUPS}{path}/memory.events")).ok()?;
    let events = std::str::from_utf8(&events).ok()?;
    events.lines().find_map(|line| line.strip_prefix("oom_kill "))?.trim().parse().ok()
}

#[cfg(test)]
mod tests;
