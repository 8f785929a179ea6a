//! The calls of a thread of CRuby's, from the VM's own structures. They are read as rbspy reads them; nothing is stopped.
//!
//! A process can put anything into its memory, so every count is bounded, and what is no instruction sequence ends the
//! walk. Functions in C have no line and no file, and are left out.
//!
//! `vm_core.h`, `iseq.c`, `include/ruby/internal/core/{rstring,rarray}.h`.

mod layout;
mod lines;

use self::layout::Layout;
use super::{
    elf::Object,
    script::{Script, THREAD_IDS, is_id},
    symbols,
};
use crate::{
    host::{
        bytes::Bytes,
        maps::{Mapping, Maps},
        status::Status,
    },
    model::{
        process::escape,
        stack::{Frame, Stack},
    },
};

/// Threads that are looked at.
const MAX_THREADS: usize = 4096;
/// The innermost calls among which the script's own is looked for.
const MAX_INNERMOST: usize = 24;
/// Calls of one thread that are gone through, those of functions in C included.
const MAX_CALLS: u64 = 16 * 1024;
/// Bytes of a name or a path that are read.
const MAX_TEXT: u64 = 4096;
/// The head of a list of threads is so near the beginning of what has it.
const HEAD_WITHIN: u64 = 8192;

/// `flags` of an object: its type, and the flags that each type has for itself (`RUBY_T_MASK`, `RUBY_FL_USHIFT`).
const TYPE: u64 = 0x1f;
const STRING: u64 = 0x05;
const ARRAY: u64 = 0x07;
const IMEMO: u64 = 0x1a;
const USER_SHIFT: u32 = 12;
/// `RUBY_FL_USER1`: a string that is kept elsewhere, an array that is kept here.
const USER_1: u64 = 1 << 13;
/// `imemo_iseq` and `imemo_ifunc`, in the lowest four of those flags.
const INSTRUCTIONS: u64 = 7;
const BLOCK_IN_C: u64 = 4;
/// The length of a short string before 3.2: five bits from `RUBY_FL_USER2` on.
const SHORT: (u32, u64) = (14, 0x1f);

/// The innermost `most` calls of a thread; absent where no CRuby runs in the process.
pub(super) fn stack(
    tgid: u32,
    thread: u32,
    memory: &Bytes,
    maps: &Maps,
    most: usize,
) -> Option<Result<Stack, String>> {
    let vm = match Vm::find(memory, maps)? {
        Ok(vm) => vm,
        Err(why) => return Some(Err(why)),
    };
    let own_id = Status::of_thread(tgid, thread).ok().map(|status| status.own_id);
    let found = own_id.and_then(|own_id| vm.each_thread(|id, thread| (id == own_id).then_some(thread)));
    Some(
        found
            .map(|found| vm.walk(found, most))
            .ok_or_else(|| format!("thread {thread} is not among those of Ruby")),
    )
}

/// The threads that CRuby knows; absent where none runs in the process. Their names are comms.
pub(super) fn threads(memory: &Bytes, maps: &Maps) -> Option<Result<Vec<Script>, String>> {
    Some(Vm::find(memory, maps)?.map(|vm| {
        let mut found = Vec::new();
        vm.each_thread(|own_id, thread| {
            let calls = vm.walk(thread, MAX_INNERMOST).frames;
            let at = calls.iter().find(|call| is_own(call)).or(calls.first()).cloned();
            found.push(Script { own_id, name: None, at, queue: None });
            None::<()>
        });
        found
    }))
}

/// Whether a call is neither the VM's own nor the standard library's, which lies in `lib/ruby/VERSION`.
fn is_own(call: &Frame) -> bool {
    let Some(file) = call.module.as_deref() else { return false };
    let is_library = file.contains("/lib/ruby/") && !file.contains("/gems/");
    !file.starts_with("<internal:") && !is_library
}

/// Whether an object is CRuby: its program, or its library.
fn is_ruby(path: &[u8]) -> bool {
    let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    name.starts_with(b"libruby") || name.starts_with(b"ruby")
}

struct Vm<'a> {
    memory: &'a Bytes,
    layout: Layout,
    /// The address of the `rb_vm_t`.
    at: u64,
}

impl<'a> Vm<'a> {
    fn find(memory: &'a Bytes, maps: &Maps) -> Option<Result<Self, String>> {
        let heads: Vec<&Mapping> = maps.objects().filter(|head| is_ruby(&head.path)).collect();
        heads.iter().find_map(|head| {
            let object = Object::read(memory, head).ok()?;
            let version = memory.text(symbols::address_of(memory, &object, b"ruby_version")?, 16);
            let version = std::str::from_utf8(&version).unwrap_or_default();
            let Some(layout) = Layout::of(version) else {
                return Some(Err(format!("the calls of Ruby {} cannot be read", escape(version.as_bytes()))));
            };
            let named = symbols::address_of(memory, &object, b"ruby_current_vm_ptr");
            let named = named.and_then(|pointer| memory.word(pointer)).filter(|at| *at != 0);
            let at = named.or_else(|| layout.vm_within(memory, maps, head))?;
            Some(Ok(Self { memory, layout, at }))
        })
    }

    /// Shows the tid that each thread of the main ractor has itself, and its `rb_thread_t`, until something is found.
    fn each_thread<T>(&self, mut look: impl FnMut(u32, u64) -> Option<T>) -> Option<T> {
        let layout = self.layout;
        let head_within = layout.main_ractor.map_or(Some(self.at), |offset| self.pointer(self.at, offset))?;
        let first = self.pointer(self.at, layout.main_thread)?;
        let mut thread = first;
        for _ in 0..MAX_THREADS {
            // The list is a ring, and its head is no thread.
            if !(head_within..head_within.saturating_add(HEAD_WITHIN)).contains(&thread)
                && let Some(own_id) = self.own_id(thread)
                && let Some(found) = look(own_id, thread)
            {
                return Some(found);
            }
            thread = self.pointer(thread, 0).filter(|next| *next != first)?;
        }
        None
    }

    fn own_id(&self, thread: u64) -> Option<u32> {
        let (offset, within_native) = self.layout.thread_id;
        let id = self.pointer(thread, offset)?;
        let own = within_native.map_or(Some(id), |offset| self.pointer(id, offset))?;
        let id = |offset: &u64| self.memory.half(own.wrapping_add(*offset)).filter(|id| is_id(*id));
        THREAD_IDS.iter().find_map(id)
    }

    fn walk(&self, thread: u64, most: usize) -> Stack {
        let mut stack = Stack::default();
        let frames = self.pointer(thread, self.layout.context).and_then(|context| {
            // `vm_stack`, `vm_stack_size` in words, and `cfp`: the stack of calls grows down from the end of it.
            let (start, size) = (self.pointer(context, 0)?, self.memory.word(context.wrapping_add(8))?);
            let (first, end) = (self.pointer(context, 16)?, start.checked_add(size.checked_mul(8)?)?);
            (start..end).contains(&first).then_some((first, end))
        });
        let Some((mut frame, end)) = frames else {
            stack.missing = Some("the thread runs no Ruby code".to_owned());
            return stack;
        };
        // The first frame of a stack is a dummy (`rb_ec_partial_backtrace_object`, `vm_backtrace.c`).
        let end = end.saturating_sub(self.layout.control_frame);
        let end = end.min(frame.saturating_add(MAX_CALLS * self.layout.control_frame));
        while frame < end {
            let Some(instructions) = self.memory.word(frame.wrapping_add(16)) else {
                stack.missing = Some("the interpreter's next frame cannot be read".to_owned());
                return stack;
            };
            // A function in C has none, and a block in C is something else (`VM_FRAME_MAGIC_IFUNC`).
            if instructions != 0 && self.internal(instructions) != Some(BLOCK_IN_C) {
                if stack.frames.len() == most {
                    stack.missing = Some(format!("only the innermost {most} calls are told"));
                    return stack;
                }
                let Some(call) = self.call(frame, instructions) else {
                    stack.missing = Some("the interpreter's next frame makes no sense".to_owned());
                    return stack;
                };
                stack.frames.push(call);
            }
            frame = frame.saturating_add(self.layout.control_frame);
        }
        if stack.frames.is_empty() {
            stack.missing = Some("the thread runs no Ruby code".to_owned());
        }
        stack
    }

    /// The call of a control frame that runs these instructions (`rb_iseq_t`).
    fn call(&self, frame: u64, instructions: u64) -> Option<Frame> {
        if self.internal(instructions) != Some(INSTRUCTIONS) {
            return None;
        }
        let body = self.pointer(instructions, 16)?;
        // `location`: `pathobj`, `base_label` and `label`.
        let path = self.pointer(body, 64)?;
        Some(Frame {
            function: Some(self.text(self.pointer(body, 80)?)?),
            module: self.text(path).or_else(|| self.text(self.first(path)?)),
            offset: None,
            line: self.line(frame, body),
        })
    }

    /// Of which kind an object of the VM's own is.
    fn internal(&self, at: u64) -> Option<u64> {
        let flags = self.memory.word(at).filter(|flags| flags & TYPE == IMEMO)?;
        Some(flags >> USER_SHIFT & 0xf)
    }

    /// The line that a call is in: the program counter is behind the instruction that it does (`calc_pos`, `vm_backtrace.c`).
    fn line(&self, frame: u64, body: u64) -> Option<u32> {
        let (counter, size) = (self.memory.word(frame)?, u64::from(self.memory.half(body.wrapping_add(4))?));
        let instruction = counter.checked_sub(self.pointer(body, 8)?)? / 8;
        let instruction = instruction.saturating_sub(1);
        if instruction >= size {
            return None;
        }
        // `insns_info`: `body`, `positions`, `size` and `succ_index_table`.
        let info = body.wrapping_add(self.layout.instructions);
        let count = u64::from(self.memory.half(info.wrapping_add(16))?);
        let entry = match count {
            0 => return None,
            1 => 0,
            _ => lines::rank(self.memory, self.pointer(info, 24)?, instruction)?.checked_sub(1)?,
        };
        let at = self.pointer(info, 0)?.wrapping_add(entry.checked_mul(self.layout.entry)?);
        self.memory.half(at).filter(|line| entry < count && line.cast_signed() > 0)
    }

    /// The first element of an array.
    fn first(&self, array: u64) -> Option<u64> {
        let flags = self.memory.word(array).filter(|flags| flags & TYPE == ARRAY)?;
        let elements = if flags & USER_1 == 0 { self.pointer(array, 32)? } else { array.wrapping_add(16) };
        self.pointer(elements, 0)
    }

    /// A string, made safe to print.
    fn text(&self, at: u64) -> Option<String> {
        let flags = self.memory.word(at).filter(|flags| flags & TYPE == STRING)?;
        let is_elsewhere = flags & USER_1 != 0;
        let length = if self.layout.has_length || is_elsewhere {
            self.memory.word(at.wrapping_add(16))?
        } else {
            flags >> SHORT.0 & SHORT.1
        };
        let bytes = match (is_elsewhere, self.layout.has_length) {
            (true, _) => self.pointer(at, 24)?,
            (false, true) => at.wrapping_add(24),
            (false, false) => at.wrapping_add(16),
        };
        let bytes = self.memory.take(bytes, usize::try_from(length.min(MAX_TEXT)).ok()?)?;
        Some(escape(&bytes))
    }

    /// The pointer at an offset of a structure; absent where it is NULL or cannot be read.
    fn pointer(&self, structure: u64, offset: u64) -> Option<u64> {
        self.memory.word(structure.wrapping_add(offset)).filter(|pointer| *pointer != 0)
    }
}

/// Goes through the threads of a VM at this address, in every version.
#[cfg(any(test, fuzzing))]
pub(super) fn fuzz(memory: &Bytes, at: u64) {
    for version in ["2.7.8", "3.0.7", "3.1.2", "3.2.11", "3.3.8"] {
        let Some(layout) = Layout::of(version) else { continue };
        let vm = Vm { memory, layout, at };
        vm.each_thread(|_, thread| {
            assert!(vm.walk(thread, MAX_INNERMOST).frames.len() <= MAX_INNERMOST);
            None::<()>
        });
        let _ = vm.walk(at, MAX_INNERMOST);
    }
}

#[cfg(test)]
mod tests;
