//! Where the states of generators lie in a process's memory: found by their content.

use super::{
    Makers,
    twister::{self, BYTES, Twister, WORDS},
};
use crate::model::generator::MAX_GENERATORS;

/// Bytes before a state that say which of its words is next, and bytes after it.
const BESIDE: usize = 4;
const BEYOND: usize = 8;
/// Bytes that are needed to say whether a state begins at the second word of them.
const NEEDED: usize = BESIDE + BYTES + BEYOND;

/// A search through pieces of memory.
pub(super) struct Search {
    makers: Makers,
    /// The bytes that were shown last, in which a state may begin.
    window: Vec<u8>,
    /// The address of the first.
    start: u64,
    found: Vec<u64>,
}

impl Search {
    /// Searches for the states of these.
    pub(super) const fn new(makers: Makers) -> Self {
        Self { makers, window: Vec::new(), start: 0, found: Vec::new() }
    }

    /// Takes in a piece, which may repeat the end of the one before.
    pub(super) fn piece(&mut self, at: u64, bytes: &[u8]) {
        let end = self.start + self.window.len() as u64;
        let known = match end.checked_sub(at).and_then(|known| usize::try_from(known).ok()) {
            Some(known) if at >= self.start => known,
            _ => {
                self.window.clear();
                self.start = at;
                0
            }
        };
        self.window.extend_from_slice(bytes.get(known..).unwrap_or_default());
        // So many places have enough before and after them.
        let done = self.window.len().saturating_sub(NEEDED - 1) / 4 * 4;
        if self.makers.python {
            // An object of this size lies at a multiple of 16 bytes, and its state 20 bytes after its beginning, or 36
            // (`RandomObject`).
            self.look::<16>(done, 4, |place| place.saturating_sub(BESIDE));
        }
        if self.makers.numpy {
            // Pointers come before it.
            self.look::<BEYOND>(done, 0, |place| place.saturating_add(BYTES));
        }
        self.window.drain(..done);
        self.start += done as u64;
    }

    /// Whether no more can be told of.
    pub(super) fn is_full(&self) -> bool {
        self.found.len() >= MAX_GENERATORS
    }

    /// The addresses at which a state begins.
    pub(super) fn found(self) -> Vec<u64> {
        self.found
    }

    /// Looks at the places in the first so many bytes, of which one in `STEP` may be the beginning of a state. Nearly all
    /// are ruled out by what would say which word is next.
    fn look<const STEP: usize>(&mut self, done: usize, rest: u64, next: impl Fn(usize) -> usize) {
        let away = rest.wrapping_sub(self.start + BESIDE as u64) % STEP as u64;
        let first = BESIDE + usize::try_from(away).unwrap_or(0);
        let count = (done + BESIDE).saturating_sub(first).div_ceil(STEP);
        let chunks = self.window.get(next(first)..).unwrap_or_default().as_chunks::<STEP>().0;
        let mut found = Vec::new();
        for (index, chunk) in chunks.iter().take(count).enumerate() {
            let Some(next) = chunk.first_chunk().map(|word| u32::from_ne_bytes(*word)) else { break };
            if !twister::is_place(next) {
                continue;
            }
            let place = first + index * STEP;
            let state = self.window.get(place..).unwrap_or_default();
            let at = |index: usize| {
                let word = state.get(4 * index..).and_then(<[u8]>::first_chunk);
                word.map_or(0, |word| u32::from_ne_bytes(*word))
            };
            let may_be =
                twister::is_twisted(at(0), at(396), at(WORDS - 1)) || twister::is_seeded(at(0), at(1));
            if may_be && Twister::of(state, next).is_some() {
                found.push(self.start + place as u64);
            }
        }
        let room = MAX_GENERATORS.saturating_sub(self.found.len());
        self.found.extend(found.into_iter().take(room));
    }
}

#[cfg(test)]
mod tests {
    use super::{super::twister::tests::state, *};

    const BASE: u64 = 0x7000_0000;

    /// Memory with a state at an offset, whose place in it stands before or after it.
    fn memory(offset: usize, seed: u32, numbers: u32, before: bool) -> Vec<u8> {
        let mut memory = vec![0_u8; 600 << 10];
        let (bytes, next) = state(seed, numbers);
        memory[offset..offset + BYTES].copy_from_slice(&bytes);
        let place = if before { offset - 4 } else { offset + BYTES };
        memory[place..place + 4].copy_from_slice(&next.to_ne_bytes());
        memory
    }

    /// Shows it as `OwnPages` does.
    fn search(memory: &[u8]) -> Vec<u64> {
        let mut search = Search::new(Makers { python: true, numpy: true });
        for (index, piece) in memory.chunks(256 << 10).enumerate() {
            let at = index * (256 << 10);
            let begin = at.saturating_sub(256);
            search.piece(BASE + begin as u64, &memory[begin..at + piece.len()]);
        }
        let mut end = memory[memory.len() - 256..].to_vec();
        end.resize(512, 0);
        search.piece(BASE + memory.len() as u64 - 256, &end);
        search.found()
    }

    #[test]
    fn a_state_is_found_wherever_it_lies_and_whatever_it_has_given() {
        // Also across two pieces, and at the very end.
        for offset in [16, 4096, (256 << 10) - 704, (600 << 10) - BYTES - 16] {
            for numbers in [0, 1, 624, 5000] {
                for (before, offset) in [(true, offset + 4), (false, offset), (false, offset + 8)] {
                    let found = search(&memory(offset, 42, numbers, before));
                    assert_eq!(found, [BASE + offset as u64], "{offset} {numbers} {before}");
                }
            }
        }
    }

    #[test]
    fn nothing_else_is_found() {
        assert_eq!(search(&vec![0; 600 << 10]), [] as [u64; 0]);
        let counted: Vec<u8> = (0..150_000_u32).flat_map(u32::to_ne_bytes).collect();
        assert_eq!(search(&counted), [] as [u64; 0]);
        let mut random = 1_u64;
        let noise: Vec<u8> = std::iter::repeat_with(|| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            random.to_be_bytes()[0]
        })
        .take(600 << 10)
        .collect();
        assert_eq!(search(&noise), [] as [u64; 0]);
    }
}
