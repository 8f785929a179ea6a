//! The calls of a CPython thread, from the interpreter's own structures. They are read as `py-spy` reads them, and
//! nothing is stopped; `py-spy` itself, as a library, maps files that others can cut short.
//!
//! A process can put anything into its memory, so every count is bounded, every length is checked before it is read,
//! and what is not a code object ends the walk.

mod attributes;
mod collector;
mod handlers;
mod layout;
mod lines;
mod offsets;
mod queues;
mod threads;
mod types;

pub(in crate::host) use self::types::{Types, types};

use std::{fs, os::unix::ffi::OsStrExt};

pub(in crate::host) use handlers::Handler;
use layout::Layout;
pub(super) use queues::lengths as queue_lengths;
pub(super) use threads::threads;
#[cfg(any(test, fuzzing))]
pub(super) use threads::threads_of;

use super::{elf::Object, script::THREAD_IDS, symbols};
use crate::{
    host::{
        bytes::Bytes,
        maps::{Mapping, Maps},
        status::Status,
    },
    model::{
        inventory::Collector,
        process,
        stack::{Frame, Stack},
    },
};

const MAX_INTERPRETERS: usize = 64;
const MAX_THREADS: usize = 4096;
/// Frames that are skipped because they belong to C.
const MAX_SKIPPED: usize = 64;
/// Names are shorter, and so are paths.
const MAX_CHARACTERS: u64 = 4096;
/// A table of lines; one of a longer function is not read.
const MAX_TABLE: u64 = 256 * 1024;
/// `FRAME_OWNED_BY_CSTACK` of 3.12 and 3.13, `FRAME_OWNED_BY_INTERPRETER` since, and what comes after: frames without
/// code.
const OF_C: u8 = 3;
/// `Py_TAG_BITS`: what the code of a frame may be marked with since 3.14, and no pointer to an object has.
const TAGS: u64 = 3;
/// Threads that have bytecode of their own.
const MAX_LOCAL: u64 = 1024 * 1024;
/// The innermost `most` calls of a thread; absent where no CPython runs in the process.
pub(super) fn stack(
    tgid: u32,
    thread: u32,
    memory: &Bytes,
    maps: &Maps,
    most: usize,
) -> Option<Result<Stack, String>> {
    let program = fs::read_link(format!("/proc/{tgid}/exe")).ok();
    let program = program.as_deref().map(|path| path.as_os_str().as_bytes());
    let own_id = || Status::of_thread(tgid, thread).ok().map(|status| status.own_id);
    let not_there = || format!("thread {thread} is not among those of CPython");
    Some(stack_of(memory, maps, program, own_id, most)?.and_then(|stack| stack.ok_or_else(not_there)))
}

/// The same from bytes alone: `program` is the path of what runs, and `own_id` tells the tid that the process has for
/// the thread. Nothing where CPython does not know that one.
pub(super) fn stack_of(
    memory: &Bytes,
    maps: &Maps,
    program: Option<&[u8]>,
    own_id: impl FnOnce() -> Option<u32>,
    most: usize,
) -> Option<Result<Option<Stack>, String>> {
    let interpreter = match Interpreter::find(memory, maps, program)? {
        Ok(interpreter) => interpreter,
        Err(why) => return Some(Err(why)),
    };
    let thread = own_id().and_then(|own_id| interpreter.thread(own_id));
    Some(Ok(thread.map(|thread| interpreter.walk(thread, most))))
}

/// The last version in which a child tells the loop of its forker of its signals.
const LAST_THAT_TELLS: u8 = 11;

/// The functions that handle signals, where the interpreter also writes their numbers to that descriptor; absent where no
/// CPython runs in the process, or a later one.
pub(super) fn handlers(tgid: u32, memory: &Bytes, maps: &Maps, descriptor: u32) -> Option<Vec<Handler>> {
    let program = fs::read_link(format!("/proc/{tgid}/exe")).ok()?;
    let is_named =
        |head: &&Mapping| head.path == program.as_os_str().as_bytes() || named_version(&head.path).is_some();
    maps.objects().filter(is_named).find_map(|head| {
        let object = Object::read(memory, head).ok()?;
        let runtime = symbols::address_of(memory, &object, b"_PyRuntime")?;
        let layout = known_layout(memory, &object).ok()?;
        let interpreter = Interpreter { memory, layout, runtime };
        (layout.minor <= LAST_THAT_TELLS).then(|| handlers::handlers(&interpreter, maps, head, descriptor))
    })
}

/// The state of CPython's garbage collector; absent where none runs in the process, or it is not known how this version
/// keeps it.
pub(super) fn collector(tgid: u32, memory: &Bytes, maps: &Maps) -> Option<Collector> {
    let program = fs::read_link(format!("/proc/{tgid}/exe")).ok();
    let program = program.as_deref().map(|path| path.as_os_str().as_bytes());
    Interpreter::find(memory, maps, program)?.ok()?.collector()
}

/// The layout of a version that does not tell it.
fn known_layout(memory: &Bytes, object: &Object) -> Result<Layout, String> {
    let minor = symbols::address_of(memory, object, b"Py_Version")
        .and_then(|at| memory.half(at))
        .filter(|version| version >> 24 == 3)
        .map(|version| version.to_be_bytes()[1])
        .or_else(|| named_version(&object.head.path)?.strip_prefix("3.")?.parse().ok())
        .ok_or("the version of CPython is not known")?;
    Layout::of(minor).ok_or_else(|| format!("the frames of CPython 3.{minor} cannot be read"))
}

/// `3.11` of `/usr/bin/python3.11` and of `libpython3.11.so.1.0`.
pub(super) fn named_version(path: &[u8]) -> Option<String> {
    let path = std::str::from_utf8(path).ok()?;
    let name = path.rsplit('/').next()?;
    let version = name.strip_prefix("lib").unwrap_or(name).strip_prefix("python")?;
    let (major, rest) = version.split_once('.')?;
    let minor: String = rest.chars().take_while(char::is_ascii_digit).take(3).collect();
    (matches!(major, "2" | "3") && !minor.is_empty()).then(|| format!("{major}.{minor}"))
}

struct Interpreter<'a> {
    memory: &'a Bytes,
    layout: Layout,
    /// The address of `_PyRuntime`.
    runtime: u64,
}

impl<'a> Interpreter<'a> {
    /// CPython in a process whose program has this path; absent where none runs there.
    fn find(memory: &'a Bytes, maps: &Maps, program: Option<&[u8]>) -> Option<Result<Self, String>> {
        let mut objects: Vec<&Mapping> = maps
            .objects()
            .filter(|head| Some(head.path.as_slice()) == program || named_version(&head.path).is_some())
            .collect();
        objects.dedup_by_key(|head| head.start);
        let found = objects.iter().find_map(|head| {
            let object = Object::read(memory, head).ok()?;
            let runtime = symbols::address_of(memory, &object, b"_PyRuntime")?;
            Some((object, runtime))
        });
        let Some((object, runtime)) = found else {
            let name = objects.iter().find_map(|head| named_version(&head.path))?;
            return Some(Err(format!("the frames of CPython {name} cannot be read")));
        };
        let layout = offsets::read(memory, runtime).unwrap_or_else(|| known_layout(memory, &object));
        Some(layout.map(|layout| Self { memory, layout, runtime }))
    }

    /// The address of a thread's `PyThreadState`.
    fn thread(&self, tid: u32) -> Option<u64> {
        self.each_thread(|own, state| {
            // It has none before it begins.
            let is_tid = |offset: &u64| self.memory.half(own?.wrapping_add(*offset)).filter(|id| *id == tid);
            THREAD_IDS.iter().find_map(is_tid).map(|_| state)
        })
    }

    /// Shows the `thread_id` and the address of each `PyThreadState`, until something is found.
    fn each_thread<T>(&self, mut look: impl FnMut(Option<u64>, u64) -> Option<T>) -> Option<T> {
        let layout = self.layout;
        let mut interpreter = self.pointer(self.runtime, layout.interpreters)?;
        for _ in 0..MAX_INTERPRETERS {
            let mut thread = self.pointer(interpreter, layout.threads);
            for _ in 0..MAX_THREADS {
                let Some(state) = thread else { break };
                if let Some(found) = look(self.pointer(state, layout.thread_id), state) {
                    return Some(found);
                }
                thread = self.pointer(state, layout.next_thread);
            }
            interpreter = self.pointer(interpreter, layout.next_interpreter)?;
        }
        None
    }

    /// The innermost frame of a thread.
    fn first_frame(&self, thread: u64) -> Option<u64> {
        let first = self.pointer(thread, self.layout.frame)?;
        self.layout.within_cframe.map_or(Some(first), |offset| self.pointer(first, offset))
    }

    /// Whether a frame is no script's.
    fn is_of_c(&self, frame: u64) -> bool {
        let owner = self.layout.owner.and_then(|owner| self.memory.take(frame.wrapping_add(owner), 1));
        self.layout.minor >= 12 && owner.is_some_and(|owner| owner.first() >= Some(&OF_C))
    }

    fn walk(&self, thread: u64, most: usize) -> Stack {
        let mut next = self.first_frame(thread);
        let mut stack = Stack::default();
        let mut skipped = 0;
        while let Some(frame) = next {
            if stack.frames.len() == most {
                stack.missing = Some(format!("only the innermost {most} calls are told"));
                return stack;
            } else if self.is_of_c(frame) && skipped < MAX_SKIPPED {
                skipped += 1;
            } else if let Some(frame) = self.frame(frame) {
                stack.frames.push(frame);
            } else {
                stack.missing = Some("the interpreter's next frame makes no sense".to_owned());
                return stack;
            }
            next = self.pointer(frame, self.layout.previous);
        }
        if stack.frames.is_empty() {
            stack.missing = Some("the thread runs no Python code".to_owned());
        }
        stack
    }

    fn frame(&self, frame: u64) -> Option<Frame> {
        let layout = self.layout;
        let code = self.pointer(frame, layout.code)? & !TAGS;
        let kind = self.pointer(self.pointer(code, layout.object_type)?, layout.type_name)?;
        if self.memory.text(kind, 8) != b"code" {
            return None;
        }
        Some(Frame {
            function: Some(self.text(self.pointer(code, layout.name)?)?),
            module: self.text(self.pointer(code, layout.file)?),
            offset: None,
            line: self.line(frame, code),
        })
    }

    fn line(&self, frame: u64, code: u64) -> Option<u32> {
        let layout = self.layout;
        let at = frame.wrapping_add(layout.instruction);
        let instruction = match layout.minor {
            // An index, of instructions of two bytes since 3.10; negative before the first.
            ..11 => {
                u64::from(self.memory.half(at)?.cast_signed().max(0).cast_unsigned())
                    * if layout.minor == 10 { 2 } else { 1 }
            }
            _ => self.memory.word(at)?.saturating_sub(self.instructions(frame, code)?),
        };
        let first = self.memory.half(code.wrapping_add(layout.first_line))?.cast_signed();
        let table = self.pointer(code, layout.lines)?;
        let (size, content) = layout.bytes;
        let size = self.memory.word(table.wrapping_add(size)).filter(|size| *size <= MAX_TABLE)?;
        let table = self.memory.take(table.wrapping_add(content), usize::try_from(size).ok()?)?;
        lines::line(layout.minor, &table, first, instruction)
    }

    /// Where the bytecode begins that a frame runs: the code object's, or a copy that its thread has of it.
    fn instructions(&self, frame: u64, code: u64) -> Option<u64> {
        let copies = self.layout.local.and_then(|local| Some((local, self.pointer(code, local.codes)?)));
        let Some((local, copies)) = copies else { return Some(code.wrapping_add(self.layout.instructions)) };
        let index = u64::from(self.memory.half(frame.wrapping_add(local.index))?);
        let count = self.memory.word(copies)?.min(MAX_LOCAL);
        self.pointer(copies, (index < count).then_some(8 + index * 8)?)
    }

    /// A string, made safe to print: names in the source are the program's, those in generated code are anybody's.
    fn text(&self, at: u64) -> Option<String> {
        let text = self.layout.text;
        let length =
            self.memory.word(at.wrapping_add(text.length)).filter(|length| *length <= MAX_CHARACTERS)?;
        // struct state: `interned`, then kind in 3 bits (bytes a character), compact in 1, ascii in 1.
        let state = self.memory.half(at.wrapping_add(text.state))? >> text.interned;
        let (kind, is_compact, is_ascii) = (state & 7, state >> 3 & 1 == 1, state >> 4 & 1 == 1);
        if !is_compact || !matches!(kind, 1 | 2 | 4) {
            return None;
        }
        let size = usize::try_from(length.checked_mul(u64::from(kind))?).ok()?;
        let bytes =
            self.memory.take(at.wrapping_add(if is_ascii { text.ascii } else { text.compact }), size)?;
        let characters = bytes.chunks_exact(usize::try_from(kind).ok()?).map(|character| {
            let number = character.iter().rev().fold(0_u32, |number, byte| number << 8 | u32::from(*byte));
            char::from_u32(number).unwrap_or(char::REPLACEMENT_CHARACTER)
        });
        Some(process::escape(characters.collect::<String>().as_bytes()))
    }

    /// The pointer at an offset of a structure; absent where it is NULL or cannot be read.
    fn pointer(&self, structure: u64, offset: u64) -> Option<u64> {
        self.memory.word(structure.wrapping_add(offset)).filter(|pointer| *pointer != 0)
    }
}

#[cfg(test)]
mod tests;
