//! Locks that a forked child carries and that nobody in it can release.

use serde::{Deserialize, Serialize};

use super::{lock::Mapping, process::Comm, time::BootTime};

/// Most locks that one answer names. The same are looked at again.
pub const MAX_HELD: usize = 16;
/// Most locks without an owner that one answer tells of.
pub const MAX_PLAIN: usize = 512;

/// A lock that is held in a child by a thread that does not exist in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldLock {
    /// Where the object begins that the lock is, or that it belongs to.
    pub object: u64,
    /// Where the lock itself begins: the futex word of whoever waits for it lies in it. That of a lock of CPython's own
    /// making is nowhere near, and this is the object then.
    pub address: u64,
    /// Which kind of lock.
    pub kind: LockKind,
    /// Who holds it.
    pub owner: LostOwner,
    /// What it is called: the variable that a symbol names, or what it guards, such as standard output.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub name: Option<String>,
    /// The memory that it lies in.
    pub mapping: Mapping,
    /// Whether the child can only have got it so from the fork: it bears the name of a thread that lives in the parent,
    /// or nobody has written its page since.
    pub from_before: bool,
    /// Whether nobody has written its page since the fork, as far as pagemap tells. It rarely does.
    pub untouched: bool,
}

/// The kinds of locks that are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum LockKind {
    /// glibc's `pthread_mutex_t`.
    Mutex,
    /// glibc's `pthread_rwlock_t`, held by a writer.
    ReadWrite,
    /// The lock of an `_io.BufferedWriter`, `BufferedReader` or `BufferedRandom` of CPython's.
    Buffer,
    /// An `_thread.RLock` of CPython's.
    Recursive,
    /// That of a `FILE` of glibc's, which fork(3) makes anew in the child.
    Stream,
}

impl LockKind {
    /// Bytes of the lock at [`HeldLock::address`].
    const fn size(self) -> u64 {
        match self {
            Self::Mutex => 40,
            Self::ReadWrite => 56,
            // A `sem_t`.
            Self::Buffer | Self::Recursive => 32,
            Self::Stream => 16,
        }
    }
}

/// A thread that holds a lock and did not come along into the child.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LostOwner {
    /// Its tid as its process has it; absent where that is not known any more.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub id: Option<u32>,
    /// The name that its program gave it, or else its comm in the parent, safe for a terminal; absent where it has ended
    /// there.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub name: Option<String>,
}

impl LostOwner {
    /// A thread of the parent.
    pub fn named(id: u32, comm: Comm) -> Self {
        Self { id: Some(id), name: Some(comm.to_string()) }
    }
}

/// What a look at a child has found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldLocks {
    /// When it began.
    pub at: BootTime,
    /// Whether all of its memory was gone through, as far as the budget went; else only where locks had been found.
    pub whole: bool,
    /// The locks, at most [`MAX_HELD`].
    pub locks: Vec<HeldLock>,
    /// How many there are in all.
    pub count: u32,
    /// The locks that note no owner, at most [`MAX_PLAIN`]: who holds one nobody can tell, but whether it was held.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub plain: Vec<PlainLock>,
    /// Bytes of memory that were gone through.
    pub searched: u64,
    /// Bytes that were not, because the budget was used up before.
    #[serde(skip_serializing_if = "is_zero", default)]
    pub skipped: u64,
    /// Nanoseconds of a CPU that it took.
    pub took: u64,
}

/// A `_thread.lock` of CPython's, which notes no owner: what `threading.Lock` makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlainLock {
    /// Where the object begins.
    pub object: u64,
    /// Where the lock itself is: a `sem_t` somewhere else, or since 3.13.1 the byte of a `PyMutex` within the object.
    pub address: u64,
    /// Whether it is held.
    pub held: bool,
    /// Whether the parent's copy is; absent where that was not to be seen, and of a lock that is free.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub held_in_parent: Option<bool>,
}

/// What a lock was at the fork, as far as a look soon after it tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AtFork {
    /// Held: by a thread that the child does not have, or, where it notes no owner, in the child and in the parent. The one
    /// must have it from the other then, unless each took its own within the few milliseconds between.
    Held,
    /// Free: if it is held now, the child itself took it.
    Free,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's skip_serializing_if passes a reference")]
const fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// What became of looking.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HeldLocksSeen {
    /// It has ended, or its pid belongs to another.
    Gone,
    /// It has exec'd.
    Execed,
    /// It lives.
    Alive(Box<HeldLocks>),
    /// It could not be looked at, for this reason.
    Unreadable(String),
}

/// Where locks were found: the only places that a further look is made at. At most [`MAX_HELD`] and [`MAX_PLAIN`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Places {
    /// Objects that lost threads hold.
    pub owned: Vec<u64>,
    /// Objects that note no owner.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub plain: Vec<u64>,
}

impl Places {
    /// All that a look has found.
    pub fn of(held: &HeldLocks) -> Self {
        Self {
            owned: held.locks.iter().map(|lock| lock.object).collect(),
            plain: held.plain.iter().map(|lock| lock.object).collect(),
        }
    }

    /// Whether there is nothing to look at.
    pub const fn is_empty(&self) -> bool {
        self.owned.is_empty() && self.plain.is_empty()
    }
}

/// How sure it is that a lock was held when the fork copied it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum HeldAtFork {
    /// It was seen held, by a thread that the child does not have, soon after the fork; the child might in theory have had
    /// such a thread in between.
    Strong,
    /// The child cannot have taken it.
    Sure,
}

impl HeldLocks {
    /// Whether the lock that this futex word belongs to was held at the fork, as far as this look tells.
    pub fn held_at_fork(&self, futex: u64) -> Option<HeldAtFork> {
        let lock = self.locks.iter().find(|lock| lock.has(futex))?;
        Some(if lock.from_before { HeldAtFork::Sure } else { HeldAtFork::Strong })
    }

    /// The lock of CPython's that a lost thread was seen to hold, and that somebody who wants this lock waits for.
    pub fn object(&self, lock: u64) -> Option<&HeldLock> {
        let is_object = |held: &&HeldLock| matches!(held.kind, LockKind::Buffer | LockKind::Recursive);
        self.locks.iter().filter(is_object).find(|held| held.has(lock))
    }

    /// Whether all of the memory was gone through, and no lock was here that notes no owner, nor one of a lost thread's.
    pub fn was_absent(&self, lock: u64) -> bool {
        let is_known = self.object(lock).is_some() || self.plain.iter().any(|plain| plain.address == lock);
        self.whole && self.skipped == 0 && self.plain.len() < MAX_PLAIN && !is_known
    }

    /// What a lock of CPython's was at the fork; absent where that is not known.
    pub fn at_fork(&self, lock: u64) -> Option<AtFork> {
        if self.object(lock).is_some() {
            return Some(AtFork::Held);
        }
        let lock = self.plain.iter().find(|plain| plain.address == lock)?;
        match (lock.held, lock.held_in_parent) {
            (false, _) => Some(AtFork::Free),
            (true, Some(true)) => Some(AtFork::Held),
            // The child may have taken it in the first few milliseconds.
            (true, _) => None,
        }
    }

    /// What both looks have seen: a lock that is held no longer, or by another, was made anew or released. Of locks
    /// without an owner it remains what the first has seen.
    #[must_use]
    pub fn still(mut self, later: &Self) -> Self {
        let before = self.locks.len();
        let same = |one: &HeldLock, other: &HeldLock| {
            (one.object, one.address, one.kind, one.owner.id)
                == (other.object, other.address, other.kind, other.owner.id)
        };
        self.locks.retain(|lock| later.locks.iter().any(|other| same(lock, other)));
        let gone = u32::try_from(before - self.locks.len()).unwrap_or(u32::MAX);
        self.count = self.count.saturating_sub(gone);
        self
    }
}

impl HeldLock {
    /// Whether somebody who sleeps on that futex word waits for this lock.
    pub fn has(&self, futex: u64) -> bool {
        futex.checked_sub(self.address).is_some_and(|offset| offset < self.kind.size())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lock(address: u64, id: u32, from_before: bool) -> HeldLock {
        HeldLock {
            object: address,
            address,
            kind: LockKind::ReadWrite,
            owner: LostOwner::named(id, "writer".into()),
            name: None,
            mapping: Mapping { name: "[heap]".to_owned(), offset: 0, shared: false },
            from_before,
            untouched: false,
        }
    }

    fn seen(locks: Vec<HeldLock>) -> HeldLocks {
        let count = u32::try_from(locks.len()).unwrap();
        let plain = Vec::new();
        HeldLocks { at: BootTime(1), whole: true, locks, count, plain, searched: 0, skipped: 0, took: 0 }
    }

    #[test]
    fn a_lock_was_absent_where_all_was_searched_and_none_was_there() {
        let plain = PlainLock { object: 0x10, address: 0x20, held: true, held_in_parent: None };
        let all = HeldLocks { plain: vec![plain], ..seen(Vec::new()) };
        assert!(all.was_absent(0x30) && !all.was_absent(0x20));
        assert!(!HeldLocks { skipped: 1, ..all.clone() }.was_absent(0x30));
        assert!(!HeldLocks { whole: false, ..all }.was_absent(0x30));
    }

    #[test]
    fn a_futex_word_belongs_to_the_lock_that_it_lies_in() {
        let seen = seen(vec![lock(0x1000, 7, true), lock(0x2000, 8, false)]);
        assert_eq!(seen.held_at_fork(0x1008), Some(HeldAtFork::Sure));
        assert_eq!(seen.held_at_fork(0x200c), Some(HeldAtFork::Strong));
        for other in [0xfff, 0x1038, 0] {
            assert_eq!(seen.held_at_fork(other), None);
        }
    }

    #[test]
    fn what_has_changed_is_dropped() {
        let (first, second) = (seen(vec![lock(1, 7, true), lock(2, 7, true)]), seen(vec![lock(1, 7, false)]));
        let still = first.clone().still(&second);
        assert_eq!((still.count, still.locks), (1, vec![lock(1, 7, true)]));
        assert_eq!(first.clone().still(&seen(vec![lock(1, 8, true)])).count, 0);
        assert_eq!(Places::of(&first).owned, [1, 2]);
    }

    #[test]
    fn a_lock_without_an_owner_was_held_at_the_fork_only_if_both_copies_are() {
        let plain = |address, held, held_in_parent| PlainLock { object: 8, address, held, held_in_parent };
        let plain = vec![
            plain(0x10, true, Some(true)),
            plain(0x20, true, Some(false)),
            plain(0x30, true, None),
            plain(0x40, false, None),
        ];
        let seen = HeldLocks { plain, ..seen(Vec::new()) };
        let told = [0x10, 0x20, 0x30, 0x40, 0x50].map(|lock| seen.at_fork(lock));
        assert_eq!(told, [Some(AtFork::Held), None, None, Some(AtFork::Free), None]);
        // A later look, which is at others, changes nothing of it.
        assert_eq!(seen.clone().still(&HeldLocks { plain: Vec::new(), ..seen.clone() }).plain, seen.plain);
    }
}
