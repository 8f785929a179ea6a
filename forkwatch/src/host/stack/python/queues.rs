//! Queues between the threads of a script: who takes from one, and how much lies in it (`Lib/queue.py`).

use std::{fs, os::unix::ffi::OsStrExt};

use super::{Interpreter, TAGS};
use crate::{
    host::{bytes::Bytes, maps::Maps},
    model::stack::Frame,
};

/// The innermost calls among which that of the queue is: it waits for a condition.
const MAX_INNER: usize = 4;
/// More than this does not lie in a queue.
const MAX_LENGTH: u64 = 1 << 40;

/// How much lies in these queues, each by the address of its object. Absent where no CPython runs in the process.
pub(in crate::host::stack) fn lengths(
    tgid: u32,
    memory: &Bytes,
    maps: &Maps,
    queues: &[u64],
) -> Option<Result<Vec<Option<u64>>, String>> {
    let program = fs::read_link(format!("/proc/{tgid}/exe")).ok();
    let program = program.as_deref().map(|path| path.as_os_str().as_bytes());
    let found = Interpreter::find(memory, maps, program)?;
    Some(found.map(|interpreter| queues.iter().map(|queue| interpreter.length(*queue)).collect()))
}

impl Interpreter<'_> {
    /// The queue of which one of these innermost calls, of the library in this folder, takes an item.
    pub(super) fn awaited_queue(&self, calls: &[(u64, Frame)], library: &str) -> Option<u64> {
        let is_it = |(_, call): &&(u64, Frame)| {
            let function = call.function.as_deref().and_then(|function| function.rsplit('.').next());
            let file = call.module.as_deref().and_then(|file| file.strip_prefix(library));
            (function, file) == (Some("get"), Some("queue.py"))
        };
        let (frame, _) = calls.iter().take(MAX_INNER).find(is_it)?;
        Some(self.pointer(*frame, self.layout.locals)? & !TAGS)
    }

    /// How many items lie in a queue.
    pub(super) fn length(&self, queue: u64) -> Option<u64> {
        let items = self.attribute(queue, "queue")?;
        let class = self.pointer(items, self.layout.object_type)?;
        let name = self.memory.text(self.pointer(class, self.layout.type_name)?, 32);
        // `Queue`, and those with an order of their own.
        let is_known = matches!(name.as_slice(), b"collections.deque" | b"list");
        // `ob_size` follows the object's head.
        let size = is_known.then(|| self.memory.word(items.wrapping_add(self.layout.object_type + 8)))?;
        size.filter(|size| *size <= MAX_LENGTH)
    }
}
