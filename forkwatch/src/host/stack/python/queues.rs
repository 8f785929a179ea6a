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

/// A function of the library's that a thread runs to take from a queue which is written in C, so that the queue's own call is
/// not seen.
struct Taker {
    function: &'static str,
    /// In the library's folder.
    file: &'static str,
    /// Which of its variables is the queue, counted from 0; and since 3.14.
    variable: [u64; 2],
}

const TAKERS: [Taker; 2] = [
    Taker { function: "_worker", file: "concurrent/futures/thread.py", variable: [1, 2] },
    Taker { function: "_handle_tasks", file: "multiprocessing/pool.py", variable: [0, 0] },
];

impl Interpreter<'_> {
    /// The queue from which one of these innermost calls, of the library in this folder, takes an item.
    pub(super) fn awaited_queue(&self, calls: &[(u64, Frame)], library: &str) -> Option<u64> {
        let named = |call: &Frame| {
            let function = call.function.as_deref()?.rsplit('.').next()?.to_owned();
            Some((function, call.module.as_deref()?.strip_prefix(library)?.to_owned()))
        };
        let variable = |(frame, call): &(u64, Frame)| {
            let (function, file) = named(call)?;
            if function == "get" && file == "queue.py" {
                return Some((*frame, 0));
            }
            let [before, since] =
                TAKERS.iter().find(|it| it.function == function && it.file == file)?.variable;
            Some((*frame, if self.layout.minor >= 14 { since } else { before }))
        };
        let (frame, variable) = calls.iter().take(MAX_INNER).find_map(variable)?;
        Some(self.pointer(frame, self.layout.locals + variable * 8)? & !TAGS)
    }

    /// How many items lie in a queue.
    pub(super) fn length(&self, queue: u64) -> Option<u64> {
        let size = if self.kind(queue)? == b"_queue.SimpleQueue" {
            self.length_of_simple(queue)
        } else {
            let items = self.attribute(queue, "queue")?;
            // `Queue`, and those with an order of their own.
            matches!(self.kind(items)?.as_slice(), b"collections.deque" | b"list")
                .then(|| self.size(items))?
        };
        size.filter(|size| *size <= MAX_LENGTH)
    }

    /// The same of a `SimpleQueue` (`simplequeueobject`, `Modules/_queuemodule.c`): a list and the place of the first item
    /// that was not taken, up to 3.12; then a ring, which counts its items last.
    fn length_of_simple(&self, queue: u64) -> Option<u64> {
        let word = |index: u64| self.memory.word(queue.wrapping_add(self.layout.object_type + 8 + index * 8));
        if self.layout.minor >= 13 {
            return word(5);
        }
        self.size(word(2)?)?.checked_sub(word(3)?)
    }

    /// The name of an object's class.
    fn kind(&self, object: u64) -> Option<Vec<u8>> {
        let class = self.pointer(object, self.layout.object_type)?;
        Some(self.memory.text(self.pointer(class, self.layout.type_name)?, 32))
    }

    /// `ob_size`, which follows an object's head.
    fn size(&self, object: u64) -> Option<u64> {
        self.memory.word(object.wrapping_add(self.layout.object_type + 8))
    }
}
