//! Which threads of a process wait for a lock, and who holds it.
//!
//! Most children that are asked about wait for none: a look at those is a few small files, as it happens for up to a
//! thousand of them every few seconds.

mod holder;
mod parent;
mod parked;
mod threads;

use std::{fs, io};

pub(super) use self::{
    parent::{Parent, robust_list},
    threads::Threads,
};
use super::{
    absence, budget,
    call::{Activity, SystemCall},
    clock,
    futex::EndlessWait,
    maps::{self, Maps},
    memory,
    slept::slept,
    stack,
    stat::Stat,
    status::Status,
    task,
};
use crate::model::{
    lock::{LockWait, Locks, LocksSeen, MAX_WAITS, Mapping},
    process::{Comm, ProcessKey},
    signals::SignalSet,
    time::BootTime,
};

/// Threads of one process whose system calls are read, from the oldest.
const MAX_LOOKED_AT: usize = 512;

/// What is asked, and all that is known of the fork.
pub(super) struct Fork {
    /// The process to look at.
    pub(super) child: ProcessKey,
    /// The process that forked it, where that is known.
    pub(super) parent: Option<ProcessKey>,
    /// When, where that is known.
    pub(super) forked_at: Option<BootTime>,
    /// The thread of the parent that called fork, where that is known.
    pub(super) forking_tid: Option<u32>,
}

impl Fork {
    /// When it was; a child starts in the middle of it.
    fn began(&self) -> BootTime {
        self.forked_at.unwrap_or(self.child.start)
    }
}

/// See [`crate::model::evidence::Request::Locks`].
pub(super) fn locks(fork: &Fork) -> LocksSeen {
    let seen = look(fork).unwrap_or_else(|error| unreadable(fork.child.tgid, "stat", &error));
    match (seen, budget::exceeded()) {
        // What is missing from what was seen would be taken for not there.
        (LocksSeen::Alive(_) | LocksSeen::Unreadable(_), Some(why)) => {
            LocksSeen::Unreadable(format!("cannot look into process {}: {why}", fork.child.tgid))
        }
        (seen, _) => seen,
    }
}

fn unreadable(tgid: u32, file: &str, error: &io::Error) -> LocksSeen {
    absence::reason(tgid, file, error).map_or(LocksSeen::Gone, LocksSeen::Unreadable)
}

fn look(fork: &Fork) -> io::Result<LocksSeen> {
    let stat = match unexeced(fork.child)? {
        Ok(stat) => stat,
        Err(other) => return Ok(other),
    };
    let threads = if stat.threads > 1 { task::user_threads(stat.id)? } else { vec![stat] };
    let waiting = match waiting(&stat, &threads) {
        Ok(waiting) => waiting,
        Err(error) => return Ok(unreadable(stat.id, "syscall", &error)),
    };
    let mut locks = Locks {
        at: clock::now(),
        comm: stat.comm,
        uid: None,
        threads: u32::try_from(threads.len()).unwrap_or(u32::MAX),
        stopped: threads.iter().any(Stat::is_stopped),
        waits: Vec::new(),
        caught: SignalSet::EMPTY,
        python: false,
        comparable: false,
        parent: None,
        parent_threads: None,
        adopted: false,
    };
    if !waiting.is_empty() {
        look_closer(&mut locks, &stat, &threads, &waiting, fork)?;
    }
    Ok(unexeced(fork.child)?.map_or_else(|other| other, |_| LocksSeen::Alive(Box::new(locks))))
}

/// The child, or what has become of it.
pub(super) fn unexeced(child: ProcessKey) -> io::Result<Result<Stat, LocksSeen>> {
    let stat = Stat::of_process(child.tgid)?;
    Ok(if !stat.is(child) || stat.process_has_ended() {
        Err(LocksSeen::Gone)
    } else if stat.is_unexeced() {
        Ok(stat)
    } else {
        Err(LocksSeen::Execed)
    })
}

/// A thread that waits, before it is looked at closely.
struct Waiting {
    thread: u32,
    comm: Comm,
    call: SystemCall,
    wait: EndlessWait,
    /// Whether it waits for a moment only, and may do so again and again.
    spins: bool,
}

/// The threads that wait for a futex without end, or for a moment as who spins. Threads that end meanwhile are left out.
fn waiting(process: &Stat, threads: &[Stat]) -> io::Result<Vec<Waiting>> {
    let mut found = Vec::new();
    for thread in threads.iter().take(MAX_LOOKED_AT) {
        let activity = match Activity::of_thread(process.id, thread.id) {
            Ok(activity) => activity,
            Err(error) if absence::is_gone(&error) => continue,
            // To leave it out would say that it does not wait.
            Err(error) => return Err(error),
        };
        let Some(call) = activity.call() else { continue };
        // C++ says of no static variable's guard that it is the process's alone, wherever that lies.
        let endless = EndlessWait::of_any(call).map(|wait| (wait, false));
        let wait = endless.or_else(|| EndlessWait::of_moment(call).map(|wait| (wait, true)));
        let (thread, comm, call) = (thread.id, thread.comm, *call);
        found.extend(wait.map(|(wait, spins)| Waiting { thread, comm, call, wait, spins }));
        if found.len() == MAX_WAITS {
            break;
        }
    }
    Ok(found)
}

fn look_closer(
    locks: &mut Locks,
    stat: &Stat,
    threads: &[Stat],
    waiting: &[Waiting],
    fork: &Fork,
) -> io::Result<()> {
    let statuses =
        threads.iter().take(MAX_LOOKED_AT).filter_map(|thread| Status::of_thread(stat.id, thread.id).ok());
    for status in statuses {
        locks.stopped |= status.traced;
        locks.caught = status.caught;
        locks.uid = Some(status.uid);
    }
    let maps = Maps::of_process(stat.id)?;
    locks.python = runs_python(stat.id, &maps);
    let child = Threads::new(stat, threads.to_vec())?;
    let look = |parent: Option<&Parent>| {
        let python = locks.python;
        let one =
            |waiting: &Waiting| lock_wait(waiting, stat, &maps, &child, parent, (fork, python)).transpose();
        waiting.iter().filter_map(one).collect::<io::Result<Vec<LockWait>>>()
    };
    let parent = Parent::of(stat, fork);
    locks.waits = look(parent.as_ref())?;
    match parent.filter(|parent| parent.is_unchanged(stat)) {
        Some(parent) => {
            locks.comparable = parent.comparable;
            locks.parent = Some(parent.key);
            locks.parent_threads = Some(parent.others());
            locks.adopted = parent.has_adopted(stat);
        }
        // What was seen of it may be another's.
        None => locks.waits = look(None)?,
    }
    Ok(())
}

/// All about one wait; absent where the thread does not sleep in it any more, or has ended.
fn lock_wait(
    waiting: &Waiting,
    process: &Stat,
    maps: &Maps,
    child: &Threads,
    parent: Option<&Parent>,
    (fork, python): (&Fork, bool),
) -> io::Result<Option<LockWait>> {
    let Waiting { thread, comm, call, wait, spins } = waiting;
    let Some(status) = absence::unless_gone(Status::of_thread(process.id, *thread))? else { return Ok(None) };
    // Who spins runs all the time, and nothing moves nevertheless.
    let switches = if *spins { 0 } else { status.switches };
    let region = maps.find(wait.address);
    let words = memory::words(process.id, *thread, wait.address, maps);
    let holders = words.map(|words| holder::holders(wait, &words, child, parent, fork)).unwrap_or_default();
    let parent_words =
        parent.zip(region).and_then(|(parent, ours)| parked::in_parent(parent, wait.address, ours));
    let parked = words
        .filter(|_| python)
        .and_then(|words| parked::parked(wait, &words, process, *thread, maps, parent));
    let activity = absence::unless_gone(Activity::of_thread(process.id, *thread))?;
    let still = activity.is_some_and(|activity| {
        let has_woken = || activity.call().is_none() && *spins;
        activity.call() == Some(call) || has_woken()
    });
    Ok(still.then(|| LockWait {
        tid: *thread,
        comm: *comm,
        address: wait.address,
        operation: wait.operation,
        value: wait.value,
        switches,
        slept: slept(process.id, *thread).filter(|_| !spins),
        spins: *spins,
        words,
        parent_words,
        mapping: region.map(|region| mapping(process, maps, wait.address, region)),
        holders,
        parked,
    }))
}

/// The memory that an address lies in, by the name of what it belongs to.
pub(super) fn mapping(process: &Stat, maps: &Maps, address: u64, region: &maps::Mapping) -> Mapping {
    // The locks of the C library itself are zero at the start, and lie beyond its file.
    let object = maps.follows_file(region).then(|| stack::object(process.key(), address)).flatten();
    if let Some((name, offset)) = object {
        return Mapping { name, offset, shared: region.shared };
    }
    let within = address.saturating_sub(region.start);
    let offset = if region.is_file() { within.saturating_add(region.offset) } else { within };
    Mapping { name: String::from_utf8_lossy(&region.path).into_owned(), offset, shared: region.shared }
}

/// Whether CPython runs in a process: as its program, or as a library in another's.
pub(super) fn runs_python(tgid: u32, maps: &Maps) -> bool {
    runs(tgid, maps, "python", "libpython")
}

/// Whether an interpreter runs in a process: as its program, whose file's name begins so, or as a library in another's.
pub(super) fn runs(tgid: u32, maps: &Maps, program: &str, library: &str) -> bool {
    fs::read_link(format!("/proc/{tgid}/exe")).is_ok_and(|exe| {
        exe.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with(program))
    }) || maps.has_file(library)
}

#[cfg(test)]
mod tests;
