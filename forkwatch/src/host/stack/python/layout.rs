//! Where CPython keeps what, in each of its minor versions; micro versions agree. The offsets are those that
//! `offsetof` gives with the headers of 3.7.16, 3.8.18, 3.9.18, 3.10.13, 3.11.7, 3.12.1 and 3.13.0, on 64 bits, of a
//! release build; arm64 has the same.

/// Offsets into CPython's structures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    /// The version 3 that has it.
    pub(super) minor: u8,
    /// `_PyRuntimeState.interpreters.head`
    pub(super) interpreters: u64,
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
    /// The sizes of `PyASCIIObject` and `PyCompactUnicodeObject`: the characters follow.
    pub(super) text: (u64, u64),
}

const BEFORE_3_8: Layout = Layout {
    minor: 7,
    interpreters: 24,
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
    file: 96,
    first_line: 36,
    name: 104,
    lines: 112,
    instructions: 0,
    text: (48, 72),
};

/// Positional-only parameters came into the code object.
const BEFORE_3_10: Layout =
    Layout { minor: 8, interpreters: 32, file: 104, first_line: 40, name: 112, lines: 120, ..BEFORE_3_8 };

/// Frames came onto a stack of their own.
const SINCE_3_11: Layout = Layout {
    minor: 11,
    interpreters: 40,
    next_interpreter: 0,
    threads: 16,
    next_thread: 8,
    thread_id: 152,
    frame: 56,
    within_cframe: Some(8),
    code: 32,
    previous: 48,
    instruction: 56,
    owner: Some(69),
    file: 112,
    first_line: 72,
    name: 128,
    lines: 136,
    instructions: 184,
    text: (48, 72),
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
    text: (40, 56),
    ..SINCE_3_11
};

const LAYOUTS: [Layout; 7] = [
    BEFORE_3_8,
    BEFORE_3_10,
    Layout { minor: 9, ..BEFORE_3_10 },
    Layout { minor: 10, instruction: 96, ..BEFORE_3_10 },
    SINCE_3_11,
    SINCE_3_12,
    Layout {
        minor: 13,
        interpreters: 632,
        next_interpreter: 7264,
        threads: 7344,
        thread_id: 152,
        frame: 72,
        within_cframe: None,
        instructions: 200,
        ..SINCE_3_12
    },
];

impl Layout {
    /// That of version 3 of this minor; absent where it is not known.
    pub(super) fn of(minor: u8) -> Option<&'static Self> {
        LAYOUTS.iter().find(|layout| layout.minor == minor)
    }
}
