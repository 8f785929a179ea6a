//! The facts of proven faults, as labelled paragraphs.

use super::duration::humanly;
use crate::model::{
    connection::{Act, Turn},
    facts::{CallerFacts, ConnectionFacts, HeldFacts, HistoryFacts, LeakFacts, LockFacts},
    held_lock::LockKind,
    process::escape,
    stack::{Frame, Stack},
};

/// Frames of a stack that a terminal is shown; events bear all.
const FRAMES: usize = 12;
/// Turns likewise.
const TURNS: usize = 6;

/// What is known of a lock: labels and texts.
pub(super) fn lock(facts: &LockFacts) -> Vec<(&'static str, String)> {
    let LockFacts { proof, address, mapping, symbol, owner, waiting_thread, waiting_threads, .. } = facts;
    let name = symbol.as_ref().map(|symbol| format!("{symbol} ")).unwrap_or_default();
    let place = mapping.as_ref().map(|mapping| match mapping.name.as_str() {
        "" => ", in anonymous memory".to_owned(),
        name => format!(", in {} + {:#x}", escape(name), mapping.offset),
    });
    let mut lines = vec![("lock:", format!("{name}at {address}{}", place.unwrap_or_default()))];
    if let Some(owner) = owner {
        let name = owner.name.as_deref().unwrap_or("a thread that has ended");
        let doing = owner.doing.as_ref().map(|doing| format!(", now in {}", doing.call)).unwrap_or_default();
        lines.push(("owner:", format!("{} (thread {}){doing}", escape(name), owner.id)));
    }
    let others = match waiting_threads {
        0 | 1 => String::new(),
        count => format!(" and {} more", count - 1),
    };
    let waited = humanly(facts.waited_ns);
    lines.push(("waits:", format!("thread {waiting_thread}{others}, for at least {waited}")));
    let words = match (facts.words.as_deref(), facts.parent_words.as_deref()) {
        (Some(words), Some(parent)) => {
            format!(", words {} in the child, {} in the parent", first_words(words), first_words(parent))
        }
        (Some(words), None) => format!(", words {}", first_words(words)),
        (None, _) => String::new(),
    };
    lines.push((
        "proof:",
        format!("{}: futex operation {:#x}, value {}{words}", proof.name(), facts.operation, facts.value),
    ));
    lines.extend(facts.script.as_ref().map(|script| ("script:", stack(script))));
    lines.extend(facts.stack.as_ref().map(|native| ("stack:", stack(native))));
    if let Some(doing) = owner.as_ref().and_then(|owner| owner.doing.as_ref()) {
        lines.push(("owner's:", stack(&doing.stack)));
    }
    lines
}

/// The first four words of a lock, from the futex word on: events bear what is around it too.
fn first_words(words: &str) -> String {
    let from_futex = words.split(' ').skip(4).take(4);
    let short = from_futex.map(|word| match word.trim_start_matches('0') {
        "" => "0",
        digits => digits,
    });
    short.collect::<Vec<_>>().join(" ")
}

/// What is known of a connection.
pub(super) fn connection(facts: &ConnectionFacts) -> Vec<(&'static str, String)> {
    let service = facts.service.as_ref().map(|service| format!(" ({service})")).unwrap_or_default();
    let age = humanly(facts.age_ns);
    let mut lines =
        vec![("peer:", format!("{}{service}, socket {}, older than {age}", facts.peer, facts.inode))];
    if !facts.turns.is_empty() {
        let left_out = if facts.turns.len() > TURNS { ", ..." } else { "" };
        let turns: Vec<String> = facts.turns.iter().take(TURNS).map(turn).collect();
        lines.push(("turns:", format!("{}{left_out}", turns.join(", "))));
    }
    lines.extend(facts.callers.iter().map(|caller| ("code:", code(caller))));
    if !facts.libraries.is_empty() {
        let names: Vec<String> = facts.libraries.iter().map(escape).collect();
        lines.push(("libraries:", names.join(", ")));
    }
    lines
}

/// Calls of the program's own that a terminal is shown.
const CALLS: usize = 4;

/// Which code uses a connection: the program's own calls, and what these went through.
fn code(caller: &CallerFacts) -> String {
    let how = if caller.waits { "waits on it in" } else { "used it in" };
    let script = caller.script.iter().flat_map(|script| &script.frames);
    let native = caller.stack.iter().flat_map(|stack| &stack.frames);
    let own: Vec<&Frame> = script.clone().filter(|frame| frame.is_of_program()).take(CALLS).collect();
    let named = native.filter(|frame| frame.function.is_some());
    let calls = if own.is_empty() { script.chain(named).take(CALLS).collect() } else { own };
    let calls = if calls.is_empty() {
        "a function that cannot be told".to_owned()
    } else {
        calls.into_iter().map(frame).collect::<Vec<_>>().join(" < ")
    };
    let libraries: Vec<String> = caller.libraries.iter().map(escape).collect();
    let through =
        if libraries.is_empty() { String::new() } else { format!(", through {}", libraries.join(", ")) };
    format!("{} (thread {}) {how} {calls}{through}", caller.pid, caller.tid)
}

fn turn(turn: &Turn) -> String {
    let after = humanly(turn.after_ns);
    match turn.act {
        Act::Sent => format!("{} sent {} bytes after {after}", turn.pid, turn.bytes),
        Act::Received => format!("{} received {} bytes after {after}", turn.pid, turn.bytes),
        Act::ShutDown => format!("{} shut it down after {after}", turn.pid),
    }
}

/// How children ended.
pub(super) fn history(facts: &HistoryFacts) -> Vec<(&'static str, String)> {
    let ends = facts.ends.iter().map(|ends| {
        format!("{} x {} (median life {})", ends.count, escape(&ends.how), humanly(ends.lifetime_ns))
    });
    let window = humanly(facts.window_ns);
    vec![("ends:", format!("{} within {window}", ends.collect::<Vec<_>>().join(", ")))]
}

/// Who holds a descriptor.
pub(super) fn leak(facts: &LeakFacts) -> Vec<(&'static str, String)> {
    let what = match &facts.address {
        Some(address) => format!("{}, socket {}", escape(address), facts.inode),
        None => format!("pipe {}", facts.inode),
    };
    let holder = |holder: &crate::model::facts::DescriptorHolder| {
        let uid = holder.uid.map_or_else(String::new, |uid| format!(", uid {uid}"));
        format!("{} (pid {}{uid}) at descriptor {}, in {}", holder.name, holder.pid, holder.fd, holder.doing)
    };
    let holders: Vec<String> = facts.holders.iter().map(holder).collect();
    vec![("of:", what), ("held by:", holders.join(", "))]
}

/// The locks that a child carries, a paragraph each.
pub(super) fn held(locks: &[HeldFacts]) -> Vec<(&'static str, String)> {
    let lock = |lock: &HeldFacts| {
        let kind = match lock.kind {
            LockKind::Mutex => "mutex",
            LockKind::ReadWrite => "read-write lock",
            LockKind::Buffer => "buffer of Python's",
            LockKind::Recursive => "threading.RLock",
            LockKind::Stream => "lock of a FILE",
        };
        let name = lock.name.as_ref().map(|name| format!(" ({})", escape(name))).unwrap_or_default();
        let place = match lock.mapping.name.as_str() {
            "" => "in anonymous memory".to_owned(),
            name => format!("in {} + {:#x}", escape(name), lock.mapping.offset),
        };
        let owner = lock.owner.name.as_deref().map_or_else(|| "a thread that has ended".to_owned(), escape);
        let id = lock.owner.id.map(|id| format!(" (thread {id})")).unwrap_or_default();
        ("carries:", format!("{kind}{name} at {}, {place}; held by {owner}{id}", lock.address))
    };
    locks.iter().map(lock).collect()
}

/// A stack in a line: innermost first.
fn stack(stack: &Stack) -> String {
    let mut calls: Vec<String> = stack.frames.iter().take(FRAMES).map(frame).collect();
    if stack.frames.len() > FRAMES {
        calls.push("...".to_owned());
    }
    let calls = calls.join(" < ");
    match &stack.missing {
        None => calls,
        Some(why) if calls.is_empty() => format!("none: {}", escape(why)),
        Some(why) => format!("{calls} (and no further: {})", escape(why)),
    }
}

/// Names and paths in a frame were made printable where they were read.
pub fn frame(frame: &Frame) -> String {
    let module = frame.module.as_deref().map(|module| module.rsplit('/').next().unwrap_or(module));
    let place = match (module, frame.line, frame.offset) {
        (Some(module), Some(line), _) => format!(" ({module}:{line})"),
        (Some(module), None, Some(offset)) if frame.function.is_none() => format!("{module} + {offset:#x}"),
        _ => String::new(),
    };
    format!("{}{place}", frame.function.as_deref().unwrap_or_default())
}
