//! Who holds a lock: the thread that a word beside the futex names.

use super::{super::file, Fork, parent::Parent, threads::Threads};
use crate::model::{
    evidence::SeenThread,
    lock::{Holder, Words},
};

/// Where glibc notes an owner, in bytes from the futex word: `__owner` of a mutex, and `__cur_writer` of a read-write
/// lock from its `__writers_futex` and its `__wrphase_futex` (`struct __pthread_mutex_s` and
/// `struct __pthread_rwlock_arch_t`, bits/struct_mutex.h and bits/struct_rwlock.h).
const OWNER_OFFSETS: [u32; 3] = [8, 12, 16];

/// What is known of each thread that these words name.
pub(super) fn holders(words: &Words, child: &Threads, parent: Option<&Parent>, fork: &Fork) -> Vec<Holder> {
    // Of threads that were not listed nothing is known, and an owner among them would seem to be missing.
    if child.cut {
        return Vec::new();
    }
    let highest = pid_max();
    OWNER_OFFSETS
        .into_iter()
        .filter_map(|offset| Some((offset, words.at(i64::from(offset))?)))
        .filter(|(_, word)| (1..=highest).contains(word))
        .map(|(offset, named)| {
            let in_parent =
                parent.filter(|parent| parent.comparable).and_then(|parent| parent.threads.named(named));
            Holder {
                named,
                offset,
                in_child: child.named(named).is_some(),
                is_forker: match parent {
                    Some(parent) => is_forker(named, parent, fork),
                    // Of a parent that has ended no more is known than the name that its forker had outside.
                    None => (!child.namespaced && fork.forking_tid == Some(named)).then_some(true),
                },
                in_parent: in_parent.map(|thread| SeenThread { tid: thread.id, comm: thread.comm }),
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
