//! Whether two processes wait in one epoll instance, or in one `io_uring`, that a fork has left to both.
//!
//! A descriptor that fork copies keeps its number and its open file, and the kernel compares open files (`kcmp(2)`). Of
//! each waiting thread its call is read first and its switches afterwards: two looks that agree mean that it slept from the
//! first to the second. If both threads did, and the files were the same in between, both slept in that one instance.

use std::{io, thread::sleep};

use super::{
    calls::{LOOKS, PAUSE, seen},
    instances::instances,
    whereabouts::whereabouts,
};
use crate::{
    host::{
        absence::{is_gone, unless_gone},
        budget,
        call::{Activity, SystemCall},
        clock,
        descriptors::Table,
        kcmp::{FILES, VM, same, same_file},
        program,
        stat::Stat,
        status::Status,
        task,
    },
    model::{
        event_loop::{EmptiedLoop, LoopSeen, SharedLoop},
        inventory::{Instance, Waiting, Whereabouts},
        process::ProcessKey,
        stack::Stacks,
    },
};

/// Threads of each process that are looked at: who waits in hundreds runs no single loop.
const MAX_THREADS: usize = 64;
/// Descriptors of the other process that are looked at, from the lowest: a loop is made early.
const MAX_DESCRIPTORS: usize = 4096;

/// See [`crate::model::evidence::Request::SharedLoop`].
pub(in crate::host) fn shared_loop(child: ProcessKey, other: ProcessKey, stacks: Stacks) -> LoopSeen {
    look(child, other, stacks).unwrap_or_else(|error| {
        let lives = |process: ProcessKey| Stat::lives(process);
        match (is_gone(&error), lives(child), lives(other)) {
            (true, false, _) => LoopSeen::Gone,
            (true, true, false) => LoopSeen::Left,
            // Only a thread of one of them has ended meanwhile.
            (true, true, true) => LoopSeen::Apart,
            (false, ..) => LoopSeen::Unreadable(error.to_string()),
        }
    })
}

fn look(child: ProcessKey, other: ProcessKey, stacks: Stacks) -> io::Result<LoopSeen> {
    let living = |process| Stat::of(process).filter(|stat| !stat.process_has_ended());
    let Some(own) = living(child).filter(Stat::is_unexeced) else { return Ok(LoopSeen::Gone) };
    let Some(its) = living(other) else { return Ok(LoopSeen::Left) };
    let Threads { waits, .. } = Threads::of(child.tgid)?;
    if own.stack == 0 || its.stack == 0 {
        return Ok(LoopSeen::Apart);
    }
    // A program that was started since the fork has another stack, and what it was passed it has on purpose.
    if own.stack != its.stack {
        return Ok(LoopSeen::Left);
    }
    if let Some(waits) = waits_for_nothing(&its)? {
        let (comm, uid) = (own.comm, real_uid(child.tgid));
        let program = program::read(other.tgid, &its);
        return Ok(LoopSeen::Emptied(Box::new(EmptiedLoop { at: clock::now(), comm, uid, program, waits })));
    }
    if waits.is_empty() {
        return Ok(LoopSeen::Apart);
    }
    let mut held = None;
    for look in 0..LOOKS {
        if look > 0 {
            sleep(PAUSE);
        }
        let theirs = Threads::of(other.tgid)?;
        if let Some((wait, other_wait)) = common(child.tgid, &theirs.waits)? {
            if shares_on_request(wait.thread.id, other_wait.thread.id)? {
                return Ok(LoopSeen::Apart);
            }
            return describe((child, &own), (other, &its), (&wait, other_wait), stacks);
        }
        held = waits.iter().map(|wait| wait.fd).find(|fd| is_held(&waits, *fd, other.tgid));
        // One that is at work may come to wait there in a moment.
        if held.is_none() || !theirs.is_at_work {
            break;
        }
    }
    Ok(held.map_or(LoopSeen::Apart, LoopSeen::Held))
}

/// A thread that sleeps in an epoll instance or an `io_uring`.
pub(super) struct Wait {
    process: u32,
    pub(super) thread: Stat,
    pub(super) fd: u32,
    /// Whether that is an `io_uring`.
    pub(super) is_ring: bool,
    /// How often it had been taken from its processor, some time after it began to sleep.
    switches: u64,
}

impl Wait {
    /// Absent where the thread does something else.
    pub(super) fn of(process: u32, thread: Stat, activity: Activity) -> io::Result<Option<Self>> {
        let waited = activity.call().and_then(|call| Some((call.word(0)?, waits_in_ring(call)?)));
        let Some((fd, is_ring)) = waited else { return Ok(None) };
        let switches = Status::of_thread(process, thread.id)?.switches;
        Ok(Some(Self { process, thread, fd, is_ring, switches }))
    }

    /// Whether it has slept there all the while.
    fn lasts(&self) -> io::Result<bool> {
        let activity = Activity::of_thread(self.process, self.thread.id)?;
        let now = Self::of(self.process, self.thread, activity)?;
        Ok(now.is_some_and(|now| now.fd == self.fd && now.switches == self.switches))
    }

    pub(super) fn seen(&self) -> Waiting {
        Waiting { thread: seen(&self.thread), epoll: (!self.is_ring).then_some(self.fd) }
    }
}

/// Where the only thread of a process sleeps for good, in an instance that watches nothing.
fn waits_for_nothing(stat: &Stat) -> io::Result<Option<Waiting>> {
    if stat.threads != 1 {
        return Ok(None);
    }
    let activity = Activity::of_thread(stat.id, stat.id)?;
    // The fourth argument is a number of milliseconds, or the address of a time.
    let is_endless = activity.call().is_some_and(|call| match call.name().as_str() {
        "epoll_pwait2" => call.arguments[3] == 0,
        _ => call.word(3).is_some_and(|timeout| timeout.cast_signed() < 0),
    });
    let Some(wait) = Wait::of(stat.id, *stat, activity)?.filter(|_| is_endless) else { return Ok(None) };
    let descriptor = Table::of_process(stat.id).get(wait.fd)?;
    let watched = instances(stat.id, descriptor.as_slice()).first().map(|instance| instance.watched);
    Ok((watched == Some(0) && wait.lasts()?).then(|| wait.seen()))
}

/// The calls that wait in an epoll instance, which is their first argument.
const NAMES: [&str; 3] = ["epoll_wait", "epoll_pwait", "epoll_pwait2"];

/// `IORING_ENTER_REGISTERED_RING` (`include/uapi/linux/io_uring.h`): the first argument is no descriptor.
const REGISTERED: u32 = 1 << 4;

/// Whether a call waits in an `io_uring`; absent where it waits in no epoll instance either. Both are the first argument.
fn waits_in_ring(call: &SystemCall) -> Option<bool> {
    match call.name().as_str() {
        name if NAMES.contains(&name) => Some(false),
        "io_uring_enter" => call.word(3).filter(|flags| flags & REGISTERED == 0).map(|_| true),
        _ => None,
    }
}

/// What the threads of a process do.
struct Threads {
    waits: Vec<Wait>,
    /// Whether one of them does not sleep.
    is_at_work: bool,
}

impl Threads {
    fn of(tgid: u32) -> io::Result<Self> {
        let mut threads = Self { waits: Vec::new(), is_at_work: false };
        for thread in task::user_threads(tgid)?.into_iter().take(MAX_THREADS) {
            budget::steps(1)?;
            let Some(activity) = unless_gone(Activity::of_thread(tgid, thread.id))? else { continue };
            threads.is_at_work |= activity == Activity::Running;
            threads.waits.extend(unless_gone(Wait::of(tgid, thread, activity))?.flatten());
        }
        Ok(threads)
    }
}

/// A thread of the child and one of the other's that sleep in the same instance at one moment.
fn common(child: u32, theirs: &[Wait]) -> io::Result<Option<(Wait, &Wait)>> {
    for own in Threads::of(child)?.waits {
        for its in theirs {
            budget::steps(1)?;
            let same = same_file((own.thread.id, own.fd), (its.thread.id, its.fd))?;
            if same && own.lasts()? && its.lasts()? {
                return Ok(Some((own, its)));
            }
        }
    }
    Ok(None)
}

/// Whether a process has the instance at which some of these wait under the same number.
fn is_held(waits: &[Wait], fd: u32, other: u32) -> bool {
    let mut at = waits.iter().filter(|wait| wait.fd == fd);
    at.any(|wait| same_file((wait.thread.id, fd), (other, fd)).unwrap_or(false))
}

/// Whether the processes have the whole table of descriptors or their memory in common, which only a clone(2) does that
/// asks for it: then they share the loop like threads.
pub(super) fn shares_on_request(one: u32, other: u32) -> io::Result<bool> {
    Ok(same(VM, (one, 0), (other, 0))? || same(FILES, (one, 0), (other, 0))?)
}

fn describe(
    (child, own): (ProcessKey, &Stat),
    (other, its): (ProcessKey, &Stat),
    (wait, other_wait): (&Wait, &Wait),
    stacks: Stacks,
) -> io::Result<LoopSeen> {
    let instance = if other_wait.is_ring {
        // What it waits for stands in the submissions alone.
        Instance { fd: other_wait.fd, watched: 0, outside: 0 }
    } else {
        let descriptors = Table::of_process(other.tgid).list(MAX_DESCRIPTORS)?;
        let is_it = |instance: &Instance| instance.fd == other_wait.fd;
        let instance = instances(other.tgid, &descriptors).into_iter().find(is_it);
        instance.ok_or_else(|| io::Error::other("its epoll instance cannot be looked into"))?
    };
    let shared = SharedLoop {
        at: clock::now(),
        comm: own.comm,
        uid: real_uid(child.tgid),
        program: program::read(other.tgid, its),
        waits: wait.seen(),
        other_waits: other_wait.seen(),
        instance,
        is_ring: other_wait.is_ring,
        whereabouts: place(child, wait.thread, stacks),
    };
    // Neither pid has become another's meanwhile.
    Ok(match (Stat::lives(child), Stat::lives(other)) {
        (true, true) => LoopSeen::Shared(Box::new(shared)),
        (false, _) => LoopSeen::Gone,
        (true, false) => LoopSeen::Left,
    })
}

pub(super) fn real_uid(tgid: u32) -> Option<u32> {
    Status::of_process(tgid).ok().map(|status| status.uid)
}

/// Where in its program a thread waits, as far as that may be looked at.
pub(super) fn place(process: ProcessKey, thread: Stat, stacks: Stacks) -> Whereabouts {
    let looked_at = || whereabouts(process, Some(thread.id), &[thread], |_| true).0.into_iter().next();
    let found = if stacks == Stacks::None { None } else { looked_at() };
    let nowhere = || Whereabouts {
        thread: seen(&thread),
        start: None,
        native: Vec::new(),
        script: Vec::new(),
        ends_at_forks: false,
    };
    found.unwrap_or_else(nowhere)
}

#[cfg(test)]
mod tests {
    use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};

    use super::*;
    use crate::host::forked::Forked;

    fn epoll() -> OwnedFd {
        // SAFETY: a system call on a number.
        let epoll = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        assert!(epoll >= 0);
        // SAFETY: a descriptor that was just made, and that nobody else owns.
        unsafe { OwnedFd::from_raw_fd(epoll) }
    }

    fn look_at(child: ProcessKey, other: ProcessKey) -> LoopSeen {
        shared_loop(child, other, Stacks::Light)
    }

    /// Adds an eventfd to an instance, which the process keeps.
    fn with_eventfd(epoll: &OwnedFd) {
        // SAFETY: a system call on numbers.
        let eventfd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC) };
        let mut event = libc::epoll_event { events: libc::EPOLLIN.cast_unsigned(), u64: 0 };
        // SAFETY: the event outlives the call.
        let added =
            unsafe { libc::epoll_ctl(epoll.as_raw_fd(), libc::EPOLL_CTL_ADD, eventfd, &raw mut event) };
        assert_eq!(added, 0);
    }

    /// Waits there for good.
    fn wait_in(epoll: i32) {
        let mut event = libc::epoll_event { events: 0, u64: 0 };
        loop {
            // SAFETY: there is room for one event.
            unsafe { libc::epoll_wait(epoll, &raw mut event, 1, -1) };
        }
    }

    /// Looks until a process has come to rest where something is to be seen.
    fn seen_of(child: &Forked, other: &Forked, wanted: impl Fn(&LoopSeen) -> bool) -> LoopSeen {
        loop {
            let seen = look_at(child.key(), other.key());
            if wanted(&seen) {
                return seen;
            }
            std::thread::yield_now();
        }
    }

    fn waits_somewhere(child: &Forked) {
        while Threads::of(child.tgid()).unwrap().waits.is_empty() {
            std::thread::yield_now();
        }
    }

    #[test]
    fn two_that_wait_in_one_instance_are_seen() {
        let epoll = epoll();
        with_eventfd(&epoll);
        let number = epoll.as_raw_fd();
        let (one, other) = (Forked::into(|| wait_in(number)), Forked::into(|| wait_in(number)));
        let seen = seen_of(&one, &other, |seen| matches!(seen, LoopSeen::Shared(_)));
        let LoopSeen::Shared(shared) = seen else { panic!("{seen:?}") };
        assert_eq!((shared.instance.watched, shared.instance.outside), (1, 0));
        assert_eq!(shared.waits.epoll, Some(number.cast_unsigned()));
        assert_eq!((shared.waits.thread.tid, shared.other_waits.thread.tid), (one.tgid(), other.tgid()));
    }

    #[test]
    fn two_that_wait_in_one_ring_are_seen() {
        // `struct io_uring_params` has 120 bytes (include/uapi/linux/io_uring.h).
        let mut parameters = [0_u8; 120];
        // SAFETY: the parameters outlive the call.
        let ring = unsafe { libc::syscall(libc::SYS_io_uring_setup, 4, parameters.as_mut_ptr()) };
        let Ok(ring) = i32::try_from(ring) else { unreachable!("a descriptor is a small number") };
        if ring < 0 {
            return crate::skip::skip("io_uring is refused here");
        }
        // SAFETY: a descriptor that was just made, and that nobody else owns.
        let _ring = unsafe { OwnedFd::from_raw_fd(ring) };
        // One completion is waited for (IORING_ENTER_GETEVENTS), and none comes.
        let wait = || {
            // SAFETY: numbers alone.
            unsafe { libc::syscall(libc::SYS_io_uring_enter, ring, 0, 1, 1, 0, 0) };
        };
        let (one, other) = (Forked::into(wait), Forked::into(wait));
        let seen = seen_of(&one, &other, |seen| matches!(seen, LoopSeen::Shared(_)));
        let LoopSeen::Shared(shared) = seen else { panic!("{seen:?}") };
        assert!(shared.is_ring && shared.waits.epoll.is_none(), "{shared:?}");
        assert_eq!(shared.instance.fd, ring.cast_unsigned());
    }

    #[test]
    fn one_that_waits_without_end_for_nothing_is_seen() {
        let epoll = epoll();
        let number = epoll.as_raw_fd();
        let (waits, idle) = (Forked::into(|| wait_in(number)), Forked::new());
        waits_somewhere(&waits);
        let seen = look_at(idle.key(), waits.key());
        let LoopSeen::Emptied(emptied) = seen else { panic!("{seen:?}") };
        assert_eq!(emptied.waits.epoll, Some(number.cast_unsigned()));
        let with_time = || {
            let mut event = libc::epoll_event { events: 0, u64: 0 };
            // SAFETY: there is room for one event.
            unsafe { libc::epoll_wait(number, &raw mut event, 1, 3_600_000) };
        };
        let waits = Forked::into(with_time);
        waits_somewhere(&waits);
        assert_eq!(look_at(idle.key(), waits.key()), LoopSeen::Apart);
    }

    #[test]
    fn one_that_only_holds_it_does_not_wait_there() {
        let epoll = epoll();
        with_eventfd(&epoll);
        let number = epoll.as_raw_fd();
        let (waits, idle) = (Forked::into(|| wait_in(number)), Forked::new());
        waits_somewhere(&waits);
        assert_eq!(look_at(waits.key(), idle.key()), LoopSeen::Held(number.cast_unsigned()));
        assert_eq!(look_at(idle.key(), waits.key()), LoopSeen::Apart);
    }

    #[test]
    fn an_instance_of_ones_own_under_the_same_number_is_another() {
        let first = epoll();
        with_eventfd(&first);
        let number = first.as_raw_fd();
        let renewed = || {
            let own = epoll();
            // SAFETY: a system call on numbers.
            unsafe { libc::dup2(own.as_raw_fd(), number) };
            wait_in(number);
        };
        let (one, other) = (Forked::into(renewed), Forked::into(|| wait_in(number)));
        for child in [&one, &other] {
            waits_somewhere(child);
        }
        assert_eq!(look_at(one.key(), other.key()), LoopSeen::Apart);
    }

    #[test]
    fn who_is_gone_is_told() {
        let (one, other) = (Forked::new(), Forked::new());
        let (key, living) = (one.key(), other.key());
        drop(one);
        assert_eq!(look_at(key, living), LoopSeen::Gone);
        assert_eq!(look_at(living, key), LoopSeen::Left);
        let exec = Stat::of_process(1).unwrap().key();
        assert_eq!(look_at(exec, living), LoopSeen::Gone, "it has exec'd");
    }
}
