use super::*;

/// Where the structure begins.
const START: u64 = 0x7000;

/// What becomes of these words, where a thread waits so for the one that is so many bytes from their start.
fn released(words: &[u32], futex: u64, operation: u32, value: u32) -> Result<(Kind, Vec<u32>), NoRelease> {
    let wait = Wait { address: START + futex, operation, value };
    let look = |offset: i64, count: usize| {
        let start = usize::try_from(futex.cast_signed() + offset).ok()? / 4;
        words.get(start..start + count).map(<[u32]>::to_vec)
    };
    let Release { kind, words: changed, ends_call } = release(wait, look)?;
    assert!(!ends_call);
    let mut after = words.to_vec();
    for Word { address, before, after: written, .. } in changed {
        let word = &mut after[usize::try_from(address - START).unwrap() / 4];
        assert_eq!(*word, before);
        *word = written;
    }
    Ok((kind, after))
}

const BITSET: u32 = 0x189;

fn mutex_of(count: u32, users: u32, kind: u32) -> [u32; 10] {
    [2, count, 4711, users, kind, 0, 0, 0, 0, 0]
}

#[test]
fn mutexes_of_the_plain_kinds_are_as_after_unlock() {
    for (count, kind) in [(0, 0), (3, 1), (0, 2), (0, 3), (0, 0x200), (1, 0x101)] {
        let expected = Ok((Kind::Mutex, vec![0, 0, 0, 0, kind, 0, 0, 0, 0, 0]));
        assert_eq!(released(&mutex_of(count, 1, kind), 0, 0x80, 2), expected, "kind {kind}");
    }
    // Threads that wait on a condition are users as well, and stay so.
    let (_, after) = released(&mutex_of(0, 3, 0), 0, 0x80, 2).unwrap();
    assert_eq!(after[..5], [0, 0, 0, 2, 0]);
}

#[test]
fn the_lock_word_of_a_mutex_is_written_last() {
    let words = mutex_of(0, 1, 0);
    let look = |offset: i64, count: usize| (offset == 0).then(|| words[..count].to_vec());
    let release = release(Wait { address: START, operation: 0x80, value: 2 }, look).unwrap();
    assert_eq!(release.words.last().map(|word| (word.name, word.address)), Some(("lock", START)));
}

#[test]
fn other_mutexes_and_locks_that_look_like_one_are_left_alone() {
    // Robust, priority-inheriting and -protecting ones, and those of several processes, by their kinds.
    for kind in [16, 32, 64, 128, 0x404] {
        assert_eq!(released(&mutex_of(0, 1, kind), 0, 0x80, 2), Err(NoRelease::Unknown), "kind {kind}");
    }
    // A robust one waits for its owner's tid.
    assert_eq!(released(&mutex_of(0, 1, 16), 0, 0x80, 0x8000_1267), Err(NoRelease::Robust));
    assert_eq!(released(&mutex_of(0, 1, 0), 0, 0, 2), Err(NoRelease::Shared));
    for words in [
        // A low-level lock, one of stdio's, and glibc's around its list of interfaces.
        [2, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        [2, 1, 0x740, 0x7f1c, 0, 0, 0, 0, 0, 0],
        [2, 0, 0x1000, 0x7f0b, 0, 0, 0, 0, 0, 0],
        // A recursive one that nobody has locked, and one that is held without waiters by now.
        [2, 0, 4711, 1, 1, 0, 0, 0, 0, 0],
        [1, 0, 4711, 1, 0, 0, 0, 0, 0, 0],
        // In a list, as robust ones are.
        [2, 0, 4711, 1, 0, 0, 0x7f00, 0, 0, 0],
    ] {
        assert_eq!(released(&words, 0, 0x80, 2), Err(NoRelease::Unknown), "{words:?}");
    }
    assert_eq!(released(&[2, 0, 4711, 1], 0, 0x80, 2), Err(NoRelease::Unknown), "cut off");
}

#[test]
fn a_semaphore_has_one_more() {
    assert_eq!(released(&[0, 1, 0, 0], 0, BITSET, 0), Ok((Kind::Semaphore, vec![1, 1, 0, 0])));
    assert_eq!(released(&[0, 5, 0, 7], 0, BITSET, 0), Ok((Kind::Semaphore, vec![1, 5, 0, 7])));
    // Posted by now, without waiters, of several processes.
    for words in [[1, 1, 0, 0], [0, 0, 0, 0], [0, 1, 128, 0]] {
        assert_eq!(released(&words, 0, BITSET, 0), Err(NoRelease::Unknown), "{words:?}");
    }
    assert_eq!(released(&[0, 1, 128, 0], 0, 0x109, 0), Err(NoRelease::Shared));
}

fn rwlock(readers: u32, phase: u32, writers_futex: u32, writer: u32, flags: u32) -> [u32; 14] {
    [readers, 0, phase, writers_futex, 0, 0, writer, 0, 0, 0, 0, 0, flags, 0]
}

#[test]
fn a_written_read_write_lock_is_as_after_unlock() {
    // A writer waits, and nobody else.
    let free = (Kind::RwlockWriter, rwlock(1, 1, 0, 0, 0).to_vec());
    assert_eq!(released(&rwlock(3, 1, 3, 4711, 0), 12, BITSET, 3), Ok(free));
    // Two readers wait: the phase is theirs.
    let free = (Kind::RwlockWriter, rwlock(16, 0, 0, 0, 0).to_vec());
    assert_eq!(released(&rwlock(19, 3, 1, 4711, 0), 8, BITSET, 3), Ok(free));
    let both = (Kind::RwlockWriter, rwlock(8, 0, 0, 0, 0).to_vec());
    assert_eq!(released(&rwlock(11, 3, 3, 4711, 0), 12, BITSET, 3), Ok(both));
    let prefers = rwlock(3, 1, 3, 4711, 2);
    assert_eq!(released(&prefers, 12, BITSET, 3), Err(NoRelease::PrefersWriters));
    // Without a writer; and free by now.
    assert_eq!(released(&rwlock(3, 1, 3, 0, 0), 12, BITSET, 3), Err(NoRelease::Unknown));
    assert_eq!(released(&rwlock(1, 1, 0, 0, 0), 12, BITSET, 3), Err(NoRelease::Unknown));
}

#[test]
fn a_read_read_write_lock_goes_to_the_writer_that_waits() {
    let written = (Kind::RwlockReader, rwlock(3, 1, 1, 0, 0).to_vec());
    assert_eq!(released(&rwlock(10, 2, 1, 0, 0), 8, BITSET, 2), Ok(written));
    // Readers that wait for that writer to go first are not kept waiting.
    let (_, after) = released(&rwlock(14, 2, 1, 0, 0), 8, BITSET, 2).unwrap();
    assert_eq!(after[0], 3);
    assert_eq!(released(&rwlock(18, 2, 1, 0, 0), 8, BITSET, 2), Err(NoRelease::Readers(2)));
    assert_eq!(released(&rwlock(10, 2, 1, 0, 1), 8, BITSET, 2), Err(NoRelease::PrefersWriters));
    assert_eq!(released(&rwlock(11, 2, 1, 0, 0), 8, BITSET, 2), Err(NoRelease::Unknown));
}

#[test]
fn a_lock_of_one_word_is_zero() {
    assert_eq!(released(&[2], 0, 0x89, 2), Ok((Kind::Word, vec![0])), "Rust");
    let musl = 0x8000_0010;
    assert_eq!(released(&[musl], 0, 0x80, musl), Ok((Kind::Word, vec![0])), "musl");
    assert_eq!(released(&[0], 0, 0x89, 2), Err(NoRelease::Unknown), "free by now");
}

#[test]
fn what_is_no_lock_is_left_alone() {
    // pthread_once, a barrier of libgomp's, a condition variable of a newer glibc, a join.
    for (operation, value) in [(0x80, 5), (0x80, 8), (0x89, 1), (BITSET, 4)] {
        assert_eq!(released(&[value; 14], 0, operation, value), Err(NoRelease::Unknown));
    }
    assert_eq!(released(&[4711], 0, 265, 4711), Err(NoRelease::Shared), "pthread_join");
    assert_eq!(released(&[], 0, BITSET, 0), Err(NoRelease::Unknown));
}
