//! Where the states of generators lie in a process's memory: found by their content.

use super::{
    layout::{AFTER, BEFORE, Layout},
    twister::{self, BYTES, Twister, WORDS},
};
use crate::model::generator::MAX_GENERATORS;

/// Bytes that are needed to say whether a state begins after the first of them.
const NEEDED: usize = BEFORE + BYTES + AFTER;

/// A search through pieces of memory.
pub(super) struct Search<'a> {
    layouts: &'a [Layout],
    /// The bytes that were shown last, in which a state may begin.
    window: Vec<u8>,
    /// The address of the first.
    start: u64,
    found: Vec<u64>,
}

impl<'a> Search<'a> {
    /// Searches for the states of these.
    pub(super) const fn new(layouts: &'a [Layout]) -> Self {
        Self { layouts, window: Vec::new(), start: 0, found: Vec::new() }
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
        let done = self.window.len().saturating_sub(NEEDED - 1) / 8 * 8;
        for layout in self.layouts {
            match layout.step {
                16 => self.look::<16>(*layout, done),
                _ => self.look::<8>(*layout, done),
            }
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
    fn look<const STEP: usize>(&mut self, layout: Layout, done: usize) {
        let base = self.start + BEFORE as u64;
        let away = layout.rest.wrapping_sub(base) % STEP as u64;
        let first = BEFORE + usize::try_from(away).unwrap_or(0);
        let offset = layout.offset(self.start + first as u64);
        let count = (done + BEFORE).saturating_sub(first).div_ceil(STEP);
        let said = first.checked_add_signed(offset).and_then(|at| self.window.get(at..));
        let chunks = said.unwrap_or_default().as_chunks::<STEP>().0;
        let (least, most, by_address) = layout.lowest();
        let mut found = Vec::new();
        for (index, chunk) in chunks.iter().take(count).enumerate() {
            let Some(said) = chunk.first_chunk().map(|said| u64::from_ne_bytes(*said)) else { break };
            let place = first + index * STEP;
            let address = self.start + place as u64;
            let away = if by_address { said.wrapping_sub(address) } else { said };
            let low = u32::try_from(away & u64::from(u32::MAX)).unwrap_or(u32::MAX);
            if low.wrapping_sub(least) > most - least {
                continue;
            }
            let Some(next) = layout.next(address, said) else { continue };
            let state = self.window.get(place..).unwrap_or_default();
            let at = |index: usize| {
                let word = state.get(4 * index..).and_then(<[u8]>::first_chunk);
                word.map_or(0, |word| u32::from_ne_bytes(*word))
            };
            // Where nothing stands, every state looks new.
            if next == 0 && at(0) == 0 {
                continue;
            }
            let may_be =
                twister::is_twisted(at(0), at(396), at(WORDS - 1)) || twister::is_seeded(at(0), at(1));
            // Several layouts of one library may fit.
            let is_news = !self.found.contains(&address);
            if may_be && is_news && Twister::of(state, next).is_some() {
                found.push(address);
            }
        }
        let room = MAX_GENERATORS.saturating_sub(self.found.len());
        self.found.extend(found.into_iter().take(room));
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{layout::tests, twister::tests::state},
        *,
    };
    use crate::model::generator::Maker;

    const BASE: u64 = 0x7000_0000;

    /// Memory with a state at an offset, of which it is said in this way which word is next.
    fn memory(offset: usize, seed: u32, numbers: u32, layout: Layout) -> Vec<u8> {
        let mut memory = vec![0_u8; 600 << 10];
        let (bytes, next) = state(seed, numbers);
        memory[offset..offset + BYTES].copy_from_slice(&bytes);
        let address = BASE + offset as u64;
        let said = tests::said(layout, address, next);
        let place = offset.checked_add_signed(layout.offset(address)).unwrap();
        memory[place..place + said.len()].copy_from_slice(&said);
        memory
    }

    /// Shows it as `OwnPages` does.
    fn search(memory: &[u8], layouts: &[Layout]) -> Vec<u64> {
        let mut search = Search::new(layouts);
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
        for offset in [16, 4096, (256 << 10) - 704, (600 << 10) - BYTES - 32] {
            for numbers in [0, 1, 624, 5000] {
                for layout in tests::all() {
                    let first = offset + usize::try_from(layout.rest).unwrap();
                    for offset in [first, first + usize::try_from(layout.step % 16).unwrap()] {
                        let memory = memory(offset, 42, numbers, layout);
                        let found = search(&memory, &tests::of(layout.maker));
                        assert_eq!(found, [BASE + offset as u64], "{offset} {numbers} {layout:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_new_state_is_found_where_one_can_be_seen() {
        for layout in tests::all() {
            let offset = 4096 + usize::try_from(layout.rest).unwrap();
            let mut memory = memory(offset, 42, 5000, layout);
            let address = BASE + offset as u64;
            let said = tests::said(layout, address, 0);
            let place = offset.checked_add_signed(layout.offset(address)).unwrap();
            memory[place..place + said.len()].copy_from_slice(&said);
            let expected: &[u64] = if layout.maker == Maker::Php { &[address] } else { &[] };
            assert_eq!(search(&memory, &[layout]), expected, "{layout:?}");
        }
    }

    #[test]
    fn nothing_else_is_found() {
        let counted: Vec<u8> = (0..150_000_u32).flat_map(u32::to_ne_bytes).collect();
        let mut random = 1_u64;
        let noise: Vec<u8> = std::iter::repeat_with(|| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            random.to_be_bytes()[0]
        })
        .take(600 << 10)
        .collect();
        for memory in [vec![0; 600 << 10], counted, noise] {
            assert_eq!(search(&memory, &tests::all()), [] as [u64; 0]);
        }
    }
}
