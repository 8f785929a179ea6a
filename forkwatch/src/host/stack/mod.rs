//! The stack of a sleeping thread of another process, and the names of its variables.
//!
//! Nothing is stopped unless that was asked for: `/proc` shows where a sleeping thread's stack is, and its memory can
//! be read beside it. What is read is checked to be one moment's: the thread must not have woken meanwhile.

mod asleep;
mod cfi;
mod demangle;
mod elf;
mod files;
#[cfg(any(test, fuzzing))]
pub(super) mod fuzz;
mod python;
mod registers;
mod restless;
mod ruby;
mod script;
mod stop;
mod symbols;
mod unwind;

pub(super) use self::python::{Types as PythonTypes, types as python_types};

use std::{
    io,
    rc::Rc,
    thread,
    time::{Duration, Instant},
};

pub(super) use self::script::Script;
use asleep::Sleep;
use elf::Object;
use registers::Registers;
use symbols::Kind;
use unwind::Walk;

pub(super) use self::restless::of_restless_thread;
use super::{budget, bytes::Bytes, maps::Maps, memory, stat::Stat, target_file::Files};
use crate::model::{
    inventory::Collector,
    process::ProcessKey,
    stack::{Frame, MAX_FRAMES, Stack, Stacks},
};

/// A thread that was stopped sleeps again as soon as a processor is free.
const BACK_TO_SLEEP: Duration = Duration::from_millis(200);

/// The calls that a sleeping thread is in.
pub(super) fn of_thread(process: ProcessKey, tid: u32, stacks: Stacks) -> Stack {
    if stacks == Stacks::None {
        return Stack::absent("stacks are not looked at (--stacks=none)");
    }
    budget::part(|| native(process, tid, stacks)).unwrap_or_else(Err).unwrap_or_else(Stack::absent)
}

/// The calls of a script that a sleeping thread is in; absent where no interpreter that is known runs in the process.
pub(super) fn of_script(process: ProcessKey, tid: u32) -> Option<Stack> {
    let calls = match budget::part(|| script(process, tid)) {
        Ok(calls) => calls?,
        Err(why) => return Some(Stack::absent(why)),
    };
    let command = |why| format!("{why}; {} --pid {} may show them", calls.shown_by, process.tgid);
    Some(calls.stack.unwrap_or_else(|why| Stack::absent(command(why))))
}

/// The outer calls of a script that a thread is in, which may run meanwhile: those that two looks agree on. Absent
/// where no interpreter that is known runs in the process; an error says why they cannot be told.
pub(super) fn of_running_script(process: ProcessKey, tid: u32) -> Option<Result<Vec<Frame>, String>> {
    budget::part(|| outer_calls(process, tid)).unwrap_or_else(|why| Some(Err(why)))
}

/// The threads of a process as the script that it runs has them, which may go on meanwhile. Absent where no interpreter
/// that is known runs in the process; an error says why they cannot be told.
pub(super) fn scripts(process: ProcessKey) -> Option<Result<Vec<Script>, String>> {
    let look = || {
        let (memory, maps) = open(process).ok()?;
        let scripts =
            python::threads(process.tgid, &memory, &maps).or_else(|| ruby::threads(&memory, &maps))?;
        Some(scripts.and_then(|scripts| same(process).map(|()| scripts)))
    };
    budget::part(look).unwrap_or_else(|why| Some(Err(why)))
}

/// How much lies in queues of a script, each by the address of its object: none where that is none, or cannot be told.
pub(super) fn queue_lengths(process: ProcessKey, queues: &[u64]) -> Option<Vec<Option<u64>>> {
    let found = budget::part(|| {
        let (memory, maps) = open(process).ok()?;
        let lengths = python::queue_lengths(process.tgid, &memory, &maps, queues)?.ok()?;
        same(process).ok().map(|()| lengths)
    });
    found.ok().flatten()
}

/// The functions of a script that handle signals, where their numbers are also written to that descriptor; absent where no
/// CPython up to 3.11 runs in the process.
pub(super) fn signal_handlers(process: ProcessKey, descriptor: u32) -> Option<Vec<python::Handler>> {
    let found = budget::part(|| {
        let (memory, maps) = open(process).ok()?;
        let handlers = python::handlers(process.tgid, &memory, &maps, descriptor)?;
        same(process).ok().map(|()| handlers)
    });
    found.ok().flatten()
}

/// The state of the garbage collector of the script that a process runs; absent where no interpreter that is known runs
/// in it.
pub(super) fn collector(process: ProcessKey) -> Option<Collector> {
    budget::part(|| {
        let (memory, maps) = open(process).ok()?;
        let collector = python::collector(process.tgid, &memory, &maps)?;
        same(process).is_ok().then_some(collector)
    })
    .ok()?
}

/// The object whose code a sleeping thread was started to run: of its first call that is not the C library's own.
/// Absent where its stack cannot be followed so far.
pub(super) fn first_object(process: ProcessKey, tid: u32) -> Option<String> {
    let first = budget::part(|| {
        let (walk, _) = walked(process, tid).ok()?;
        let objects = walk.calls.iter().rev().filter_map(|(_, object)| walk.objects.get(*object));
        let name = objects.map(|object| elf::name(&object.head)).find(|name| !is_of_c_library(name));
        same(process).ok()?;
        name.filter(|_| walk.missing.is_none())
    });
    first.ok().flatten()
}

/// Whether a path is the C library's or the loader's, where threads begin: glibc's, before 2.34 with a library of
/// threads beside it, and musl's.
pub(super) fn is_of_c_library(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or_default();
    ["libc.", "libc-", "libpthread", "ld-"].iter().any(|start| name.starts_with(start))
}

/// The name of the variable that covers an address.
pub(super) fn symbol(process: ProcessKey, address: u64) -> Option<String> {
    budget::part(|| {
        let (memory, maps) = open(process).ok()?;
        maps.find(address)?;
        let object = covering(&memory, &maps, address)?;
        let files = Files::of(process.tgid);
        let name = symbols::names(&files, &memory, &object, Kind::Data, &[address]).pop()?;
        same(process).ok()?;
        name
    })
    .ok()?
}

/// The object that an address belongs to, and where in the object it is, counted from its first page: for addresses
/// beyond the object's file, where its zeroed data is.
pub(super) fn object(process: ProcessKey, address: u64) -> Option<(String, u64)> {
    let (memory, maps) = open(process).ok()?;
    let object = covering(&memory, &maps, address)?;
    Some((elf::name(&object.head), address.checked_sub(object.head.start)?))
}

/// The address of a variable that an object exports whose path is of some kind.
pub(super) fn exported(
    memory: &Bytes,
    maps: &Maps,
    is_it: impl Fn(&str) -> bool,
    name: &[u8],
) -> Option<u64> {
    let heads = maps.objects().filter(|head| std::str::from_utf8(&head.path).is_ok_and(&is_it));
    heads
        .filter_map(|head| Object::read(memory, head).ok())
        .find_map(|object| symbols::address_of(memory, &object, name))
}

/// Where a variable of the C library is, by its exact name, in a process that has loaded glibc.
pub(super) fn variable_of_c_library(process: ProcessKey, name: &[u8]) -> Option<u64> {
    let is_library = |path: &str| {
        let file = path.rsplit('/').next().unwrap_or_default();
        file.starts_with("libc.so.") || file.starts_with("libc-")
    };
    let found = budget::part(|| {
        let (memory, maps) = open(process).ok()?;
        let address = exported(&memory, &maps, is_library, name)?;
        same(process).ok()?;
        Some(address)
    });
    found.ok().flatten()
}

fn covering(memory: &Bytes, maps: &Maps, address: u64) -> Option<Object> {
    maps.heads_before(address)
        .filter_map(|head| Object::read(memory, head).ok())
        .find(|object| object.covers(address))
}

/// The stack of a sleeping thread, and the sleep.
fn walked(process: ProcessKey, tid: u32) -> Result<(Walk, Opened), String> {
    let (memory, maps) = open(process)?;
    let asleep = Sleep::of(process.tgid, tid)?;
    let shown = Registers::new(asleep.position.instruction, asleep.position.stack);
    let files = Files::of(process.tgid);
    let walk = unwind::walk(&files, &memory, &maps, shown);
    still_asleep(process, tid, asleep)?;
    Ok((walk, Opened { memory, maps, files, asleep }))
}

/// What a walk was made with.
struct Opened {
    memory: Bytes,
    maps: Rc<Maps>,
    files: Files,
    asleep: Sleep,
}

fn native(process: ProcessKey, tid: u32, stacks: Stacks) -> Result<Stack, String> {
    let (mut walk, opened) = walked(process, tid)?;
    if stacks == Stacks::Full && opened.asleep.is_in_futex() && walk.missing.is_some() {
        match stopped(process, tid, &opened) {
            Ok(further) => walk = further,
            Err(why) => walk.missing = walk.missing.map(|missing| format!("{missing}; {why}")),
        }
    }
    let stack = name(&opened.files, &opened.memory, walk);
    same(process)?;
    Ok(stack)
}

/// The same with all registers, for which the thread is stopped. It sleeps on while its memory is read.
fn stopped(process: ProcessKey, tid: u32, opened: &Opened) -> Result<Walk, String> {
    let registers = stop::registers(tid)?;
    let asleep = back_to_sleep(process, tid)?;
    if (registers.stack(), registers.instruction) != (asleep.position.stack, asleep.position.instruction) {
        return Err(format!("thread {tid} went on meanwhile"));
    }
    let walk = unwind::walk(&opened.files, &opened.memory, &opened.maps, registers);
    still_asleep(process, tid, asleep)?;
    Ok(walk)
}

fn still_asleep(process: ProcessKey, tid: u32, before: Sleep) -> Result<(), String> {
    let now = Sleep::of(process.tgid, tid)?;
    if now == before { Ok(()) } else { Err(format!("thread {tid} woke meanwhile")) }
}

fn script(process: ProcessKey, tid: u32) -> Option<Calls> {
    let (memory, maps) = open(process).ok()?;
    let asleep = Sleep::of(process.tgid, tid);
    let Calls { shown_by, stack } = calls(process, tid, (&memory, &maps), MAX_FRAMES)?;
    let is_one_moments = asleep.and_then(|asleep| still_asleep(process, tid, asleep));
    Some(Calls { shown_by, stack: is_one_moments.and_then(|()| same(process)).and(stack) })
}

/// The calls of a script.
struct Calls {
    /// The command of a tool that may show them where forkwatch cannot.
    shown_by: &'static str,
    /// They, or why they cannot be told.
    stack: Result<Stack, String>,
}

/// The innermost `most` calls of a thread in the interpreter that runs in its process; absent where no known one does.
fn calls(process: ProcessKey, tid: u32, (memory, maps): (&Bytes, &Maps), most: usize) -> Option<Calls> {
    let of_python = python::stack(process.tgid, tid, memory, maps, most);
    if let Some(stack) = of_python {
        return Some(Calls { shown_by: "py-spy dump", stack });
    }
    let stack = ruby::stack(process.tgid, tid, memory, maps, most)?;
    Some(Calls { shown_by: "rbspy snapshot", stack })
}

/// A loop's own calls are the outermost, below whatever it handles.
const MAX_OUTER: usize = 1024;
/// Pairs of looks at the stack of a thread that runs. One fails where a call ends in between.
const MAX_LOOKS: u32 = 20;

fn outer_calls(process: ProcessKey, tid: u32) -> Option<Result<Vec<Frame>, String>> {
    let (memory, maps) = open(process).ok()?;
    let mut before: Option<Vec<Frame>> = None;
    let mut why = "its calls change too fast".to_owned();
    for _ in 0..MAX_LOOKS {
        match calls(process, tid, (&memory, &maps), MAX_OUTER)?.stack {
            Ok(Stack { frames, missing: None }) => {
                let common = before.as_deref().map(|before| common_end(before, &frames));
                match common.filter(|common| !common.is_empty()) {
                    Some(common) => return Some(same(process).map(|()| common)),
                    None => before = Some(frames),
                }
            }
            // No script's code runs, which a second look would only say again.
            Ok(Stack { frames, .. }) if frames.is_empty() => return Some(Ok(frames)),
            Ok(Stack { missing, .. }) => why = missing.unwrap_or(why),
            Err(error) => return Some(Err(error)),
        }
    }
    Some(Err(why))
}

/// The outermost calls of which two stacks say the same. Their lines may differ.
fn common_end(one: &[Frame], other: &[Frame]) -> Vec<Frame> {
    let same =
        |(one, other): &(&Frame, &Frame)| (&one.function, &one.module) == (&other.function, &other.module);
    let count = one.iter().rev().zip(other.iter().rev()).take_while(same).count();
    one.get(one.len().saturating_sub(count)..).unwrap_or_default().to_vec()
}

/// The memory of a process and what lies where in it.
fn open(process: ProcessKey) -> Result<(Bytes, Rc<Maps>), String> {
    let tgid = process.tgid;
    same(process)?;
    let refused = |what: &str, error: &io::Error| format!("/proc/{tgid}/{what} cannot be read: {error}");
    let maps = Rc::new(Maps::of_process(tgid).map_err(|error| refused("maps", &error))?);
    let memory = memory::of_process(tgid, Rc::clone(&maps)).map_err(|error| refused("mem", &error))?;
    same(process)?;
    Ok((memory, maps))
}

fn same(process: ProcessKey) -> Result<(), String> {
    if Stat::lives(process) { Ok(()) } else { Err(format!("process {} has ended", process.tgid)) }
}

fn back_to_sleep(process: ProcessKey, tid: u32) -> Result<Sleep, String> {
    let deadline = Instant::now() + BACK_TO_SLEEP;
    loop {
        match Sleep::of(process.tgid, tid) {
            Err(_) if Instant::now() < deadline => thread::sleep(Duration::from_micros(50)),
            done => return done,
        }
    }
}

fn name(files: &Files, memory: &Bytes, walk: Walk) -> Stack {
    let mut frames: Vec<Frame> = walk
        .calls
        .iter()
        .filter_map(|(address, object)| {
            let object = walk.objects.get(*object)?;
            let module = elf::name(&object.head);
            Some(Frame { module: Some(module), offset: object.file_offset(*address), ..Frame::default() })
        })
        .collect();
    for (index, object) in walk.objects.iter().enumerate() {
        let addresses: Vec<u64> =
            walk.calls.iter().filter(|(_, of)| *of == index).map(|(address, _)| *address).collect();
        let names = symbols::names(files, memory, object, Kind::Code, &addresses);
        let of_object = walk.calls.iter().zip(&mut frames).filter(|((_, of), _)| *of == index);
        for ((_, frame), name) in of_object.zip(names) {
            frame.function = name;
        }
    }
    Stack { frames, missing: walk.missing }
}

#[cfg(test)]
pub(super) mod tests;
