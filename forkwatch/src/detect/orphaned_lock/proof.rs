//! Whether a wait can ever end: what the words of a lock and the threads around it prove.
//!
//! Only private futexes come here: without a timeout, but for those of threads that spin. Offsets count from the futex
//! word; the structures are glibc's
//! (`struct_mutex.h`, `struct_rwlock.h`, `semaphore.h` under `sysdeps/`), in 64 bits.

use std::{cmp::Reverse, time::Duration};

use crate::model::{
    facts::Proof,
    finding::Certainty,
    glibc::{self, LOCKED_WITH_WAITERS, MUTEX_OWNER, RWLOCK_FUTEXES, RWLOCK_WRITER, WRITING},
    held_lock::{AtFork, HeldLocks},
    lock::{Holder, LockWait, Locks, Parked, Words},
    process::ProcessKey,
    signals::SignalSet,
    thread::SeenThread,
};

/// `FUTEX_WAIT_PRIVATE`.
const WAIT_PRIVATE: u32 = 0x80;
/// `FUTEX_WAIT_BITSET_PRIVATE`; glibc adds `FUTEX_CLOCK_REALTIME` where it passes no timeout.
const WAIT_BITSET_PRIVATE: u32 = 0x89;
const CLOCK_REALTIME: u32 = 0x100;

/// Handlers of these wake nobody on purpose: faults of the thread itself, and glibc's own signals (`nptl/pthreadP.h`).
const NO_CATCHERS: [u32; 8] = [4, 5, 7, 8, 11, 31, 32, 33];
/// CPython installs a handler for it in every program.
const SIGINT: u32 = 2;

/// A child whose threads wait, with what is known of its fork.
#[derive(Clone, Copy)]
pub struct Case<'a> {
    /// The forked child: its tgid, and when it started.
    pub child: ProcessKey,
    /// What its threads wait for.
    pub locks: &'a Locks,
    /// Whether a fork on the way to it left threads behind; absent where that is not known.
    pub left_threads_behind: Option<bool>,
    /// Threads that the parent had at the fork and some time later, where they were looked at; not the forking one.
    pub parent_threads: &'a [SeenThread],
    /// The locks that it was seen to carry right after the fork, where it was looked for them.
    pub held: Option<&'a HeldLocks>,
}

/// A wait that nobody can end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Proven {
    /// What proves it.
    pub proof: Proof,
    /// How sure that is.
    pub certainty: Certainty,
    /// Which of [`Locks::waits`].
    pub wait: usize,
    /// The tid that the lock names as its owner.
    pub owner: Option<u32>,
    /// That thread in the parent, where it lives still or was seen at the fork.
    pub owner_thread: Option<SeenThread>,
    /// What the parent's copy of the lock says.
    pub copy: ParentCopy,
    /// What the lock was seen to be right after the fork.
    pub at_fork: Option<AtFork>,
}

/// What a parent's copy of a lock says of the fork.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParentCopy {
    /// The same lock is held there: so it was at the fork, as far as can be told.
    Held,
    /// The same lock is free there: it was held at the fork and has been released since, or it was free and the child
    /// itself has taken it.
    Free,
    /// Nothing: the parent has no such lock there, or its memory cannot be compared.
    Silent,
}

impl Proven {
    /// How long the wait must have been seen without a change before it is reported, in terms of the time for the
    /// proofs that name an owner.
    pub fn patience(&self, stuck_after: Duration) -> Duration {
        match (self.proof, self.certainty) {
            (Proof::Queue, _) | (Proof::Owner | Proof::Differential, Certainty::Heuristic) => {
                stuck_after * 30
            }
            (Proof::Owner | Proof::SelfOwned, _) => stuck_after,
            // Within the 10 s after which some servers kill a worker.
            (Proof::NoCatcher | Proof::Differential | Proof::HeldAtFork, _) if self.was_held() => {
                stuck_after * 5 / 2
            }
            // Within the 30 s after which gunicorn, by default, does.
            (Proof::NoCatcher | Proof::Differential | Proof::HeldAtFork | Proof::Frames, _) => {
                stuck_after * 10
            }
        }
    }

    /// The owner's tid in the root pid namespace, where it lives in the parent.
    pub fn owner_in_parent(&self) -> Option<u32> {
        self.owner_thread.map(|thread| thread.tid)
    }

    /// The same, with what an earlier look at the same wait has shown: a lock that the parent has ever had free while the
    /// child waited may have been free at the fork as well.
    #[must_use]
    pub fn after(self, earlier: &Self) -> Self {
        let was_free = earlier.copy == ParentCopy::Free && self.copy == ParentCopy::Held;
        Self { copy: if was_free { ParentCopy::Free } else { self.copy }, ..self }
    }

    /// Whether it was held at the fork, as far as can be told: by what was seen right after it, or else by the parent's
    /// copy.
    pub fn was_held(&self) -> bool {
        self.at_fork.map_or(self.copy == ParentCopy::Held, |at_fork| at_fork == AtFork::Held)
    }

    /// Whether one story alone fits, in which the fork is to blame.
    pub(super) fn is_settled(&self, locks: &Locks, queue: usize) -> bool {
        match self.proof {
            // A thread that is gone everywhere may have been one of the child's own.
            Proof::Owner => self.certainty > Certainty::Heuristic,
            // A child that was cloned without the C library may have taken it since, under its forker's name.
            Proof::SelfOwned => self.certainty == Certainty::Certain,
            Proof::NoCatcher | Proof::Differential => self.was_held() && locks.threads == 1,
            Proof::HeldAtFork => true,
            // What is waited for says it: see `lost_thread`.
            Proof::Frames => false,
            // Of the child's other threads one may hold it.
            Proof::Queue => self.copy == ParentCopy::Held && locks.threads as usize == queue,
        }
    }
}

/// What proves that a thread of this child waits for ever; the surest proof where there are several.
pub fn prove(case: &Case<'_>) -> Option<Proven> {
    if case.locks.stopped {
        return None;
    }
    // Of one that spins the words say nothing that is known here.
    let waits = || case.locks.waits.iter().enumerate().filter(|(_, wait)| !is_shared(wait) && !wait.spins);
    let owned = waits().filter_map(|(index, wait)| by_owner(case, index, wait));
    let alone = waits().filter_map(|(index, wait)| alone(case, index, wait));
    let inherited = waits().filter_map(|(index, wait)| by_inventory(case, index, wait));
    let queues = waits().filter_map(|(index, wait)| queued(case, index, wait));
    // Of those that are equally sure, the first says most.
    owned
        .chain(alone)
        .chain(inherited)
        .chain(queues)
        .reduce(|best, next| if next.certainty > best.certainty { next } else { best })
}

/// The word may be another process's, whatever the operation says.
fn is_shared(wait: &LockWait) -> bool {
    wait.mapping.as_ref().is_some_and(|mapping| mapping.shared)
        || wait.lock_mapping().is_some_and(|mapping| mapping.shared)
}

/// The lock names its owner, and that is a thread which did not come along.
fn by_owner(case: &Case<'_>, index: usize, wait: &LockWait) -> Option<Proven> {
    let holder = owner(wait)?;
    if holder.in_child {
        return None;
    }
    let is_alone = case.locks.threads == 1;
    let is_main = wait.tid == case.child.tgid;
    let seen_at_fork = || case.parent_threads.iter().find(|thread| thread.tid == holder.named).copied();
    let thread = holder.in_parent.or_else(seen_at_fork);
    // Where another can have written that name, after the fork, it proves less.
    let sure = if holder.is_from_before { Certainty::Certain } else { Certainty::Strong };
    let (proof, certainty) = match (holder.is_forker, thread) {
        // The forking thread goes on as the child's main thread: what it holds, that may release.
        (Some(true), _) if is_alone || is_main => (Proof::SelfOwned, sure),
        (Some(false), Some(_)) => (Proof::Owner, sure),
        // It may have been the forking thread, and in a child of several threads go on as another than the waiter. And
        // the child's main thread may bear its name, where it was cloned without the C library.
        (None, Some(_)) if is_alone || is_main => {
            (Proof::Owner, if holder.is_from_before { sure } else { Certainty::Heuristic })
        }
        // Nobody of this name is left anywhere. In a child of one thread that is proof enough that nobody holds it; but
        // one whose tid is higher than the child's was most likely a thread of the child, and no fork is to blame.
        (None | Some(false), None) if is_alone && case.left_threads_behind != Some(false) => {
            let is_own = holder.is_older == Some(false);
            (Proof::Owner, if is_own { Certainty::Heuristic } else { Certainty::Strong })
        }
        // Nor in one of several: a tid from before the child is no thread of its own. But it may be an older name of the
        // forker's, under which the child's main thread still holds the lock while another waits.
        (None | Some(false), None)
            if holder.is_older == Some(true) && case.left_threads_behind != Some(false) =>
        {
            let is_no_forker = holder.is_forker == Some(false) || is_main;
            (Proof::Owner, if is_no_forker { Certainty::Strong } else { Certainty::Heuristic })
        }
        _ => return None,
    };
    let (owner, copy) = (Some(holder.named), ParentCopy::Silent);
    Some(Proven { proof, certainty, wait: index, owner, owner_thread: thread, copy, at_fork: None })
}

/// Who owns the lock, where it is of a kind that says.
fn owner(wait: &LockWait) -> Option<Holder> {
    let words = wait.words.as_ref()?;
    let named_at =
        |offset: u64| wait.holders.iter().find(|holder| u64::from(holder.offset) == offset).copied();
    if is_mutex(wait, words) {
        return named_at(MUTEX_OWNER);
    }
    if !is_bitset(wait) {
        return None;
    }
    // A reader or writer that waits for a writer.
    RWLOCK_FUTEXES.into_iter().find_map(|futex| {
        let readers = words.at(-futex.cast_signed())?;
        (readers & WRITING == WRITING).then(|| named_at(RWLOCK_WRITER - futex)).flatten()
    })
}

/// A `pthread_mutex_t` of the common kinds. Robust, priority-inheriting and process-shared ones wait otherwise.
fn is_mutex(wait: &LockWait, words: &Words) -> bool {
    is_contended_lock(wait, words) && glibc::is_mutex(|offset| words.at(offset))
}

/// A low-level lock that somebody holds and others wait for. Condition variables may have the same value, but wait by
/// bitset.
fn is_contended_lock(wait: &LockWait, words: &Words) -> bool {
    wait.operation == WAIT_PRIVATE
        && wait.value == LOCKED_WITH_WAITERS
        && words.at(0) == Some(LOCKED_WITH_WAITERS)
}

const fn is_bitset(wait: &LockWait) -> bool {
    wait.operation & !CLOCK_REALTIME == WAIT_BITSET_PRIVATE
}

/// The only thread of a child waits, for what another one would have to bring.
///
/// A lock without an owner does not say who took it. The waiting thread itself may have, since the fork, and wait for
/// itself now: so this is never certain.
fn alone(case: &Case<'_>, index: usize, wait: &LockWait) -> Option<Proven> {
    let Locks { threads: 1, python, .. } = *case.locks else { return None };
    // Where the forker was alone, nobody was left behind, and it waits for something else. And where the lock names its
    // owner, `by_owner` has decided.
    if case.left_threads_behind == Some(false) || owner(wait).is_some() {
        return None;
    }
    let (copy, at_fork) = (copy_in_parent(case, wait), at_fork(case, wait));
    let catches = !nobody_catches(case.locks);
    // The child itself has taken it: no fork is to blame.
    if at_fork == Some(AtFork::Free) {
        let proof = if catches { Proof::Differential } else { Proof::NoCatcher };
        let certainty = Certainty::Heuristic;
        return Some(Proven {
            proof,
            certainty,
            wait: index,
            owner: None,
            owner_thread: None,
            copy,
            at_fork,
        });
    }
    let seen = if at_fork == Some(AtFork::Held) { ParentCopy::Held } else { copy };
    let (proof, certainty) = match (!catches, seen) {
        // A semaphore that it has made itself since the fork: it may be parked on it until it is killed.
        (true, ParentCopy::Silent) if is_semaphore(wait) || !forker_had_threads(case) => {
            (Proof::NoCatcher, Certainty::Heuristic)
        }
        (true, _) => (Proof::NoCatcher, Certainty::Strong),
        // A semaphore is what a handler may post (signal-safety(7)): the child may be parked until one does. CPython's
        // locks are made of them, but no handler has any business with those; nor with any other lock.
        (false, ParentCopy::Held | ParentCopy::Free) if is_semaphore(wait) && !python => {
            (Proof::Differential, Certainty::Heuristic)
        }
        (false, ParentCopy::Held | ParentCopy::Free) => (Proof::Differential, Certainty::Strong),
        (false, ParentCopy::Silent) => return None,
    };
    Some(Proven { proof, certainty, wait: index, owner: None, owner_thread: None, copy, at_fork })
}

/// A thread among others waits for a lock of CPython's that was seen held right after the fork, in the parent as well. Its
/// calls will say whether it wants the lock, or is parked at one in whose place it lies.
///
/// Never certain: such a lock may be a gate that another thread of the child is to open, or a signal handler.
fn by_inventory(case: &Case<'_>, index: usize, wait: &LockWait) -> Option<Proven> {
    let at_fork = at_fork(case, wait).filter(|at_fork| *at_fork == AtFork::Held)?;
    let is_among_others = case.locks.threads > 1 && case.left_threads_behind != Some(false);
    is_among_others.then(|| Proven {
        proof: Proof::HeldAtFork,
        certainty: Certainty::Strong,
        wait: index,
        owner: None,
        owner_thread: None,
        copy: copy_in_parent(case, wait),
        at_fork: Some(at_fork),
    })
}

/// What a look right after the fork says of the lock that a thread wants, where that is one of CPython's.
fn at_fork(case: &Case<'_>, wait: &LockWait) -> Option<AtFork> {
    if !case.locks.python || !is_semaphore(wait) {
        return None;
    }
    case.held?.at_fork(wait.lock())
}

/// Whether the process that forked the child had other threads, as far as is known.
pub(super) fn forker_had_threads(case: &Case<'_>) -> bool {
    case.left_threads_behind == Some(true)
        || case.left_threads_behind.is_none()
            && case.locks.comparable
            && case.locks.parent_threads.is_some_and(|threads| threads > 0)
}

/// A wait of which the words prove nothing: what the thread waits for only its calls may tell. The longest such of a
/// child that was forked beside threads.
pub(super) fn unexplained(case: &Case<'_>) -> Option<Proven> {
    if case.locks.stopped || case.left_threads_behind == Some(false) || !forker_had_threads(case) {
        return None;
    }
    let is_open = |wait: &LockWait| {
        let is_stdio =
            wait.words.is_some_and(|words| is_contended_lock(wait, &words) && has_owner_pointer(&words));
        !is_shared(wait) && (wait.spins || owner(wait).is_none()) && !is_stdio
    };
    let open = case.locks.waits.iter().enumerate().filter(|(_, wait)| is_open(wait));
    // The one that has waited longest; of several, or where the kernel does not tell, the oldest thread's. One that spins
    // comes last: of it nobody knows how long.
    let (index, wait) = open.min_by_key(|(_, wait)| (wait.spins, Reverse(wait.slept)))?;
    Some(Proven {
        proof: Proof::Frames,
        certainty: Certainty::Heuristic,
        wait: index,
        owner: None,
        owner_thread: None,
        copy: copy_in_parent(case, wait),
        at_fork: at_fork(case, wait),
    })
}

/// What the parent's copy of a lock says of it, where the parent may be compared.
fn copy_in_parent(case: &Case<'_>, wait: &LockWait) -> ParentCopy {
    if case.locks.comparable { parent_copy(wait) } else { ParentCopy::Silent }
}

/// Whether what a thread waits for was there before the fork.
pub(super) fn is_inherited(case: &Case<'_>, wait: &LockWait) -> bool {
    let (words, parent) = wait.lock_words();
    let place = || Some(is_same_place(wait, &words?, &parent?));
    copy_in_parent(case, wait) != ParentCopy::Silent || case.locks.comparable && place().unwrap_or_default()
}

/// Whether a word is that of a lock, which nobody waits for in order to be told of something: glibc's; that of a mutex of
/// Rust's (`library/std/src/sys/sync/mutex/futex.rs`), which is 2 as well, and waited for by bitset; or one of a
/// read-write lock, which is 3 (`nptl/pthread_rwlock_common.c`).
pub(super) fn is_lock(wait: &LockWait) -> bool {
    let Some(words) = wait.words else { return false };
    let is_still = words.at(0) == Some(wait.value);
    let is_of_rust = wait.operation == WAIT_BITSET_PRIVATE && wait.value == 2;
    let is_rwlock = wait.operation == WAIT_BITSET_PRIVATE | CLOCK_REALTIME && wait.value == 3;
    is_contended_lock(wait, &words) || is_still && (is_of_rust || is_rwlock)
}

/// Whether a child has no thread that could end this wait: it has one only, or all of them wait for the same.
pub(super) fn wait_alone(locks: &Locks, wait: &LockWait) -> bool {
    let same = locks.waits.iter().filter(|other| other.address == wait.address && !other.spins);
    same.count() >= locks.threads as usize
}

/// Whether nothing but another thread could end a wait: no signal handler, nor anything else that runs in the child.
pub(super) fn nobody_catches(locks: &Locks) -> bool {
    locks.caught.without(no_catchers(locks.python)).is_empty()
}

fn no_catchers(python: bool) -> SignalSet {
    let ours = if python { SignalSet::of(&[SIGINT]) } else { SignalSet::EMPTY };
    SignalSet::of(&NO_CATCHERS).or(ours)
}

/// `sem_t` of one process: value, waiters, private, padding; CPython's locks are such.
pub(super) fn is_semaphore(wait: &LockWait) -> bool {
    wait.value == 0
        && is_bitset(wait)
        && wait.words.is_some_and(|words| {
            words.at(0) == Some(0)
                && words.at(4).is_some_and(|waiters| waiters >= 1)
                && words.at(8) == Some(0)
        })
}

/// Whether the parent has the same lock at the same place, so that it was made before the fork; and whether it is held
/// there.
fn parent_copy(wait: &LockWait) -> ParentCopy {
    if let Some(parked) = &wait.parked {
        return parked_copy(parked);
    }
    let (Some(words), Some(parent)) = (wait.words, wait.parent_words) else { return ParentCopy::Silent };
    let small = |word: Option<u32>, most: u32| word.is_some_and(|word| word <= most);
    let same = |offset: i64| words.at(offset) == parent.at(offset);
    let (fits, is_held) = if is_semaphore(wait) {
        (
            small(parent.at(0), 1) && small(parent.at(4), 0xffff) && same(8) && same(12),
            parent.at(0) == Some(0),
        )
    } else {
        (is_contended_lock(wait, &words) && small(parent.at(0), LOCKED_WITH_WAITERS), parent.at(0) != Some(0))
    };
    match fits && is_same_place(wait, &words, &parent) {
        true if is_held => ParentCopy::Held,
        true => ParentCopy::Free,
        false => ParentCopy::Silent,
    }
}

/// The same of a lock of one byte. What stands before it is the type of the object that it belongs to, or another part of
/// that.
fn parked_copy(parked: &Parked) -> ParentCopy {
    /// `_Py_LOCKED`, and all that the byte may be.
    const LOCKED: u8 = 1;
    const MOST: u8 = 3;
    let Some(parent) = parked.parent_words else { return ParentCopy::Silent };
    let same = |offset: i64| parked.words.at(offset) == parent.at(offset);
    let is_same_object = same(-8) && same(-4) && parked.words.at(-8).is_some_and(|word| word != 0);
    match (is_same_object, parked.byte(&parent)) {
        (true, byte) if byte <= MOST && byte & LOCKED != 0 => ParentCopy::Held,
        (true, byte) if byte <= MOST => ParentCopy::Free,
        _ => ParentCopy::Silent,
    }
}

/// Memory that is zero in the parent may never have been a lock there: what stands before it, such as the size of the
/// allocation (malloc's chunk header), must be the same too. Of a file's data that goes without saying.
fn is_same_place(wait: &LockWait, words: &Words, parent: &Words) -> bool {
    let same = |offset: i64| words.at(offset) == parent.at(offset);
    let is_static = wait.lock_mapping().is_some_and(|mapping| mapping.name.starts_with('/'));
    let before = [-16, -12, -8, -4];
    let is_same_place = before.iter().all(|offset| same(*offset))
        && before.iter().any(|offset| words.at(*offset).is_some_and(|word| word != 0));
    // The chunk's header alone: what stands before that belongs to a neighbour.
    let is_same_chunk = same(-8) && same(-4) && words.at(-8).is_some_and(is_chunk_size);
    is_static || is_same_place || is_same_chunk
}

/// A size as malloc keeps it before what it hands out: a multiple of 16 with flags in the low bits.
const fn is_chunk_size(word: u32) -> bool {
    word >= 0x20 && word < 0x10_0000 && word & 0xa == 0
}

/// Several threads wait for one lock that none of the child's can be shown to hold, and nothing moves.
fn queued(case: &Case<'_>, index: usize, wait: &LockWait) -> Option<Proven> {
    let words = wait.words.as_ref()?;
    let queue = case.locks.waits.iter().filter(|other| other.address == wait.address).count();
    let is_first = case.locks.waits.iter().position(|other| other.address == wait.address) == Some(index);
    let copy = copy_in_parent(case, wait);
    let is_orphan = case.locks.threads > 1
        && queue >= 2
        && is_first
        && case.left_threads_behind != Some(false)
        && is_contended_lock(wait, words)
        // The owner is known, and `by_owner` has decided.
        && !is_mutex(wait, words)
        && !has_owner_pointer(words)
        && copy != ParentCopy::Silent;
    is_orphan.then_some(Proven {
        proof: Proof::Queue,
        certainty: Certainty::Strong,
        wait: index,
        owner: None,
        owner_thread: None,
        copy,
        at_fork: None,
    })
}

/// A lock of stdio (`_IO_lock_t`: lock, count, pointer to the owner): its owner lives, for glibc makes these locks
/// anew in the child (`fresetlockfiles`, `sysdeps/nptl/fork.h`).
fn has_owner_pointer(words: &Words) -> bool {
    let count = words.at(4).unwrap_or_default();
    let high = words.at(12).unwrap_or_default();
    (1..0x1_0000).contains(&count) && (1..0x8000).contains(&high)
}

#[cfg(test)]
mod tests;
