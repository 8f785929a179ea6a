//! What a reader is asked and what it answers.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{
    host::{Process, ScanError, Scope, sight::Sight},
    model::{
        escaped::EscapedSeen,
        event::Event,
        event_loop::LoopSeen,
        evidence::{Evidence, Request},
        generator::GeneratorsSeen,
        held_lock::{HeldLocksSeen, Places},
        held_now::HeldNowSeen,
        inventory::Inventory,
        left_lock::CarriedLocksSeen,
        lock::LocksSeen,
        particulars::Particulars,
        process::ProcessKey,
        seen::ChildSeen,
        server::Tree,
        shared_file::SharedFilesSeen,
        stack::Stacks,
        time::BootTime,
        unflushed::UnflushedSeen,
        written::{Stream, StreamsAsked, WrittenAsked, WrittenSeen},
    },
};

/// A question.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Question {
    /// One of the core's, as recordings hold them.
    Core(Request),
    /// The core's question for all processes, narrowed to those in scope.
    Sweep {
        /// What the last answer bore as its mark.
        mark: Option<u64>,
        /// Whose processes count.
        scope: Scope,
    },
    /// What a process holds that a fork would copy, share or lose.
    Inventory(Process),
    /// The processes of the server that a process belongs to.
    Tree(Process),
    /// Which locks the threads of a process hold now: anywhere, or at these places.
    HeldNow(ProcessKey, Option<Places>),
    /// What this host lets be seen, tried on at most so many processes.
    Sight(usize),
    /// What an output wants to know of an event.
    Particulars(Event),
    /// What the kernel side must know of a process.
    Living(ProcessKey),
    /// Where the standard output and error of processes go.
    Streams(StreamsAsked),
    /// What was written there. Only a reader that may listen can copy what lies in a pipe.
    Written(WrittenAsked),
}

/// An answer to a [`Question`].
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// Evidence for the core.
    Core(Box<Evidence>),
    /// What it holds, or why that cannot be told.
    Inventory(Result<Box<Inventory>, ScanError>),
    /// Its processes, or why they cannot be told.
    Tree(Result<Box<Tree>, ScanError>),
    /// The locks that the threads hold.
    HeldNow(HeldNowSeen),
    /// What could be seen.
    Sight(Sight),
    /// Particulars of an event, for an output.
    Particulars(Particulars),
    /// The process as it is now; absent where it has ended.
    Living(Option<Process>),
    /// Where standard output and error go.
    Streams(Vec<Stream>),
    /// What was written to the streams.
    Written(WrittenSeen),
    /// None, by a defect of forkwatch: what it says.
    Failed(String),
}

/// An answer, and what it took.
#[derive(Debug, Serialize, Deserialize)]
pub struct Answered {
    /// When it was given.
    pub at: BootTime,
    /// Nanoseconds of CPU time that it took.
    pub cpu: u64,
    /// What was found out.
    pub answer: Answer,
}

impl Question {
    /// Whether it is about all processes, so that it goes on for as long as it turns from one to the next.
    pub const fn is_about_all(&self) -> bool {
        matches!(
            self,
            Self::Core(
                Request::Holders { .. }
                    | Request::LockHolders { .. }
                    | Request::Sweep { .. }
                    | Request::Orphans
            ) | Self::Sweep { .. }
                | Self::Sight(_)
        )
    }

    /// How long an answer may take, not counting what the reader waits for a processor. The slowest honest ones take a
    /// fraction of that: stacks are named in programs of a million symbols, and some questions are about all processes.
    pub(super) fn patience(&self) -> Duration {
        let seconds = match self {
            Self::Core(
                Request::Holders { .. }
                | Request::LockHolders { .. }
                | Request::Sweep { .. }
                | Request::Orphans,
            )
            | Self::Sweep { .. }
            | Self::Sight(_) => 10,
            Self::Core(Request::Place { .. } | Request::Family { .. }) => 4,
            Self::Inventory(_) | Self::Tree(_) | Self::Streams(_) => 6,
            Self::Core(_) | Self::HeldNow(..) | Self::Particulars(_) | Self::Living(_) | Self::Written(_) => {
                2
            }
        };
        Duration::from_secs(seconds)
    }

    /// The process that it is about; absent where it is about many.
    pub fn about(&self) -> Option<u32> {
        match self {
            Self::Core(request) => about(request),
            Self::Inventory(process) | Self::Tree(process) => Some(process.key.tgid),
            Self::Living(process) | Self::HeldNow(process, _) => Some(process.tgid),
            Self::Particulars(Event::Fork(fork)) => Some(fork.parent.tgid),
            Self::Particulars(Event::CloneFailure(failure)) => Some(failure.tgid),
            Self::Particulars(_)
            | Self::Sweep { .. }
            | Self::Sight(_)
            | Self::Streams(_)
            | Self::Written(_) => None,
        }
    }

    /// Whether it looks at more than what always answers: `stat` and its like below `/proc`.
    pub(super) const fn may_hang(&self) -> bool {
        !matches!(self, Self::Core(Request::Child { .. }))
    }

    /// The process whose family it concerns: its forker, where that is known.
    pub fn family(&self) -> Option<u32> {
        let forker = match self {
            Self::Core(
                Request::Locks { parent, .. }
                | Request::Place { parent, .. }
                | Request::Descriptors { forker: parent, .. }
                | Request::Holders { forker: parent, .. }
                | Request::CarriedLocks { forker: parent, .. }
                | Request::Caller { forker: parent, .. },
            ) => *parent,
            Self::Core(
                Request::Sockets { parent, .. }
                | Request::Parent { parent, .. }
                | Request::SharedLoop { other: parent, .. }
                | Request::SharedFiles { forker: parent, .. }
                | Request::Unflushed { forker: parent, .. }
                | Request::Escaped { forker: parent, .. }
                | Request::Occupations { parent, .. }
                | Request::HeldLocks { parent, .. }
                | Request::Generators { parent, .. }
                | Request::Family { forker: parent }
                | Request::Inheritance { master: parent, .. }
                | Request::Workers { master: parent, .. },
            ) => Some(*parent),
            _ => None,
        };
        forker.map(|forker| forker.tgid).or_else(|| self.about())
    }

    /// Whether a thread may be stopped for it.
    pub(super) fn may_stop(&self) -> bool {
        matches!(self, Self::Core(Request::Place { stacks: Stacks::Full, .. }))
    }
}

fn about(request: &Request) -> Option<u32> {
    match request {
        Request::Parent { parent, .. } | Request::Occupations { parent, .. } => Some(parent.tgid),
        Request::Child { child }
        | Request::Locks { child, .. }
        | Request::HeldLocks { child, .. }
        | Request::Place { child, .. }
        | Request::Sockets { child, .. }
        | Request::SharedLoop { child, .. }
        | Request::Generators { child, .. }
        | Request::CarriedLocks { child, .. }
        | Request::SharedFiles { child, .. }
        | Request::Unflushed { child, .. }
        | Request::Escaped { child, .. }
        | Request::Backlog { child, .. }
        | Request::Threads { child, .. } => Some(child.tgid),
        Request::Descriptors { process, .. }
        | Request::Caller { process, .. }
        | Request::Execed { process }
        | Request::Holders { process, .. }
        | Request::Family { forker: process }
        | Request::Inheritance { worker: process, .. }
        | Request::Workers { master: process, .. } => Some(process.tgid),
        Request::LockHolders { wait } => Some(wait.waiter.tgid),
        Request::Program { tgid } => Some(*tgid),
        Request::Sweep { .. } | Request::NextFork { .. } | Request::FellAsleep | Request::Orphans => None,
    }
}

/// What the core is told where a question of its was not answered, and why.
pub fn unanswered(request: &Request, why: &str) -> Evidence {
    match *request {
        Request::Parent { child, .. } => Evidence::Parent { child, seen: None, ended: false },
        Request::Child { child } => Evidence::Child { child, seen: ChildSeen::Unreadable(why.to_owned()) },
        Request::Locks { child, .. } => {
            Evidence::Locks { child, seen: LocksSeen::Unreadable(why.to_owned()) }
        }
        Request::HeldLocks { child, .. } => {
            Evidence::HeldLocks { child, seen: HeldLocksSeen::Unreadable(why.to_owned()) }
        }
        Request::Occupations { child, .. } => Evidence::Occupations { child, seen: Vec::new() },
        Request::Place { child, .. } => Evidence::Place { child, seen: None },
        Request::Sockets { child, .. } => Evidence::Sockets { child, seen: None },
        Request::Caller { process, inode, .. } => Evidence::Caller { process, inode, seen: None },
        Request::SharedLoop { child, other, .. } => {
            let seen = LoopSeen::Unreadable(why.to_owned());
            Evidence::SharedLoop { child, other, seen, resting: None, wakes_other: None }
        }
        Request::SharedFiles { child, .. } => {
            Evidence::SharedFiles { child, seen: SharedFilesSeen::Unreadable(why.to_owned()) }
        }
        Request::Unflushed { child, forker } => {
            Evidence::Unflushed { child, forker, seen: UnflushedSeen::Unreadable(why.to_owned()) }
        }
        Request::Escaped { child, .. } => {
            Evidence::Escaped { child, seen: EscapedSeen::Unreadable(why.to_owned()) }
        }
        Request::CarriedLocks { child, .. } => {
            Evidence::CarriedLocks { child, seen: CarriedLocksSeen::Unreadable(why.to_owned()) }
        }
        Request::LockHolders { ref wait } => Evidence::LockHolders { wait: wait.clone(), seen: None },
        Request::Generators { child, .. } => {
            Evidence::Generators { child, seen: GeneratorsSeen::Unreadable(why.to_owned()) }
        }
        Request::Descriptors { process, .. } => Evidence::Descriptors { process, seen: None, lives: true },
        Request::Holders { process, object, .. } => Evidence::Holders { process, object, seen: None },
        Request::Family { forker } => Evidence::Family { forker, seen: None },
        Request::Sweep { .. } => Evidence::Sweep { seen: None },
        Request::NextFork { .. } => Evidence::NextFork,
        Request::FellAsleep => Evidence::FellAsleep { seen: None },
        Request::Orphans => Evidence::Orphans { seen: Vec::new() },
        Request::Program { tgid } => Evidence::Program { tgid, seen: None },
        Request::Threads { child, .. } => Evidence::Threads { child, seen: None },
        Request::Backlog { child, .. } => Evidence::Backlog { child, seen: None },
        Request::Execed { process } => Evidence::Execed { process, seen: None },
        Request::Workers { master, .. } => Evidence::Workers { master, seen: Err(why.to_owned()) },
        Request::Inheritance { worker, master, .. } => Evidence::Inheritance { worker, master, seen: None },
    }
}
