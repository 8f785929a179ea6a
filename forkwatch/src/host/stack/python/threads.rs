//! What the threads of a process are called in its script, and where they are in it: without a table of their own, from
//! the calls that `threading.Thread` begins with (`Lib/threading.py`).

use std::{fs, os::unix::ffi::OsStrExt};

use super::Interpreter;
use crate::{
    host::{
        bytes::Bytes,
        maps::Maps,
        stack::script::{Script, THREAD_IDS, is_id},
    },
    model::stack::Frame,
};

/// Calls of one thread that are followed to its first.
const MAX_CALLS: usize = 1024;
/// The innermost calls among which the script's own is looked for.
const MAX_INNERMOST: usize = 24;
/// The outermost calls among which is the one that `threading.Thread` begins with: profilers and the like come before it
/// or after it.
const MAX_OUTERMOST: usize = 4;
/// Threads that are looked at.
const MAX_THREADS: usize = 256;
/// Characters of a name that are told.
const MAX_NAME: usize = 64;

/// The threads that CPython knows; absent where none runs in the process.
pub(in crate::host::stack) fn threads(
    tgid: u32,
    memory: &Bytes,
    maps: &Maps,
) -> Option<Result<Vec<Script>, String>> {
    let program = fs::read_link(format!("/proc/{tgid}/exe")).ok();
    threads_of(memory, maps, program.as_deref().map(|path| path.as_os_str().as_bytes()))
}

/// The same from bytes alone: `program` is the path of what runs.
pub(in crate::host::stack) fn threads_of(
    memory: &Bytes,
    maps: &Maps,
    program: Option<&[u8]>,
) -> Option<Result<Vec<Script>, String>> {
    Some(Interpreter::find(memory, maps, program)?.map(|interpreter| interpreter.scripts()))
}

impl Interpreter<'_> {
    pub(super) fn scripts(&self) -> Vec<Script> {
        let mut found = Vec::new();
        self.each_thread(|own, state| {
            let id = |offset: &u64| self.memory.half(own?.wrapping_add(*offset)).filter(|id| is_id(*id));
            if let Some(own_id) = THREAD_IDS.iter().find_map(id) {
                found.push(self.script(own_id, state));
            }
            (found.len() >= MAX_THREADS).then_some(())
        });
        found
    }

    /// The name of a thread, where it is, and what it takes from.
    fn script(&self, own_id: u32, state: u64) -> Script {
        let mut calls = Vec::new();
        let mut next = self.first_frame(state);
        while let Some(frame) = next.filter(|_| calls.len() < MAX_CALLS) {
            if !self.is_of_c(frame) {
                calls.push(frame);
            }
            next = self.pointer(frame, self.layout.previous);
        }
        let begins = calls.iter().rev().take(MAX_OUTERMOST).find_map(|frame| {
            let call = self.frame(*frame)?;
            let file = call.module.filter(|_| call.function.as_deref().is_some_and(is_bootstrap))?;
            Some((*frame, file.strip_suffix("threading.py")?.to_owned()))
        });
        let name = begins.as_ref().and_then(|(frame, _)| self.name_of(*frame));
        let library = begins.map(|(_, library)| library);
        let innermost: Vec<(u64, Frame)> =
            calls.iter().take(MAX_INNERMOST).map_while(|frame| Some((*frame, self.frame(*frame)?))).collect();
        let queue = library.as_deref().and_then(|library| self.awaited_queue(&innermost, library));
        let mut frames = innermost.iter().map(|(_, call)| call);
        let own = frames.find(|call| is_own(call, library.as_deref()));
        // One of the library's own is told by the function that it runs.
        let runs = || {
            let of_thread =
                |call: &&Frame| call.module.as_deref().is_some_and(|file| file.ends_with("/threading.py"));
            let whole = calls.len() == innermost.len();
            library.as_ref().filter(|_| whole)?;
            innermost.iter().rev().map(|(_, call)| call).find(|call| !of_thread(call))
        };
        let at = own.or_else(runs).or_else(|| innermost.first().map(|(_, call)| call)).cloned();
        Script { own_id, name, at, queue }
    }

    /// The name of the `threading.Thread` whose method this call is.
    fn name_of(&self, frame: u64) -> Option<String> {
        let thread = self.pointer(frame, self.layout.locals)? & !super::TAGS;
        let name = self.string(self.attribute(thread, "_name")?)?;
        let mut characters = name.chars();
        let told: String = characters.by_ref().take(MAX_NAME).collect();
        Some(if characters.next().is_some() { format!("{told}...") } else { told })
    }
}

/// Methods of `threading.Thread` that its thread begins with. They have the thread as their only argument.
fn is_bootstrap(function: &str) -> bool {
    matches!(function.rsplit('.').next(), Some("_bootstrap" | "_bootstrap_inner"))
}

/// Whether a call is not the standard library's, which is in this folder.
fn is_own(call: &Frame, library: Option<&str>) -> bool {
    let Some(file) = call.module.as_deref() else { return false };
    let within = library.and_then(|library| file.strip_prefix(library));
    let is_installed =
        |rest: &str| ["site-packages/", "dist-packages/"].iter().any(|start| rest.starts_with(start));
    !file.starts_with("<frozen ") && within.is_none_or(is_installed)
}
