//! The locks of glibc, its threads and its streams, as they lie in the memory of a process of 64 bits: `bits/struct_mutex.h`,
//! `bits/struct_rwlock.h`, `nptl/pthread_rwlock_common.c`, `nptl/descr.h`, `struct_FILE.h`. The same on x86-64 and arm64 where no more
//! is said.

/// `PTHREAD_MUTEX_KIND_MASK_NP` and the two bits about elision: the plain four types. Robust and priority-inheriting
/// mutexes, and those of several processes, have others (`nptl/pthreadP.h`).
pub const PLAIN_KINDS: u32 = 0x303;
/// `PTHREAD_MUTEX_RECURSIVE_NP`, which alone counts.
const RECURSIVE: u32 = 1;
/// `PTHREAD_MUTEX_ADAPTIVE_NP`, which alone notes how long it spins.
const ADAPTIVE: u32 = 3;
/// Nobody spins for longer (`MAX_ADAPTIVE_COUNT` is 100 by default, and at most 32767).
const MOST_SPINS: u32 = 0x8000;
/// No more threads than this use one lock. Half a pointer to the heap or to a library is no less: then the words belong to
/// a low-level lock, and to another variable behind it, such as the list of interfaces behind glibc's lock around it
/// (`check_pf.c`).
const MOST_USERS: u32 = 0x4000;

/// A low-level lock with waiters, and so a mutex (`sysdeps/nptl/lowlevellock.h`).
pub const LOCKED_WITH_WAITERS: u32 = 2;

/// `PTHREAD_RWLOCK_WRPHASE` and `PTHREAD_RWLOCK_WRLOCKED` of `__readers`.
pub const WRITING: u32 = 3;

/// Words of 32 bits of which a `pthread_mutex_t` has at least as many: lock, count, owner, users, kind, spins, and two
/// pointers.
pub const MUTEX_WORDS: usize = 10;
/// Of a `pthread_rwlock_t`: readers, writers, the two futexes, padding, writer, shared, more padding, flags.
pub const RWLOCK_WORDS: usize = 14;
/// Where the owner stands, in bytes: `__owner` of a mutex.
pub const MUTEX_OWNER: u64 = 8;
/// `__nusers` and `__kind`.
const MUTEX_USERS: i64 = 12;
const MUTEX_KIND: i64 = 16;
/// `__cur_writer` of a read-write lock.
pub const RWLOCK_WRITER: u64 = 24;
/// The words of it that threads wait for: `__wrphase_futex` for the phase to change, `__writers_futex` to become the next
/// writer.
pub const RWLOCK_FUTEXES: [u64; 2] = [8, 12];

/// Where a descriptor of a thread (`struct pthread`) has its own address once more, which it begins with (`tcbhead_t`,
/// `sysdeps/x86_64/nptl/tls.h`). Those of other machines have no such mark.
pub const DESCRIPTOR_SELF: Option<usize> = if cfg!(target_arch = "x86_64") { Some(16) } else { None };
/// Bytes from the tid in it to the list of robust locks that the kernel knows.
pub const TID_BEFORE_ROBUST_LIST: u64 = 16;

/// Whether the words behind a low-level lock are those of a plain mutex that somebody holds, by what stands so many bytes
/// from it: the users are the owner and those who wait on a condition for which they let it go.
pub fn is_mutex(at: impl Fn(i64) -> Option<u32>) -> bool {
    at(MUTEX_USERS).is_some_and(|users| (1..MOST_USERS).contains(&users))
        && at(MUTEX_KIND).is_some_and(|kind| kind & !PLAIN_KINDS == 0)
}

/// The tid of the thread that holds the mutex which these words are; absent where they are no plain mutex that is held.
pub fn mutex_owner(words: &[u32]) -> Option<u32> {
    let [lock, count, owner, users, kind, spins, list @ ..] = words.first_chunk::<MUTEX_WORDS>()?;
    let is_plain = kind & !PLAIN_KINDS == 0;
    let counts = if kind & 3 == RECURSIVE { (1..MOST_USERS).contains(count) } else { *count == 0 };
    let spins = if kind & 3 == ADAPTIVE { *spins < MOST_SPINS } else { *spins == 0 };
    // Only robust ones are in a list.
    let is_mutex = is_plain && counts && spins && *list == [0; 4];
    let is_held = matches!(lock, 1 | 2) && (1..MOST_USERS).contains(users) && *owner != 0;
    (is_mutex && is_held).then_some(*owner)
}

/// `PTHREAD_MUTEX_PSHARED_BIT`: of several processes.
const SHARED: u32 = 128;
/// Words of a `sem_t` (`struct new_sem`, `sysdeps/nptl/internaltypes.h`): value, waiters, and whether it is shared.
pub const SEMAPHORE_WORDS: usize = 4;

/// The tid of the thread that holds the mutex of several processes which these words are; absent where they are no such
/// mutex that is held, or are a robust one.
pub fn shared_mutex_owner(words: &[u32]) -> Option<u32> {
    let mut plain = *words.first_chunk::<MUTEX_WORDS>()?;
    let [_, _, _, _, kind, ..] = &mut plain;
    if *kind & SHARED == 0 {
        return None;
    }
    *kind &= !SHARED;
    mutex_owner(&plain)
}

/// Whether these words are a semaphore of several processes that has nothing to give, and that somebody waits at.
pub fn is_shared_semaphore_at_zero(words: &[u32]) -> bool {
    // `FUTEX_SHARED` is noted as `LLL_SHARED`, which is 128.
    matches!(words.first_chunk::<SEMAPHORE_WORDS>(), Some([0, waiters, SHARED, _]) if (1..MOST_USERS).contains(waiters))
}

/// The tid of the thread that holds the read-write lock which these words are for writing; absent where they are none that
/// is held so.
pub fn rwlock_writer(words: &[u32]) -> Option<u32> {
    let [readers, writers, phase, writers_futex, one, two, writer, shared, rest @ .., flags, last] =
        words.first_chunk::<RWLOCK_WORDS>()?;
    // 1 as long as a writer holds it, with 2 where somebody may wait.
    let futexes = matches!(phase, 1 | 3) && matches!(writers_futex, 0 | 1 | 3);
    let is_writing = readers & WRITING == WRITING && readers >> 3 < MOST_USERS && *writers < MOST_USERS;
    let padding = [*one, *two, *shared, *last] == [0; 4] && *rest == [0; 4];
    (is_writing && futexes && padding && *flags < 4 && *writer != 0).then_some(*writer)
}

/// Bytes of a `FILE` that are read: all up to its descriptor.
pub const STREAM_SIZE: usize = 116;
/// `_IO_MAGIC`, in the upper half of the flags of every `FILE` (`libio/libio.h`).
const STREAM_MAGIC: u32 = 0xfbad_0000;
/// `_IO_UNBUFFERED`, and `_IO_CURRENTLY_PUTTING`: what was written last is output.
const UNBUFFERED: u32 = 0x2;
const PUTTING: u32 = 0x800;

/// A `FILE` (`struct _IO_FILE`, `libio/bits/types/struct_FILE.h`), as it has been since glibc 2.1 on machines of 64 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stream {
    /// Where its output begins that is not written yet, and how many bytes that is.
    pub unwritten: (u64, u64),
    /// Where its buffer begins.
    pub buffer: u64,
    /// The next `FILE` in the list of all; 0 at the end.
    pub next: u64,
    /// The descriptor that it writes to; negative where there is none.
    pub descriptor: i32,
}

impl Stream {
    /// The stream that these bytes are; absent where they are none, or contradict themselves.
    pub fn parse(bytes: &[u8; STREAM_SIZE]) -> Option<Self> {
        let word = |index: usize| bytes.get(index * 8..)?.first_chunk().map(|word| u64::from_ne_bytes(*word));
        let half = |at: usize| bytes.get(at..)?.first_chunk().map(|half| u32::from_ne_bytes(*half));
        let flags = half(0)?;
        if flags & 0xffff_0000 != STREAM_MAGIC {
            return None;
        }
        // After the flags: where reading stands, ends and begins; where writing begins, stands and ends; the buffer's
        // beginning and end; three of putting back; the markers; the next.
        let (base, at, buffer, end) = (word(4)?, word(5)?, word(7)?, word(8)?);
        let is_putting = flags & PUTTING != 0 && flags & UNBUFFERED == 0;
        let is_within = buffer <= base && base <= at && at <= end;
        let length = if is_putting && is_within { at - base } else { 0 };
        let descriptor = half(112)?.cast_signed();
        Some(Self { unwritten: (base, length), buffer, next: word(13)?, descriptor })
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::UnsafeCell, mem::size_of};

    use super::*;

    /// The words of a lock of this process's own.
    fn words<T>(lock: &UnsafeCell<T>) -> Vec<u32> {
        let count = size_of::<T>() / 4;
        // SAFETY: the lock is as long as that, is aligned to 8 bytes, and no other thread writes it.
        unsafe { std::slice::from_raw_parts(lock.get().cast::<u32>().cast_const(), count) }.to_vec()
    }

    fn own_tid() -> u32 {
        nix::unistd::gettid().as_raw().cast_unsigned()
    }

    #[test]
    fn a_mutex_names_its_owner_while_it_is_held() {
        for kind in
            [libc::PTHREAD_MUTEX_NORMAL, libc::PTHREAD_MUTEX_RECURSIVE, libc::PTHREAD_MUTEX_ERRORCHECK, 3]
        {
            let mutex = Box::new(UnsafeCell::new(libc::PTHREAD_MUTEX_INITIALIZER));
            let mut attributes = std::mem::MaybeUninit::uninit();
            // SAFETY: it initialises them.
            unsafe { libc::pthread_mutexattr_init(attributes.as_mut_ptr()) };
            // SAFETY: they are initialised.
            unsafe { libc::pthread_mutexattr_settype(attributes.as_mut_ptr(), kind) };
            // SAFETY: they are initialised, and the mutex lives as long as it is used.
            unsafe { libc::pthread_mutex_init(mutex.get(), attributes.as_ptr()) };
            assert_eq!(mutex_owner(&words(&mutex)), None);
            // SAFETY: it is initialised, and free.
            unsafe { libc::pthread_mutex_lock(mutex.get()) };
            assert_eq!(mutex_owner(&words(&mutex)), Some(own_tid()), "kind {kind}");
            // SAFETY: this thread holds it.
            unsafe { libc::pthread_mutex_unlock(mutex.get()) };
            assert_eq!(mutex_owner(&words(&mutex)), None);
        }
    }

    #[test]
    fn locks_of_several_processes_are_told_from_others() {
        let mutex = [2, 0, 4711, 1, 128, 0, 0, 0, 0, 0];
        assert_eq!((shared_mutex_owner(&mutex), mutex_owner(&mutex)), (Some(4711), None));
        // Robust, one process's alone, and free.
        for (place, value) in [(4, 128 | 16), (4, 0), (0, 0), (2, 0)] {
            let mut other = mutex;
            other[place] = value;
            assert_eq!(shared_mutex_owner(&other), None, "{other:?}");
        }
        assert!(is_shared_semaphore_at_zero(&[0, 2, 128, 0]));
        for other in [[1, 2, 128, 0], [0, 0, 128, 0], [0, 2, 0, 0]] {
            assert!(!is_shared_semaphore_at_zero(&other), "{other:?}");
        }
        assert!(!is_shared_semaphore_at_zero(&[0, 2, 128]));
    }

    #[test]
    fn a_read_write_lock_names_its_writer_alone() {
        let lock = Box::new(UnsafeCell::new(libc::PTHREAD_RWLOCK_INITIALIZER));
        for (writes, expected) in [(false, None), (true, Some(own_tid()))] {
            let take = if writes { libc::pthread_rwlock_wrlock } else { libc::pthread_rwlock_rdlock };
            // SAFETY: it is initialised, free, and lives as long as it is used.
            unsafe { take(lock.get()) };
            assert_eq!(rwlock_writer(&words(&lock)), expected);
            // SAFETY: this thread holds it.
            unsafe { libc::pthread_rwlock_unlock(lock.get()) };
            assert_eq!(rwlock_writer(&words(&lock)), None);
        }
    }

    #[test]
    fn what_only_resembles_a_lock_is_none() {
        let mutex = [1, 0, 4711, 1, 0, 0, 0, 0, 0, 0];
        assert_eq!(mutex_owner(&mutex), Some(4711));
        for (place, value) in
            [(0, 3), (0, 0), (1, 1), (2, 0), (3, 0), (3, 1 << 16), (4, 16), (4, 128), (5, 1), (6, 7)]
        {
            let mut other = mutex;
            other[place] = value;
            assert_eq!(mutex_owner(&other), None, "{other:?}");
        }
        assert_eq!(mutex_owner(&mutex[..9]), None);
        // A low-level lock with a pointer to its owner, as stdio has it.
        assert_eq!(mutex_owner(&[2, 1, 0x740, 0x7f1c, 0, 0, 0, 0, 0, 0]), None);
    }
}
