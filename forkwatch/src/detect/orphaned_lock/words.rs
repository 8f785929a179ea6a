//! What is said of a child that waits for a lock.

use super::{
    awaited::wants_spin_lock,
    proof::{ParentCopy, is_semaphore, nobody_catches},
    stuck::{Stuck, queue},
};
use crate::{
    detect::held_locks::what,
    model::{
        facts::Proof,
        finding::Certainty,
        held_lock::{AtFork, LostOwner},
        lock::{LockWait, Mapping, Place},
        process::escape,
        thread::SeenThread,
    },
};

pub(super) fn summary(stuck: &Stuck<'_>, wait: &LockWait, certainty: Certainty) -> String {
    let (who, proven, locks) = (who(stuck), stuck.proven, stuck.case.locks);
    let lock = lock_words(stuck, wait);
    let thread = in_thread(stuck, wait);
    // Another thread, or a handler, may release what is not its own, against all rules.
    let is_alone = locks.threads == 1 && nobody_catches(locks);
    let in_vain = if certainty == Certainty::Certain && is_alone { " in vain" } else { "" };
    match (proven.proof, proven.copy) {
        (Proof::Owner, _) => {
            let of_parent = match (proven.owner_thread, proven.owner) {
                (Some(thread), _) => {
                    format!("the thread {} ({}) of the parent", thread.name(stuck.occupations), thread.tid)
                }
                (None, Some(tid)) => format!("a thread {tid}, which has ended since,"),
                (None, None) => "a thread of the parent".to_owned(),
            };
            if certainty == Certainty::Heuristic {
                let named = of_parent.trim_end_matches(',');
                format!(
                    "{who} waits{thread} for {lock}, whose words name {named}: it was held at the fork, or a thread of \
                     the child itself took it and keeps it"
                )
            } else {
                format!(
                    "{who} waits{in_vain}{thread} for {lock}: {of_parent} held it at the fork, and does not exist in \
                     the child"
                )
            }
        }
        (Proof::SelfOwned, _) if proven.certainty < Certainty::Certain => format!(
            "{who} waits{thread} for {lock}, which bears the name of the thread that called fork: that held it at the \
             fork, or the child took it itself and waits for itself"
        ),
        (Proof::SelfOwned, _) => format!(
            "{who} waits{in_vain}{thread} for {lock}: the thread that called fork held it, and waits for itself in \
             the child"
        ),
        (Proof::HeldAtFork | Proof::NoCatcher | Proof::Differential, _)
            if proven.at_fork == Some(AtFork::Held) && certainty > Certainty::Heuristic =>
        {
            let alone = if locks.threads == 1 { ", which has no other thread" } else { "" };
            match holder(stuck, wait) {
                Some(holder) => format!(
                    "{who} waits{thread} for {lock}: {holder} held it at the fork, and does not exist in the child{alone}"
                ),
                None => format!(
                    "{who} waits{thread} for {lock}, which was held right after the fork, in the parent too: the thread of \
                     the parent that held it does not exist in the child{alone}"
                ),
            }
        }
        (Proof::NoCatcher | Proof::Differential, _) if proven.at_fork == Some(AtFork::Free) => format!(
            "{who} waits for {lock}, which was free right after the fork: the child itself has taken it since, and waits \
             for itself"
        ),
        (Proof::HeldAtFork, _) => format!(
            "{who} waits{thread} for {lock}, which was held right after the fork, in the parent too: a thread held it that \
             does not exist in the child, or this one is parked at another in its place"
        ),
        (Proof::NoCatcher, _) if certainty == Certainty::Heuristic => format!(
            "{who} waits for {lock} with no other thread and no signal handler that could end the wait: it is \
             parked until it is killed, or it waits for a thread that the fork left behind"
        ),
        (Proof::NoCatcher, ParentCopy::Silent) => format!(
            "{who} waits at {lock} with no other thread and no signal handler that could end the wait: it waits for \
             a thread that the fork left behind, or it is parked until it is killed"
        ),
        (Proof::Differential, _) if certainty == Certainty::Heuristic || locks.threads > 1 => {
            let holds = if locks.threads == 1 { "the child itself" } else { "another thread of the child" };
            let before = if proven.copy == ParentCopy::Silent { "may have been" } else { "was" };
            format!(
                "{who} waits{thread} for {lock}, which {before} there before the fork: a thread of the parent held it at the fork \
                 and does not exist in the child, or {holds} has taken it"
            )
        }
        (Proof::NoCatcher | Proof::Differential, ParentCopy::Held) => format!(
            "{who} waits for {lock}, which is held in the parent too: it was held at the fork, as far as can be told, \
             and the child has no other thread that could release it"
        ),
        (Proof::NoCatcher | Proof::Differential | Proof::Frames, _) => {
            format!("{who} waits for {lock}, and has no other thread that could release it: {EITHER}")
        }
        (Proof::Queue, copy) => {
            let why = if copy == ParentCopy::Held && locks.threads as usize == queue(stuck, wait) {
                "it was held at the fork by a thread that the child does not have"
            } else {
                "it was held at the fork by a thread that the child does not have, or another thread of the child \
                 holds it"
            };
            format!("{who} has {} threads that wait for {lock} without progress: {why}", queue(stuck, wait))
        }
    }
}

/// The thread that was seen to hold the lock right after the fork, where that is known, by the name that its program gave
/// it where the tid is known to be its own.
fn holder(stuck: &Stuck<'_>, wait: &LockWait) -> Option<String> {
    let LostOwner { id, name } = &stuck.case.held?.object(wait.lock())?.owner;
    let is_it =
        |thread: &&SeenThread| Some(thread.tid) == *id && name.as_deref() == Some(&*thread.comm.to_string());
    let thread = stuck.case.parent_threads.iter().find(is_it);
    let name = thread.map(|thread| thread.name(stuck.occupations)).or_else(|| name.clone());
    Some(match (name, id) {
        (Some(name), Some(id)) => format!("the thread {name} ({id}) of the parent"),
        (Some(name), None) => format!("the thread {name} of the parent"),
        (None, _) => "a thread of the parent, which has ended,".to_owned(),
    })
}

/// The two stories that fit a lock without an owner that is free in the parent.
const EITHER: &str = "a thread of the parent held it at the fork and has released its own copy since, or the child took \
                      it itself and waits for itself";

/// The child, and whose it is, no surer than that is known.
pub(super) fn who(stuck: &Stuck<'_>) -> String {
    let Stuck { child, parent, program_name: name, .. } = stuck;
    let (child, parent) = (child.tgid, parent.tgid);
    if parent == child {
        format!("{name} (pid {child}), which was forked by an unknown process,")
    } else if stuck.fork_seen || stuck.proven.owner_thread.is_some() {
        format!("The child {child} of {name} (pid {parent})")
    } else {
        format!("Process {child}, now a child of {name} (pid {parent}),")
    }
}

/// In which thread it waits, where that is not the main one.
pub(super) fn in_thread(stuck: &Stuck<'_>, wait: &LockWait) -> String {
    if wait.tid == stuck.child.tgid {
        String::new()
    } else {
        format!(" in its thread {} ({})", wait.tid, wait.comm)
    }
}

/// The lock, as what it is, by its name or the memory that it lies in.
fn lock_words(stuck: &Stuck<'_>, wait: &LockWait) -> String {
    if let Some(known) = stuck.place.and_then(known_lock) {
        return known.to_owned();
    }
    if let Some(object) = stuck.case.held.and_then(|held| held.object(wait.lock())) {
        return what(object);
    }
    // CPython's locks are semaphores as well.
    let spins = stuck.place.is_some_and(wants_spin_lock);
    let kind = match wait {
        _ if spins => "spin lock",
        wait if is_semaphore(wait) && !stuck.case.locks.python => "semaphore",
        _ => "lock",
    };
    let symbol = stuck.place.and_then(|place| place.symbol.as_deref());
    let memory = wait.lock_mapping().map(memory_words);
    match (symbol, memory) {
        (Some(symbol), Some(memory)) => format!("the {kind} `{symbol}` {memory}"),
        (Some(symbol), None) => format!("the {kind} `{symbol}`"),
        (None, Some(memory)) => format!("a {kind} {memory}"),
        (None, None) => format!("a {kind}"),
    }
}

/// A lock that everybody knows, by its variable or by the calls that want it.
fn known_lock(place: &Place) -> Option<&'static str> {
    let innermost = place.script.as_ref().and_then(|script| script.frames.first());
    let imports = innermost.and_then(|frame| frame.module.as_deref());
    let calls = |name: &str| place.stack.frames.iter().any(|frame| frame.function.as_deref() == Some(name));
    match place.symbol.as_deref() {
        Some("_IO_stdfile_0_lock") => Some("the C library's lock of stdin"),
        Some("_IO_stdfile_1_lock") => Some("the C library's lock of stdout"),
        Some("_IO_stdfile_2_lock") => Some("the C library's lock of stderr"),
        // `_enter_buffered_busy` (Modules/_io/bufferedio.c).
        _ if calls("_enter_buffered_busy") => Some("the buffer of a stream, such as `sys.stdout`'s"),
        _ if imports.is_some_and(|module| module.contains("importlib._bootstrap")) => {
            Some("Python's lock for the import of a module")
        }
        // Around the list of the host's addresses (sysdeps/unix/sysv/linux/check_pf.c).
        _ if calls("__check_pf") => Some("the C library's lock for look-ups of names"),
        _ => None,
    }
}

fn memory_words(mapping: &Mapping) -> String {
    match mapping.name.as_str() {
        "" => "in anonymous memory".to_owned(),
        "[heap]" => "on the heap".to_owned(),
        "[stack]" => "on the stack".to_owned(),
        name => format!("in {}", escape(name.rsplit('/').next().unwrap_or(name))),
    }
}
