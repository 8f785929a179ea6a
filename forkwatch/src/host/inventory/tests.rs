use std::{
    ffi::CString,
    fs::File,
    net::{TcpListener, TcpStream},
    os::fd::{AsRawFd, FromRawFd as _, OwnedFd},
    sync::mpsc,
};

use super::*;
use crate::{
    host::scan::find,
    model::inventory::{FileLockKind, OpenFile},
};

fn own() -> Inventory {
    inventory(&find(std::process::id()).unwrap()).unwrap()
}

fn number(descriptor: &impl AsRawFd) -> u32 {
    descriptor.as_raw_fd().try_into().unwrap()
}

#[test]
fn threads_and_what_is_open_are_listed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.sqlite3");
    let file = File::create(&path).unwrap();
    // SAFETY: a system call on an open descriptor.
    assert_eq!(unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX) }, 0);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (server, _) = listener.accept().unwrap();
    // SAFETY: a system call on a number.
    let epoll = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
    // SAFETY: a descriptor that was just made, and that nobody else owns.
    let _epoll = unsafe { OwnedFd::from_raw_fd(epoll) };

    let seen = own();
    // The test harness runs this in a thread of its own.
    assert!(
        seen.threads.iter().any(|thread| i64::from(thread.tid) == i64::from(nix::unistd::gettid().as_raw()))
    );
    assert!(seen.threads.iter().all(|thread| thread.tid != std::process::id()));
    assert!(seen.events.epoll >= 1);
    let connection = |fd: u32| seen.connections.iter().find(|connection| connection.fd == fd).unwrap();
    assert!(!connection(number(&client)).accepted);
    assert!(connection(number(&server)).accepted);
    assert!(seen.listeners.iter().any(|one| one.fd == number(&listener)));
    let expected = OpenFile { fd: number(&file), path: path.to_str().unwrap().to_owned() };
    assert!(seen.databases.iter().any(|database| database.file == expected));
    let lock = seen.file_locks.iter().find(|lock| lock.file == expected).unwrap();
    assert_eq!(lock.kind, FileLockKind::Flock);
    assert!(seen.memory.unwrap().anonymous > 0);
    assert_eq!(seen.unknown, []);
}

#[test]
fn a_mutex_that_is_waited_for_names_its_owner() {
    struct Shared(std::cell::UnsafeCell<libc::pthread_mutex_t>);
    // SAFETY: a mutex is made to be shared.
    unsafe impl Sync for Shared {}
    static MUTEX: Shared = Shared(std::cell::UnsafeCell::new(libc::PTHREAD_MUTEX_INITIALIZER));

    let name = |name: &str| {
        let name = CString::new(name).unwrap();
        // SAFETY: it reads a string that ends in NUL.
        unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr()) };
    };
    name("the-owner");
    // SAFETY: the mutex is initialised and lives for ever.
    assert_eq!(unsafe { libc::pthread_mutex_lock(MUTEX.0.get()) }, 0);
    let (said, told) = mpsc::channel();
    let waiter = std::thread::spawn(move || {
        said.send(nix::unistd::gettid().as_raw()).unwrap();
        // SAFETY: as above.
        unsafe { libc::pthread_mutex_lock(MUTEX.0.get()) };
        // SAFETY: this thread holds it.
        unsafe { libc::pthread_mutex_unlock(MUTEX.0.get()) };
    });
    let tid = u32::try_from(told.recv().unwrap()).unwrap();
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    let contended = loop {
        let found = own().contended.into_iter().find(|contended| contended.waiter.tid == tid);
        if found.is_some() || std::time::Instant::now() > deadline {
            break found;
        }
    };
    // SAFETY: this thread holds it.
    unsafe { libc::pthread_mutex_unlock(MUTEX.0.get()) };
    waiter.join().unwrap();
    let contended = contended.unwrap();
    assert_eq!(contended.owner.comm.bytes(), b"the-owner");
    assert_eq!(contended.address, MUTEX.0.get() as u64);
}

#[test]
fn a_process_of_another_start_is_gone() {
    let mut process = find(std::process::id()).unwrap();
    process.key.start.0 += crate::model::time::TICK;
    assert!(matches!(inventory(&process), Err(ScanError::NoSuchProcess(_))));
}
