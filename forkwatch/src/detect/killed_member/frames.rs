//! What the calls of a script say of a pool of processes: `multiprocessing` of CPython, and `multiprocess` (pathos), which
//! is the same with another pickle.

use crate::model::{
    family::{Member, Waiter},
    process::escape,
    stack::Frame,
};

const PACKAGES: [&str; 2] = ["/multiprocessing/", "/multiprocess/"];

/// Whether a call is one of these of a file of the package; any of it where none is named.
pub(super) fn is_in(frame: &Frame, file: &str, functions: &[&str]) -> bool {
    let function = frame.function.as_deref().unwrap_or_default();
    let name = function.rsplit('.').next().unwrap_or_default();
    let is_file = frame
        .module
        .as_deref()
        .is_some_and(|module| PACKAGES.iter().any(|package| module.ends_with(&format!("{package}{file}"))));
    is_file && (functions.is_empty() || functions.contains(&name))
}

/// Whether a call is in any file of the package, or of the standard library's that it waits with.
pub(super) fn is_of_package(frame: &Frame) -> bool {
    frame.module.as_deref().is_some_and(|module| {
        PACKAGES.iter().any(|package| module.contains(package)) || module.ends_with("/threading.py")
    })
}

/// The calls of a thread, innermost first.
pub(super) fn calls(waiter: &Waiter) -> &[Frame] {
    waiter.script.as_ref().map_or(&[], |script| script.frames.as_slice())
}

/// Whether a process is a worker of a pool; and if so, whether it waits for a task.
pub(super) fn worker(member: &Member) -> Option<bool> {
    let calls = calls(member.main()?);
    let at = calls.iter().position(|frame| is_in(frame, "pool.py", &["worker"]))?;
    let inner = calls.get(..at)?;
    let gets = inner.iter().any(|frame| is_in(frame, "queues.py", &["get"]));
    Some(gets && inner.iter().all(is_of_package))
}

/// The place at which a thread waits for a result of a pool, without a time limit: the call of the program's own.
pub(super) fn awaits_result(waiter: &Waiter) -> Option<&Frame> {
    let calls = calls(waiter);
    let waits = |frame: &Frame| is_in(frame, "pool.py", &["wait", "next"]);
    let at = calls.iter().position(waits).filter(|_| waiter.endless)?;
    calls.get(at..)?.iter().find(|frame| !is_of_package(frame))
}

/// Whether the process that has a pool does something for it that may bring the result yet: its thread that hands out
/// tasks is about to make one, or the one that takes in results is not waiting for them.
pub(super) fn is_at_work(forker: &Member) -> bool {
    forker.threads.iter().any(|waiter| {
        let calls = calls(waiter);
        let has = |function: &str| calls.iter().any(|frame| is_in(frame, "pool.py", &[function]));
        let serves = has("_handle_tasks") || has("_handle_results");
        let inside =
            calls.iter().take_while(|frame| !is_in(frame, "pool.py", &["_handle_tasks", "_handle_results"]));
        has("_guarded_task_generation")
            || (serves && (waiter.call == "running" || !inside.clone().all(is_of_package)))
    })
}

/// Whether a thread waits for a lock of a queue, inside of that: nobody else uses it, and nobody keeps it for long.
pub(super) fn waits_in_queue(waiter: &Waiter) -> bool {
    match calls(waiter) {
        [enter, queue, ..] => {
            is_in(enter, "synchronize.py", &["__enter__", "acquire"])
                && is_in(queue, "queues.py", &["get", "put"])
        }
        _ => false,
    }
}

/// Whether a thread waits for a lock of `multiprocessing` that the program itself uses.
pub(super) fn waits_for_lock(waiter: &Waiter) -> bool {
    let enters = |enter: &Frame| is_in(enter, "synchronize.py", &["__enter__"]);
    calls(waiter).first().is_some_and(enters) && !waits_in_queue(waiter)
}

/// Whether any thread is inside of a queue.
pub(super) fn is_in_queue(member: &Member) -> bool {
    member
        .threads
        .iter()
        .any(|waiter| calls(waiter).iter().any(|frame| is_in(frame, "queues.py", &["get", "put"])))
}

/// Where a call is, for people: `run (app.py:12)`.
pub(super) fn place(frame: &Frame) -> String {
    let function = frame.function.as_deref().unwrap_or("?");
    let module = frame.module.as_deref().and_then(|module| module.rsplit('/').next()).unwrap_or("?");
    let line = frame.line.map_or_else(String::new, |line| format!(":{line}"));
    escape(format!("{function} ({module}{line})").as_bytes())
}
