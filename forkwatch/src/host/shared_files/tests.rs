use std::{
    fs::File,
    io::{Read as _, Seek as _, SeekFrom, Write as _},
    os::fd::AsRawFd as _,
    time::Instant,
};

use proptest::prelude::*;

use super::*;
use crate::host::forked::Forked;

/// A file of so many bytes, at its beginning.
fn file_of(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file.rewind().unwrap();
    file
}

/// Reads a byte of a file for ever, with a pause, and begins anew at its end.
fn read_on(mut file: &File) {
    let mut byte = [0];
    loop {
        if file.read(&mut byte).unwrap() == 0 {
            file.seek(SeekFrom::Start(0)).unwrap();
        }
        sleep(Duration::from_micros(300));
    }
}

fn ask(child: &Forked, forker: &Forked, sibling: Option<&Forked>, database: Option<u32>) -> SharedFilesSeen {
    let databases: Vec<u32> = database.into_iter().collect();
    shared_files(&Question {
        child: child.key(),
        forker: forker.key(),
        sibling: sibling.map(Forked::key),
        databases: &databases,
        closely: true,
    })
}

/// A child that has this file alone of what other tests have open, and does this.
fn child_with(file: &File, act: impl FnOnce()) -> Forked {
    let fd = file.as_raw_fd().cast_unsigned();
    Forked::into(|| {
        for (first, last) in [(STANDARD + 1, fd - 1), (fd + 1, u32::MAX)] {
            if first <= last {
                // SAFETY: a system call on numbers; nobody in this process uses those descriptors any more.
                unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
            }
        }
        act();
    })
}

/// What is seen once it is.
fn seen_soon(child: &Forked, forker: &Forked, sibling: Option<&Forked>, file: &File) -> SharedFile {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        if let Some(seen) = seen(child, forker, sibling, file) {
            return seen;
        }
        assert!(Instant::now() < deadline, "it is not shared");
    }
}

fn seen(child: &Forked, forker: &Forked, sibling: Option<&Forked>, file: &File) -> Option<SharedFile> {
    let fd = file.as_raw_fd().cast_unsigned();
    match ask(child, forker, sibling, None) {
        SharedFilesSeen::Seen(seen) => seen.files.into_iter().find(|one| one.file.fd == fd),
        other => panic!("{other:?}"),
    }
}

#[test]
fn who_moves_the_offset_is_told_from_who_does_not() {
    let file = file_of(&[0; 4096]);
    let (reads, idle) = (child_with(&file, || read_on(&file)), child_with(&file, || ()));
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let shared = seen_soon(&idle, &reads, None, &file);
        assert!(shared.users.iter().all(|user| user.process == reads.key()), "{shared:?}");
        if shared.users.iter().any(|user| user.reads > 0) {
            break;
        }
        assert!(Instant::now() < deadline, "{shared:?}");
    }
    // The same where the other is the child.
    let shared = seen_soon(&reads, &idle, None, &file);
    assert!(shared.users.iter().all(|user| user.process == reads.key()), "{shared:?}");
}

#[test]
fn an_offset_that_nobody_moves_has_no_user() {
    let file = file_of(&[0; 4096]);
    let (one, other) = (child_with(&file, || ()), child_with(&file, || ()));
    let shared = seen_soon(&one, &other, None, &file);
    assert_eq!((shared.position, shared.users, shared.database), (0, Vec::new(), None));
}

#[test]
fn a_file_that_is_opened_anew_or_only_written_is_not_shared() {
    let path = tempfile::NamedTempFile::new().unwrap();
    let read = File::open(path.path()).unwrap();
    let log = File::options().append(true).read(true).open(path.path()).unwrap();
    let write = File::options().write(true).open(path.path()).unwrap();
    let fd = read.as_raw_fd();
    let one = Forked::into(|| {
        let own = File::open(path.path()).unwrap();
        // SAFETY: a system call on numbers.
        unsafe { libc::dup2(own.as_raw_fd(), fd) };
        std::mem::forget(own);
    });
    let other = Forked::new();
    let deadline = Instant::now() + Duration::from_secs(30);
    while same_file((one.tgid(), fd.cast_unsigned()), (other.tgid(), fd.cast_unsigned())).unwrap() {
        assert!(Instant::now() < deadline, "it has not opened its own");
        std::thread::yield_now();
    }
    for file in [&read, &log, &write] {
        assert_eq!(seen(&one, &other, None, file), None, "{file:?}");
    }
}

#[test]
fn databases_are_known_by_how_they_begin() {
    let mut lmdb = [0_u8; HEADER];
    lmdb[16..20].copy_from_slice(&0xbeef_c0de_u32.to_ne_bytes());
    let mut berkeley = [0_u8; HEADER];
    berkeley[12..16].copy_from_slice(&0x0005_3162_u32.to_ne_bytes());
    for (header, expected) in [
        (&b"SQLite format 3\0\x10\0"[..], Some(DatabaseKind::Sqlite)),
        (&lmdb, Some(DatabaseKind::Lmdb)),
        (&0x1357_9ace_u32.to_ne_bytes(), Some(DatabaseKind::Gdbm)),
        (&berkeley, Some(DatabaseKind::BerkeleyDb)),
        (b"PK\x03\x04", None),
        (b"", None),
        (&[0; HEADER], None),
    ] {
        assert_eq!(database(header), expected, "{header:?}");
    }
}

fn lock(file: &File) {
    // SAFETY: a structure of numbers, for which zeros mean the whole file.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    lock.l_type = i16::try_from(libc::F_RDLCK).unwrap();
    // SAFETY: the structure outlives the call.
    assert_eq!(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETLK, &raw const lock) }, 0);
}

#[test]
fn who_locks_a_database_by_the_common_descriptor_is_told() {
    let file = file_of(b"SQLite format 3\0 and more of it");
    let (locks, other) = (child_with(&file, || lock(&file)), child_with(&file, || ()));
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let shared = seen_soon(&locks, &other, None, &file);
        assert_eq!(shared.database, Some(DatabaseKind::Sqlite));
        if shared.lockers == [locks.key()] {
            break;
        }
        assert!(shared.lockers.is_empty() && Instant::now() < deadline, "{shared:?}");
    }
    let shared = seen_soon(&other, &locks, None, &file);
    assert_eq!(shared.lockers, [locks.key()]);
}

#[test]
fn a_database_that_the_child_has_closed_is_told_with_what_its_forker_does() {
    let file = file_of(b"SQLite format 3\0 and more of it");
    let fd = file.as_raw_fd();
    let (locks, other) = (Forked::into(|| lock(&file)), Forked::new());
    let without = Forked::into(|| {
        // SAFETY: a system call on a number.
        unsafe { libc::close(fd) };
    });
    let closed = |child| match ask(child, &locks, None, Some(fd.cast_unsigned())) {
        SharedFilesSeen::Seen(seen) => seen.closed,
        other => panic!("{other:?}"),
    };
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        if let Some(closed) = closed(&without)
            && closed.locked
        {
            assert_eq!((closed.kind, closed.journal_deleted), (DatabaseKind::Sqlite, false));
            assert_eq!(closed.file.fd, fd.cast_unsigned());
            break;
        }
        assert!(Instant::now() < deadline);
    }
    assert_eq!(closed(&other), None);
}

#[test]
fn who_has_ended_shares_nothing() {
    let (one, other) = (Forked::new(), Forked::new());
    let (child, forker) = (one.key(), other.key());
    let question = Question { child, forker, sibling: None, databases: &[], closely: false };
    drop(other);
    assert_eq!(shared_files(&question), SharedFilesSeen::Left);
    drop(one);
    assert_eq!(shared_files(&question), SharedFilesSeen::Gone);
}

#[test]
fn counts_are_read_from_their_lines() {
    let text = b"rchar: 4292\nwchar: 8\nsyscr: 13\nsyscw: 1\nread_bytes: 0\n";
    assert_eq!(Traffic::parse(text), Some(Traffic { read: 4292, written: 8, calls: 14 }));
    assert_eq!(Traffic::parse(b"rchar: 1\n"), None);
}

proptest! {
    #[test]
    fn no_header_makes_it_panic(header in proptest::collection::vec(any::<u8>(), 0..64)) {
        let _ = database(&header);
    }
}
