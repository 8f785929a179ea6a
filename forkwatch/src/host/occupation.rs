//! What the threads of a process are called in their own program, and where in it they are. The kernel knows a thread by
//! its comm, which before CPython 3.14 is just `python`.

use std::collections::HashMap;

use super::{
    memory,
    stack::{self, Script},
    stat::Stat,
    status::Status,
};
use crate::model::{
    process::ProcessKey,
    stack::{Frame, Stacks},
    thread::Occupation,
};

/// Threads of native code whose stacks are followed: each takes a look at the symbols of what it is in.
const MAX_NATIVE: usize = 8;

/// What these threads of a process are called and do, as far as that can be told. They may go on meanwhile.
pub(super) fn occupations(process: ProcessKey, threads: &[Stat], stacks: Stacks) -> Vec<Occupation> {
    if threads.is_empty() || !memory::may_be_read(process.tgid) {
        return Vec::new();
    }
    let scripts = scripts(process);
    let mut natives = 0;
    let occupation = |thread: &Stat| {
        if let Some(Script { name, at, queue, .. }) =
            own_id(process, thread.id).and_then(|id| scripts.get(&id))
        {
            return Occupation { tid: thread.id, name: name.clone(), at: at.clone(), queue: *queue };
        }
        let at = if stacks == Stacks::None || natives >= MAX_NATIVE {
            None
        } else {
            natives += 1;
            native(process, thread.id)
        };
        Occupation { tid: thread.id, at, ..Occupation::default() }
    };
    let mut found: Vec<Occupation> = threads.iter().map(occupation).collect();
    found.retain(|occupation| occupation.name.is_some() || occupation.at.is_some());
    // What was seen may be another's.
    if Stat::lives(process) { found } else { Vec::new() }
}

/// The threads that a script's interpreter knows in a process, by the tid that each has itself: none where no known one
/// runs there.
pub(super) fn scripts(process: ProcessKey) -> HashMap<u32, Script> {
    let scripts = stack::scripts(process).and_then(Result::ok).unwrap_or_default();
    scripts.into_iter().map(|script| (script.own_id, script)).collect()
}

fn own_id(process: ProcessKey, tid: u32) -> Option<u32> {
    Status::of_thread(process.tgid, tid).ok().map(|status| status.own_id)
}

/// The innermost named function of a sleeping thread that is not the C library's, else of all.
fn native(process: ProcessKey, tid: u32) -> Option<Frame> {
    let frames = stack::of_thread(process, tid, Stacks::Light).frames;
    let mut named = frames.into_iter().filter(|frame| frame.function.is_some()).peekable();
    let first = named.peek().cloned();
    let is_library = |frame: &Frame| frame.module.as_deref().is_some_and(stack::is_of_c_library);
    named.find(|frame| !is_library(frame)).or(first)
}

#[cfg(test)]
mod tests;
