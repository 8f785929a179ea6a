//! Threads that wait for a lock, and what can be known of whoever holds it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    process::{Comm, ProcessKey, Program},
    signals::SignalSet,
    stack::Stack,
    thread::SeenThread,
    time::BootTime,
};

/// Most waiting threads of one process that are told.
pub const MAX_WAITS: usize = 64;

/// 32-bit words of memory around a futex word: from 16 bytes before it to 32 after. One is absent where it may not be read:
/// what lies around a lock may be on another page, which is not in memory, or no mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Words(pub [Option<u32>; Self::COUNT]);

impl Words {
    /// How many words.
    pub const COUNT: usize = 12;
    /// Bytes before the futex word.
    pub const BEFORE: u64 = 16;

    /// The word `offset` bytes from the futex word: a multiple of 4 from -16 to 28.
    pub fn at(&self, offset: i64) -> Option<u32> {
        let index = usize::try_from(offset.checked_add(Self::BEFORE.cast_signed())?).ok()? / 4;
        self.0.get(index).copied().flatten()
    }
}

impl From<[u32; Self::COUNT]> for Words {
    fn from(words: [u32; Self::COUNT]) -> Self {
        Self(words.map(Some))
    }
}

/// A thread that sleeps in `futex(2)`, on a futex of its process alone, without a timeout or for a moment only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockWait {
    /// Its tid in the root pid namespace.
    pub tid: u32,
    /// Its comm: at most 15 bytes, of its own choice.
    pub comm: Comm,
    /// The address of the futex word.
    pub address: u64,
    /// The operation with its flags, as the system call got it.
    pub operation: u32,
    /// The value that the word had when it went to sleep.
    pub value: u32,
    /// How often the thread has given up the CPU: while this stays, it has not run.
    pub switches: u64,
    /// Nanoseconds since it last ran, roughly: by the scheduler's clock, which is not the same on every CPU. Absent where
    /// the kernel does not tell.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub slept: Option<u64>,
    /// Whether it sleeps for a moment only, as who tries again and again: nothing is known then of how often it ran, or since
    /// when it sleeps.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub spins: bool,
    /// What lies around the word; absent where it may not be read.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub words: Option<Words>,
    /// What lies at the same address in the parent, where that lives, has not exec'd since, and may be read.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub parent_words: Option<Words>,
    /// The mapping that the word lies in.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub mapping: Option<Mapping>,
    /// What is known of each thread that a word at a place where glibc notes an owner names: 8 bytes after the futex
    /// word in a mutex, 12 or 16 after it in a read-write lock. None for a lock that is plainly neither, and words that
    /// cannot be a tid are left out.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub holders: Vec<Holder>,
    /// The lock that it wants, where the futex is only what it is woken by.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub parked: Option<Box<Parked>>,
}

impl LockWait {
    /// Where the lock is that the thread wants.
    pub fn lock(&self) -> u64 {
        self.parked.as_ref().map_or(self.address, |parked| parked.address)
    }

    /// The memory that it lies in.
    pub fn lock_mapping(&self) -> Option<&Mapping> {
        self.parked.as_ref().map_or(self.mapping.as_ref(), |parked| Some(&parked.mapping))
    }

    /// What lies around it, in the child and in the parent.
    pub fn lock_words(&self) -> (Option<Words>, Option<Words>) {
        self.parked
            .as_ref()
            .map_or((self.words, self.parent_words), |parked| (Some(parked.words), parked.parent_words))
    }
}

/// A `PyMutex` of CPython's, of one byte, that a thread wants. Such a thread sleeps on a semaphore of its own, next to which
/// the address of the lock stands (`struct wait_entry`, `Python/parking_lot.c` of 3.13 and later).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parked {
    /// Where the byte is.
    pub address: u64,
    /// What lies around the aligned word that the byte is in.
    pub words: Words,
    /// The same of the parent, as in [`LockWait::parent_words`].
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub parent_words: Option<Words>,
    /// The mapping that it lies in.
    pub mapping: Mapping,
}

impl Parked {
    /// The lock itself: `_Py_LOCKED` is 1, `_Py_HAS_PARKED` is 2.
    pub fn byte(&self, words: &Words) -> u8 {
        let [first, second, third, fourth] = words.at(0).unwrap_or_default().to_ne_bytes();
        match self.address & 3 {
            0 => first,
            1 => second,
            2 => third,
            _ => fourth,
        }
    }
}

/// A part of a process's memory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Mapping {
    /// What it is: the path of a file, also for what a program or library has beyond its file, where its zeroed data
    /// is; `[heap]`, `[stack]`; empty for anonymous memory.
    pub name: String,
    /// Where the word lies in the file, in the program or library for its zeroed data, or else in the mapping.
    pub offset: u64,
    /// Whether other processes share the memory: then the word may be theirs.
    pub shared: bool,
}

/// A thread that a lock names as its owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// The tid as the lock has it: of the pid namespace in which it was taken.
    pub named: u32,
    /// Bytes from the futex word to the word that names it.
    pub offset: u32,
    /// Whether the waiting process has a live thread of that tid.
    pub in_child: bool,
    /// Whether it is the thread that called fork, which goes on as the child's main thread; absent where that is not
    /// known.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub is_forker: Option<bool>,
    /// The parent's thread of that tid, if it lived at the fork already and lives still.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub in_parent: Option<SeenThread>,
    /// Whether the name can only have been written before the fork: the thread lives in the parent still, so that the
    /// child never had one of that tid; or it is the forker's, and the child's main thread marks what it takes with a tid
    /// of its own.
    #[serde(default)]
    pub is_from_before: bool,
    /// Whether the tid was given out before the child's own; absent where that is not known. A higher one is that of
    /// a thread which the child itself has had, unless the kernel's numbers have wrapped round.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub is_older: Option<bool>,
}

/// What became of looking at a child's threads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LocksSeen {
    /// It has ended, or its pid belongs to another.
    Gone,
    /// It has exec'd.
    Execed,
    /// It lives.
    Alive(Box<Locks>),
    /// It could not be looked at, for this reason.
    Unreadable(String),
}

/// The threads of a forked and never exec'd process, and what they wait for.
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own, as it was seen")]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Locks {
    /// When it was looked at.
    pub at: BootTime,
    /// Comm of its main thread.
    pub comm: Comm,
    /// Real uid.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub uid: Option<u32>,
    /// Its live threads, kernel workers excluded.
    pub threads: u32,
    /// Stopped by a signal or a debugger, or being traced: nothing about it can be concluded.
    pub stopped: bool,
    /// Its threads that wait on a futex of their own without a timeout, at most [`MAX_WAITS`].
    pub waits: Vec<LockWait>,
    /// Signals for which it has a handler.
    pub caught: SignalSet,
    /// Whether CPython runs in it.
    pub python: bool,
    /// Whether its parent, where that lives, still runs the program that forked it, so that its memory may be compared.
    pub comparable: bool,
    /// Its present parent, where that is no younger.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub parent: Option<ProcessKey>,
    /// Other threads of the parent that are older than the child, where it lives.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub parent_threads: Option<u32>,
    /// Whether that parent has taken the child over from another process: it is no forker of it.
    #[serde(default)]
    pub adopted: bool,
}

impl Locks {
    /// Its parent, if that runs the program that forked it.
    pub fn forker(&self) -> Option<ProcessKey> {
        self.parent.filter(|_| self.comparable)
    }
}

/// Which other processes use the memory of a child. Where any does, a lock may be released by it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MemoryUsers {
    /// The threads of the child alone.
    Alone,
    /// These processes too (`clone(2)` with `CLONE_VM` and without `CLONE_THREAD`).
    Shared(Vec<u32>),
    /// It could not be found out, for this reason.
    Unknown(String),
}

/// All that can be told of one stuck thread: asked once, for the finding about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// When it was looked at.
    pub at: BootTime,
    /// What runs in the process that forked it; in the child itself where that has ended.
    pub program: Program,
    /// The variable that the lock is, where a symbol covers it: `_IO_stdfile_1_lock`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub symbol: Option<String>,
    /// Where the thread is.
    pub stack: Stack,
    /// Where it is in the script that its interpreter runs; absent where it runs none that is known.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub script: Option<Stack>,
    /// What the lock's owner does in the parent; absent where there is none to look at.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub holder: Option<Doing>,
    /// Where the child's other threads are: one of them may bring what is waited for. At most [`MAX_TOLD`].
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub others: Vec<ThreadAt>,
    /// Whether that is all of them.
    #[serde(default)]
    pub knows_others: bool,
    /// Where the parent's threads are that stayed behind at the fork, at most [`MAX_TOLD`].
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub behind: Vec<ThreadAt>,
    /// Whom and what the child keeps waiting.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub blocks: Vec<Blocked>,
    /// Who else uses the child's memory; absent in recordings of forkwatch 0.1.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub memory: Option<MemoryUsers>,
}

/// Most other threads of one process that are told with a stuck thread's place.
pub const MAX_TOLD: usize = 16;

/// Where a thread is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ThreadAt {
    /// Which thread, by its tid and comm.
    pub thread: SeenThread,
    /// Its calls.
    pub stack: Stack,
    /// Its calls in the script that its interpreter runs; absent where it runs none that is known.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub script: Option<Stack>,
}

/// What a thread does at the moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Doing {
    /// The system call that it sleeps in, `running`, or `unknown`.
    pub call: String,
    /// Its stack, the innermost frame first.
    pub stack: Stack,
}

/// Something that a stuck child keeps from others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", tag = "what")]
pub enum Blocked {
    /// A process that waits for it, in this system call.
    Waiter {
        /// Its process id.
        pid: u32,
        /// Its comm, safe for a terminal.
        name: String,
        /// Its real uid.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        uid: Option<u32>,
        /// The system call.
        call: String,
    },
    /// A socket that it listens on and does not accept from.
    Listener {
        /// The address and port, or the path.
        address: String,
    },
    /// The write end of a pipe that somebody reads until its end.
    Pipe {
        /// The pipe's inode number.
        inode: u64,
        /// The process that sleeps in a read of it.
        reader: u32,
    },
}
