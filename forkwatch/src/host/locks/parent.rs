//! The process that forked, beside its child.

use std::{fs, io, mem::MaybeUninit, os::unix::fs::MetadataExt as _};

use super::{
    super::{file, maps::Maps, memory, program::executable, stat::Stat, task},
    Fork,
    threads::Threads,
};
use crate::model::process::ProcessKey;

/// The auxiliary vector has some twenty pairs of words.
const MAX_VECTOR: u64 = 4096;
/// What the kernel draws for a program at its exec.
const RANDOM_BYTES: usize = 16;
/// A list of some thousand children.
const MAX_CHILDREN: u64 = 64 * 1024;

/// The process that forked the child, where it lives.
pub(in crate::host) struct Parent {
    /// Which process: its tgid, and when it started.
    pub(in crate::host) key: ProcessKey,
    /// Whether it still runs the program that it forked.
    pub(in crate::host) comparable: bool,
    /// Its threads that are older than the child.
    pub(in crate::host) threads: Threads,
    /// Its mappings; absent where nothing is to be compared.
    pub(in crate::host) maps: Option<Maps>,
    /// Where it is known that each of its locks was taken by a thread of its own, and none by a thread of a process
    /// that it was itself forked from.
    pub(in crate::host) is_first: bool,
    /// Whether parent and child live in one pid namespace, so that a tid means the same in both.
    pub(in crate::host) shares_ids: bool,
    /// Of its threads, the one that called fork.
    forker: Option<u32>,
}

impl Parent {
    /// Looks for it; absent where it has ended, or nobody knows which it was.
    pub(in crate::host) fn of(child: &Stat, fork: &Fork) -> Option<Self> {
        let stat = Stat::of_process(fork.parent.map_or(child.parent, |parent| parent.tgid)).ok()?;
        let comparable = runs_the_same(child.id, stat.id).unwrap_or_default();
        let is_it = fork.parent.map_or_else(
            // A child whose parent has ended belongs to another process, which need not even be related to it.
            || comparable && task::is_older(&stat, fork.began(), child.id),
            |parent| stat.is(parent),
        );
        if !is_it || stat.process_has_ended() {
            return None;
        }
        let mut older = task::user_threads(stat.id).ok()?;
        older.retain(|thread| task::is_older(thread, fork.began(), child.id));
        let threads = Threads::new(&stat, older).ok()?;
        let forker = forker(child.id, comparable, fork.forking_tid, &threads.all);
        Some(Self {
            key: fork.parent.unwrap_or_else(|| stat.key()),
            comparable,
            maps: if comparable { Maps::of_process(stat.id).ok() } else { None },
            is_first: fork.parent.is_some() && !stat.is_unexeced(),
            shares_ids: pid_namespace(child.id).is_some_and(|ours| pid_namespace(stat.id) == Some(ours)),
            threads,
            forker,
        })
    }

    /// Whether it is still there, and still what it was.
    pub(super) fn is_unchanged(&self, child: &Stat) -> bool {
        Stat::lives(self.key) && runs_the_same(child.id, self.key.tgid).unwrap_or_default() == self.comparable
    }

    /// Whether it is known to have taken the child over from another process, as init and subreapers do.
    pub(super) fn has_adopted(&self, child: &Stat) -> bool {
        self.key.tgid == child.parent && is_adopted(child, &self.threads)
    }

    /// The thread that called fork, where it lives.
    pub(in crate::host) fn forker(&self) -> Option<&Stat> {
        self.threads.all.iter().find(|thread| Some(thread.id) == self.forker)
    }

    /// How many others there are beside that one.
    pub(super) fn others(&self) -> u32 {
        let forker = usize::from(self.forker().is_some());
        u32::try_from(self.threads.all.len().saturating_sub(forker)).unwrap_or(u32::MAX)
    }
}

/// Whether two processes run one program since one exec: the kernel draws the addresses in the auxiliary vector anew
/// at each, and 16 random bytes that it points to (`create_elf_tables`, `fs/binfmt_elf.c`). It does not tell which of
/// two such processes forked the other.
fn runs_the_same(child: u32, parent: u32) -> io::Result<bool> {
    let vector = |tgid: u32| file::read(format!("/proc/{tgid}/auxv"), MAX_VECTOR);
    let ours = vector(child)?;
    if executable(child)? != executable(parent)? || ours != vector(parent)? {
        return Ok(false);
    }
    let Some(address) = random_bytes(&ours) else { return Ok(false) };
    let drawn = |tgid: u32| memory::there::<RANDOM_BYTES>(tgid, address);
    Ok(drawn(child).is_some_and(|ours| drawn(parent) == Some(ours)))
}

/// Where the vector says that the random bytes are.
fn random_bytes(vector: &[u8]) -> Option<u64> {
    let (words, _) = vector.as_chunks::<8>();
    let (pairs, _) = words.as_chunks::<2>();
    let pair = pairs.iter().find(|[kind, _]| u64::from_ne_bytes(*kind) == libc::AT_RANDOM);
    pair.map(|[_, value]| u64::from_ne_bytes(*value))
}

/// Which pid namespace a process gives its ids in.
fn pid_namespace(tgid: u32) -> Option<(u64, u64)> {
    fs::metadata(format!("/proc/{tgid}/ns/pid")).ok().map(|file| (file.dev(), file.ino()))
}

/// Whether a process has taken this child over from another. The kernel lists children as they come, so that its own
/// stand in the order of their birth; one that is adopted comes late (`forget_original_parent`, kernel/exit.c). Where it
/// has forked none meanwhile, that does not show.
fn is_adopted(child: &Stat, threads: &Threads) -> bool {
    threads.all.iter().any(|thread| {
        let list = file::read(format!("/proc/{}/task/{}/children", threads.process, thread.id), MAX_CHILDREN);
        let text = list.map(|list| String::from_utf8_lossy(&list).into_owned()).unwrap_or_default();
        let before = text
            .split_ascii_whitespace()
            .filter_map(|pid| pid.parse::<u32>().ok())
            .take_while(|pid| *pid != child.id)
            .last();
        let found = text.split_ascii_whitespace().any(|pid| pid.parse() == Ok(child.id));
        let elder = before.filter(|_| found).and_then(|pid| Stat::of_process(pid).ok());
        elder.is_some_and(|elder| elder.start > child.start)
    })
}

/// The thread that the child's main thread is a copy of. glibc gives each thread a list of robust locks within the
/// structure that it knows the thread by, and the one of the child's main thread is its forker's: fork registers it
/// anew (`_Fork`, nptl). Other libraries register none, and note no owners where glibc does.
fn forker(child: u32, comparable: bool, told: Option<u32>, threads: &[Stat]) -> Option<u32> {
    if told.is_some() || !comparable {
        return told;
    }
    let list = robust_list(child)?;
    threads.iter().find(|thread| robust_list(thread.id) == Some(list)).map(|thread| thread.id)
}

/// Whether the C library has given the child's main thread its own tid, as glibc's `fork(3)` does. After a bare
/// `clone(2)`, at which the kernel drops the list, the thread goes on to mark what it locks with its forker's.
pub(super) fn main_thread_is_renewed(child: u32) -> bool {
    robust_list(child).is_some()
}

/// The address of a thread's list of robust locks (`get_robust_list(2)`); absent where it has none.
pub(in crate::host) fn robust_list(tid: u32) -> Option<usize> {
    let tid = libc::pid_t::try_from(tid).ok()?;
    let mut head = MaybeUninit::<usize>::zeroed();
    let mut length = MaybeUninit::<usize>::zeroed();
    // SAFETY: the kernel writes an address and a length, each of this size, and nothing else.
    let result =
        unsafe { libc::syscall(libc::SYS_get_robust_list, tid, head.as_mut_ptr(), length.as_mut_ptr()) };
    // SAFETY: it is initialised in any case, with zero, and every bit pattern is a number.
    let head = unsafe { head.assume_init() };
    (result == 0 && head != 0).then_some(head)
}
