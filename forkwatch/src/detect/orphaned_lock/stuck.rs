//! A stuck child, with what both hazards tell of it in the same way.

use std::time::Duration;

use super::proof::{Case, Proven};
use crate::{
    detect::uid_words,
    model::{
        facts::{LockFacts, LockOwner},
        finding::Remedy,
        held_lock::AtFork,
        lock::{Blocked, LockWait, MemoryUsers, Place, Words},
        process::{ProcessKey, Program, escape},
        stack::Stack,
        thread::{Occupation, SeenThread, occupation},
        time::nanoseconds,
    },
    remedy::{calls, ecosystem},
};

/// A child that was proven stuck, with all that is known of it.
pub struct Stuck<'a> {
    /// The forked child: its tgid, and when it started.
    pub child: ProcessKey,
    /// The process that forked it; the child itself where that is not known.
    pub parent: ProcessKey,
    /// Whether the kernel told of the fork. If not, the parent is what `/proc` shows now.
    pub fork_seen: bool,
    /// Whether the child has ever cloned a process with its own memory, as far as the kernel told.
    pub has_shared_memory: bool,
    /// What runs there.
    pub program: &'a Program,
    /// The name that it goes by in metrics.
    pub program_name: &'a str,
    /// What the parent's threads were called in their program and did soon after the fork, as far as that is known.
    pub occupations: &'a [Occupation],
    /// What was proven, and from what.
    pub case: Case<'a>,
    /// The proof.
    pub proven: Proven,
    /// Where the thread is; absent where nobody could look.
    pub place: Option<&'a Place>,
    /// How long it has been seen to wait.
    pub waited: Duration,
    /// How old the child is.
    pub since_fork: Duration,
}

/// What to change: first what the calls show, for they know best, then what the program is.
pub(super) fn remedy(stuck: &Stuck<'_>) -> Remedy {
    let threads: Vec<SeenThread> =
        stuck.proven.owner_thread.into_iter().chain(stuck.case.parent_threads.iter().copied()).collect();
    let ecosystem = ecosystem::recognise(stuck.program, &threads);
    let by_calls =
        stuck.place.and_then(|place| calls::remedy_of(place.script.as_ref(), &place.stack, ecosystem));
    by_calls.unwrap_or_else(|| ecosystem.remedy())
}

/// What is known of these threads, for the finding that names them.
pub(super) fn occupations_of(stuck: &Stuck<'_>, threads: &[SeenThread]) -> Vec<Occupation> {
    let known = threads.iter().filter_map(|thread| occupation(thread.tid, stuck.occupations));
    known.cloned().collect()
}

/// How many threads wait for the same.
pub(super) fn queue(stuck: &Stuck<'_>, wait: &LockWait) -> usize {
    stuck.case.locks.waits.iter().filter(|other| other.lock() == wait.lock()).count()
}

pub(super) fn facts(stuck: &Stuck<'_>, wait: &LockWait) -> LockFacts {
    let Stuck { place, proven, .. } = stuck;
    let digits = |word: Option<u32>| word.map_or_else(|| "-".repeat(8), |word| format!("{word:08x}"));
    let hex = |words: Words| words.0.map(digits).join(" ");
    let owner = proven.owner.map(|id| LockOwner {
        id,
        name: proven.owner_thread.map(|thread| thread.name(stuck.occupations)),
        doing: place.and_then(|place| place.holder.clone()),
    });
    let (words, parent_words) = wait.lock_words();
    LockFacts {
        proof: proven.proof,
        address: format!("{:#x}", wait.lock()),
        mapping: wait.lock_mapping().cloned(),
        symbol: place.and_then(|place| place.symbol.clone()),
        owner,
        waiting_thread: wait.tid,
        waiting_threads: u32::try_from(queue(stuck, wait)).unwrap_or(u32::MAX),
        waited_ns: nanoseconds(stuck.waited),
        operation: wait.operation,
        value: wait.value,
        words: words.map(hex),
        parent_words: parent_words.map(hex),
        held_at_fork: proven.at_fork.map(|at_fork| at_fork == AtFork::Held),
        stack: Some(
            place.map_or_else(
                || Stack::absent("not looked at, or not to be seen"),
                |place| place.stack.clone(),
            ),
        ),
        script: place.and_then(|place| place.script.clone()),
        blocks: place.map(|place| place.blocks.clone()).unwrap_or_default(),
    }
}

/// What keeps it from being certain, and what it keeps from others, as phrases.
pub(super) fn notes(stuck: &Stuck<'_>) -> Vec<String> {
    let memory = stuck.place.and_then(|place| place.memory.as_ref());
    let doubt = match memory {
        Some(MemoryUsers::Unknown(why)) => {
            Some(format!("whether another process uses its memory could not be found out: {why}"))
        }
        Some(MemoryUsers::Alone) if stuck.has_shared_memory => {
            Some("a process that used its memory too has ended".to_owned())
        }
        _ => None,
    };
    let blocks = stuck.place.map_or(&[][..], |place| &place.blocks);
    let blocks = blocks.iter().map(|blocked| match blocked {
        Blocked::Waiter { pid, name, uid, call } => {
            format!("{name} (pid {pid}{}) waits for it in {call}", uid_words(*uid))
        }
        Blocked::Listener { address } => {
            format!("it keeps {} open and accepts nothing there", escape(address))
        }
        Blocked::Pipe { inode, reader } => {
            format!("it keeps the write end of pipe {inode} open, whose end process {reader} waits for")
        }
    });
    doubt.into_iter().chain(blocks).collect()
}
