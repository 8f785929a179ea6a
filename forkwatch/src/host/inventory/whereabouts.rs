//! Where the threads of a process are in its program.

use std::{
    thread::sleep,
    time::{Duration, Instant},
};

use super::{
    calls::{LOOKS, PAUSE, seen},
    fork_handlers,
};
use crate::{
    host::{call::Activity, memory, stack, stat::Stat},
    model::{
        inventory::Whereabouts,
        process::ProcessKey,
        stack::{Frame, Stacks},
    },
};

/// Threads that are looked at: more are not told of a process either.
const MAX_THREADS: usize = 256;
/// How long all of that may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// Where the threads are, and why the script of one could not be told. `loops` says in which of them native calls are
/// to be told too; `main` is no other thread, so that it matters to nobody who started it.
pub(in crate::host) fn whereabouts(
    key: ProcessKey,
    main: Option<u32>,
    threads: &[Stat],
    loops: impl Fn(u32) -> bool,
) -> (Vec<Whereabouts>, Option<String>) {
    let deadline = Instant::now() + PATIENCE;
    let mut found = Vec::new();
    let mut untold = None;
    if threads.len() > MAX_THREADS {
        return (found, Some(format!("it has more than {MAX_THREADS} threads")));
    }
    // Nothing can be told without it, and why is known from what else was refused.
    if !memory::may_be_read(key.tgid) {
        return (found, None);
    }
    for thread in threads {
        if Instant::now() >= deadline {
            untold = Some(format!("looking at its threads took longer than {PATIENCE:?}"));
            break;
        }
        let is_main = Some(thread.id) == main;
        let has_loop = loops(thread.id);
        let (script, why) = match stack::of_running_script(key, thread.id) {
            None => (Vec::new(), None),
            Some(Ok(script)) => (script, None),
            Some(Err(why)) => (Vec::new(), Some(why)),
        };
        // A thread that is not Python's is none of its loops either.
        if has_loop {
            untold = untold.or(why);
        }
        found.push(Whereabouts {
            thread: seen(thread),
            start: if is_main { None } else { start(key, thread.id, deadline) },
            native: if has_loop { native(key, thread.id, deadline) } else { Vec::new() },
            ends_at_forks: fork_handlers::ends_at_forks(key.tgid, &script),
            script,
        });
    }
    (found, untold)
}

fn start(key: ProcessKey, thread: u32, deadline: Instant) -> Option<String> {
    while_awake(key, thread, deadline, || stack::first_object(key, thread))
}

fn native(key: ProcessKey, thread: u32, deadline: Instant) -> Vec<Frame> {
    let frames =
        || Some(stack::of_thread(key, thread, Stacks::Light).frames).filter(|frames| !frames.is_empty());
    while_awake(key, thread, deadline, frames).unwrap_or_default()
}

/// Only the stack of a sleeping thread can be followed: one that works is looked at again for a tenth of a second.
fn while_awake<T>(
    key: ProcessKey,
    thread: u32,
    deadline: Instant,
    mut look: impl FnMut() -> Option<T>,
) -> Option<T> {
    for _ in 1..LOOKS {
        let awake = matches!(Activity::of_thread(key.tgid, thread), Ok(Activity::Running));
        let found = look();
        if found.is_some() || !awake || Instant::now() >= deadline {
            return found;
        }
        sleep(PAUSE);
    }
    look()
}
