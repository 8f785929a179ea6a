//! What CPython says itself about where it keeps what: since 3.13 its runtime state begins with `_Py_DebugOffsets`
//! (`Include/internal/pycore_runtime.h` of 3.13, `pycore_debug_offsets.h` since).
//!
//! It is a row of words in groups, one for each structure: its size, then offsets in it. Which word is which differs
//! between minor versions only. They are a hostile process's words too: an offset beyond its structure ends the reading,
//! and so does a structure of no likely size.

use super::layout::{Layout, Local, Text};
use crate::host::bytes::Bytes;

pub(super) const COOKIE: &[u8; 8] = b"xdebugpy";
/// Words that are read of it; none that is needed comes later.
const WORDS: usize = 96;
/// The runtime state is the largest structure of all: 0.4 MB.
const MAX_SIZE: u64 = 16 * 1024 * 1024;
/// `PY_RELEASE_LEVEL_GAMMA`: before the release candidates the words still move.
const CANDIDATE: u64 = 0xc;

/// Words of the head, and where the first groups are in all versions.
const VERSION: usize = 1;
const FREE_THREADED: usize = 2;
/// Bytes from the beginning to the word that says whether there is no GIL.
pub(super) const FREE_THREADED_AT: u64 = 8 * FREE_THREADED as u64;
const RUNTIME: usize = 3;
const INTERPRETER: usize = 6;

/// At which word the groups begin, in one minor version.
struct Groups {
    minor: u8,
    /// The word of `gc` within that of the interpreter.
    collector: usize,
    thread: usize,
    /// The word of `thread_id` within that of the thread.
    thread_id: usize,
    frame: usize,
    code: usize,
    object: usize,
    type_object: usize,
    bytes: usize,
    text: usize,
    /// How many bits `interned` has, in builds with and without GIL; the kind of a string follows it.
    interned: [u32; 2],
    /// Whether threads without GIL have bytecode of their own.
    has_local_code: bool,
}

const GROUPS: [Groups; 3] = [
    Groups {
        minor: 13,
        collector: 4,
        thread: 19,
        thread_id: 5,
        frame: 28,
        code: 34,
        object: 44,
        type_object: 46,
        bytes: 64,
        text: 67,
        interned: [2, 2],
        has_local_code: false,
    },
    Groups {
        minor: 14,
        collector: 5,
        thread: 22,
        thread_id: 5,
        frame: 31,
        code: 39,
        object: 50,
        type_object: 52,
        bytes: 74,
        text: 77,
        interned: [2, 8],
        has_local_code: true,
    },
    Groups {
        minor: 15,
        collector: 5,
        thread: 22,
        thread_id: 8,
        frame: 39,
        code: 47,
        object: 58,
        type_object: 60,
        bytes: 86,
        text: 89,
        interned: [2, 8],
        has_local_code: true,
    },
];

/// The layout that the runtime state at this address tells; absent where it tells none, as before 3.13.
pub(super) fn read(memory: &Bytes, runtime: u64) -> Option<Result<Layout, String>> {
    let bytes = memory.take(runtime, WORDS * 8).filter(|bytes| bytes.starts_with(COOKIE))?;
    let words: Vec<u64> = bytes.as_chunks().0.iter().map(|word| u64::from_ne_bytes(*word)).collect();
    Some(layout(&Words(words)))
}

fn layout(words: &Words) -> Result<Layout, String> {
    let version = words.at(VERSION).unwrap_or_default();
    let [0, 0, 0, 0, 3, minor, _, level] = version.to_be_bytes() else {
        return Err("the version of CPython is not known".to_owned());
    };
    let refused = |why: &str| format!("the frames of CPython 3.{minor}{why} cannot be read");
    let groups = GROUPS.iter().find(|groups| groups.minor == minor).ok_or_else(|| refused(""))?;
    if u64::from(level >> 4) < CANDIDATE {
        return Err(refused(" before its release"));
    }
    groups.layout(words).ok_or_else(|| refused(", whose offsets are out of bounds,"))
}

impl Groups {
    fn layout(&self, words: &Words) -> Option<Layout> {
        let is_free_threaded = words.at(FREE_THREADED)? != 0;
        let ascii = words.offset(self.text, 3)?;
        let local =
            || Some(Local { index: words.offset(self.frame, 7)?, codes: words.offset(self.code, 10)? });
        Some(Layout {
            minor: self.minor,
            interpreters: words.offset(RUNTIME, 2)?,
            collector: if is_free_threaded { None } else { Some(words.offset(INTERPRETER, self.collector)?) },
            next_interpreter: words.offset(INTERPRETER, 2)?,
            threads: words.offset(INTERPRETER, 3)?,
            next_thread: words.offset(self.thread, 2)?,
            thread_id: words.offset(self.thread, self.thread_id)?,
            frame: words.offset(self.thread, 4)?,
            within_cframe: None,
            code: words.offset(self.frame, 2)?,
            previous: words.offset(self.frame, 1)?,
            instruction: words.offset(self.frame, 3)?,
            owner: Some(words.offset(self.frame, 5)?),
            locals: words.offset(self.frame, 4)?,
            file: words.offset(self.code, 1)?,
            first_line: words.offset(self.code, 5)?,
            name: words.offset(self.code, 3)?,
            lines: words.offset(self.code, 4)?,
            instructions: words.offset(self.code, 9)?,
            local: if self.has_local_code && is_free_threaded { Some(local()?) } else { None },
            object_type: words.offset(self.object, 1)?,
            type_name: words.offset(self.type_object, 1)?,
            bytes: (words.offset(self.bytes, 1)?, words.offset(self.bytes, 2)?),
            text: Text {
                length: words.offset(self.text, 2)?,
                state: words.offset(self.text, 1)?,
                interned: *self.interned.get(usize::from(is_free_threaded))?,
                ascii,
                // `utf8_length` and `utf8` come between.
                compact: ascii + 16,
            },
        })
    }
}

struct Words(Vec<u64>);

impl Words {
    fn at(&self, index: usize) -> Option<u64> {
        self.0.get(index).copied()
    }

    /// An offset into the structure whose group begins at a word.
    fn offset(&self, group: usize, word: usize) -> Option<u64> {
        let size = self.at(group).filter(|size| *size <= MAX_SIZE)?;
        self.at(group + word).filter(|offset| *offset < size)
    }
}
