//! Against real processes: children of this one, which wait for locks that its threads hold.

use std::{
    os::unix::process::CommandExt,
    process::{Command, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::{
        signal::{Signal, kill},
        wait::{WaitPidFlag, waitpid},
    },
    unistd::gettid,
};

use super::*;
use crate::{
    host::forked::Forked,
    model::{lock::Holder, thread::SeenThread, time::TICK},
};

/// A mutex of glibc that lives for ever, as threads and children may use it to the end.
#[derive(Clone, Copy)]
struct Mutex(&'static std::cell::UnsafeCell<libc::pthread_mutex_t>);

// SAFETY: it is made to be used by several threads.
unsafe impl Send for Mutex {}

impl Mutex {
    fn new() -> Self {
        Self(Box::leak(Box::new(std::cell::UnsafeCell::new(libc::PTHREAD_MUTEX_INITIALIZER))))
    }

    fn lock(self) {
        // SAFETY: the mutex is initialised and never freed.
        unsafe { libc::pthread_mutex_lock(self.0.get()) };
    }

    fn address(self) -> u64 {
        self.0.get().addr() as u64
    }
}

fn own_tid() -> u32 {
    gettid().as_raw().try_into().unwrap()
}

fn own_key() -> ProcessKey {
    Stat::of_process(std::process::id()).unwrap().key()
}

/// A thread that holds the mutex for as long as this process lives.
fn holder_of(mutex: Mutex) -> u32 {
    let (report, reported) = mpsc::channel();
    thread::Builder::new()
        .name("holder".to_owned())
        .spawn(move || {
            mutex.lock();
            report.send(own_tid()).unwrap();
            loop {
                thread::park();
            }
        })
        .unwrap();
    reported.recv().unwrap()
}

/// What a sweep would ask: of the fork nothing is known but who forked.
fn swept(child: &Forked) -> Fork {
    Fork { child: child.key(), parent: Some(own_key()), forked_at: None, forking_tid: None }
}

fn alive(fork: &Fork) -> Locks {
    match locks(fork) {
        LocksSeen::Alive(locks) => *locks,
        other => panic!("{other:?}"),
    }
}

/// What is seen once a thread waits at this address.
fn stuck_at(address: u64, fork: &Fork) -> (Locks, LockWait) {
    let patience = Instant::now() + Duration::from_secs(10);
    loop {
        let locks = alive(fork);
        if let Some(wait) = locks.waits.iter().find(|wait| wait.address == address) {
            return (locks.clone(), wait.clone());
        }
        assert!(Instant::now() < patience, "never seen waiting: {locks:?}");
        thread::yield_now();
    }
}

fn owner(wait: &LockWait) -> &Holder {
    wait.holders.iter().find(|holder| holder.offset == 8).unwrap()
}

#[test]
fn a_lock_that_another_thread_of_the_parent_holds_names_it() {
    let mutex = Mutex::new();
    let tid = holder_of(mutex);
    let child = Forked::into(|| mutex.lock());
    let (locks, wait) = stuck_at(mutex.address(), &swept(&child));
    assert_eq!((locks.threads, locks.stopped, locks.comparable), (1, false, true));
    assert_eq!(locks.parent, Some(own_key()));
    assert!(locks.parent_threads.is_some_and(|threads| threads >= 1));
    assert_eq!((wait.tid, wait.operation, wait.value), (child.key().tgid, 128, 2));
    assert_eq!(wait.words.unwrap().at(8), Some(tid));
    assert_eq!(wait.parent_words.unwrap().at(8), Some(tid));
    assert!(!wait.mapping.as_ref().unwrap().shared);
    let owner = owner(&wait);
    assert_eq!((owner.named, owner.in_child, owner.is_forker), (tid, false, Some(false)));
    assert_eq!(owner.in_parent, Some(SeenThread { tid, comm: "holder".into() }));
}

#[test]
fn the_forker_is_known_by_its_list_of_robust_locks() {
    let mutex = Mutex::new();
    mutex.lock();
    let child = Forked::into(|| mutex.lock());
    let (_, wait) = stuck_at(mutex.address(), &swept(&child));
    let owner = owner(&wait);
    assert_eq!((owner.named, owner.in_child, owner.is_forker), (own_tid(), false, Some(true)));
    // And where the event told.
    let told = Fork { forking_tid: Some(own_tid()), ..swept(&child) };
    assert_eq!(self::owner(&stuck_at(mutex.address(), &told).1).is_forker, Some(true));
    let another = Fork { forking_tid: Some(std::process::id()), ..swept(&child) };
    assert_eq!(self::owner(&stuck_at(mutex.address(), &another).1).is_forker, Some(false));
}

#[test]
fn a_thread_that_is_younger_than_the_fork_holds_nothing() {
    let mutex = Mutex::new();
    holder_of(mutex);
    let child = Forked::into(|| mutex.lock());
    let long_ago = BootTime(child.key().start.0.saturating_sub(2000 * TICK));
    let (_, wait) = stuck_at(mutex.address(), &Fork { forked_at: Some(long_ago), ..swept(&child) });
    assert_eq!(owner(&wait).in_parent, None);
}

#[test]
fn without_a_word_the_present_parent_counts_if_it_is_the_same_image() {
    let mutex = Mutex::new();
    let tid = holder_of(mutex);
    let child = Forked::into(|| mutex.lock());
    let (locks, wait) = stuck_at(mutex.address(), &Fork { parent: None, ..swept(&child) });
    assert_eq!(locks.parent, Some(own_key()));
    assert_eq!(owner(&wait).in_parent.map(|thread| thread.tid), Some(tid));
    // One that has ended is nobody.
    let gone = ProcessKey { start: BootTime(own_key().start.0 + TICK), ..own_key() };
    let (locks, wait) = stuck_at(mutex.address(), &Fork { parent: Some(gone), ..swept(&child) });
    assert_eq!((locks.parent, locks.parent_threads, locks.comparable), (None, None, false));
    assert_eq!((wait.parent_words, owner(&wait).is_forker, owner(&wait).in_parent), (None, None, None));
    assert_eq!(wait.words.unwrap().at(8), Some(tid));
}

#[test]
fn a_thread_of_the_child_is_told_and_so_is_one_that_it_waits_for() {
    extern "C" fn take(mutex: *mut libc::c_void) -> *mut libc::c_void {
        // SAFETY: the mutex is initialised and never freed.
        unsafe { libc::pthread_mutex_lock(mutex.cast()) };
        std::ptr::null_mut()
    }
    let mutex = Mutex::new();
    let child = Forked::into(|| {
        let mut thread = 0;
        mutex.lock();
        // SAFETY: the function takes the mutex, which is never freed; glibc lets a child start threads.
        unsafe { libc::pthread_create(&raw mut thread, std::ptr::null(), take, mutex.0.get().cast()) };
    });
    let (locks, wait) = stuck_at(mutex.address(), &swept(&child));
    assert_eq!(locks.threads, 2);
    assert_ne!(wait.tid, child.key().tgid);
    let owner = owner(&wait);
    assert_eq!((owner.named, owner.in_child, owner.is_forker), (child.key().tgid, true, Some(false)));
}

#[test]
fn a_child_that_waits_for_no_lock_is_not_looked_at_closely() {
    let child = Forked::into(|| ());
    let locks = alive(&swept(&child));
    assert!(locks.waits.is_empty() && !locks.comparable && locks.parent.is_none());
    assert_eq!(locks.threads, 1);
}

#[test]
fn a_stopped_child_is_stopped() {
    let mutex = Mutex::new();
    mutex.lock();
    let child = Forked::into(|| mutex.lock());
    stuck_at(mutex.address(), &swept(&child));
    kill(child.pid(), Signal::SIGSTOP).unwrap();
    waitpid(child.pid(), Some(WaitPidFlag::WUNTRACED)).unwrap();
    assert!(alive(&swept(&child)).stopped);
    kill(child.pid(), Signal::SIGCONT).unwrap();
    assert!(!stuck_at(mutex.address(), &swept(&child)).0.stopped);
}

#[test]
fn one_that_has_execed_or_ended_is_told_as_such() {
    let mut cat =
        Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).process_group(0).spawn().unwrap();
    let child = Stat::of_process(cat.id()).unwrap().key();
    let fork = Fork { child, parent: None, forked_at: None, forking_tid: None };
    assert_eq!(locks(&fork), LocksSeen::Execed);
    let reused = Fork { child: ProcessKey { start: BootTime(child.start.0 + TICK), ..child }, ..fork };
    assert_eq!(locks(&reused), LocksSeen::Gone);
    cat.kill().unwrap();
    cat.wait().unwrap();
    assert_eq!(locks(&fork), LocksSeen::Gone);
}

/// More than a page, so that most of it lies in a mapping without a name.
static ZEROED: [std::sync::atomic::AtomicU32; 64 * 1024] =
    [const { std::sync::atomic::AtomicU32::new(0) }; 64 * 1024];

#[test]
fn a_lock_in_zeroed_data_lies_in_its_program() {
    let lock = &ZEROED[32 * 1024];
    let child = Forked::into(|| {
        loop {
            // SAFETY: the word is alive for ever; there is no timeout.
            unsafe {
                libc::syscall(
                    libc::SYS_futex,
                    lock.as_ptr(),
                    libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG,
                    0,
                    0,
                    0,
                    0,
                )
            };
        }
    });
    let (_, wait) = stuck_at(lock.as_ptr().addr() as u64, &swept(&child));
    let program = std::env::current_exe().unwrap();
    assert_eq!(wait.mapping.unwrap().name, program.to_str().unwrap());
}

#[test]
#[ignore = "a measurement"]
fn what_a_look_costs() {
    let mutex = Mutex::new();
    holder_of(mutex);
    let (idle, stuck) = (Forked::into(|| ()), Forked::into(|| mutex.lock()));
    stuck_at(mutex.address(), &swept(&stuck));
    for (name, fork) in [("cheap", swept(&idle)), ("deep", swept(&stuck))] {
        let begin = Instant::now();
        for _ in 0..1000 {
            alive(&fork);
        }
        eprintln!("{name}: {:?}", begin.elapsed() / 1000);
    }
}
