//! Locks that a forked child carries and that nobody in it can release.

use serde::{Deserialize, Serialize};

use super::{lock::Mapping, process::Comm, time::BootTime};

/// Most locks that one answer names. The same are looked at again.
pub const MAX_HELD: usize = 16;

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
}

impl LockKind {
    /// Bytes of the lock at [`HeldLock::address`].
    const fn size(self) -> u64 {
        match self {
            Self::Mutex => 40,
            Self::ReadWrite => 56,
            // A `sem_t`.
            Self::Buffer | Self::Recursive => 32,
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
    /// Its comm in the parent, safe for a terminal; absent where it has ended there.
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
    /// Bytes of memory that were gone through.
    pub searched: u64,
    /// Bytes that were not, because the budget was used up before.
    #[serde(skip_serializing_if = "is_zero", default)]
    pub skipped: u64,
    /// Nanoseconds of a CPU that it took.
    pub took: u64,
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

/// Where locks were found: the only places that a further look is made at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Places(pub [u64; MAX_HELD]);

impl Places {
    /// Those of these locks; of more than [`MAX_HELD`] the first.
    pub fn of(locks: &[HeldLock]) -> Self {
        let mut places = Self::default();
        for (place, lock) in places.0.iter_mut().zip(locks) {
            *place = lock.object;
        }
        places
    }

    /// They.
    pub fn iter(&self) -> impl Iterator<Item = u64> {
        self.0.iter().copied().filter(|place| *place != 0)
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

    /// What both looks have seen: a lock that is held no longer, or by another, was made anew or released.
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
        HeldLocks { at: BootTime(1), whole: true, locks, count, searched: 0, skipped: 0, took: 0 }
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
        assert_eq!(Places::of(&first.locks).iter().collect::<Vec<_>>(), [1, 2]);
    }
}
