//! What versions of CPython tell of themselves, and a process made up of that.

use proptest::prelude::*;

use super::{
    layout::{Local, Text},
    *,
};
use crate::host::bytes::Slice;

const COOKIE: u64 = u64::from_ne_bytes(*b"xdebugpy");

/// `_Py_DebugOffsets` as 3.13.0 has it in its memory.
const OF_3_13: [u64; 73] = [
    COOKIE,
    0x030d_00f0,
    0,
    283_320,
    608,
    632,
    194_968,
    7272,
    7264,
    7344,
    7400,
    7656,
    7640,
    7648,
    16,
    7752,
    0,
    7768,
    7760,
    304,
    0,
    8,
    16,
    72,
    152,
    160,
    232,
    32,
    80,
    8,
    0,
    56,
    72,
    70,
    208,
    112,
    120,
    128,
    136,
    68,
    52,
    96,
    104,
    200,
    16,
    8,
    416,
    24,
    88,
    168,
    32,
    24,
    16,
    40,
    24,
    16,
    48,
    32,
    40,
    24,
    16,
    32,
    16,
    24,
    40,
    16,
    32,
    64,
    32,
    16,
    40,
    240,
    200,
];
/// As 3.14.10 has it.
const OF_3_14: [u64; 95] = [
    COOKIE,
    0x030e_0af0,
    0,
    316_616,
    784,
    808,
    225_864,
    7280,
    7272,
    7344,
    7360,
    7408,
    7688,
    7672,
    7680,
    16,
    7784,
    0,
    7800,
    7792,
    7992,
    0,
    832,
    0,
    8,
    16,
    72,
    152,
    160,
    232,
    32,
    88,
    8,
    0,
    56,
    80,
    74,
    64,
    0,
    216,
    112,
    120,
    128,
    136,
    68,
    52,
    96,
    104,
    208,
    0,
    16,
    8,
    416,
    24,
    88,
    168,
    40,
    32,
    16,
    40,
    24,
    16,
    200,
    24,
    40,
    32,
    48,
    32,
    40,
    24,
    16,
    32,
    16,
    24,
    40,
    16,
    32,
    64,
    32,
    16,
    40,
    264,
    192,
    160,
    24,
    72,
    67,
    0,
    8,
    24,
    304,
    8076,
    0,
    4,
    512,
];
/// As the headers of 3.14.10 and 3.15.2 make it for a build without GIL.
const OF_3_14_FREE: [u64; 95] = [
    COOKIE,
    0x030e_0af0,
    1,
    365_624,
    784,
    808,
    249_976,
    7280,
    7272,
    7344,
    7360,
    7408,
    7712,
    7696,
    7704,
    16,
    7808,
    0,
    7832,
    7824,
    8024,
    17_300,
    832,
    0,
    8,
    16,
    72,
    152,
    160,
    232,
    32,
    88,
    8,
    0,
    56,
    80,
    78,
    64,
    72,
    240,
    128,
    136,
    144,
    152,
    84,
    68,
    112,
    120,
    232,
    224,
    32,
    24,
    432,
    40,
    104,
    184,
    56,
    48,
    32,
    56,
    40,
    32,
    216,
    40,
    56,
    48,
    64,
    48,
    56,
    40,
    32,
    48,
    32,
    40,
    56,
    32,
    48,
    80,
    48,
    32,
    56,
    288,
    192,
    176,
    40,
    88,
    83,
    0,
    8,
    24,
    304,
    8108,
    0,
    4,
    512,
];
const OF_3_15_FREE: [u64; 111] = [
    COOKIE,
    0x030f_02f0,
    1,
    409_296,
    912,
    936,
    250_328,
    7272,
    7264,
    7336,
    7352,
    7400,
    7592,
    7576,
    7584,
    16,
    7736,
    0,
    7760,
    7752,
    7952,
    17_252,
    888,
    0,
    8,
    16,
    72,
    80,
    88,
    96,
    176,
    184,
    256,
    32,
    36,
    40,
    136,
    288,
    0,
    88,
    8,
    0,
    56,
    80,
    78,
    64,
    72,
    240,
    128,
    136,
    144,
    152,
    84,
    68,
    112,
    120,
    232,
    224,
    32,
    24,
    440,
    40,
    104,
    184,
    48,
    304,
    968,
    904,
    56,
    48,
    32,
    56,
    40,
    32,
    216,
    40,
    56,
    48,
    64,
    48,
    56,
    40,
    32,
    48,
    32,
    40,
    56,
    32,
    48,
    80,
    48,
    32,
    56,
    72,
    176,
    112,
    120,
    224,
    104,
    176,
    40,
    88,
    83,
    0,
    8,
    24,
    344,
    8036,
    0,
    4,
    512,
];

const START: u64 = 0x7000_0000;

/// Memory that a test makes up.
struct Memory(Vec<u8>);

impl Memory {
    /// With these words at its start.
    fn of(words: &[u64]) -> Self {
        let mut memory = Self(vec![0; 512 * 1024]);
        for (index, word) in (0..).zip(words) {
            memory.put(START + index * 8, &word.to_ne_bytes());
        }
        memory
    }

    fn put(&mut self, at: u64, bytes: &[u8]) {
        let at = usize::try_from(at - START).unwrap();
        self.0[at..at + bytes.len()].copy_from_slice(bytes);
    }

    fn word(&mut self, at: u64, word: u64) {
        self.put(at, &word.to_ne_bytes());
    }

    fn done(&self) -> Bytes {
        Bytes::of(Slice { start: START, bytes: self.0.clone() })
    }
}

fn layout(words: &[u64]) -> Result<Layout, String> {
    offsets::read(&Memory::of(words).done(), START).unwrap()
}

#[test]
fn each_version_tells_its_layout() {
    // What `offsetof` gives with the headers of 3.13.0.
    let layout_of_3_13 = Layout {
        minor: 13,
        interpreters: 632,
        collector: Some(7400),
        next_interpreter: 7264,
        threads: 7344,
        thread_id: 152,
        frame: 72,
        within_cframe: None,
        instructions: 200,
        ..Layout::of(12).unwrap()
    };
    assert_eq!(layout(&OF_3_13), Ok(layout_of_3_13));
    let later = layout(&OF_3_14).unwrap();
    let expected = Layout {
        minor: 14,
        interpreters: 808,
        collector: Some(7408),
        next_interpreter: 7272,
        owner: Some(74),
        locals: 80,
        instructions: 208,
        ..layout_of_3_13
    };
    assert_eq!(later, expected);
    for (words, minor) in [(&OF_3_14_FREE[..], 14), (&OF_3_15_FREE[..], 15)] {
        let free = layout(words).unwrap();
        assert_eq!((free.minor, free.collector), (minor, None));
        assert_eq!(free.thread_id, if minor == 14 { 152 } else { 176 });
        assert_eq!((free.object_type, free.type_name, free.bytes), (24, 40, (32, 48)));
        assert_eq!((free.file, free.name, free.lines, free.first_line), (128, 144, 152, 84));
        assert_eq!((free.owner, free.local), (Some(78), Some(Local { index: 72, codes: 224 })));
        let Text { length, state, interned, ascii, compact } = free.text;
        assert_eq!((length, state, interned, ascii, compact), (32, 48, 8, 56, 72));
    }
}

#[test]
fn what_is_not_known_is_not_read() {
    let with = |index: usize, word| {
        let mut words = OF_3_14;
        words[index] = word;
        layout(&words)
    };
    let refused = |what: &str| Err(format!("the frames of CPython {what} cannot be read"));
    assert_eq!(with(1, 0x0310_00f0), refused("3.16"));
    assert_eq!(with(1, 0x030e_00b4), refused("3.14 before its release"));
    assert_eq!(with(1, 0x040e_0af0), Err("the version of CPython is not known".to_owned()));
    assert!(with(1, 0x030e_00c1).is_ok());
    // The sizes of structures, and offsets into them.
    for (size, offset) in [(3, 5), (6, 9), (22, 27), (31, 33), (39, 42), (50, 51), (74, 75), (77, 80)] {
        let out_of_bounds = refused("3.14, whose offsets are out of bounds,");
        assert_eq!(with(size, u64::MAX), out_of_bounds, "{size}");
        assert_eq!(with(offset, OF_3_14[size]), out_of_bounds, "{offset}");
        assert_eq!(with(offset, u64::MAX), out_of_bounds, "{offset}");
    }
    let before = Memory::of(&[0x1234, 0x030e_0af0]);
    assert!(offsets::read(&before.done(), START).is_none());
}

#[test]
fn the_version_stands_in_the_name() {
    let version = |path: &str| named_version(path.as_bytes());
    assert_eq!(version("/usr/bin/python3.11").as_deref(), Some("3.11"));
    assert_eq!(version("/opt/lib/libpython3.7m.so.1.0").as_deref(), Some("3.7"));
    assert_eq!(version("/usr/bin/python2.7 (deleted)").as_deref(), Some("2.7"));
    assert_eq!(version("/usr/lib/python3.11/lib-dynload/_ssl.so"), None);
    assert_eq!(version("/usr/lib/libpython3.so"), None);
    assert_eq!(version("/usr/bin/pythonista.3"), None);
}

const RUNTIME: u64 = START;
const INTERPRETER: u64 = START + 0x1_0000;
const THREAD: u64 = START + 0x4_0000;
const OTHER_THREAD: u64 = START + 0x4_1000;
const OWN: u64 = START + 0x4_2000;
const FRAMES: [u64; 3] = [START + 0x5_0000, START + 0x5_1000, START + 0x5_2000];
const CODE: u64 = START + 0x6_0000;
const CODE_TYPE: u64 = START + 0x6_1000;
const NAME: u64 = START + 0x6_2000;
const FILE: u64 = START + 0x6_3000;
const LINES: u64 = START + 0x6_4000;
const KIND: u64 = START + 0x6_5000;
const COPIES: u64 = START + 0x6_6000;
const COPY: u64 = START + 0x6_7000;
const TID: u32 = 4711;

/// A process without GIL, whose thread runs its own copy of a function's bytecode, called through the interpreter.
fn free_threaded(words: &[u64]) -> (Memory, Layout) {
    let layout = layout(words).unwrap();
    let mut memory = Memory::of(words);
    memory.word(RUNTIME + layout.interpreters, INTERPRETER);
    memory.word(INTERPRETER + layout.threads, OTHER_THREAD);
    // One that has not begun.
    memory.word(OTHER_THREAD + layout.next_thread, THREAD);
    memory.word(THREAD + layout.thread_id, OWN);
    memory.put(OWN + THREAD_IDS[0], &TID.to_ne_bytes());
    memory.word(THREAD + layout.frame, FRAMES[0]);
    for (frame, next) in FRAMES.into_iter().zip([FRAMES[1], FRAMES[2], 0]) {
        memory.word(frame + layout.previous, next);
    }
    for frame in [FRAMES[0], FRAMES[2]] {
        memory.word(frame + layout.code, CODE | 1);
        memory.word(frame + layout.instruction, COPY + 2);
        memory.put(frame + layout.local.unwrap().index, &1_u32.to_ne_bytes());
    }
    memory.put(FRAMES[1] + layout.owner.unwrap(), &[3]);
    memory.word(CODE + layout.object_type, CODE_TYPE);
    memory.word(CODE_TYPE + layout.type_name, KIND);
    memory.put(KIND, b"code\0");
    memory.word(CODE + layout.name, NAME);
    memory.word(CODE + layout.file, FILE);
    memory.word(CODE + layout.lines, LINES);
    memory.put(CODE + layout.first_line, &10_u32.to_ne_bytes());
    memory.word(CODE + layout.local.unwrap().codes, COPIES);
    memory.word(COPIES, 2);
    memory.word(COPIES + 8, CODE + layout.instructions);
    memory.word(COPIES + 16, COPY);
    for (at, characters, is_ascii) in [(NAME, &b"handle"[..], true), (FILE, &[0xe9, b'.', b'p'][..], false)] {
        memory.word(at + layout.text.length, characters.len() as u64);
        // One byte a character, compact, interned for ever.
        let state = (1 | 1 << 3 | u32::from(is_ascii) << 4) << layout.text.interned | 3;
        memory.put(at + layout.text.state, &state.to_ne_bytes());
        let content = if is_ascii { layout.text.ascii } else { layout.text.compact };
        memory.put(at + content, characters);
    }
    // Two lines further, one instruction; one line further, two instructions.
    let table = [0x80 | 13 << 3, 4, 0x80 | 11 << 3 | 1, 0, 0];
    memory.word(LINES + layout.bytes.0, table.len() as u64);
    memory.put(LINES + layout.bytes.1, &table);
    (memory, layout)
}

fn walk(memory: &Memory, layout: &Layout) -> Option<Stack> {
    let memory = memory.done();
    let interpreter = Interpreter { memory: &memory, layout: *layout, runtime: RUNTIME };
    interpreter.thread(TID).map(|thread| interpreter.walk(thread, 16))
}

#[test]
fn bytecode_of_a_thread_leads_to_the_line() {
    for words in [&OF_3_14_FREE[..], &OF_3_15_FREE[..]] {
        let (mut memory, layout) = free_threaded(words);
        let frame = |line| Frame {
            function: Some("handle".to_owned()),
            module: Some("é.p".to_owned()),
            offset: None,
            line,
        };
        let stack = |line| Some(Stack { frames: vec![frame(line), frame(line)], missing: None });
        assert_eq!(walk(&memory, &layout), stack(Some(13)));
        // There is no such copy.
        memory.word(COPIES, 1);
        assert_eq!(walk(&memory, &layout), stack(None));
    }
}

#[test]
fn frames_in_a_circle_end() {
    let (mut memory, layout) = free_threaded(&OF_3_14_FREE);
    memory.word(FRAMES[2] + layout.previous, FRAMES[0]);
    let stack = walk(&memory, &layout).unwrap();
    assert_eq!((stack.frames.len(), stack.missing.is_some()), (16, true));
    memory.word(FRAMES[1] + layout.previous, FRAMES[1]);
    assert!(walk(&memory, &layout).unwrap().missing.is_some());
    memory.word(OTHER_THREAD + layout.next_thread, OTHER_THREAD);
    memory.word(INTERPRETER + layout.next_interpreter, INTERPRETER);
    assert_eq!(walk(&memory, &layout), None);
}

proptest! {
    #[test]
    fn no_offsets_make_it_panic(
        at in 0_usize..95, word in any::<u64>(), small in any::<bool>(), free in any::<bool>(),
    ) {
        let (mut memory, _) = free_threaded(&OF_3_14_FREE);
        let word = if small { word % 4096 } else { word };
        memory.word(START + at as u64 * 8, word);
        memory.word(START + 16, free.into());
        if let Some(Ok(layout)) = offsets::read(&memory.done(), START) {
            let _ = walk(&memory, &layout);
        }
    }
}
