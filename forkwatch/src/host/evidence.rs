//! Answers to the core's questions.

use std::io;

use super::{
    absence, budget, caller, clock, escaped, family, fdinfo, file, generators, held_locks, inheritance,
    inventory::{foreign_wake_up, resting_loop, shared_loop},
    leaks, left_locks,
    locks::{self, Fork as Forked},
    occupation, place,
    program::{self, program},
    scan,
    scope::Scope,
    shared_files, sockets, stack,
    stat::Stat,
    status::Status,
    sweep as whole_host, task, threads_seen, unflushed, workers,
};
use crate::model::{
    event::Fork,
    event_loop::LoopSeen,
    evidence::{Evidence, Request},
    process::{Comm, ProcessKey},
    seen::{ChildSeen, ExecedSeen, MAX_THREADS, ParentSeen, ProgramSeen},
    signals::SignalSet,
    stack::Stacks,
    thread::{Occupation, SeenThread},
    time::BootTime,
};

/// Answers a question by looking at `/proc` now. Takes well under a millisecond for most processes, some milliseconds
/// for one with hundreds of threads, and never much more of a processor's time than its budget grants.
pub fn answer(request: &Request) -> Evidence {
    let limits = match request {
        // These concern every process of the host, or all threads of a family.
        Request::Holders { .. }
        | Request::LockHolders { .. }
        | Request::Sweep { .. }
        | Request::Orphans
        | Request::Family { .. }
        | Request::Inheritance { .. }
        | Request::Workers { .. } => budget::LARGE,
        Request::HeldLocks { .. } => held_locks::BUDGET,
        Request::Generators { .. } => generators::BUDGET,
        _ => budget::EVIDENCE,
    };
    budget::question(limits, || look(request))
}

fn look(request: &Request) -> Evidence {
    match *request {
        Request::Parent { child, parent, forking_tid, forked_at } => {
            let look = |stat: &Stat| parent_seen(stat, forking_tid, forked_at, child.tgid);
            let seen = if has_ended(parent) { None } else { of_process(parent, look) };
            Evidence::Parent { child, ended: seen.is_none() && has_ended(parent), seen }
        }
        Request::Child { child } => Evidence::Child { child, seen: child_seen(child) },
        Request::Occupations { child, parent, forking_tid, forked_at } => {
            let look = |stat: &Stat| occupations(stat, forking_tid, forked_at, child.tgid);
            Evidence::Occupations { child, seen: of_process(parent, look).unwrap_or_default() }
        }
        Request::Locks { child, parent, forked_at, forking_tid } => {
            let fork = Forked { child, parent, forked_at, forking_tid };
            Evidence::Locks { child, seen: locks::locks(&fork) }
        }
        Request::HeldLocks { child, parent, forking_tid, forked_at, ref places } => {
            let places = places.clone();
            let question = held_locks::Question { child, parent, forking_tid, forked_at, places };
            Evidence::HeldLocks { child, seen: held_locks::held_locks(&question) }
        }
        Request::Place { child, parent, tid, address, holder, stacks } => {
            let seen = place::place(child, parent, tid, address, holder, stacks);
            Evidence::Place { child, seen: seen.map(Box::new) }
        }
        Request::Sockets { child, parent } => {
            Evidence::Sockets { child, seen: sockets::sockets(child, parent).map(Box::new) }
        }
        Request::Caller { process, tid, inode, forker, stacks } => {
            let seen = caller::caller(process, tid, inode, forker, stacks).map(Box::new);
            Evidence::Caller { process, inode, seen }
        }
        Request::SharedLoop { child, other, stacks } => {
            let seen = shared_loop(child, other, stacks);
            let may_rest = matches!(seen, LoopSeen::Apart | LoopSeen::Held(_));
            let resting = may_rest.then(|| resting_loop(child, other, stacks)).flatten();
            let told = may_rest.then(|| foreign_wake_up(child, other)).flatten();
            Evidence::SharedLoop {
                child,
                other,
                seen,
                resting: resting.map(Box::new),
                wakes_other: told.map(Box::new),
            }
        }
        Request::SharedFiles { child, forker, sibling, ref databases, closely } => {
            let question = shared_files::Question { child, forker, sibling, databases, closely };
            Evidence::SharedFiles { child, seen: shared_files::shared_files(&question) }
        }
        Request::Unflushed { child, forker } => {
            Evidence::Unflushed { child, forker, seen: unflushed::unflushed(child, forker) }
        }
        Request::Escaped { child, forker, forking_tid } => {
            Evidence::Escaped { child, seen: escaped::escaped(child, forker, forking_tid) }
        }
        Request::CarriedLocks { child, forker } => {
            Evidence::CarriedLocks { child, seen: left_locks::carried_locks(child, forker) }
        }
        Request::LockHolders { ref wait } => {
            let seen = left_locks::holders(wait).map(Box::new);
            Evidence::LockHolders { wait: wait.clone(), seen }
        }
        Request::Generators { child, parent, places } => {
            Evidence::Generators { child, seen: generators::generators(child, parent, places) }
        }
        Request::Descriptors { process, forker } => {
            let seen = leaks::descriptors(process, forker).map(Box::new);
            Evidence::Descriptors { process, lives: seen.is_some() || Stat::lives(process), seen }
        }
        Request::Holders { process, forker, object } => {
            let seen = leaks::holders(process, forker, object);
            Evidence::Holders { process, object, seen: seen.map(Box::new) }
        }
        Request::Family { forker } => Evidence::Family { forker, seen: family::family(forker).map(Box::new) },
        Request::Sweep { mark } => sweep(mark, &Scope::default()),
        // Who has the kernel side asks that; the host cannot wait, and what may be so does no harm.
        Request::NextFork { .. } => Evidence::NextFork,
        Request::FellAsleep => Evidence::FellAsleep { seen: None },
        Request::Orphans => Evidence::Orphans { seen: orphans() },
        Request::Program { tgid } => Evidence::Program { tgid, seen: program_seen(tgid).map(Box::new) },
        Request::Threads { child, stacks } => {
            let look = |stat: &Stat| threads_seen::threads_seen(stat, stacks);
            Evidence::Threads { child, seen: of_process(child, look) }
        }
        Request::Backlog { child, ref queues } => {
            let is_it = Stat::of(child).is_some_and(|stat| stat.is_unexeced() && !stat.process_has_ended());
            let seen = if is_it { stack::queue_lengths(child, queues) } else { None };
            Evidence::Backlog { child, seen }
        }
        Request::Execed { process } => Evidence::Execed { process, seen: of_process(process, execed_seen) },
        Request::Workers { master, ref workers, closely, children } => {
            let seen = workers::workers(master, workers, closely, children).map(Box::new);
            Evidence::Workers { master, seen }
        }
        Request::Inheritance { worker, master, stacks } => {
            let seen = inheritance::inheritance(worker, master, stacks).map(Box::new);
            Evidence::Inheritance { worker, master, seen }
        }
    }
}

/// All processes, narrowed to those in scope.
pub fn sweep(mark: Option<u64>, scope: &Scope) -> Evidence {
    let mut seen = whole_host::sweep(mark).map(Box::new);
    if let Some(sweep) = &mut seen {
        scope.narrow(sweep);
    }
    Evidence::Sweep { seen }
}

/// The programs that init has taken over, or has started itself: that cannot be told.
fn orphans() -> Vec<ProcessKey> {
    let processes = scan::processes().unwrap_or_default();
    let orphans = processes.iter().filter(|process| process.parent == 1 && !process.unexeced);
    orphans.map(|process| process.key).collect()
}

/// What `look` sees of a process; absent where that ended before or meanwhile, and its pid may be another's.
fn of_process<T>(key: ProcessKey, look: impl FnOnce(&Stat) -> io::Result<T>) -> Option<T> {
    let before = Stat::of(key)?;
    let seen = look(&before).ok()?;
    Stat::of(key).map(|_| seen)
}

/// Whether a process is known to have ended, waited for or not.
fn has_ended(process: ProcessKey) -> bool {
    match Stat::of_process(process.tgid) {
        Ok(stat) => !stat.is(process) || stat.process_has_ended(),
        Err(_) => !absence::exists(process.tgid),
    }
}

/// The threads that lived at the fork, without the one that forked, by tid.
fn other_threads(stat: &Stat, forking_tid: u32, forked_at: BootTime, child: u32) -> io::Result<Vec<Stat>> {
    let mut threads = task::user_threads(stat.id)?;
    threads.retain(|thread| thread.id != forking_tid && task::is_older(thread, forked_at, child));
    threads.sort_unstable_by_key(|thread| thread.id);
    Ok(threads)
}

fn occupations(
    stat: &Stat,
    forking_tid: u32,
    forked_at: BootTime,
    child: u32,
) -> io::Result<Vec<Occupation>> {
    let mut threads = other_threads(stat, forking_tid, forked_at, child)?;
    threads.truncate(MAX_THREADS);
    Ok(occupation::occupations(stat.key(), &threads, Stacks::Light))
}

fn parent_seen(stat: &Stat, forking_tid: u32, forked_at: BootTime, child: u32) -> io::Result<ParentSeen> {
    let threads = other_threads(stat, forking_tid, forked_at, child)?;
    let forking_thread = Status::of_thread(stat.id, forking_tid).or_else(|_| Status::of_process(stat.id))?;
    Ok(ParentSeen {
        at: clock::now(),
        program: program::read(stat.id, stat),
        thread_count: u32::try_from(threads.len()).unwrap_or(u32::MAX),
        threads: threads
            .iter()
            .take(MAX_THREADS)
            .map(|thread| SeenThread { tid: thread.id, comm: thread.comm })
            .collect(),
        pending: forking_thread.held_back(),
    })
}

/// The comms of the threads that a fork left behind, as far as they are still there: the first [`MAX_THREADS`] by tid.
/// Reads what never waits.
pub fn left_behind(fork: &Fork) -> Vec<Comm> {
    let seen = of_process(fork.parent, |stat| {
        let mut threads = task::user_threads(stat.id)?;
        threads.retain(|thread| {
            thread.id != fork.parent_tid && task::is_older(thread, fork.at, fork.child.tgid)
        });
        threads.sort_unstable_by_key(|thread| thread.id);
        Ok(threads.iter().take(MAX_THREADS).map(|thread| thread.comm).collect())
    });
    seen.unwrap_or_default()
}

fn program_seen(tgid: u32) -> Option<ProgramSeen> {
    let stat = Stat::of_process(tgid).ok().filter(|stat| !stat.process_has_ended())?;
    let process = stat.key();
    Some(ProgramSeen { process, program: program(process)?, stopped: stat.is_stopped() })
}

fn execed_seen(stat: &Stat) -> io::Result<ExecedSeen> {
    let blocked = task::blocked_by_all(stat.id)?.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
    let parent = Stat::of_process(stat.parent).ok().map(|parent| parent.key());
    // A signalfd takes in nothing that is not blocked.
    let awaited = if blocked.is_empty() { Some(SignalSet::EMPTY) } else { fdinfo::signalfd_mask(stat.id) };
    Ok(ExecedSeen {
        at: clock::now(),
        program: program::read(stat.id, stat),
        parent: parent.and_then(|key| Some((key, program(key)?))),
        blocked,
        awaited,
    })
}

fn child_seen(child: ProcessKey) -> ChildSeen {
    let stat = match Stat::of_process(child.tgid) {
        Ok(stat) => stat,
        Err(error) => return unreadable(child.tgid, &error),
    };
    if !stat.is(child) || stat.process_has_ended() {
        return ChildSeen::Gone;
    }
    if !stat.is_unexeced() {
        return ChildSeen::Execed;
    }
    let (ran, waited) = Schedule::of_process(child.tgid)
        .map_or((None, None), |schedule| (Some(schedule.ran), Some(schedule.waited)));
    let alive =
        ChildSeen::Alive { at: clock::now(), comm: stat.comm, ran, waited, stopped: stat.is_stopped() };
    match Stat::of_process(child.tgid) {
        Ok(stat) if stat.is(child) && !stat.process_has_ended() => alive,
        Ok(_) => ChildSeen::Gone,
        Err(error) => unreadable(child.tgid, &error),
    }
}

fn unreadable(tgid: u32, error: &io::Error) -> ChildSeen {
    absence::reason(tgid, "stat", error).map_or(ChildSeen::Gone, ChildSeen::Unreadable)
}

/// The first two numbers of `/proc/PID/schedstat` (Documentation/scheduler/sched-stats.rst), of the main thread.
struct Schedule {
    ran: u64,
    waited: u64,
}

impl Schedule {
    /// Absent where the kernel does not account for it: then it writes zeros, also for a task that plainly has run,
    /// such as this process's main thread.
    fn of_process(tgid: u32) -> Option<Self> {
        let schedule = Self::read(&format!("/proc/{tgid}/schedstat"))?;
        let accounted = schedule.ran != 0 || Self::read("/proc/self/schedstat")?.ran != 0;
        accounted.then_some(schedule)
    }

    fn read(path: &str) -> Option<Self> {
        Self::parse(&file::read_small(path).ok()?)
    }

    fn parse(text: &[u8]) -> Option<Self> {
        let mut numbers = std::str::from_utf8(text).ok()?.split_ascii_whitespace();
        Some(Self { ran: numbers.next()?.parse().ok()?, waited: numbers.next()?.parse().ok()? })
    }
}

#[cfg(test)]
mod tests;
