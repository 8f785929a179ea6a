//! What a process sleeps in epoll for, so that two looks tell whether a child of it has taken something from that.
//!
//! An epoll instance that a fork has left to both is edited by either. Of a process that has slept from one look to the
//! next nobody can say that it did so itself.

use super::{
    instances::{self, Wakes},
    shared_loop::{Wait, place, real_uid, shares_on_request},
};
use crate::{
    host::{
        budget, call::Activity, clock, descriptors::Table, kcmp::same_file, program, stat::Stat,
        status::Status, task,
    },
    model::{event_loop::RestingLoop, process::ProcessKey, stack::Stacks},
};

/// Threads of the process that are looked at; of one with more nothing is told.
const MAX_THREADS: usize = 64;
/// Descriptors of it that are looked at, from the lowest.
const MAX_DESCRIPTORS: usize = 4096;

/// What the forker of a process sleeps for; absent where it does not, or where anything cannot be seen.
pub(in crate::host) fn resting_loop(
    child: ProcessKey,
    forker: ProcessKey,
    stacks: Stacks,
) -> Option<RestingLoop> {
    let own = Stat::of(child).filter(Stat::is_unexeced)?;
    let its = Stat::of(forker)?;
    // A program that was started since the fork has another stack, and what it was passed it has on purpose.
    if own.stack == 0 || own.stack != its.stack {
        return None;
    }
    let rest = Rest::of(forker.tgid)?;
    let wait = rest.waits.iter().find(|wait| !wait.is_ring)?;
    if shares_on_request(child.tgid, wait.thread.id).ok()? {
        return None;
    }
    let descriptors = Table::of_process(forker.tgid).list(MAX_DESCRIPTORS).ok()?;
    if descriptors.len() >= MAX_DESCRIPTORS {
        return None;
    }
    let contents = instances::watched_in(forker.tgid, wait.fd, &descriptors)?;
    let is_held = same_file((child.tgid, wait.fd), (wait.thread.id, wait.fd)).unwrap_or(false);
    // Where a wake-up of its own is among them, nothing speaks for a loss.
    let wakes = instances::wakes(forker.tgid, &contents, &descriptors);
    let lasted = Rest::of(forker.tgid)?;
    if (lasted.switches, lasted.threads) != (rest.switches, rest.threads) {
        return None;
    }
    let whereabouts = (wakes == Wakes::None).then(|| place(forker, wait.thread, stacks));
    let seen = RestingLoop {
        at: clock::now(),
        comm: own.comm,
        uid: real_uid(child.tgid),
        program: program::read(forker.tgid, &its),
        waits: wait.seen(),
        switches: rest.switches,
        threads: rest.threads,
        is_held,
        watched: contents.open,
        whereabouts,
    };
    // Neither pid has become another's meanwhile.
    (Stat::lives(child) && Stat::lives(forker)).then_some(seen)
}

/// A process of which every thread sleeps.
struct Rest {
    threads: u32,
    /// How often they had been taken from their processors, all together.
    switches: u64,
    /// Those that sleep in an epoll instance.
    waits: Vec<Wait>,
}

impl Rest {
    /// Absent where a thread is awake. Of each its call is read first and its switches afterwards, so that two looks with
    /// the same number mean that all slept from the first to the second.
    fn of(tgid: u32) -> Option<Self> {
        let threads = task::user_threads(tgid).ok().filter(|threads| threads.len() <= MAX_THREADS)?;
        let mut rest = Self { threads: u32::try_from(threads.len()).ok()?, switches: 0, waits: Vec::new() };
        for thread in threads {
            budget::steps(1).ok()?;
            let activity = Activity::of_thread(tgid, thread.id).ok()?;
            activity.call()?;
            let wait = Wait::of(tgid, thread, activity).ok()?;
            rest.switches += Status::of_thread(tgid, thread.id).ok()?.switches;
            rest.waits.extend(wait);
        }
        Some(rest)
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};

    use super::{super::pairs::Pairs, *};
    use crate::host::forked::Forked;

    fn owned(number: i32) -> OwnedFd {
        assert!(number >= 0);
        // SAFETY: a descriptor that was just made, and that nobody else owns.
        unsafe { OwnedFd::from_raw_fd(number) }
    }

    /// An instance that watches a socket and an eventfd.
    fn made() -> (OwnedFd, std::net::TcpListener, OwnedFd) {
        // SAFETY: a system call on a number.
        let epoll = owned(unsafe { libc::epoll_create1(0) });
        // SAFETY: a system call on numbers.
        let eventfd = owned(unsafe { libc::eventfd(0, 0) });
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        for number in [listener.as_raw_fd(), eventfd.as_raw_fd()] {
            let mut event = libc::epoll_event { events: libc::EPOLLIN.cast_unsigned(), u64: 0 };
            // SAFETY: the event outlives the call.
            let added =
                unsafe { libc::epoll_ctl(epoll.as_raw_fd(), libc::EPOLL_CTL_ADD, number, &raw mut event) };
            assert_eq!(added, 0);
        }
        (epoll, listener, eventfd)
    }

    fn sleep_in(epoll: i32) {
        let mut event = libc::epoll_event { events: 0, u64: 0 };
        // SAFETY: there is room for one event.
        unsafe { libc::epoll_wait(epoll, &raw mut event, 1, -1) };
    }

    fn at_rest(child: &Forked, other: &Forked) -> RestingLoop {
        loop {
            if let Some(seen) = resting_loop(child.key(), other.key(), Stacks::Light) {
                return seen;
            }
            std::thread::yield_now();
        }
    }

    #[test]
    fn what_is_taken_from_a_sleeping_process_is_seen() {
        let (epoll, listener, eventfd) = made();
        let number = epoll.as_raw_fd();
        let (waits, idle) = (Forked::into(|| sleep_in(number)), Forked::new());
        let before = at_rest(&idle, &waits);
        assert!(before.is_held && before.whereabouts.is_none(), "{before:?}");
        assert_eq!(before.watched.len(), 2);
        // SAFETY: a system call on numbers.
        let taken = unsafe {
            libc::epoll_ctl(number, libc::EPOLL_CTL_DEL, eventfd.as_raw_fd(), std::ptr::null_mut())
        };
        assert_eq!(taken, 0);
        let after = at_rest(&idle, &waits);
        assert_eq!((after.switches, after.threads), (before.switches, before.threads));
        let left: Vec<u32> = after.watched.iter().map(|watched| watched.number).collect();
        assert_eq!(left, [u32::try_from(listener.as_raw_fd()).unwrap()]);
        // It has no wake-up any more, as far as can be told where netlink is refused.
        assert_eq!(after.whereabouts.is_some(), Pairs::of_process(std::process::id()).is_ok());
    }

    #[test]
    fn one_that_closed_the_instance_does_not_hold_it() {
        let (epoll, _listener, _eventfd) = made();
        let number = epoll.as_raw_fd();
        let close = || {
            // SAFETY: the child's own copy.
            unsafe { libc::close(number) };
        };
        let (waits, closed) = (Forked::into(|| sleep_in(number)), Forked::into(close));
        while at_rest(&closed, &waits).is_held {
            std::thread::yield_now();
        }
    }
}
