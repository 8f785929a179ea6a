//! Who holds a lock: the thread that a word beside the futex names.

use super::{
    super::{file, futex::EndlessWait},
    Fork,
    parent::{Parent, main_thread_is_renewed},
    threads::Threads,
};
use crate::model::{
    glibc::{MUTEX_OWNER, RWLOCK_FUTEXES, RWLOCK_WRITER, is_mutex},
    lock::{Holder, Words},
    thread::SeenThread,
};

/// Where glibc would have noted an owner, in bytes from the futex word; nowhere if it is no lock of glibc's that has
/// one, as far as that can be told. To a word of another kind of lock the number of a thread is as good as any other,
/// least of all in a container, where tids are small.
fn owner_offsets(wait: &EndlessWait, words: &Words) -> Vec<u64> {
    if wait.is_for_mutex() {
        // In stdio's locks there is a pointer instead.
        if is_mutex(|offset| words.at(offset)) { vec![MUTEX_OWNER] } else { Vec::new() }
    } else if (wait.operation, wait.value) == (RWLOCK_WAIT, 3) {
        // 1 as long as there is a writer, and 2 as somebody waits.
        RWLOCK_FUTEXES.iter().rev().map(|futex| RWLOCK_WRITER - futex).collect()
    } else {
        Vec::new()
    }
}

/// `FUTEX_WAIT_BITSET`, private, with `FUTEX_CLOCK_REALTIME`.
const RWLOCK_WAIT: u32 = 393;

/// What is known of each thread that these words name.
pub(super) fn holders(
    wait: &EndlessWait,
    words: &Words,
    child: &Threads,
    parent: Option<&Parent>,
    fork: &Fork,
) -> Vec<Holder> {
    // Of threads that were not listed nothing is known, and an owner among them would seem to be missing.
    if child.cut {
        return Vec::new();
    }
    let highest = pid_max();
    let same_ids = parent.map_or(!child.namespaced, |parent| parent.shares_ids);
    let renewed = main_thread_is_renewed(child.process);
    owner_offsets(wait, words)
        .into_iter()
        .filter_map(|offset| Some((u32::try_from(offset).ok()?, words.at(offset.cast_signed())?)))
        .filter(|(_, word)| (1..=highest).contains(word))
        .map(|(offset, named)| {
            let in_parent =
                parent.filter(|parent| parent.comparable).and_then(|parent| parent.threads.named(named));
            let is_forker = match parent {
                Some(parent) => is_forker(named, parent, fork),
                // Of a parent that has ended no more is known than the name that its forker had outside.
                None => (!child.namespaced && fork.forking_tid == Some(named)).then_some(true),
            };
            Holder {
                named,
                offset,
                in_child: child.named(named).is_some(),
                is_forker,
                in_parent: in_parent.map(|thread| SeenThread { tid: thread.id, comm: thread.comm }),
                is_from_before: match is_forker {
                    // Of the forker's name the child's main thread may be another bearer.
                    Some(true) => same_ids && renewed,
                    Some(false) => same_ids && in_parent.is_some(),
                    None => same_ids && in_parent.is_some() && renewed,
                },
                is_older: same_ids.then_some(named < child.own_id),
            }
        })
        .collect()
}

/// Whether the thread of that name is the one that called fork. A name that no thread of the parent has may be that of
/// a thread that has ended; but in a parent that was itself forked it may also be an older name of the forker.
fn is_forker(named: u32, parent: &Parent, fork: &Fork) -> Option<bool> {
    let forker = parent.forker();
    if let Some(thread) = parent.threads.named(named).filter(|_| parent.comparable) {
        return forker.map(|forker| forker.id).or(fork.forking_tid).map(|forker| forker == thread.id);
    }
    let ended_by_that_name =
        forker.is_none() && !parent.threads.namespaced && fork.forking_tid == Some(named);
    if ended_by_that_name {
        return Some(true);
    }
    let another = parent.is_first && !parent.threads.cut && (forker.is_some() || fork.forking_tid.is_some());
    another.then_some(false)
}

/// No tid is as high as this.
fn pid_max() -> u32 {
    let text = file::read_small("/proc/sys/kernel/pid_max").ok();
    let number = text.and_then(|text| std::str::from_utf8(&text).ok()?.trim().parse().ok());
    // PID_MAX_LIMIT of 64-bit kernels (include/linux/threads.h).
    number.unwrap_or(4 * 1024 * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offsets(operation: u32, value: u32, after: [u32; 5]) -> Vec<u64> {
        let mut words = Words::from([0xdead; Words::COUNT]);
        words.0[4..9].copy_from_slice(&after.map(Some));
        owner_offsets(&EndlessWait { address: 64, operation, value }, &words)
    }

    #[test]
    fn owners_stand_where_glibc_notes_them_and_nowhere_else() {
        assert_eq!(offsets(128, 2, [2, 0, 4711, 1, 0]), [8]);
        assert_eq!(offsets(128, 2, [2, 1, 4711, 9, 0x101]), [8], "recursive, with waiters on its condition");
        assert_eq!(offsets(393, 3, [3, 1, 0, 0, 4711]), [12, 16]);
        let none: [u64; 0] = [];
        assert_eq!(offsets(128, 2, [2, 1, 0x740, 0x7f1c, 0]), none, "stdio's owner is a pointer");
        assert_eq!(offsets(128, 2, [2, 0, 0, 0, 0]), none, "without an owner");
        assert_eq!(offsets(393, 0, [0, 1, 0, 0, 0]), none, "a semaphore");
        assert_eq!(offsets(128, 8, [8, 0, 2, 1, 0]), none, "a barrier of libgomp");
        assert_eq!(offsets(137, 2, [2, 0, 7, 1, 0]), none, "a mutex of Rust's");
    }
}
