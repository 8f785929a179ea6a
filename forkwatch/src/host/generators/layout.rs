//! How libraries keep the states of their generators, and where each says which of its words is given next.

use super::twister::{self, BYTES, LAST_WORD};
use crate::{
    host::{locks, maps::Maps},
    model::generator::Maker,
};

/// Most bytes before a state, and after it, in which that is said.
pub(super) const BEFORE: usize = 8;
pub(super) const AFTER: usize = 16;

/// Where it is said which word is given next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// By a number in the four bytes before the state.
    Before,
    /// By a number eight bytes before it, which is followed by the mode: 0 for the twister as it should be.
    BeforeTheMode,
    /// By a number after it.
    After,
    /// By a pointer to that word, in the first eight bytes after the state that lie at a multiple of eight.
    Pointed,
    /// The same, after one word that is not used.
    PointedAfterAWord,
}

/// The states of one library's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    pub(super) maker: Maker,
    next: Next,
    /// A state begins so many bytes after a multiple of as many as the step.
    pub(super) rest: u64,
    pub(super) step: u64,
    /// Whether a state may be new: none of its words has been given.
    may_be_new: bool,
}

const fn layout(maker: Maker, next: Next, (rest, step): (u64, u64)) -> Layout {
    Layout { maker, next, rest, step, may_be_new: matches!(maker, Maker::Php) }
}

/// An object of this size lies at a multiple of 16 bytes, and its state 20 bytes after its beginning, or 36
/// (`RandomObject`, Modules/_randommodule.c).
const PYTHON: Layout = layout(Maker::Python, Next::Before, (4, 16));
/// Pointers come before it (`mt19937_state`, numpy/random/src/mt19937/mt19937.h).
const NUMPY: Layout = layout(Maker::Numpy, Next::After, (0, 8));
/// `php_random_status_state_mt19937` (`ext/random/php_random.h`): of `PHP` 8.2 first, which has it allocated, then as it was
/// ordered anew; before them `state`, `next` and `left` (`php_basic_globals`, `ext/standard/basic_functions.h`), with a word
/// more.
const PHP: [Layout; 5] = [
    layout(Maker::Php, Next::After, (0, 8)),
    layout(Maker::Php, Next::BeforeTheMode, (0, 8)),
    layout(Maker::Php, Next::BeforeTheMode, (4, 8)),
    layout(Maker::Php, Next::PointedAfterAWord, (0, 8)),
    layout(Maker::Php, Next::PointedAfterAWord, (4, 8)),
];
/// `struct MT` (mt19937.c), of an object `Random`.
const RUBY: Layout = layout(Maker::Ruby, Next::Pointed, (0, 8));

impl Layout {
    /// What the lower half of these eight bytes is at least and at most, from the address of the state on where they point
    /// into it. Nearly all memory is ruled out by that.
    pub(super) const fn lowest(self) -> (u32, u32, bool) {
        let least = if self.may_be_new { 0 } else { 1 };
        match self.next {
            Next::Before | Next::BeforeTheMode | Next::After => (least, LAST_WORD, false),
            Next::Pointed | Next::PointedAfterAWord => (least, 4 * LAST_WORD, true),
        }
    }

    /// Where it is said which word of the state at this address is next: how many bytes after its beginning.
    pub(super) fn offset(self, address: u64) -> isize {
        let words = BYTES as u64;
        let pointer = |after: u64| (address + after).next_multiple_of(8) - address;
        let after = match self.next {
            Next::Before => return -4,
            Next::BeforeTheMode => return -8,
            Next::After => words,
            Next::Pointed => pointer(words),
            Next::PointedAfterAWord => pointer(words + 4),
        };
        isize::try_from(after).unwrap_or(isize::MAX)
    }

    /// Which word of the state at this address the eight bytes there say; absent where they say none.
    pub(super) fn next(self, address: u64, said: u64) -> Option<u32> {
        let [low, high] = [said & u64::from(u32::MAX), said >> 32];
        let next = match self.next {
            Next::Before | Next::After => low,
            Next::BeforeTheMode => (high == 0).then_some(low)?,
            Next::Pointed | Next::PointedAfterAWord => {
                let away = said.checked_sub(address)?;
                (away % 4 == 0).then_some(away / 4)?
            }
        };
        let next = u32::try_from(next).ok()?;
        (twister::is_place(next) || next == 0 && self.may_be_new).then_some(next)
    }
}

/// The layouts of the libraries that a process may have generators of.
pub(super) fn layouts(tgid: u32, maps: &Maps) -> Vec<Layout> {
    let mut found = Vec::new();
    if locks::runs_python(tgid, maps) {
        found.push(PYTHON);
        if maps.has_file("_mt19937") {
            found.push(NUMPY);
        }
    }
    if locks::runs(tgid, maps, "php", "libphp") {
        found.extend(PHP);
    }
    if locks::runs(tgid, maps, "ruby", "libruby") {
        found.push(RUBY);
    }
    found
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// All of them.
    pub(in crate::host::generators) fn all() -> Vec<Layout> {
        [PYTHON, NUMPY, RUBY].into_iter().chain(PHP).collect()
    }

    pub(in crate::host::generators) fn of(maker: Maker) -> Vec<Layout> {
        all().into_iter().filter(|layout| layout.maker == maker).collect()
    }

    /// What stands there for the word that is next.
    pub(in crate::host::generators) fn said(layout: Layout, address: u64, next: u32) -> Vec<u8> {
        match layout.next {
            Next::Before | Next::After => next.to_ne_bytes().to_vec(),
            Next::BeforeTheMode => u64::from(next).to_ne_bytes().to_vec(),
            Next::Pointed | Next::PointedAfterAWord => (address + 4 * u64::from(next)).to_ne_bytes().to_vec(),
        }
    }

    #[test]
    fn each_says_where_the_next_word_is() {
        for layout in all() {
            for address in [0x7000_0000_0000, 0x7000_0000_0004] {
                for next in [1, 300, 624] {
                    let mut bytes = said(layout, address, next);
                    bytes.resize(8, 0);
                    let word = u64::from_ne_bytes(bytes.try_into().unwrap());
                    assert_eq!(layout.next(address, word), Some(next), "{layout:?}");
                }
                let offset = layout.offset(address);
                assert!((-8..=2496 + 8).contains(&offset), "{layout:?} {offset}");
            }
            assert_eq!(layout.next(0x7000_0000_0000, 0x7100_0000_1000), None, "{layout:?}");
            assert_eq!(layout.next(8, u64::MAX), None, "{layout:?}");
        }
    }
}
