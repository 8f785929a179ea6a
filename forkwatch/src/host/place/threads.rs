//! Where the other threads of a stuck child are, and those that its parent kept.

use super::super::{awaited::awaited, call::Activity, stack, stat::Stat, task};
use crate::model::{
    lock::{MAX_TOLD, ThreadAt},
    process::ProcessKey,
    stack::{Stack, Stacks},
    thread::SeenThread,
};

/// The child's threads but the waiting one, from the oldest; and whether these are all.
pub(super) fn others(child: ProcessKey, waiting: u32, stacks: Stacks) -> (Vec<ThreadAt>, bool) {
    let Ok(mut threads) = task::user_threads(child.tgid) else { return (Vec::new(), false) };
    threads.retain(|thread| thread.id != waiting);
    let is_all = threads.len() <= MAX_TOLD;
    (places(child, &threads, stacks), is_all)
}

/// Descriptors that other threads of a process wait for; absent where one of them runs or cannot be seen, so that nobody
/// knows what it comes to do.
pub(super) fn awaited_by_others(process: u32, waiting: u32) -> Option<Vec<u32>> {
    let mut all = Vec::new();
    for thread in task::user_threads(process).ok()?.iter().filter(|thread| thread.id != waiting) {
        let activity = Activity::of_thread(process, thread.id).ok()?;
        all.extend(awaited(process, activity.call()?).input);
    }
    Some(all)
}

/// The parent's threads that are older than the child, from the youngest: libraries and pools start late. The thread
/// that forked is among them; nobody waits for that one.
pub(super) fn behind(parent: ProcessKey, child: ProcessKey, stacks: Stacks) -> Vec<ThreadAt> {
    let Ok(mut threads) = task::user_threads(parent.tgid) else { return Vec::new() };
    threads.retain(|thread| task::is_older(thread, child.start, child.tgid));
    threads.reverse();
    places(parent, &threads, stacks)
}

/// Where the oldest of a process's threads are, in their script and below it, also those that wake all the time.
pub(in crate::host) fn everywhere(process: ProcessKey, threads: &[Stat]) -> Vec<ThreadAt> {
    let place = |thread: &Stat| ThreadAt {
        thread: SeenThread { tid: thread.id, comm: thread.comm },
        stack: stack::of_restless_thread(process, thread.id),
        script: stack::of_running_script(process, thread.id)
            .and_then(Result::ok)
            .map(|frames| Stack { frames, missing: None }),
    };
    let places = threads.iter().take(MAX_TOLD).map(place).collect();
    if Stat::lives(process) { places } else { Vec::new() }
}

fn places(process: ProcessKey, threads: &[Stat], stacks: Stacks) -> Vec<ThreadAt> {
    // These are healthy, and not stopped for it.
    let stacks = if stacks == Stacks::None { Stacks::None } else { Stacks::Light };
    let place = |thread: &Stat| {
        let script = stack::of_script(process, thread.id);
        let runs_script = script.as_ref().is_some_and(|script| !script.frames.is_empty());
        // What the interpreter does below its script says no more, and costs most.
        let stack = if runs_script {
            Stack::absent("the calls of its script tell more")
        } else {
            stack::of_thread(process, thread.id, stacks)
        };
        ThreadAt { thread: SeenThread { tid: thread.id, comm: thread.comm }, stack, script }
    };
    let places = threads.iter().take(MAX_TOLD).map(place).collect();
    // What was seen may be another's.
    if Stat::lives(process) { places } else { Vec::new() }
}
