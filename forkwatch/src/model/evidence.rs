//! What the core asks of the host, and what the host answers.
//!
//! Every race of `/proc` (the process is gone, its pid belongs to another by now) ends in an answer that says so,
//! never in a wrong one.

use serde::{Deserialize, Serialize};

use super::{
    connection::{Caller, Sockets},
    escaped::EscapedSeen,
    event_loop::{ForeignWakeUp, LoopSeen, RestingLoop},
    family::Family,
    generator::{GeneratorPlaces, GeneratorsSeen},
    held_lock::{HeldLocksSeen, Places},
    inheritance::Inheritance,
    leak::{Descriptors, Holders, Object},
    left_lock::{CarriedLocksSeen, LockHolders, LockWait},
    lock::{LocksSeen, Place},
    process::ProcessKey,
    seen::{ChildSeen, ExecedSeen, ParentSeen, ProgramSeen, Sweep, ThreadsSeen},
    shared_file::SharedFilesSeen,
    stack::Stacks,
    thread::Occupation,
    time::BootTime,
    unflushed::UnflushedSeen,
    worker_look::WorkersSeen,
};

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
        /// The tid of the thread.
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
        /// The forked child: its tgid, and when it started.
        child: ProcessKey,
        /// The process that forked it.
        parent: ProcessKey,
    },
    /// Where in its program is a thread that has just used a connection?
    Caller {
        /// The process of that thread.
        process: ProcessKey,
        /// The tid of the thread.
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
        /// The forked process: its tgid, and when it started.
        child: ProcessKey,
        /// The process that forked it, or another child of that.
        other: ProcessKey,
        /// How the stack may be had that tells whose loop it is.
        stacks: Stacks,
    },
    /// Which files have a forked process and its family open at one place for all, and who moves that?
    SharedFiles {
        /// The forked process: its tgid, and when it started.
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
        /// The forked process: its tgid, and when it started.
        child: ProcessKey,
        /// The process that forked it.
        forker: ProcessKey,
    },
    /// Does a forked process wait for children of its own in the call in which the process that forked it waits, too?
    Escaped {
        /// The forked process.
        child: ProcessKey,
        /// The process that forked it.
        forker: ProcessKey,
        /// The thread of that which called fork, where that is known.
        forking_tid: Option<u32>,
    },
    /// Which locks on files does a forked process carry that another took, and who waits for them?
    CarriedLocks {
        /// The forked process: its tgid, and when it started.
        child: ProcessKey,
        /// The process that forked it, where that is known.
        forker: Option<ProcessKey>,
    },
    /// Who holds the lock that a process waits for, if it still does? Dear: looks at every process.
    LockHolders {
        /// Who waits, and for which lock.
        wait: LockWait,
    },
    /// From which generators of random numbers has a forked process drawn what its siblings may draw, too?
    Generators {
        /// The forked process: its tgid, and when it started.
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
        /// The process that forked: its tgid, and when it started.
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
    /// How much lies in queues of a forked process that the threads of its forker took from?
    Backlog {
        /// The forked process: its tgid, and when it started.
        child: ProcessKey,
        /// The addresses of the queues.
        queues: Vec<u64>,
    },
    /// What runs in a process that exec'd, and does it still block signals? Asked some time after the exec.
    Execed {
        /// The process to look at.
        process: ProcessKey,
    },
    /// Which of these forked processes wait for what brings them work?
    Workers {
        /// The process that forked them.
        master: ProcessKey,
        /// The processes to look at: at most [`MAX_TOGETHER`](super::worker_look::MAX_TOGETHER).
        workers: Vec<ProcessKey>,
        /// Whether it is also to be told what runs there, and, of those that wait for nothing of the kind, what else they do.
        closely: bool,
        /// Whether it is also to be told which children the master has that have not exec'd.
        children: bool,
    },
    /// What does a worker have still of what its master had at the fork, and what does it lack?
    Inheritance {
        /// The process to look at.
        worker: ProcessKey,
        /// The process that forked it.
        master: ProcessKey,
        /// How the stacks may be had that tell whose threads the master has.
        stacks: Stacks,
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
        /// The forked child: its tgid, and when it started.
        child: ProcessKey,
        /// What was seen, or why nothing was.
        seen: ChildSeen,
    },
    /// About a child's locks.
    Locks {
        /// The forked child: its tgid, and when it started.
        child: ProcessKey,
        /// What was seen, or why nothing was.
        seen: LocksSeen,
    },
    /// About the locks that a child carries.
    HeldLocks {
        /// The forked child: its tgid, and when it started.
        child: ProcessKey,
        /// What was seen, or why nothing was.
        seen: HeldLocksSeen,
    },
    /// About the threads of a forker.
    Occupations {
        /// The fork's child.
        child: ProcessKey,
        /// What was seen, of the first [`MAX_THREADS`](super::seen::MAX_THREADS) by tid; nothing where the forker is gone or unreadable.
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
        /// The forked child: its tgid, and when it started.
        child: ProcessKey,
        /// What was seen; absent where either is gone, reused, or unreadable.
        seen: Option<Box<Sockets>>,
    },
    /// About a thread that used a connection.
    Caller {
        /// The process of that thread.
        process: ProcessKey,
        /// The connection's inode number.
        inode: u64,
        /// What was seen; absent where it is gone, reused, or unreadable.
        seen: Option<Box<Caller>>,
    },
    /// About a shared epoll instance.
    SharedLoop {
        /// The forked process: its tgid, and when it started.
        child: ProcessKey,
        /// The other of its family.
        other: ProcessKey,
        /// What was seen, or why nothing was.
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
        /// The forked process: its tgid, and when it started.
        child: ProcessKey,
        /// What was seen, or why nothing was.
        seen: SharedFilesSeen,
    },
    /// About output in the buffers of a forked process.
    Unflushed {
        /// The forked process: its tgid, and when it started.
        child: ProcessKey,
        /// The process that forked it.
        forker: ProcessKey,
        /// What was seen, or why nothing was.
        seen: UnflushedSeen,
    },
    /// About what a forked process and the one that forked it wait in.
    Escaped {
        /// The forked process.
        child: ProcessKey,
        /// What both wait in, or why that cannot be told.
        seen: EscapedSeen,
    },
    /// About locks on files that a forked process carries.
    CarriedLocks {
        /// The forked process: its tgid, and when it started.
        child: ProcessKey,
        /// What was seen, or why nothing was.
        seen: CarriedLocksSeen,
    },
    /// About a lock that a process waited for.
    LockHolders {
        /// Who waited, and for which lock.
        wait: LockWait,
        /// Who holds it; absent where the process waits no longer, or that cannot be told.
        seen: Option<Box<LockHolders>>,
    },
    /// About generators of random numbers.
    Generators {
        /// The forked process: its tgid, and when it started.
        child: ProcessKey,
        /// What was seen, or why nothing was.
        seen: GeneratorsSeen,
    },
    /// About what a process sleeps on and holds.
    Descriptors {
        /// The process: its tgid, and when it started.
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
        /// The process that forked: its tgid, and when it started.
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
        /// Those that were found, as far as an answer has room.
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
        /// The forked child: its tgid, and when it started.
        child: ProcessKey,
        /// What was seen; absent where it is gone, reused, or unreadable, or has exec'd.
        seen: Option<ThreadsSeen>,
    },
    /// About queues of a forked process.
    Backlog {
        /// The forked process: its tgid, and when it started.
        child: ProcessKey,
        /// How much lies in each; absent where the process is gone, or has exec'd, or that cannot be read.
        seen: Option<Vec<Option<u64>>>,
    },
    /// About a process that exec'd.
    Execed {
        /// The process: its tgid, and when it started.
        process: ProcessKey,
        /// What was seen; absent where it is gone, reused, or unreadable.
        seen: Option<ExecedSeen>,
    },
    /// About a process and some that it forked.
    Workers {
        /// The process that forked them.
        master: ProcessKey,
        /// What was seen, or why nothing was.
        seen: Result<Box<WorkersSeen>, String>,
    },
    /// About a worker and its master.
    Inheritance {
        /// The worker: its tgid, and when it started.
        worker: ProcessKey,
        /// The process that forked it.
        master: ProcessKey,
        /// What was seen; absent where either is gone, reused, or unreadable, or the worker has exec'd.
        seen: Option<Box<Inheritance>>,
    },
}
