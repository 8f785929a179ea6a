//! Against children of this process.

use std::{
    ptr, thread,
    time::{Duration, Instant},
};

use super::*;
use crate::host::forked::Forked;

fn own() -> ProcessKey {
    Stat::of_process(std::process::id()).unwrap().key()
}

/// The child, once its main thread shows this.
fn seen_when(child: ProcessKey, shows: impl Fn(&Waiter) -> bool) -> Waiter {
    let patience = Instant::now() + Duration::from_secs(10);
    loop {
        let seen = family(own()).unwrap();
        let member = seen.children.iter().find(|member| member.process == child);
        let main = member.and_then(Member::main).cloned();
        if let Some(main) = main.filter(&shows) {
            return main;
        }
        assert!(Instant::now() < patience, "never seen: {seen:?}");
        thread::yield_now();
    }
}

/// Memory that is shared with children.
fn shared_page() -> *mut libc::c_void {
    let (access, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_ANONYMOUS);
    // SAFETY: a new mapping, wherever the kernel puts it.
    let page = unsafe { libc::mmap(ptr::null_mut(), 4096, access, flags, -1, 0) };
    assert_ne!(page, libc::MAP_FAILED);
    page
}

#[test]
fn a_child_that_waits_at_a_shared_semaphore_is_told_with_its_place() {
    // At the very beginning of its memory, as multiprocessing's are.
    let semaphore = shared_page().cast::<libc::sem_t>();
    // SAFETY: there is room for it, and nobody else uses the page yet.
    assert_eq!(unsafe { libc::sem_init(semaphore, 1, 0) }, 0);
    // SAFETY: it is initialised, and lives as long as the processes.
    let child = Forked::into(|| while unsafe { libc::sem_wait(semaphore) } != 0 {});
    let main = seen_when(child.key(), |main| main.shared.is_some());
    let lock = main.shared.unwrap();
    assert!(main.endless && main.call == "futex", "{lock:?}");
    assert_eq!((lock.kind, lock.place.3), (SharedKind::Semaphore, 0));
    assert_eq!(main.script, None);
}

#[test]
fn a_shared_mutex_tells_whether_its_owner_lives() {
    let mutex = shared_page().cast::<libc::pthread_mutex_t>();
    let mut attributes = std::mem::MaybeUninit::uninit();
    // SAFETY: it initialises them.
    unsafe { libc::pthread_mutexattr_init(attributes.as_mut_ptr()) };
    // SAFETY: they are initialised.
    unsafe { libc::pthread_mutexattr_setpshared(attributes.as_mut_ptr(), libc::PTHREAD_PROCESS_SHARED) };
    // SAFETY: there is room for it, and nobody else uses the page yet.
    unsafe { libc::pthread_mutex_init(mutex, attributes.as_ptr()) };
    let lock = || {
        // SAFETY: it is initialised, and lives as long as the processes.
        unsafe { libc::pthread_mutex_lock(mutex) };
    };
    let owner = Forked::into(lock);
    let patience = Instant::now() + Duration::from_secs(10);
    // SAFETY: the word of the lock, which others write as a whole.
    while unsafe { mutex.cast::<u32>().read_volatile() } == 0 {
        assert!(Instant::now() < patience, "never taken");
        thread::yield_now();
    }
    let waiter = Forked::into(lock);
    let kind = |main: Waiter| main.shared.unwrap().kind;
    let tid = owner.tgid();
    let of = |lives| SharedKind::Mutex { owner: tid, lives: Some(lives) };
    assert_eq!(kind(seen_when(waiter.key(), |main| main.shared.is_some())), of(true));
    drop(owner);
    assert_eq!(kind(seen_when(waiter.key(), |main| main.shared.is_some())), of(false));
}

#[test]
fn a_child_that_waits_for_its_own_is_told_so() {
    let child = Forked::new();
    let main = seen_when(child.key(), |main| main.call == "pause");
    assert!(!main.endless && main.shared.is_none());
    assert_eq!(main.thread.tid, child.tgid());
    let gone = child.key();
    drop(child);
    assert!(family(own()).unwrap().children.iter().all(|member| member.process != gone));
    assert_eq!(family(gone), None);
}
