//! The state of CPython's garbage collector, and what a collection would write to.
//!
//! The collector keeps the objects that it looks at in lists, one for each generation and one for those that
//! `gc.freeze()` has set aside (`Include/internal/pycore_gc.h`, `pycore_mem.h` of 3.7, `Modules/gcmodule.c`, later
//! `Python/gc.c`). Before each object stand the two pointers of its list, which a collection overwrites. So it copies the
//! page of each such head that a forked process still shares.

use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

use super::Interpreter;
use crate::{host::budget, model::inventory::Collector};

/// Objects that are gone through: a list that was changed meanwhile may lead round in a circle.
const MAX_OBJECTS: u64 = 4_000_000;
/// How long that may take, and how often it is seen to that it does not take longer.
const PATIENCE: Duration = Duration::from_millis(500);
const BETWEEN: u64 = 1024;
/// Pages that are counted: 4 GiB.
const MAX_PAGES: usize = 1 << 20;
const PAGE: u64 = 4096;
/// Between `debug`, a number of 32 bits, and the generations.
const GAP: u64 = 4;
/// The lower bits of a pointer in a list are marks (`_PyGC_PREV_SHIFT`, `NEXT_MASK_UNREACHABLE`).
const MARKS: u64 = 3;

/// Where things are in the collector's state.
#[derive(Clone, Copy)]
struct Places {
    enabled: u64,
    /// The first of the three generations, each with the head of its list.
    generations: u64,
    /// From one to the next.
    stride: u64,
    /// The generation of what is frozen.
    permanent: u64,
}

impl Places {
    /// From `enabled` on all is the same from 3.8 to 3.13; then two words have gone.
    const fn after(enabled: u64, generations: u64) -> Self {
        Self { enabled, generations, stride: 24, permanent: generations + 80 }
    }

    /// As `offsetof` gives it with the headers of 3.7.16 to 3.13.0, and as 3.13.5, 3.14.8 and 3.15.0 have it in memory.
    const fn of(minor: u8) -> Option<Self> {
        Some(match minor {
            // Of the runtime.
            7 => Self { enabled: 332, generations: 352, stride: 48, permanent: 512 },
            8 => Self::after(356, 368),
            // Of the interpreter.
            9 | 10 => Self::after(628, 640),
            11 => Self::after(660, 672),
            12 => Self::after(124, 136),
            // Of what the interpreter itself tells where it is.
            13 => Self::after(12, 24),
            14 => Self { enabled: 12, generations: 24, stride: 24, permanent: 96 },
            15 => Self { enabled: 0, generations: 8, stride: 24, permanent: 80 },
            _ => return None,
        })
    }
}

impl Interpreter<'_> {
    /// The collector of the first interpreter; absent where it is not known how this version keeps it, as without GIL.
    pub(super) fn collector(&self) -> Option<Collector> {
        let places = Places::of(self.layout.minor)?;
        let state = match self.layout.minor {
            ..=8 => self.runtime,
            // New ones are put before it: it is the last.
            _ => self.first_interpreter()?.wrapping_add(self.layout.collector?),
        };
        let enabled = self.memory.half(state.wrapping_add(places.enabled)).filter(|word| *word <= 1)? == 1;
        let mut seen = Seen::new();
        let frozen = self.objects(state.wrapping_add(places.permanent), &mut seen, false)?;
        let mut tracked = 0;
        // Some builds have no gap before them, 3.13.5 as Debian has it for one.
        let starts = [places.generations, places.generations - GAP];
        let is_list = |start: &&u64| self.is_list(state.wrapping_add(**start));
        let first = starts.iter().find(is_list).unwrap_or(&places.generations);
        for generation in 0..3 {
            let list = state.wrapping_add(first + generation * places.stride);
            tracked += self.objects(list, &mut seen, true)?;
        }
        let copies = seen.pages.len() as u64 * PAGE;
        Some(Collector {
            enabled,
            frozen,
            tracked,
            copies,
            whole: seen.is_whole() && budget::exceeded().is_none(),
        })
    }

    /// Whether a list begins here: its first object leads back to it.
    fn is_list(&self, list: u64) -> bool {
        let word = |at| self.memory.word(at).map(|word| word & !MARKS);
        word(list).and_then(|first| word(first.wrapping_add(8))) == Some(list)
    }

    fn first_interpreter(&self) -> Option<u64> {
        let mut interpreter = self.pointer(self.runtime, self.layout.interpreters)?;
        for _ in 0..super::MAX_INTERPRETERS {
            match self.pointer(interpreter, self.layout.next_interpreter) {
                Some(next) => interpreter = next,
                None => return Some(interpreter),
            }
        }
        None
    }

    /// How many objects a list has, and on which pages their heads are.
    fn objects(&self, list: u64, seen: &mut Seen, counts_pages: bool) -> Option<u64> {
        let mut next = self.memory.word(list)? & !MARKS;
        let mut count = 0;
        while next != list {
            if count >= MAX_OBJECTS || next == 0 || count % BETWEEN == 0 && Instant::now() >= seen.deadline {
                seen.is_cut = true;
                break;
            }
            let Some(word) = seen.word(self, next) else {
                seen.is_cut = true;
                break;
            };
            count += 1;
            if counts_pages && seen.pages.len() < MAX_PAGES {
                seen.pages.insert(next / PAGE);
            }
            next = word & !MARKS;
        }
        Some(count)
    }
}

/// What a walk has come by.
struct Seen {
    deadline: Instant,
    pages: HashSet<u64>,
    is_cut: bool,
    /// The page that was read last: neighbours in a list are often neighbours in memory.
    page: Option<(u64, Vec<u8>)>,
}

impl Seen {
    fn new() -> Self {
        Self { deadline: Instant::now() + PATIENCE, pages: HashSet::new(), is_cut: false, page: None }
    }

    fn is_whole(&self) -> bool {
        !self.is_cut && self.pages.len() < MAX_PAGES
    }

    fn word(&mut self, interpreter: &Interpreter<'_>, at: u64) -> Option<u64> {
        let number = at / PAGE;
        if self.page.as_ref().is_none_or(|(known, _)| *known != number) {
            let bytes = interpreter.memory.take(number * PAGE, usize::try_from(PAGE).ok()?)?;
            self.page = Some((number, bytes));
        }
        let offset = usize::try_from(at % PAGE).ok()?;
        let (_, bytes) = self.page.as_ref()?;
        Some(u64::from_ne_bytes(*bytes.get(offset..)?.first_chunk()?))
    }
}
