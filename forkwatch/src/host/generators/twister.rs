//! The Mersenne Twister MT19937, as far as it takes to recognise a state of it and to say how far one is ahead of
//! another: `genrand_uint32` and `init_by_array` in CPython's Modules/_randommodule.c, `mt19937_gen` and `mt19937_seed`
//! in `NumPy`'s numpy/random/src/mt19937/mt19937.c, both after M. Matsumoto's and T. Nishimura's mt19937ar.c.

use crate::host::budget;

/// Words of a state.
pub(super) const WORDS: usize = 624;
/// The place after the last of them.
pub(super) const LAST_WORD: u32 = 624;
/// Bytes of them.
pub(super) const BYTES: usize = 4 * WORDS;
/// From this word on, a new word depends on another new one.
const MIDDLE: usize = 397;
/// What is mixed in for each odd number.
const MATRIX: u32 = 0x9908_b0df;
/// The first word of a state that was seeded from an array, and has given no number yet.
const SEEDED: u32 = 0x8000_0000;
/// Different words of a state that are random numbers; two of 624 are alike about once in 20,000 states.
const MOST_ALIKE: usize = 8;
/// Of how many states in a row it is found out whether one follows from another.
const MOST_STATES: u64 = 500;
/// Steps of the budget that the next state takes: each is some hundred operations.
const STEPS: u64 = 4;

/// A state, and which of its words is given next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Twister {
    words: Vec<u32>,
    next: u32,
}

impl Twister {
    /// Absent where this is none: too few words, no place among them, or no random numbers. The place 0 is that of a state
    /// which is new.
    pub(super) fn of(bytes: &[u8], next: u32) -> Option<Self> {
        let words: Vec<u32> =
            bytes.get(..BYTES)?.as_chunks().0.iter().map(|word| u32::from_ne_bytes(*word)).collect();
        let twister = Self { words, next };
        (next as usize <= WORDS && twister.is_random() && twister.is_state()).then_some(twister)
    }

    /// How many numbers it has given beyond another state; absent where it does not follow from that one, or only from
    /// further away than is looked for.
    pub(super) fn beyond(&self, other: &Self) -> Option<u64> {
        let mut reached = other.clone();
        for states in 0..MOST_STATES {
            if reached.words == self.words {
                let given = states * WORDS as u64 + u64::from(self.next);
                return given.checked_sub(u64::from(other.next));
            }
            budget::steps(STEPS).ok()?;
            reached.twist();
        }
        None
    }

    /// Whether it has been made and has given no word yet.
    pub(super) const fn is_new(&self) -> bool {
        self.next == 0
    }

    /// What tells it from others: FNV-1a.
    pub(super) fn fingerprint(&self) -> u64 {
        let words = self.words.iter().chain([&self.next]);
        words.fold(0xcbf2_9ce4_8422_2325, |hash, word| {
            (hash ^ u64::from(*word)).wrapping_mul(0x0100_0000_01b3)
        })
    }

    /// The state after this one.
    fn twist(&mut self) {
        let at = |words: &[u32], place: usize| words.get(place).copied().unwrap_or(0);
        let joint = |this: u32, following: u32| mixed((this & SEEDED) | (following & !SEEDED));
        let old = std::mem::replace(&mut self.words, Vec::with_capacity(WORDS));
        for (place, pair) in old.windows(2).enumerate() {
            let further = match place.checked_sub(WORDS - MIDDLE) {
                Some(place) => at(&self.words, place),
                None => at(&old, place + MIDDLE),
            };
            self.words.push(further ^ joint(at(pair, 0), at(pair, 1)));
        }
        let last = at(&self.words, MIDDLE - 1) ^ joint(at(&old, WORDS - 1), at(&self.words, 0));
        self.words.push(last);
    }

    fn is_random(&self) -> bool {
        let mut sorted = self.words.clone();
        sorted.sort_unstable();
        sorted.dedup();
        sorted.len() + MOST_ALIKE >= WORDS
    }

    /// Whether its words belong together.
    fn is_state(&self) -> bool {
        let at = |place: usize| self.words.get(place).copied().unwrap_or(0);
        // A seeded state has given no number: the first makes a new one.
        let is_new = self.next as usize >= WORDS - 1;
        let mut pairs = (1..).zip(self.words.windows(2));
        let mut is_seeded =
            || pairs.all(|(place, pair)| matches!(pair, [before, this] if *this == seeded(*before, place)));
        is_twisted(at(0), at(MIDDLE - 1), at(WORDS - 1)) || is_new && (at(0) == SEEDED || is_seeded())
    }
}

/// Whether the first, the 397th and the last word may be those of a state that was made from the one before. Of other
/// words they are once in two thousand million.
pub(super) const fn is_twisted(first: u32, middle: u32, last: u32) -> bool {
    let mixed = mixed(first & !SEEDED);
    // The highest bit is that of a word of the state before, which is not there any more.
    first != 0 && last != 0 && (middle ^ mixed == last || middle ^ mixed ^ (SEEDED >> 1) == last)
}

/// Whether these may be the first words of a state that was seeded.
pub(super) const fn is_seeded(first: u32, second: u32) -> bool {
    first == SEEDED || second == seeded(first, 1)
}

/// Whether this may say which word comes next: of a state that is due to be made anew, the one after the last.
pub(super) const fn is_place(next: u32) -> bool {
    next >= 1 && next as usize <= WORDS
}

/// The word at a place of a state that was seeded with a number, from the word before.
const fn seeded(before: u32, place: u32) -> u32 {
    1_812_433_253_u32.wrapping_mul(before ^ (before >> 30)).wrapping_add(place)
}

const fn mixed(word: u32) -> u32 {
    (word >> 1) ^ if word & 1 == 0 { 0 } else { MATRIX }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// The state that a seed makes, which has given so many numbers.
    pub(in crate::host::generators) fn state(seed: u32, numbers: u32) -> (Vec<u8>, u32) {
        let mut words = vec![seed];
        for place in 1..624 {
            words.push(seeded(*words.last().unwrap(), place));
        }
        let mut twister = Twister { words, next: 624 };
        let mut left = numbers;
        while left > 0 {
            if twister.next == 624 {
                twister.twist();
                twister.next = 0;
            }
            let given = left.min(624 - twister.next);
            twister.next += given;
            left -= given;
        }
        (twister.words.iter().flat_map(|word| word.to_ne_bytes()).collect(), twister.next)
    }

    fn twister(seed: u32, numbers: u32) -> Twister {
        let (bytes, next) = state(seed, numbers);
        Twister::of(&bytes, next).unwrap()
    }

    #[test]
    fn it_gives_the_numbers_of_the_original() {
        // The first that mt19937ar.c gives for the seed 5489: what is given is a word after this.
        let word = twister(5489, 1).words[0];
        let word = word ^ (word >> 11);
        let word = word ^ ((word << 7) & 0x9d2c_5680);
        let word = word ^ ((word << 15) & 0xefc6_0000);
        assert_eq!(word ^ (word >> 18), 3_499_211_612);
    }

    #[test]
    fn it_is_told_how_far_one_is_ahead_of_another() {
        for (one, other, numbers) in
            [(0, 0, Some(0)), (1, 0, Some(1)), (700, 600, Some(100)), (90_000, 3, Some(89_997)), (3, 4, None)]
        {
            assert_eq!(twister(7, one).beyond(&twister(7, other)), numbers, "{one} beyond {other}");
        }
        assert_eq!(twister(7, 5).beyond(&twister(8, 5)), None, "another seed");
        assert_eq!(twister(7, 2_000_000).beyond(&twister(7, 5)), None, "too far to be looked for");
    }

    #[test]
    fn what_is_no_state_is_not_taken_for_one() {
        let (bytes, next) = state(7, 900);
        for place in [625, u32::MAX] {
            assert_eq!(Twister::of(&bytes, place), None);
        }
        assert_eq!(Twister::of(&bytes[4..], next), None, "too short");
        assert_eq!(Twister::of(&[0; BYTES], next), None);
        let counted: Vec<u8> = (0..624_u32).flat_map(u32::to_ne_bytes).collect();
        assert_eq!(Twister::of(&counted, next), None);
        let (mut changed, _) = state(7, 900);
        changed[BYTES - 1] ^= 1;
        assert_eq!(Twister::of(&changed, next), None);
        let (seeded, _) = state(7, 0);
        assert_eq!(Twister::of(&seeded, 5), None, "a seeded state gives nothing");
    }
}
