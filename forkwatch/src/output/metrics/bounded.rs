//! Label values that come from outside, kept within bounds.

use std::{collections::HashSet, hash::Hash};

/// Value of a label whose true value found no room.
pub(super) const OTHER: &str = "other";
/// Value of a label whose true value could not be read.
pub(super) const UNKNOWN: &str = "unknown";
/// Longest label value, in characters. Unit names have at most 255, comms 15.
const MAX_LENGTH: usize = 128;

/// The keys that were admitted. First come, first served, for good: a series that moved to "other" and back would
/// make both of them wrong.
pub(super) struct Bounded<K> {
    admitted: HashSet<K>,
    max: usize,
    refused: u64,
}

impl<K: Eq + Hash> Bounded<K> {
    pub(super) fn new(max: usize) -> Self {
        Self { admitted: HashSet::new(), max, refused: 0 }
    }

    /// Whether the key has, or now gets, a series of its own.
    pub(super) fn admit(&mut self, key: K) -> bool {
        let admitted =
            self.admitted.contains(&key) || (self.admitted.len() < self.max && self.admitted.insert(key));
        self.refused += u64::from(!admitted);
        admitted
    }

    /// How often a key was refused.
    pub(super) fn refused(&self) -> u64 {
        self.refused
    }
}

/// A text from outside as a label value: any UTF-8 is allowed in there, but whoever prints the page to a terminal
/// shall not run its control characters.
pub(super) fn label(text: &str) -> String {
    text.chars()
        .map(|character| if character.is_control() { char::REPLACEMENT_CHARACTER } else { character })
        .take(MAX_LENGTH)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_keys_stay_and_later_ones_are_refused_and_counted() {
        let mut bounded = Bounded::new(2);
        assert!(bounded.admit("a") && bounded.admit("b"));
        assert!(!bounded.admit("c") && !bounded.admit("d"));
        assert!(bounded.admit("a"));
        assert_eq!(bounded.refused(), 2);
    }

    #[test]
    fn hostile_labels_are_short_and_printable() {
        assert_eq!(label("a\u{1b}[31m\u{9b}\n"), "a\u{fffd}[31m\u{fffd}\u{fffd}");
        assert_eq!(label("dev-a\\x2db.device"), "dev-a\\x2db.device");
        assert_eq!(label(&"x".repeat(1000)).len(), MAX_LENGTH);
    }
}
