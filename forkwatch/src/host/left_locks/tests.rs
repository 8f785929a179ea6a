use std::{
    fs::File,
    os::fd::{AsRawFd as _, RawFd},
    time::{Duration, Instant},
};

use nix::sys::wait::waitpid;

use super::*;
use crate::{host::forked::Forked, model::left_lock::LockWait};

fn own() -> ProcessKey {
    Stat::of_process(std::process::id()).unwrap().key()
}

fn lock(fd: RawFd) {
    // SAFETY: a system call on numbers.
    assert_eq!(unsafe { libc::flock(fd, libc::LOCK_EX) }, 0);
}

/// A file that is locked through a descriptor which children get.
fn locked() -> File {
    let file = tempfile::tempfile().unwrap();
    lock(file.as_raw_fd());
    file
}

fn carried(child: &Forked, forker: Option<ProcessKey>, fd: RawFd) -> CarriedLock {
    let seen = carried_locks(child.key(), forker);
    let CarriedLocksSeen::Carried(carried) = seen else { panic!("{seen:?}") };
    let fd = fd.cast_unsigned();
    carried.locks.into_iter().find(|lock| lock.file.fd == fd).unwrap()
}

/// Looks until a process is seen to wait.
fn waiters(child: &Forked, forker: Option<ProcessKey>, fd: RawFd) -> Vec<LockWaiter> {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let lock = carried(child, forker, fd);
        assert!(Instant::now() < deadline, "{lock:?}");
        if !lock.waiters.is_empty() {
            return lock.waiters;
        }
        std::thread::yield_now();
    }
}

#[test]
fn a_lock_that_its_taker_holds_too_is_not_left() {
    let file = locked();
    let child = Forked::new();
    let seen = carried(&child, Some(own()), file.as_raw_fd());
    assert_eq!((seen.kind, seen.taker, seen.waiters), (FileLockKind::Flock, Taker::Holds, Vec::new()));
}

#[test]
fn a_lock_that_its_taker_has_closed_is_left_and_who_waits_is_named() {
    let file = locked();
    let number = file.as_raw_fd();
    let child = Forked::new();
    let path = format!("/proc/{}/fd/{number}", child.tgid());
    drop(file);
    let waits = Forked::into(|| {
        let again = File::options().write(true).open(&path).unwrap();
        lock(again.as_raw_fd());
    });
    let waiters = waiters(&child, Some(own()), number);
    assert_eq!(waiters.iter().map(|waiter| waiter.process).collect::<Vec<_>>(), [waits.key()]);
    assert_eq!(carried(&child, Some(own()), number).taker, Taker::Closed);
    // Who forked it is not known; the taker lives, and may hold it somewhere.
    assert_eq!(carried(&child, None, number).taker, Taker::Holds);
}

#[test]
fn a_lock_whose_taker_has_ended_is_left() {
    let (read, write) = nix::unistd::pipe().unwrap();
    // The one in the middle takes a lock, forks one that tells its pid, and ends.
    let middle = Forked::into(|| {
        let file = tempfile::tempfile().unwrap();
        lock(file.as_raw_fd());
        let child = Forked::new().unguarded();
        let told = [child.as_raw(), file.as_raw_fd()];
        let bytes: Vec<u8> = told.iter().flat_map(|number| number.to_ne_bytes()).collect();
        nix::unistd::write(&write, &bytes).unwrap();
        // SAFETY: it ends at once.
        unsafe { libc::_exit(0) };
    });
    let forker = middle.key();
    let mut told = [0_u8; 8];
    assert_eq!(nix::unistd::read(&read, &mut told).unwrap(), told.len());
    let numbers: Vec<i32> = told.as_chunks::<4>().0.iter().map(|bytes| i32::from_ne_bytes(*bytes)).collect();
    waitpid(middle.unguarded(), None).unwrap();
    let child = Stat::of_process(numbers[0].cast_unsigned()).unwrap().key();
    let taker = |forker| match carried_locks(child, forker) {
        CarriedLocksSeen::Carried(carried) => {
            let fd = numbers[1].cast_unsigned();
            carried.locks.into_iter().find(|lock| lock.file.fd == fd).unwrap().taker
        }
        other => panic!("{other:?}"),
    };
    let takers = (taker(Some(forker)), taker(None));
    // SAFETY: a system call on numbers.
    unsafe { libc::kill(numbers[0], libc::SIGKILL) };
    assert_eq!(takers, (Taker::Ended, Taker::Unknown));
    assert_eq!(carried_locks(forker, None), CarriedLocksSeen::Gone);
}

#[test]
fn a_lock_of_its_own_is_none_that_it_carries() {
    let child = Forked::into(|| {
        let file = tempfile::tempfile().unwrap();
        lock(file.as_raw_fd());
        std::mem::forget(file);
    });
    let deadline = Instant::now() + Duration::from_secs(30);
    while !locks(child.tgid()).unwrap().iter().any(|lock| lock.line.pid == Some(child.tgid())) {
        assert!(Instant::now() < deadline, "it has taken none");
        std::thread::yield_now();
    }
    match carried_locks(child.key(), Some(own())) {
        CarriedLocksSeen::None => {}
        // Other tests hold locks in this process at this moment.
        CarriedLocksSeen::Carried(carried) => {
            let own: Vec<u32> = locks(child.tgid())
                .unwrap()
                .into_iter()
                .filter(|lock| lock.line.pid == Some(child.tgid()))
                .map(|lock| lock.file.fd)
                .collect();
            assert!(carried.locks.iter().all(|lock| !own.contains(&lock.file.fd)), "{carried:?}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn who_waits_for_a_lock_that_its_taker_has_closed_and_who_holds_it_are_found() {
    let file = locked();
    let number = file.as_raw_fd();
    let child = Forked::new();
    let path = format!("/proc/{}/fd/{number}", child.tgid());
    let waits = Forked::into(|| {
        let again = File::options().write(true).open(&path).unwrap();
        lock(again.as_raw_fd());
    });
    let deadline = Instant::now() + Duration::from_secs(30);
    let of_it = |wait: &LockWait| wait.waiter == waits.key();
    while !waiting_lines().unwrap().iter().any(|line| line.pid == Some(waits.tgid())) {
        assert!(Instant::now() < deadline, "it does not wait");
        std::thread::yield_now();
    }
    assert!(!kept::waits().iter().any(of_it), "its taker holds it");
    drop(file);
    let wait = kept::waits().into_iter().find(of_it).unwrap();
    assert_eq!(wait.taker, std::process::id());
    let seen = holders(&wait).unwrap();
    let of_child = seen.holders.iter().find(|holder| holder.process == child.key()).unwrap();
    assert_eq!((of_child.file.fd, of_child.unexeced), (number.cast_unsigned(), true));
    assert_eq!((of_child.parent, of_child.older), (Some(std::process::id()), false));
    assert_eq!(holders(&LockWait { waiter: child.key(), ..wait }), None, "it does not wait");
}
