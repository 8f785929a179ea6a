//! Which words to write so that a lock is as its own library would have left it on release: from words to words, without
//! I/O.
//!
//! Each kind here was measured: so written, the waiting thread went on and the lock worked afterwards. The structures are
//! glibc's in 64 bits (see [`glibc`]).

pub mod py_mutex;

use serde::{Deserialize, Serialize};

use crate::{host::asleep::Wait, model::glibc};

/// `FUTEX_WAIT_PRIVATE`, `FUTEX_WAIT_BITSET_PRIVATE`, and the flags of an operation (include/uapi/linux/futex.h).
const WAIT_PRIVATE: u32 = 0x80;
const WAIT_BITSET_PRIVATE: u32 = 0x89;
const CLOCK_REALTIME: u32 = 0x100;
/// `FUTEX_WAITERS`: robust and priority-inheriting mutexes keep the owner's tid with it in the word.
const WAITERS: u32 = 0x8000_0000;
/// A plain mutex of musl's that is held and waited for: `EBUSY`, and somebody waits (`src/thread/pthread_mutex_timedlock.c`).
const MUSL_HELD: u32 = WAITERS | 16;
/// What a mutex of Rust's and a low-level lock of glibc's have in common: 2 is "held, and somebody waits".
const CONTENDED: u32 = 2;
/// Of `__readers`: `PTHREAD_RWLOCK_WRPHASE`, `_WRLOCKED`, `_RWAITING`; from there up the number of readers.
const WRITE_PHASE: u32 = 1;
const WRITE_LOCKED: u32 = 2;
const READERS_WAIT: u32 = 4;
const READER_SHIFT: u32 = 3;
/// No lock has more users.
const MOST: u32 = 0x4000;

/// A kind of lock that can be released.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// glibc's `pthread_mutex_t`: normal, recursive, error-checking or adaptive.
    Mutex,
    /// glibc's `sem_t`, which CPython's locks are made of up to 3.13.0.
    Semaphore,
    /// glibc's `pthread_rwlock_t`, held by a writer.
    RwlockWriter,
    /// The same, held by one reader.
    RwlockReader,
    /// A word that is 0 when the lock is free: a mutex of Rust's or musl's.
    Word,
    /// CPython's `PyMutex` in a `Lock` since 3.13.1, and in an `RLock` since 3.14.
    PyMutex,
}

impl Kind {
    /// For a reader.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Mutex => "a pthread mutex",
            Self::Semaphore => "a semaphore",
            Self::RwlockWriter => "a read-write lock that a writer holds",
            Self::RwlockReader => "a read-write lock that a reader holds",
            Self::Word => "a lock of one word",
            Self::PyMutex => "a lock of CPython's",
        }
    }
}

/// A word of a lock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, schemars::JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Word {
    /// What it is, by the name that the library gives it.
    pub name: &'static str,
    /// The address of the word.
    #[serde(serialize_with = "hexadecimal")]
    #[schemars(with = "String")]
    pub address: u64,
    /// The word's value before the release.
    pub before: u32,
    /// The value that it gets.
    pub after: u32,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's serialize_with passes a reference")]
fn hexadecimal<S: serde::Serializer>(address: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&format!("{address:#x}"))
}

/// How a lock is released.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Release {
    /// Which library's lock it is.
    pub kind: Kind,
    /// The words that say so, in the order in which they are written; some stay as they are.
    pub words: Vec<Word>,
    /// Whether the call of the waiting thread is to end with EINTR: who sleeps elsewhere than at the lock would go on
    /// sleeping.
    pub ends_call: bool,
}

/// Why a lock is not released.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoRelease {
    /// Another process may hold it, or use it next.
    #[error("the lock may be shared with other processes (it is waited for by a futex that is not private)")]
    Shared,
    /// What holds for the next owner only the kernel can say.
    #[error("the lock is a robust mutex: its next owner must be told that the last one died (EOWNERDEAD)")]
    Robust,
    /// Several hold it.
    #[error("{0} readers hold the read-write lock, and which of them are gone is not known")]
    Readers(u32),
    /// Its writers are let in first.
    #[error("the read-write lock prefers writers, and how such a one is released was not measured")]
    PrefersWriters,
    /// It may be anything else that threads wait for.
    #[error(
        "the words are of no kind of lock that forkwatch can release (a mutex, semaphore or read-write lock of \
         glibc's, or a Lock or RLock of CPython's): a lock of the C library's own, a condition variable or a barrier are \
         left alone"
    )]
    Unknown,
}

/// How to release the lock that a thread waits for. `look` gives so many words from that many bytes behind the futex word
/// on; nothing where they cannot be read.
pub fn release(wait: Wait, look: impl Fn(i64, usize) -> Option<Vec<u32>>) -> Result<Release, NoRelease> {
    if wait.is_shared() {
        return Err(NoRelease::Shared);
    }
    let look = Look { wait, look: &look };
    match (wait.operation & !CLOCK_REALTIME, wait.value) {
        (WAIT_PRIVATE, CONTENDED) => mutex(&look),
        (WAIT_PRIVATE, MUSL_HELD) => one_word(&look),
        (WAIT_PRIVATE, value) if value & WAITERS != 0 => Err(NoRelease::Robust),
        (WAIT_BITSET_PRIVATE, 0) => semaphore(&look),
        (WAIT_BITSET_PRIVATE, 3) => written(&look),
        // The C library's locks are waited for by the real time.
        (WAIT_BITSET_PRIVATE, CONTENDED) if wait.operation & CLOCK_REALTIME == 0 => one_word(&look),
        (WAIT_BITSET_PRIVATE, CONTENDED) => read(&look),
        _ => Err(NoRelease::Unknown),
    }
}

/// The memory around a futex word.
struct Look<'a> {
    wait: Wait,
    look: &'a dyn Fn(i64, usize) -> Option<Vec<u32>>,
}

impl Look<'_> {
    /// All words of a structure in which the futex word is so many bytes from the start.
    fn structure<const N: usize>(&self, futex: u64) -> Result<[u32; N], NoRelease> {
        let words = (self.look)(-futex.cast_signed(), N).ok_or(NoRelease::Unknown)?;
        let words: [u32; N] = words.try_into().map_err(|_| NoRelease::Unknown)?;
        // It waits for this value, and not for one that was there before.
        let is_still =
            usize::try_from(futex / 4).ok().and_then(|index| words.get(index)) == Some(&self.wait.value);
        if is_still { Ok(words) } else { Err(NoRelease::Unknown) }
    }

    /// A word of that structure.
    fn word(&self, futex: u64, offset: u64, name: &'static str, before: u32, after: u32) -> Word {
        let address = self.wait.address.wrapping_sub(futex).wrapping_add(offset);
        Word { name, address, before, after }
    }
}

/// As `__pthread_mutex_unlock` does (`nptl/pthread_mutex_unlock.c`), of a recursive one as often as it was locked.
fn mutex(look: &Look<'_>) -> Result<Release, NoRelease> {
    let words: [u32; glibc::MUTEX_WORDS] = look.structure(0)?;
    let owner = glibc::mutex_owner(&words).ok_or(NoRelease::Unknown)?;
    let [state, count, _, users, ..] = words;
    let word = |offset, name, before, after| look.word(0, offset, name, before, after);
    Ok(Release {
        kind: Kind::Mutex,
        words: vec![
            word(8, "owner", owner, 0),
            word(12, "users", users, users.saturating_sub(1)),
            word(4, "count", count, 0),
            word(0, "lock", state, 0),
        ],
        ends_call: false,
    })
}

/// As `sem_post` does (`nptl/sem_post.c`).
fn semaphore(look: &Look<'_>) -> Result<Release, NoRelease> {
    let [value, waiters, shared, _]: [u32; glibc::SEMAPHORE_WORDS] = look.structure(0)?;
    if shared != 0 || !(1..MOST).contains(&waiters) {
        return Err(NoRelease::Unknown);
    }
    let word = |offset, name, before, after| look.word(0, offset, name, before, after);
    Ok(Release {
        kind: Kind::Semaphore,
        words: vec![word(4, "waiters", waiters, waiters), word(0, "value", value, value + 1)],
        ends_call: false,
    })
}

/// As `__pthread_rwlock_wrunlock` does for a lock that prefers readers, the default (`nptl/pthread_rwlock_common.c`):
/// where readers wait the phase is theirs next.
fn written(look: &Look<'_>) -> Result<Release, NoRelease> {
    let (futex, words) = glibc::RWLOCK_FUTEXES
        .into_iter()
        .find_map(|futex| {
            let words: [u32; glibc::RWLOCK_WORDS] = look.structure(futex).ok()?;
            glibc::rwlock_writer(&words).map(|_| (futex, words))
        })
        .ok_or(NoRelease::Unknown)?;
    let [readers, _, phase, writers_futex, _, _, writer, .., flags, _] = words;
    if flags != 0 {
        return Err(NoRelease::PrefersWriters);
    }
    let readers_wait = readers >> READER_SHIFT != 0;
    let unlocked = readers & !WRITE_LOCKED;
    let (readers_after, phase_after) =
        if readers_wait { (unlocked & !WRITE_PHASE, 0) } else { (unlocked, phase) };
    let word = |offset, name, before, after| look.word(futex, offset, name, before, after);
    Ok(Release {
        kind: Kind::RwlockWriter,
        words: vec![
            word(glibc::RWLOCK_WRITER, "writer", writer, 0),
            word(12, "writers_futex", writers_futex, 0),
            word(0, "readers", readers, readers_after),
            word(8, "phase_futex", phase, phase_after),
        ],
        ends_call: false,
    })
}

/// As `__pthread_rwlock_rdunlock` does for the last reader, where a writer waits for its turn.
fn read(look: &Look<'_>) -> Result<Release, NoRelease> {
    let [phase_futex, _] = glibc::RWLOCK_FUTEXES;
    let words: [u32; glibc::RWLOCK_WORDS] = look.structure(phase_futex)?;
    let [readers, writers, phase, writers_futex, one, two, writer, shared, rest @ .., flags, last] = words;
    let padding = [one, two, shared, last, writer] == [0; 5] && rest == [0; 4];
    let held = readers >> READER_SHIFT;
    let is_read = readers & (WRITE_PHASE | WRITE_LOCKED) == WRITE_LOCKED && (1..MOST).contains(&held);
    if !is_read || !padding || writers >= MOST || !matches!(writers_futex, 0 | 1 | 3) || flags >= 4 {
        return Err(NoRelease::Unknown);
    }
    if flags != 0 {
        return Err(NoRelease::PrefersWriters);
    }
    if held != 1 {
        return Err(NoRelease::Readers(held));
    }
    let after = (readers - (1 << READER_SHIFT)) & !READERS_WAIT | WRITE_PHASE;
    let word = |offset, name, before, after| look.word(phase_futex, offset, name, before, after);
    Ok(Release {
        kind: Kind::RwlockReader,
        words: vec![word(0, "readers", readers, after), word(phase_futex, "phase_futex", phase, 1)],
        ends_call: false,
    })
}

/// Rust's `std::sync::Mutex` (`library/std/src/sys/sync/mutex/futex.rs`), and musl's plain mutex.
fn one_word(look: &Look<'_>) -> Result<Release, NoRelease> {
    let [state]: [u32; 1] = look.structure(0)?;
    Ok(Release { kind: Kind::Word, words: vec![look.word(0, 0, "lock", state, 0)], ends_call: false })
}

#[cfg(test)]
mod tests;
