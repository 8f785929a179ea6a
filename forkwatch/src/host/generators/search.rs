//! Where the states of generators lie in a process's memory: found by their content.

use super::twister::{self, Twister, WORDS};
use crate::model::generator::MAX_GENERATORS;

/// Words before and after a state of which one says which word is next.
const BESIDE: usize = 1;
/// Words that are needed to say whether a state begins at the second of them.
const NEEDED: usize = WORDS + 2 * BESIDE;

/// A search through pieces of memory.
#[derive(Default)]
pub(super) struct Search {
    /// The words that were shown last, which may be the beginning of a state.
    window: Vec<u32>,
    /// The address of the first.
    start: u64,
    found: Vec<u64>,
}

impl Search {
    /// Takes in a piece, which may repeat the end of the one before.
    pub(super) fn piece(&mut self, at: u64, bytes: &[u8]) {
        let end = self.start + 4 * self.window.len() as u64;
        let known = match end.checked_sub(at).and_then(|known| usize::try_from(known).ok()) {
            Some(known) if at >= self.start => known,
            _ => {
                self.window.clear();
                self.start = at;
                0
            }
        };
        let new = bytes.get(known..).unwrap_or_default().as_chunks().0;
        self.window.extend(new.iter().map(|word| u32::from_ne_bytes(*word)));
        self.look();
        let done = self.window.len().saturating_sub(NEEDED - 1);
        self.window.drain(..done);
        self.start += 4 * done as u64;
    }

    /// Whether no more can be told of.
    pub(super) fn is_full(&self) -> bool {
        self.found.len() >= MAX_GENERATORS
    }

    /// The addresses at which a state begins.
    pub(super) fn found(self) -> Vec<u64> {
        self.found
    }

    fn look(&mut self) {
        let from = |place: usize| self.window.get(place..).unwrap_or_default();
        let (firsts, middles, lasts) = (from(BESIDE), from(BESIDE + 396), from(BESIDE + WORDS - 1));
        // The last of them has a word after it.
        let ends = from(BESIDE + WORDS);
        let words = firsts.iter().zip(from(BESIDE + 1)).zip(middles).zip(lasts).zip(ends).enumerate();
        let may_be = words.filter(|(_, ((((first, second), middle), last), _))| {
            twister::is_twisted(**first, **middle, **last) || twister::is_seeded(**first, **second)
        });
        let places: Vec<usize> = may_be.map(|(place, _)| place).collect();
        for place in places {
            let beside = |at: usize| self.window.get(at).copied().filter(|next| twister::is_place(*next));
            let state = self.window.get(place + BESIDE..place + BESIDE + WORDS).unwrap_or_default();
            let bytes: Vec<u8> = state.iter().flat_map(|word| word.to_ne_bytes()).collect();
            let is_state = |next: u32| Twister::of(&bytes, next).is_some();
            let next = [beside(place), beside(place + BESIDE + WORDS)];
            if !self.is_full() && next.into_iter().flatten().any(is_state) {
                self.found.push(self.start + 4 * (place + BESIDE) as u64);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::twister::{BYTES, tests::state},
        *,
    };

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
        let mut search = Search::default();
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
        for offset in [20, 4096 + 4, (256 << 10) - 700, (600 << 10) - BYTES - 4] {
            for numbers in [0, 1, 624, 5000] {
                for before in [true, false] {
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
