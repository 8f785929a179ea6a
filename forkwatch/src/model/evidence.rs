//! What the core asks of the host, and what the host answers.
//!
//! Every race of `/proc` (the process is gone, its pid belongs to another by now) ends in an answer that says so,
//! never in a wrong one.

use serde::{Deserialize, Serialize};

use super::{
    connection::{Caller, Sockets},
    family::Family,
    generator::{GeneratorPlaces, GeneratorsSeen},
    held_lock::{HeldLocksSeen, Places},
    inventory::{Instance, Waiting, Whereabouts},
    leak::{Descriptors, Holders, Object},
    left_lock::CarriedLocksSeen,
    lock::{LocksSeen, Place, ThreadAt},
    process::{Comm, ProcessKey, Program},
    shared_file::SharedFilesSeen,
    signals::SignalSet,
    stack::Stacks,
    thread::{Occupation, SeenThread},
    time::BootTime,
    unflushed::UnflushedSeen,
};

/// Most threads that an answer names.
pub const MAX_THREADS: usize = 64;

/// A question of the core, to be answered off the hot path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Request {
    /// Who forked, and which of its threads that lived at the fork live still?
    Parent {
        /// The fork's child: names the question.
        child: ProcessKey,
        /// The process to look at.
        parent: ProcessKey,
        /// The thread that forked, which is not in the answer's list.
        forking_tid: u32,
        /// Threads that started later are not in the answer's list either.
        forked_at: BootTime,
    },
    /// Does the child live on without exec?
    Child {
        /// The process to look at.
        child: ProcessKey,
    },
    /// Which threads of a forked and never exec'd process wait for a lock, and who holds it?
    Locks {
        /// The process to look at.
        child: ProcessKey,
        /// The process that forked it, where that is known.
        parent: Option<ProcessKey>,
        /// When, where that is known: threads of the parent that are younger were not there.
        forked_at: Option<BootTime>,
        /// The thread of the parent that called fork, where that is known.
        forking_tid: Option<u32>,
    },
    /// Which locks does a forked and never exec'd process carry that a thread holds which it does not have?
    HeldLocks {
        /// The process to look at.
        child: ProcessKey,
        /// The process that forked it.
        parent: ProcessKey,
        /// The thread of the parent that called fork.
        forking_tid: u32,
        /// Threads of the parent that started later hold nothing in the child.
        forked_at: BootTime,
        /// Where to look; absent for all of its memory.
        places: Option<Places>,
    },
    /// What are the threads called, and what do they do, that a forker had at the fork and has still?
    Occupations {
        /// The fork's child: names the question.
        child: ProcessKey,
        /// The process to look at.
        parent: ProcessKey,
        /// The thread that forked, which is not in the answer.
        forking_tid: u32,
        /// Threads that started later are not in the answer either.
        forked_at: BootTime,
    },
    /// Where is a stuck thread, and what does it keep from others?
    Place {
        /// Its process.
        child: ProcessKey,
        /// The process that forked that, where it lives.
        parent: Option<ProcessKey>,
        /// The thread.
        tid: u32,
        /// The futex word that it waits for.
        address: u64,
        /// The parent's thread that holds the lock, in the root pid namespace.
        holder: Option<u32>,
        /// How its stack may be had.
        stacks: Stacks,
    },
    /// Which connections do a child and its parent both hold?
    Sockets {
        /// The child.
        child: ProcessKey,
        /// The process that forked it.
        parent: ProcessKey,
    },
    /// Where in its program is a thread that has just used a connection?
    Caller {
        /// Its process.
        process: ProcessKey,
        /// The thread.
        tid: u32,
        /// The connection: its socket's inode number.
        inode: u64,
        /// The process that had the connection first, where it is to be seen what that has and this one lacks.
        forker: Option<ProcessKey>,
        /// How its stack may be had.
        stacks: Stacks,
    },
    /// Do a forked process and another of its family wait in one epoll instance?
    SharedLoop {
        /// The forked process.
        child: ProcessKey,
        /// The process that forked it, or another child of that.
        other: ProcessKey,
        /// How the stack may be had that tells whose loop it is.
        stacks: Stacks,
    },
    /// Which files have a forked process and its family open at one place for all, and who moves that?
    SharedFiles {
        /// The forked process.
        child: ProcessKey,
        /// The process that forked it.
        forker: ProcessKey,
        /// Another child of that.
        sibling: Option<ProcessKey>,
        /// Descriptors at which both had a database.
        databases: Vec<u32>,
        /// Whether to look at them often, for a tenth of a second.
        closely: bool,
    },
    /// What has a forked process in its output buffers from before the fork?
    Unflushed {
        /// The forked process.
        child: ProcessKey,
        /// The process that forked it.
        forker: ProcessKey,
    },
    /// Which locks on files does a forked process carry that another took, and who waits for them?
    CarriedLocks {
        /// The forked process.
        child: ProcessKey,
        /// The process that forked it, where that is known.
        forker: Option<ProcessKey>,
    },
    /// From which generators of random numbers has a forked process drawn what its siblings may draw, too?
    Generators {
        /// The forked process.
        child: ProcessKey,
        /// The process that forked it.
        parent: ProcessKey,
        /// Where the parent's generators lie; absent where its memory is to be searched for them.
        places: Option<GeneratorPlaces>,
    },
    /// What does a process sleep on, and does it hold what may have been left behind?
    Descriptors {
        /// The process to look at.
        process: ProcessKey,
        /// The process that forked it, where that is known.
        forker: Option<ProcessKey>,
    },
    /// Who on the whole host holds this pipe or socket? Dear: looks at every process.
    Holders {
        /// The process that gave reason to ask.
        process: ProcessKey,
        /// The process that forked it, where that is known.
        forker: Option<ProcessKey>,
        /// The pipe or socket.
        object: Object,
    },
    /// What do the threads of a process and of its forked children wait for?
    Family {
        /// The process.
        forker: ProcessKey,
    },
    /// Which forked and never exec'd processes live, and which have ended and not been waited for?
    Sweep {
        /// What the last answer bore as its mark: where nothing was forked since, nothing is looked at.
        mark: Option<u64>,
    },
    /// Has any process been created since a sweep? Answered once, as soon as one is.
    NextFork {
        /// What the sweep bore as its mark.
        mark: u64,
    },
    /// Which children that live on fell asleep since this was asked last?
    FellAsleep,
    /// Which processes have exec'd, and were taken over by init since their parent has ended?
    Orphans,
    /// Which process has this pid now, and what runs in it?
    Program {
        /// The pid.
        tgid: u32,
    },
    /// Which threads does a forked and never exec'd process have, where are they, and has it done any work?
    Threads {
        /// The process to look at.
        child: ProcessKey,
        /// How the stacks of its threads may be had.
        stacks: Stacks,
    },
    /// What runs in a process that exec'd, and does it still block signals? Asked some time after the exec.
    Execed {
        /// The process to look at.
        process: ProcessKey,
    },
}

/// An answer to a [`Request`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Evidence {
    /// About the parent.
    Parent {
        /// The fork's child.
        child: ProcessKey,
        /// What was seen; absent where the parent is gone, reused, or unreadable.
        seen: Option<ParentSeen>,
        /// Whether it is known to have ended.
        #[serde(skip_serializing_if = "std::ops::Not::not", default)]
        ended: bool,
    },
    /// About the child.
    Child {
        /// The child.
        child: ProcessKey,
        /// What was seen.
        seen: ChildSeen,
    },
    /// About a child's locks.
    Locks {
        /// The child.
        child: ProcessKey,
        /// What was seen.
        seen: LocksSeen,
    },
    /// About the locks that a child carries.
    HeldLocks {
        /// The child.
        child: ProcessKey,
        /// What was seen.
        seen: HeldLocksSeen,
    },
    /// About the threads of a forker.
    Occupations {
        /// The fork's child.
        child: ProcessKey,
        /// What was seen, of the first [`MAX_THREADS`] by tid; nothing where the forker is gone or unreadable.
        seen: Vec<Occupation>,
    },
    /// About one stuck thread.
    Place {
        /// Its process.
        child: ProcessKey,
        /// What was seen; absent where it is gone, reused, or unreadable.
        seen: Option<Box<Place>>,
    },
    /// About shared connections.
    Sockets {
        /// The child.
        child: ProcessKey,
        /// What was seen; absent where either is gone, reused, or unreadable.
        seen: Option<Box<Sockets>>,
    },
    /// About a thread that used a connection.
    Caller {
        /// Its process.
        process: ProcessKey,
        /// The connection's inode number.
        inode: u64,
        /// What was seen; absent where it is gone, reused, or unreadable.
        seen: Option<Box<Caller>>,
    },
    /// About a shared epoll instance.
    SharedLoop {
        /// The forked process.
        child: ProcessKey,
        /// The other of its family.
        other: ProcessKey,
        /// What was seen.
        seen: LoopSeen,
        /// What the other sleeps for, where they are apart and all its threads sleep.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        resting: Option<Box<RestingLoop>>,
        /// Which signals of the forked process the other's loop is told of, if there are any and they are apart.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        wakes_other: Option<Box<ForeignWakeUp>>,
    },
    /// About files that a forked process shares with its family.
    SharedFiles {
        /// The forked process.
        child: ProcessKey,
        /// What was seen.
        seen: SharedFilesSeen,
    },
    /// About output in the buffers of a forked process.
    Unflushed {
        /// The forked process.
        child: ProcessKey,
        /// The process that forked it.
        forker: ProcessKey,
        /// What was seen.
        seen: UnflushedSeen,
    },
    /// About locks on files that a forked process carries.
    CarriedLocks {
        /// The forked process.
        child: ProcessKey,
        /// What was seen.
        seen: CarriedLocksSeen,
    },
    /// About generators of random numbers.
    Generators {
        /// The forked process.
        child: ProcessKey,
        /// What was seen.
        seen: GeneratorsSeen,
    },
    /// About what a process sleeps on and holds.
    Descriptors {
        /// The process.
        process: ProcessKey,
        /// What was seen; absent where it is gone, reused, or unreadable.
        seen: Option<Box<Descriptors>>,
        /// Whether it lives all the same.
        #[serde(skip_serializing_if = "std::ops::Not::not", default)]
        lives: bool,
    },
    /// About a pipe or socket.
    Holders {
        /// The process that gave reason to ask.
        process: ProcessKey,
        /// The pipe or socket.
        object: Object,
        /// What was seen; absent where `/proc` cannot be read.
        seen: Option<Box<Holders>>,
    },
    /// About a process and its forked children.
    Family {
        /// The process.
        forker: ProcessKey,
        /// What was seen; absent where it is gone, reused, or unreadable.
        seen: Option<Box<Family>>,
    },
    /// About the whole host.
    Sweep {
        /// What was seen; absent where nothing was forked since the mark, or `/proc` cannot be read.
        seen: Option<Box<Sweep>>,
    },
    /// A process was created since the sweep.
    NextFork,
    /// About all children that live on.
    FellAsleep {
        /// Those of which a thread sleeps that was awake since; absent where this kernel does not tell.
        seen: Option<Vec<ProcessKey>>,
    },
    /// About programs whose parent has ended.
    Orphans {
        /// Which.
        seen: Vec<ProcessKey>,
    },
    /// About the process with a pid.
    Program {
        /// The pid.
        tgid: u32,
        /// What was seen; absent where there is none, or it ended meanwhile.
        seen: Option<Box<ProgramSeen>>,
    },
    /// About a child's threads.
    Threads {
        /// The child.
        child: ProcessKey,
        /// What was seen; absent where it is gone, reused, or unreadable, or has exec'd.
        seen: Option<ThreadsSeen>,
    },
    /// About a process that exec'd.
    Execed {
        /// The process.
        process: ProcessKey,
        /// What was seen; absent where it is gone, reused, or unreadable.
        seen: Option<ExecedSeen>,
    },
}

/// The processes of a host that a fork has left in a state worth knowing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sweep {
    /// When it began.
    pub at: BootTime,
    /// Nanoseconds that it took.
    pub took: u64,
    /// For the next request.
    pub mark: u64,
    /// Living processes of user space.
    pub processes: u32,
    /// Processes that were forked and have not exec'd.
    pub unexeced: Vec<Swept>,
    /// Processes that have ended and that nobody has waited for.
    pub zombies: Vec<Swept>,
}

/// A process that a sweep found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Swept {
    /// Which. Its start is rounded down to a clock tick.
    pub process: ProcessKey,
    /// Its comm.
    pub comm: Comm,
    /// Its real uid, where it lives and that may be read.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub uid: Option<u32>,
    /// Its present parent; of one that lives, only where that may be the process that forked it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub parent: Option<ProcessKey>,
}

/// A process, and what runs in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProgramSeen {
    /// Which. Its start is rounded down to a clock tick.
    pub process: ProcessKey,
    /// What runs in it.
    pub program: Program,
    /// Stopped by a signal or a debugger.
    pub stopped: bool,
}

/// The threads of a forked process, and how much it has done since the fork.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ThreadsSeen {
    /// When it was looked at.
    pub at: BootTime,
    /// The different comms of its threads that run user code, all of them.
    pub comms: Vec<Comm>,
    /// Nanoseconds that its threads have run, those that have ended included.
    pub ran: u64,
    /// Bytes it has read and written by read(2), write(2) and their like; absent where that cannot be seen.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub moved: Option<u64>,
    /// Where its oldest threads are, as far as they sleep: at most [`MAX_TOLD`](super::lock::MAX_TOLD).
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub places: Vec<ThreadAt>,
}

/// A process, some time after its exec.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecedSeen {
    /// When it was looked at.
    pub at: BootTime,
    /// What runs in it.
    pub program: Program,
    /// What runs in its parent now, where that is still the process that forked it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub parent: Option<(ProcessKey, Program)>,
    /// Signals that every one of its threads blocks now.
    pub blocked: SignalSet,
    /// Signals that it takes in through a signalfd: blocked on purpose. Absent where that cannot be seen.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub awaited: Option<SignalSet>,
}

/// What a forked process waits for events with, compared with another process of its family.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LoopSeen {
    /// The forked process has ended or exec'd, or its pid belongs to another.
    Gone,
    /// The other one has.
    Left,
    /// They cannot be compared, for this reason.
    Unreadable(String),
    /// It waits in no epoll instance that the other has too.
    Apart,
    /// It waits in one that the other has under the same number, and was not seen to wait in.
    Held(u32),
    /// Both wait in one.
    Shared(Box<SharedLoop>),
    /// The other, which has one thread, waits without end in one that watches nothing.
    Emptied(Box<EmptiedLoop>),
}

/// An epoll instance that watches nothing, and the only thread of a process that waits there for good.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EmptiedLoop {
    /// When it was looked at.
    pub at: BootTime,
    /// The comm of its forked child.
    pub comm: Comm,
    /// The child's real uid, where that may be read.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub uid: Option<u32>,
    /// What runs in it.
    pub program: Program,
    /// The thread, and the descriptor.
    pub waits: Waiting,
}

/// A forked process of which the signals are told to the event loop of its forker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForeignWakeUp {
    /// When it was looked at.
    pub at: BootTime,
    /// Its comm.
    pub comm: Comm,
    /// Its real uid, where that may be read.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub uid: Option<u32>,
    /// What runs in its forker.
    pub program: Program,
    /// The signals.
    pub signals: SignalSet,
    /// Its descriptor of the socket that the signals are written to.
    pub descriptor: u32,
    /// The forker's descriptor of the epoll instance that watches the other end.
    pub epoll: u32,
}

/// A process that sleeps in an epoll instance with all its threads, and what that watches.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestingLoop {
    /// When it was looked at.
    pub at: BootTime,
    /// The comm of its forked child.
    pub comm: Comm,
    /// The child's real uid, where that may be read.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub uid: Option<u32>,
    /// What runs in it.
    pub program: Program,
    /// The thread, and the descriptor.
    pub waits: Waiting,
    /// How often its threads had been taken from their processors, all together: two looks with the same number mean that
    /// all of them slept in between.
    pub switches: u64,
    /// How many threads it has.
    pub threads: u32,
    /// Whether the child has the instance under the same number.
    pub is_held: bool,
    /// What the instance watches and the process has open.
    pub watched: Vec<Watched>,
    /// Where in its program the thread is. Told where the instance watches nothing that only the process itself sets off.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub whereabouts: Option<Whereabouts>,
}

/// A descriptor that an epoll instance watches. The number is the one under which it was entered: it may be closed by now,
/// or another's, while the open file lives on elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watched {
    /// Its number.
    pub number: u32,
    /// The inode number of what it is open on; absent before Linux 5.1.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub inode: Option<u64>,
}

/// An epoll instance or `io_uring` in which two processes slept at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SharedLoop {
    /// When it was looked at.
    pub at: BootTime,
    /// The forked process's comm.
    pub comm: Comm,
    /// Its real uid, where that may be read.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub uid: Option<u32>,
    /// What runs in the other process.
    pub program: Program,
    /// Which thread of the forked process waits, and at which descriptor.
    pub waits: Waiting,
    /// Which thread of the other.
    pub other_waits: Waiting,
    /// The instance, as the other process has it.
    pub instance: Instance,
    /// Whether it is an `io_uring`, and no epoll instance: then only its descriptor is told.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub is_ring: bool,
    /// Where in its program the thread of the forked process is.
    pub whereabouts: Whereabouts,
}

/// The forker, some time after the fork.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ParentSeen {
    /// When it was looked at.
    pub at: BootTime,
    /// What runs in it.
    pub program: Program,
    /// Its threads of the time of the fork that are still there, without the forking one and without kernel
    /// workers: the first [`MAX_THREADS`] by tid.
    pub threads: Vec<SeenThread>,
    /// How many such threads there are in all.
    pub thread_count: u32,
    /// Signals pending and blocked in the forking thread (or, where that has ended, in the main thread), its own
    /// and the process's.
    pub pending: SignalSet,
}

/// The child, at the time of the verdict.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ChildSeen {
    /// It has ended, or its pid belongs to another.
    Gone,
    /// It has exec'd (`PF_FORKNOEXEC` is clear), though no event said so.
    Execed,
    /// It lives on without exec.
    Alive {
        /// When it was looked at.
        at: BootTime,
        /// Its comm now.
        comm: Comm,
        /// Nanoseconds it has run; absent where the kernel does not account for it.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        ran: Option<u64>,
        /// Nanoseconds it has waited for a CPU; absent likewise.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        waited: Option<u64>,
        /// Stopped by a signal or a debugger.
        stopped: bool,
    },
    /// It could not be read, for this reason.
    Unreadable(String),
}
