//! Which functions of a script handle signals: the table that CPython keeps of them.
//!
//! `Handlers` is a static variable without a symbol (`Modules/signalmodule.c`): one entry for each signal from 0 on, a flag
//! and the address of the function. It is known by its form: no other variable has 64 such entries in a row, of which the
//! first is empty and most are one and the same, the default.

use super::Interpreter;
use crate::host::{
    budget,
    bytes::Bytes,
    maps::{Mapping, Maps},
};

/// `Py_NSIG` without signal 0, which has no handler.
const SIGNALS: usize = 64;
/// Words of an entry.
const WORDS: usize = 2;
/// So many signals have the default, at least.
const MOSTLY: usize = 40;
/// Nothing is mapped below.
const LOWEST: u64 = 0x1_0000;
/// Variables of an interpreter are smaller: those of 3.11 take 1.1 MiB.
const MAX_VARIABLES: u64 = 4 * 1024 * 1024;
/// An interpreter has its variables in two mappings: those of its file, and what follows them.
const MAX_MAPPINGS: usize = 8;
/// Bytes that are read at a time.
const PAGE: usize = 4096;
/// Words of a function, among which its code is.
const MAX_FUNCTION: u64 = 10;

/// A signal, and the function and file of its handler.
pub(in crate::host) type Handler = (u8, String, String);

/// The functions that handle signals, of an interpreter whose first page is mapped there; none where it does not write their
/// numbers to that descriptor.
pub(super) fn handlers(
    interpreter: &Interpreter<'_>,
    maps: &Maps,
    head: &Mapping,
    descriptor: u32,
) -> Vec<Handler> {
    let memory = interpreter.memory;
    let of_object = |mapping: &Mapping| mapping.file == head.file && mapping.path == head.path;
    let is_after = |mapping: &Mapping| {
        let before = maps.heads_before(mapping.start).next();
        maps.follows_file(mapping) && before.is_some_and(|before| before.start == head.start)
    };
    let is_of_variables =
        |mapping: &&Mapping| mapping.writable && !mapping.shared && (of_object(mapping) || is_after(mapping));
    let variables: Vec<Vec<u64>> = maps
        .iter()
        .filter(is_of_variables)
        .take(MAX_MAPPINGS)
        .map(|mapping| words(memory, mapping))
        .collect();
    if !variables.iter().any(|words| writes_to(words, descriptor)) {
        return Vec::new();
    }
    let table = variables.iter().find_map(|words| words.windows((SIGNALS + 1) * WORDS).find_map(entries));
    let function = |(signal, address): (u8, u64)| {
        let (function, file) = interpreter.function(address)?;
        Some((signal, function, file))
    };
    table.unwrap_or_default().into_iter().filter_map(function).collect()
}

/// What is in a mapping.
fn words(memory: &Bytes, mapping: &Mapping) -> Vec<u64> {
    let end = mapping.end.min(mapping.start.saturating_add(MAX_VARIABLES));
    let mut words = Vec::new();
    for page in (mapping.start..end).step_by(PAGE) {
        if budget::steps(1).is_err() {
            return Vec::new();
        }
        // One that nobody has written to holds nothing.
        let bytes = memory.take(page, PAGE).unwrap_or_else(|| vec![0; PAGE]);
        words.extend(bytes.as_chunks().0.iter().map(|word| u64::from_ne_bytes(*word)));
    }
    words
}

/// Whether these variables may have `wakeup` of `Modules/signalmodule.c` among them, set to that descriptor: two numbers of 32
/// bits, of which the second says whether to warn, as asyncio has it.
fn writes_to(words: &[u64], descriptor: u32) -> bool {
    // The architectures that are known have the lower half first.
    let half = |word: u64| u32::try_from(word & u64::from(u32::MAX)).unwrap_or_default();
    let halves = words.iter().flat_map(|word| [half(*word), half(word >> 32)]);
    let following = halves.clone().skip(1);
    halves.zip(following).any(|pair| pair == (descriptor, 1))
}

/// The same, where these words are the table.
fn entries(words: &[u64]) -> Option<Vec<(u8, u64)>> {
    let (first, others) = words.split_first_chunk::<WORDS>()?;
    let is_entry = |[tripped, function]: &[u64; WORDS]| {
        *tripped <= 1 && *function >= LOWEST && function.is_multiple_of(8)
    };
    let entries = others.as_chunks::<WORDS>().0;
    if *first != [0, 0] || !entries.iter().all(is_entry) {
        return None;
    }
    // The highest is hardly ever handled, and so has the default.
    let [_, default] = entries.last()?;
    let is_default = |[_, function]: &&[u64; WORDS]| function == default;
    if entries.iter().filter(is_default).count() < MOSTLY {
        return None;
    }
    let handled = (1_u8..).zip(entries).filter(|(_, entry)| !is_default(entry));
    Some(handled.map(|(signal, [_, function])| (signal, *function)).collect())
}

impl Interpreter<'_> {
    /// The name and file of a function of a script.
    fn function(&self, address: u64) -> Option<(String, String)> {
        let layout = self.layout;
        let is_a = |object: u64, name: &[u8]| {
            let class = self.pointer(object, layout.object_type)?;
            let named = self.pointer(class, layout.type_name)?;
            Some(self.memory.text(named, name.len() + 1) == name)
        };
        if is_a(address, b"function") != Some(true) {
            return None;
        }
        let words = (2..MAX_FUNCTION).filter_map(|index| self.pointer(address, index * 8));
        let code = words.filter(|word| *word >= LOWEST).find(|word| is_a(*word, b"code") == Some(true))?;
        let name = self.text(self.pointer(code, layout.name)?)?;
        Some((name, self.text(self.pointer(code, layout.file)?)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The default for all signals but SIGTERM, behind other variables.
    fn words() -> Vec<u64> {
        let mut words = vec![0x55, 7, 0];
        words.extend([0, 0]);
        for signal in 1..=64 {
            words.extend([u64::from(signal == 15), if signal == 15 { 0x7000_0010 } else { 0x7000_0000 }]);
        }
        words.push(9);
        words
    }

    fn found(words: &[u64]) -> Option<Vec<(u8, u64)>> {
        words.windows(130).find_map(entries)
    }

    #[test]
    fn the_table_is_known_by_its_form() {
        assert_eq!(found(&words()), Some(vec![(15, 0x7000_0010)]));
        // A flag that is none, a pointer that is none, and too many that are not the default.
        for (index, value) in [(20, 2), (21, 0x10)] {
            let mut wrong = words();
            wrong[index + 3] = value;
            assert_eq!(found(&wrong), None, "{index}");
        }
        let mut different = words();
        (0..30).for_each(|signal: usize| different[6 + signal * 2] = 0x8000_0000 + signal as u64 * 8);
        assert_eq!(found(&different), None);
        assert_eq!(found(&[0; 200]), None);
    }

    #[test]
    fn the_descriptor_is_known_by_the_flag_behind_it() {
        let pair = |one: u32, other: u32| {
            u64::from_ne_bytes([one.to_ne_bytes(), other.to_ne_bytes()].concat().try_into().unwrap())
        };
        assert!(writes_to(&[0, pair(8, 1)], 8));
        assert!(writes_to(&[pair(0, 8), pair(1, 0)], 8));
        // It was taken back.
        assert!(!writes_to(&[0, pair(u32::MAX, 1), pair(8, 0), 8], 8));
    }
}
