//! That nothing which is asked of a process changes what it shares with its parent.

use std::{
    fs,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::pagemap::page_size;
use crate::{
    host::{
        self, budget,
        call::Activity,
        forked::Forked,
        stack::tests::{Python, pythons},
        stat::Stat,
    },
    model::{
        evidence::{Evidence, Request},
        held_lock::HeldLocksSeen,
        leak::Object,
        lock::LocksSeen,
        process::ProcessKey,
        stack::Stacks,
        time::BootTime,
    },
};

/// How older Pythons sleep.
#[cfg(target_arch = "x86_64")]
const SELECT: libc::c_long = libc::SYS_select;
#[cfg(not(target_arch = "x86_64"))]
const SELECT: libc::c_long = libc::SYS_pselect6;

/// Memory that parent and child share, in bytes.
const SHARED: usize = 4 * 1024 * 1024;

/// A process of one thread, which writes nothing, and its child, which waits for a lock in memory that both share.
struct Pair {
    parent: Forked,
    child: u32,
    memory: u64,
}

impl Pair {
    fn new() -> Self {
        // What a mutex that is held looks like, over and over.
        let memory = vec![2_u32; SHARED / size_of::<u32>()];
        let lock = &raw const memory[memory.len() / 2];
        let parent = Forked::into(|| {
            // SAFETY: fork in a process of one thread; both call nothing but the kernel from here on.
            if unsafe { libc::fork() } == 0 {
                // SAFETY: prctl(2) touches no memory.
                unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
                let operation = libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG;
                loop {
                    // SAFETY: the word stays there; nobody wakes it.
                    unsafe { libc::syscall(libc::SYS_futex, lock, operation, 2, 0) };
                }
            }
        });
        let list = format!("/proc/{0}/task/{0}/children", parent.tgid());
        let child = until(|| fs::read_to_string(&list).ok()?.trim().parse().ok());
        until(|| {
            Activity::of_thread(child, child)
                .ok()?
                .call()
                .filter(|call| call.number == libc::SYS_futex)
                .copied()
        });
        Self { parent, child, memory: memory.as_ptr().addr() as u64 }
    }

    fn key(&self) -> ProcessKey {
        Stat::of_process(self.child).unwrap().key()
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        let _ = kill(Pid::from_raw(self.child.try_into().unwrap()), Signal::SIGKILL);
    }
}

fn until<T>(mut found: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        if let Some(found) = found() {
            return found;
        }
        assert!(Instant::now() < deadline, "it did not come about");
        std::thread::yield_now();
    }
}

/// How many kibibytes of a process's own memory another has too, as the kernel counts them. Of files it also counts
/// what was not written to the disk yet, when it is fetched.
fn shared_dirty(tgid: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{tgid}/smaps")).unwrap();
    let mut of_file = false;
    let mut sum = 0;
    for line in text.lines() {
        if let Some(size) = line.strip_prefix("Shared_Dirty:") {
            sum += if of_file { 0 } else { size.trim().trim_end_matches(" kB").parse::<u64>().unwrap() };
        } else if line.split(' ').next().is_some_and(|range| range.contains('-')) {
            of_file = line.contains('/');
        }
    }
    sum
}

/// Whether the page of an address is no file's and the process's alone (bits 61 and 56).
fn exclusive(tgid: u32, address: u64) -> bool {
    use std::os::unix::fs::FileExt as _;
    let mut entry = [0; 8];
    let pagemap = fs::File::open(format!("/proc/{tgid}/pagemap")).unwrap();
    pagemap.read_exact_at(&mut entry, address / page_size() * 8).unwrap();
    let entry = u64::from_ne_bytes(entry);
    entry >> 56 & 1 == 1 && entry >> 61 & 1 == 0
}

/// How many pages of a process are so.
fn exclusives(tgid: u32) -> usize {
    let maps = fs::read_to_string(format!("/proc/{tgid}/maps")).unwrap();
    let ranges = maps.lines().filter(|line| !line.contains("[v")).map(|line| {
        let (start, end) = line.split(' ').next().unwrap().split_once('-').unwrap();
        u64::from_str_radix(start, 16).unwrap()..u64::from_str_radix(end, 16).unwrap()
    });
    let pages = ranges.filter(|range| range.end - range.start < 256 * 1024 * 1024);
    pages
        .flat_map(|range| range.step_by(usize::try_from(page_size()).unwrap()))
        .filter(|address| exclusive(tgid, *address))
        .count()
}

/// Everything that is ever asked about a child.
fn ask_everything(child: ProcessKey, parent: ProcessKey, address: u64) -> Vec<Evidence> {
    let forked_at = BootTime(child.start.0);
    let plenty = budget::Limits { bytes: 1 << 40, steps: u64::MAX, time: Duration::from_secs(60) };
    let process = host::find(child.tgid).unwrap();
    let inventory = host::inventory(&process).unwrap();
    assert!(!inventory.whereabouts.is_empty());
    [
        Request::Parent { child, parent, forking_tid: parent.tgid, forked_at },
        Request::Child { child },
        Request::Locks { child, parent: Some(parent), forked_at: Some(forked_at), forking_tid: None },
        Request::HeldLocks { child, parent, forking_tid: parent.tgid, forked_at, places: None },
        Request::Place {
            child,
            parent: Some(parent),
            tid: child.tgid,
            address,
            holder: Some(parent.tgid),
            stacks: Stacks::Full,
        },
        Request::Sockets { child, parent },
        Request::Descriptors { process: child, forker: Some(parent) },
        Request::Holders { process: child, forker: Some(parent), object: Object::Pipe(1) },
        Request::Program { tgid: child.tgid },
        Request::Threads { child, stacks: Stacks::Light },
        Request::Execed { process: child },
    ]
    .iter()
    .map(|request| budget::question(plenty, || host::answer(request)))
    .collect()
}

#[test]
fn no_look_copies_what_a_fork_shares() {
    let pair = Pair::new();
    let (child, parent) = (pair.key(), pair.parent.key());
    let lock = pair.memory + SHARED as u64 / 2;
    let before = (shared_dirty(child.tgid), exclusives(child.tgid));
    assert!(before.0 >= SHARED as u64 / 1024 && !exclusive(child.tgid, lock), "{before:?}");
    let answers = ask_everything(child, parent, lock);
    // They have read memory indeed.
    let words = answers.iter().find_map(|answer| match answer {
        Evidence::Locks { seen: LocksSeen::Alive(locks), .. } => locks.waits.first()?.words,
        _ => None,
    });
    assert_eq!(words.and_then(|words| words.at(0)), Some(2));
    let searched = answers.iter().find_map(|answer| match answer {
        Evidence::HeldLocks { seen: HeldLocksSeen::Alive(held), .. } => Some(held.searched),
        _ => None,
    });
    assert!(searched >= Some(SHARED as u64), "{searched:?}");
    let stack = answers.iter().find_map(|answer| match answer {
        Evidence::Place { seen: Some(place), .. } => Some(place.stack.frames.len()),
        _ => None,
    });
    assert!(stack > Some(1));
    assert_eq!((shared_dirty(child.tgid), exclusives(child.tgid)), before);
    assert!(!exclusive(child.tgid, lock));
    // The test sees what it should: the other way of reading takes the page away from the parent.
    let mut byte = [0_u8; 8];
    let ours = libc::iovec { iov_base: byte.as_mut_ptr().cast(), iov_len: 8 };
    let theirs = libc::iovec {
        iov_base: std::ptr::without_provenance_mut(usize::try_from(lock).unwrap()),
        iov_len: 8,
    };
    // SAFETY: eight bytes of this process's are written; the other address is checked by the kernel.
    let read = unsafe {
        libc::process_vm_readv(child.tgid.cast_signed(), &raw const ours, 1, &raw const theirs, 1, 0)
    };
    assert_eq!(read, 8);
    if !exclusive(child.tgid, lock) {
        crate::skip::skip("this kernel copies nothing for process_vm_readv");
    }
}

#[test]
fn a_look_that_takes_too_much_says_so() {
    let pair = Pair::new();
    let (child, parent) = (pair.key(), pair.parent.key());
    let too_much = |why: &str| assert!(why.contains("looking took too much: "), "{why}");
    let limits = budget::Limits { bytes: 1 << 30, steps: 3, time: Duration::from_secs(60) };
    budget::question(limits, || {
        let request = Request::Locks { child, parent: Some(parent), forked_at: None, forking_tid: None };
        match host::answer(&request) {
            Evidence::Locks { seen: LocksSeen::Unreadable(why), .. } => too_much(&why),
            other => panic!("{other:?}"),
        }
    });
    budget::question(limits, || {
        let stack = host::stack::of_thread(child, child.tgid, Stacks::Light);
        assert!(stack.frames.is_empty());
        too_much(&stack.missing.unwrap());
        let inventory = host::inventory(&host::find(child.tgid).unwrap()).unwrap();
        too_much(&inventory.unknown.first().unwrap().why);
    });
}

#[test]
fn no_look_at_a_script_copies_what_a_fork_shares() {
    let Some(program) = pythons().into_iter().next_back() else {
        return crate::skip::skip("there is no python3 here");
    };
    let python = Python::new(&program);
    // Until it sleeps for good, the parent writes.
    let sleeps = [libc::SYS_clock_nanosleep, libc::SYS_pselect6, SELECT];
    let tid = python.parent.id();
    until(|| {
        Activity::of_thread(tid, tid).ok()?.call().filter(|call| sleeps.contains(&call.number)).copied()
    });
    let child = Stat::of_process(python.child).unwrap().key();
    let parent = Stat::of_process(python.parent.id()).unwrap().key();
    let before = (shared_dirty(child.tgid), exclusives(child.tgid));
    let answers = ask_everything(child, parent, 0);
    let script = answers.iter().find_map(|answer| match answer {
        Evidence::Place { seen: Some(place), .. } => place.script.clone(),
        _ => None,
    });
    assert!(script.is_some(), "{answers:?}");
    assert_eq!((shared_dirty(child.tgid), exclusives(child.tgid)), before);
}
