//! Against real processes: children of this one, which carry locks that its threads hold.

use std::{
    cell::UnsafeCell,
    fs,
    io::{BufRead as _, BufReader, Write as _},
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use nix::unistd::gettid;

use super::*;
use crate::{
    host::{forked::Forked, stack::tests::pythons},
    model::held_lock::{AtFork, HeldAtFork},
    model::lock::LockWait,
};

/// A lock of glibc that lives for ever, as threads and children may use it to the end.
struct Lock<T: 'static>(&'static UnsafeCell<T>);

// SAFETY: it is made to be used by several threads.
unsafe impl<T> Send for Lock<T> {}

impl<T> Clone for Lock<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Lock<T> {}

impl<T> Lock<T> {
    fn new(lock: T) -> Self {
        Self(Box::leak(Box::new(UnsafeCell::new(lock))))
    }

    fn get(self) -> *mut T {
        self.0.get()
    }

    fn address(self) -> u64 {
        self.get().addr() as u64
    }
}

fn mutex() -> Lock<libc::pthread_mutex_t> {
    Lock::new(libc::PTHREAD_MUTEX_INITIALIZER)
}

fn own_tid() -> u32 {
    gettid().as_raw().cast_unsigned()
}

/// A thread that has done this, and keeps what it holds until the sender is dropped.
fn thread_that(act: impl FnOnce() + Send + 'static) -> (u32, mpsc::Sender<()>) {
    let (report, reported) = mpsc::channel();
    let (end, until) = mpsc::channel::<()>();
    thread::Builder::new()
        .name("keeper".to_owned())
        .spawn(move || {
            act();
            report.send(own_tid()).unwrap();
            let _ = until.recv();
        })
        .unwrap();
    (reported.recv().unwrap(), end)
}

fn lock_mutex(mutex: Lock<libc::pthread_mutex_t>) {
    // SAFETY: the mutex is initialised and never freed.
    unsafe { libc::pthread_mutex_lock(mutex.get()) };
}

fn question(child: &Forked) -> Question {
    let own = Stat::of_process(std::process::id()).unwrap().key();
    Question {
        child: child.key(),
        parent: own,
        forking_tid: own_tid(),
        forked_at: child.key().start,
        places: None,
    }
}

/// However slow the host is.
fn found(question: &Question) -> HeldLocks {
    let limits = Limits { time: Duration::from_secs(60), ..BUDGET };
    match budget::question(limits, || held_locks(question)) {
        HeldLocksSeen::Alive(held) => *held,
        other => panic!("{other:?}"),
    }
}

fn at(held: &HeldLocks, address: u64) -> Option<&HeldLock> {
    held.locks.iter().find(|lock| lock.object == address)
}

#[test]
fn what_was_searched_of_a_mapping_until_the_budget_was_used_up_is_told() {
    let filling = vec![7_u8; 128 << 20];
    let child = Forked::into(|| {});
    let all = found(&question(&child)).searched;
    // A part of a question has half of what is left.
    let limits = Limits { bytes: all, time: Duration::from_secs(60), ..BUDGET };
    let HeldLocksSeen::Alive(cut) = budget::question(limits, || held_locks(&question(&child))) else {
        panic!("the child is gone")
    };
    assert!(all > filling.len() as u64 && cut.skipped > 0, "{all} {cut:?}");
    assert!(cut.searched > all / 3 && cut.searched < all, "{all} {cut:?}");
}

#[test]
fn mutexes_and_read_write_locks_of_lost_threads_are_found_and_no_others() {
    let (held, free, own, ended) = (mutex(), mutex(), mutex(), mutex());
    let written = Lock::new(libc::PTHREAD_RWLOCK_INITIALIZER);
    let read = Lock::new(libc::PTHREAD_RWLOCK_INITIALIZER);
    let (keeper, _keeps) = thread_that(move || {
        lock_mutex(held);
        // SAFETY: it is initialised and never freed.
        unsafe { libc::pthread_rwlock_wrlock(written.get()) };
        // SAFETY: likewise.
        unsafe { libc::pthread_rwlock_rdlock(read.get()) };
    });
    lock_mutex(own);
    let child = Forked::into(|| lock_mutex(ended));
    let seen = found(&question(&child));
    assert!(seen.whole && seen.searched > 0 && seen.skipped == 0, "{seen:?}");
    for (address, kind) in [(held.address(), LockKind::Mutex), (written.address(), LockKind::ReadWrite)] {
        let lock = at(&seen, address).unwrap_or_else(|| panic!("{address:#x} is not in {seen:#?}"));
        assert_eq!((lock.kind, lock.address, lock.from_before), (kind, address, true));
        assert_eq!(lock.owner.id, Some(keeper));
        assert_eq!(lock.owner.name.as_deref(), Some("keeper"));
        assert_eq!(seen.held_at_fork(address + 8), Some(HeldAtFork::Sure));
    }
    for lock in [free, own, ended] {
        assert_eq!(at(&seen, lock.address()), None);
    }
    assert_eq!(at(&seen, read.address()), None);
    // SAFETY: this thread holds it.
    unsafe { libc::pthread_mutex_unlock(own.get()) };
}

#[test]
fn a_further_look_tells_what_is_still_held() {
    let (held, other) = (mutex(), mutex());
    let (_, _keeps) = thread_that(move || {
        lock_mutex(held);
        lock_mutex(other);
    });
    // As a library would whose handler makes its locks anew at the fork.
    let child = Forked::into(|| ());
    let first = found(&question(&child));
    let owned = vec![held.address(), other.address() + 8, 0x1000, u64::MAX, 8];
    let places = Places { owned, plain: vec![held.address(), u64::MAX, 8] };
    let second = found(&Question { places: Some(places), ..question(&child) });
    assert!(!second.whole);
    assert_eq!(second.locks.iter().map(|lock| lock.object).collect::<Vec<_>>(), [held.address()]);
    let still = first.still(&second);
    assert_eq!((still.count, still.locks.len()), (1, 1));
}

#[test]
fn of_one_that_has_ended_or_execed_nothing_is_told() {
    let child = Forked::new();
    let question = question(&child);
    drop(child);
    assert_eq!(held_locks(&question), HeldLocksSeen::Gone);
    let mut cat = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let execed = Question { child: Stat::of_process(cat.id()).unwrap().key(), ..question };
    assert_eq!(held_locks(&execed), HeldLocksSeen::Execed);
    cat.kill().unwrap();
    cat.wait().unwrap();
}

/// A process that has forked once its threads hold what they hold.
struct Script {
    parent: Child,
    child: u32,
    /// What else it has told.
    rest: String,
}

impl Script {
    fn new(python: &std::path::Path, text: &str) -> Self {
        let mut parent = Command::new(python)
            .args(["-c", text])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(parent.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let (child, rest) = line.trim().split_once(' ').unwrap();
        Self { child: child.parse().unwrap(), rest: rest.to_owned(), parent }
    }

    fn question(&self) -> Question {
        let child = Stat::of_process(self.child).unwrap().key();
        let parent = Stat::of_process(self.parent.id()).unwrap().key();
        Question { child, parent, forking_tid: parent.tgid, forked_at: child.start, places: None }
    }

    fn held(&self) -> HeldLocks {
        found(&self.question())
    }

    /// The wait of the child's only thread, once it waits.
    fn wait(&self) -> LockWait {
        let Question { child, parent, forking_tid, forked_at, .. } = self.question();
        let (parent, forked_at, forking_tid) = (Some(parent), Some(forked_at), Some(forking_tid));
        let fork = Fork { child, parent, forked_at, forking_tid };
        let patience = std::time::Instant::now() + Duration::from_secs(60);
        loop {
            if let LocksSeen::Alive(seen) = locks::locks(&fork)
                && let Some(wait) = seen.waits.first()
            {
                return wait.clone();
            }
            assert!(std::time::Instant::now() < patience, "it never waits");
            thread::yield_now();
        }
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        for pid in [self.child, self.parent.id()] {
            let _ = nix::sys::signal::kill(
                nix::unistd::Pid::from_raw(pid.cast_signed()),
                nix::sys::signal::Signal::SIGKILL,
            );
        }
        let _ = self.parent.wait();
    }
}

/// Threads that hold an output buffer, an `RLock` and a logging handler's lock while the main thread forks.
const HOLDERS: &str = "
import logging, os, sys, threading
ready, go = threading.Semaphore(0), threading.Event()
readable, writable = os.pipe()
buffered = os.fdopen(writable, 'wb')
recursive, handler = threading.RLock(), logging.StreamHandler(sys.stderr)
def writer():
    ready.release()
    buffered.write(b'x' * 200000)
def holds(lock):
    with lock:
        ready.release()
        go.wait()
for target, arguments in (writer, ()), (holds, (recursive,)), (holds, (handler.lock,)):
    threading.Thread(target=target, args=arguments, daemon=True).start()
for _ in range(3):
    ready.acquire()
# Until the pipe is full: the writer waits within its write then, with the buffer's lock.
import fcntl, array, termios
filled = array.array('i', [0])
while filled[0] < 65536:
    fcntl.ioctl(readable, termios.FIONREAD, filled)
if os.fork() == 0:
    # By the child: it has made the locks of handlers anew then, which nobody did before 3.9.
    os.write(1, b'%d %d\\n' % (os.getpid(), 2 if sys.version_info < (3, 9) else 1))
sys.stdin.read()
";

#[test]
fn objects_of_cpython_are_found_by_their_owner() {
    let pythons: Vec<_> =
        pythons().into_iter().filter(|path| !path.to_string_lossy().contains("/2.7")).collect();
    if pythons.is_empty() {
        return crate::skip::skip("there is no python3 here");
    }
    for python in pythons {
        let script = Script::new(&python, HOLDERS);
        let held = script.held();
        let of = |kind| held.locks.iter().filter(|lock| lock.kind == kind).collect::<Vec<_>>();
        let (buffers, recursive) = (of(LockKind::Buffer), of(LockKind::Recursive));
        assert_eq!(buffers.len(), 1, "{}: {held:#?}", python.display());
        assert!(buffers[0].name.as_deref().is_some_and(|name| name.starts_with("the buffer of descriptor ")));
        assert!(buffers[0].owner.id.is_some(), "{held:#?}");
        assert_eq!(recursive.len().to_string(), script.rest, "{}: {held:#?}", python.display());
    }
}

/// A thread holds one lock, another is free, and the child takes a third; then it wants the first.
const PLAIN: &str = "
import os, sys, threading, _thread
held, free, own = threading.Lock(), threading.Lock(), threading.Lock()
ready, go = threading.Semaphore(0), threading.Event()
def holds():
    with held:
        ready.release()
        go.wait()
threading.Thread(target=holds, daemon=True).start()
ready.acquire()
readable, writable = os.pipe()
child = os.fork()
if not child:
    own.acquire()
    os.write(writable, b'.')
    held.acquire()
os.read(readable, 1)
print(child, id(held), id(free), id(own), flush=True)
sys.stdin.read()
";

/// What is known of the first lock is known of what the child waits for, be that a semaphore of the lock's, or one that the
/// thread has made in order to sleep.
#[test]
fn locks_of_cpython_without_an_owner_are_found_and_the_wait_for_one_is_known() {
    let pythons: Vec<_> =
        pythons().into_iter().filter(|path| !path.to_string_lossy().contains("/2.7")).collect();
    if pythons.is_empty() {
        return crate::skip::skip("there is no python3 here");
    }
    for python in pythons {
        let script = Script::new(&python, PLAIN);
        let seen = script.held();
        let objects: Vec<u64> = script.rest.split(' ').map(|object| object.parse().unwrap()).collect();
        let [held, free, own] = objects[..] else { panic!("{}", script.rest) };
        let of = |object| seen.plain.iter().find(|plain| plain.object == object).copied();
        let told = [held, free, own].map(|object| of(object).map(|plain| (plain.held, plain.held_in_parent)));
        let expected = [(true, Some(true)), (false, None), (true, Some(false))].map(Some);
        assert_eq!(told, expected, "{}: {seen:#?}", python.display());
        let at_fork =
            [held, free, own].map(|object| of(object).and_then(|plain| seen.at_fork(plain.address)));
        assert_eq!(at_fork, [Some(AtFork::Held), Some(AtFork::Free), None]);
        // The same, looked at where they are.
        let again = found(&Question { places: Some(Places::of(&seen)), ..script.question() });
        assert!(!again.whole);
        let same = |object| again.plain.iter().find(|plain| plain.object == object).copied() == of(object);
        assert!([held, free, own].into_iter().all(same), "{}: {again:#?}", python.display());
        let wait = script.wait();
        assert_eq!(seen.at_fork(wait.lock()), Some(AtFork::Held), "{}: {wait:#?}", python.display());
        let (words, parent_words) = wait.lock_words();
        assert!(words.is_some() && parent_words.is_some(), "{}: {wait:#?}", python.display());
    }
}

/// What has run for a while, and holds nothing.
#[test]
fn threads_that_hold_nothing_leave_nothing() {
    let (_, _keeps) = thread_that(|| ());
    let Some(python) = pythons().into_iter().next_back() else {
        return crate::skip::skip("there is no python3 here");
    };
    let text = HOLDERS
        .replace("buffered.write(b'x' * 200000)", "pass")
        .replace("filled[0] < 65536", "False")
        .replace("    with lock:\n", "    with lock:\n        pass\n    if lock:\n");
    let held = Script::new(&python, &text).held();
    assert_eq!(held.count, 0, "{held:#?}");
}

#[test]
#[ignore = "a measurement"]
fn what_a_search_costs() {
    let size: usize = std::env::var("MB").ok().and_then(|size| size.parse().ok()).unwrap_or(50);
    let memory: Vec<u64> =
        (0..size as u64 * (1 << 17)).map(|number| number.wrapping_mul(0x9e37_79b9)).collect();
    let (_, _keeps) = thread_that(|| ());
    let child = Forked::new();
    let question = question(&child);
    let pages = OwnPages::of_process(child.tgid()).unwrap();
    let maps = Maps::of_process(child.tgid()).unwrap();
    let time = |act: &mut dyn FnMut() -> u64| {
        let began = thread_time();
        let bytes = act();
        (bytes >> 20, (thread_time() - began) / 1000)
    };
    for _ in 0..3 {
        let mut read = || {
            let own = maps.iter().filter(|mapping| pages.admits(mapping));
            own.map(|mapping| pages.go_through(mapping, 0, |_, _| ()).unwrap()).sum()
        };
        let (bytes, reading) = time(&mut read);
        let (searched, looking) = time(&mut || found(&question).searched);
        writeln!(io::stderr(), "reading {bytes} MB: {reading} us; searching {searched} MB: {looking} us")
            .unwrap();
    }
    assert!(fs::metadata("/proc/self").is_ok() && memory.len() > 1);
}

mod living {
    //! What the threads of this process hold.

    use std::sync::mpsc::channel;

    use super::super::living::held_now;
    use crate::{
        host::stat::Stat,
        model::{
            held_lock::LockKind,
            held_now::{HeldNow, HeldNowSeen},
        },
    };

    unsafe extern "C" {
        static stdin: *mut libc::FILE;
        fn flockfile(stream: *mut libc::FILE);
        fn funlockfile(stream: *mut libc::FILE);
    }

    fn look() -> HeldNow {
        match held_now(Stat::of_process(std::process::id()).unwrap().key(), None) {
            HeldNowSeen::Alive(seen) => *seen,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    #[cfg(target_env = "gnu")]
    fn the_lock_of_a_stream_is_told_with_its_holder() {
        let ((taken, is_taken), (done, is_done)) = (channel(), channel::<()>());
        let held = |seen: &HeldNow| {
            let mut streams = seen.locks.iter().filter(|now| now.lock.kind == LockKind::Stream);
            streams.any(|now| {
                now.lock.name.as_deref() == Some("stdin") && now.thread.comm.bytes() == b"takes-stdin"
            })
        };
        std::thread::scope(|scope| {
            let holder = std::thread::Builder::new().name("takes-stdin".to_owned());
            holder
                .spawn_scoped(scope, move || {
                    // SAFETY: the stream is the C library's own, which nobody closes, and is released below.
                    unsafe { flockfile(stdin) };
                    taken.send(()).unwrap();
                    let _ = is_done.recv();
                    // SAFETY: as above.
                    unsafe { funlockfile(stdin) };
                })
                .unwrap();
            is_taken.recv().unwrap();
            let seen = look();
            assert!(held(&seen), "{seen:?}");
            drop(done);
        });
        let seen = look();
        assert!(!held(&seen), "{seen:?}");
    }
}
