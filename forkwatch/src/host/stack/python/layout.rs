//! Where CPython keeps what, in each of the minor versions that do not tell it themselves; micro versions agree. The
//! offsets are those that `offsetof` gives with the headers of 3.7.16, 3.8.18, 3.9.18, 3.10.13, 3.11.7 and 3.12.1, on 64
//! bits, of a release build; arm64 has the same. [`super::offsets`] has them for later versions.

/// Offsets into CPython's structures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    /// The version 3 that has it.
    pub(super) minor: u8,
    /// `_PyRuntimeState.interpreters.head`
    pub(super) interpreters: u64,
    /// `PyInterpreterState.gc`, where it is told; 0 where the collector's offsets are the interpreter's. Absent without
    /// GIL, where the collector has no lists.
    pub(super) collector: Option<u64>,
    /// `PyInterpreterState.next`
    pub(super) next_interpreter: u64,
    /// `PyInterpreterState.tstate_head`, later `.threads.head`
    pub(super) threads: u64,
    /// `PyThreadState.next`
    pub(super) next_thread: u64,
    /// `PyThreadState.thread_id`: what `pthread_self` returned.
    pub(super) thread_id: u64,
    /// `PyThreadState.frame`, `.cframe` in 3.11 and 3.12, `.current_frame` since.
    pub(super) frame: u64,
    /// Where there is a `_PyCFrame` between: its `.current_frame`.
    pub(super) within_cframe: Option<u64>,
    /// Of a frame: `f_code`, later `f_executable`
    pub(super) code: u64,
    /// `f_back`, later `previous`
    pub(super) previous: u64,
    /// `f_lasti`, `prev_instr` in 3.11 and 3.12, `instr_ptr` since.
    pub(super) instruction: u64,
    /// `owner`: where it is absent, no frame belongs to C.
    pub(super) owner: Option<u64>,
    /// `f_localsplus`, later `localsplus`: the local variables, the arguments first.
    pub(super) locals: u64,
    /// `PyCodeObject.co_filename`
    pub(super) file: u64,
    /// `co_firstlineno`
    pub(super) first_line: u64,
    /// `co_name`, `co_qualname` since 3.11.
    pub(super) name: u64,
    /// `co_lnotab`, `co_linetable` since 3.10.
    pub(super) lines: u64,
    /// `co_code_adaptive`, which the instruction points into since 3.11.
    pub(super) instructions: u64,
    /// Where threads have bytecode of their own, which the instruction points into then.
    pub(super) local: Option<Local>,
    /// `PyObject.ob_type`
    pub(super) object_type: u64,
    /// `PyTypeObject.tp_name`
    pub(super) type_name: u64,
    /// `ob_size` of a bytes object, and `ob_sval`.
    pub(super) bytes: (u64, u64),
    pub(super) text: Text,
}

/// Bytecode of a thread of its own, without GIL since 3.14.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Local {
    /// `tlbc_index` of a frame
    pub(super) index: u64,
    /// `PyCodeObject.co_tlbc`: a count, and so many pointers to bytecode.
    pub(super) codes: u64,
}

/// A `str`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Text {
    pub(super) length: u64,
    pub(super) state: u64,
    /// The bits of `interned`, the first field of the state.
    pub(super) interned: u32,
    /// The size of `PyASCIIObject`: the characters follow.
    pub(super) ascii: u64,
    /// The same of `PyCompactUnicodeObject`, which has other characters than ASCII.
    pub(super) compact: u64,
}

const TEXT_BEFORE_3_12: Text = Text { length: 16, state: 32, interned: 2, ascii: 48, compact: 72 };

const BEFORE_3_8: Layout = Layout {
    minor: 7,
    interpreters: 24,
    collector: Some(0),
    next_interpreter: 0,
    threads: 8,
    next_thread: 8,
    thread_id: 176,
    frame: 24,
    within_cframe: None,
    code: 32,
    previous: 24,
    instruction: 104,
    owner: None,
    locals: 360,
    file: 96,
    first_line: 36,
    name: 104,
    lines: 112,
    instructions: 0,
    local: None,
    object_type: 8,
    type_name: 24,
    bytes: (16, 32),
    text: TEXT_BEFORE_3_12,
};

/// Positional-only parameters came into the code object.
const BEFORE_3_10: Layout =
    Layout { minor: 8, interpreters: 32, file: 104, first_line: 40, name: 112, lines: 120, ..BEFORE_3_8 };

/// Frames came onto a stack of their own.
const SINCE_3_11: Layout = Layout {
    minor: 11,
    interpreters: 40,
    threads: 16,
    thread_id: 152,
    frame: 56,
    within_cframe: Some(8),
    code: 32,
    previous: 48,
    instruction: 56,
    owner: Some(69),
    locals: 72,
    file: 112,
    first_line: 72,
    name: 128,
    lines: 136,
    instructions: 184,
    ..BEFORE_3_8
};

const SINCE_3_12: Layout = Layout {
    minor: 12,
    threads: 72,
    thread_id: 136,
    within_cframe: Some(0),
    code: 0,
    previous: 8,
    owner: Some(70),
    first_line: 68,
    instructions: 192,
    text: Text { ascii: 40, compact: 56, ..TEXT_BEFORE_3_12 },
    ..SINCE_3_11
};

const LAYOUTS: [Layout; 6] = [
    BEFORE_3_8,
    BEFORE_3_10,
    Layout { minor: 9, ..BEFORE_3_10 },
    Layout { minor: 10, instruction: 96, locals: 352, ..BEFORE_3_10 },
    SINCE_3_11,
    SINCE_3_12,
];

impl Layout {
    /// That of version 3 of this minor; absent where it is not known.
    pub(super) fn of(minor: u8) -> Option<Self> {
        LAYOUTS.iter().find(|layout| layout.minor == minor).copied()
    }
}
