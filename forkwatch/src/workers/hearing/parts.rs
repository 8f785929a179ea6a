//! Bytes of a stream made into lines, apart for each who writes.

use crate::model::{process::ProcessKey, time::BootTime};

/// Longest line; what is longer is cut.
const LONGEST: usize = 1024;
/// How long a line waits for its end.
const PATIENCE: u64 = 1_000_000_000;
/// Most that begin lines at a time.
const MOST: usize = 64;

/// Lines that have begun.
#[derive(Debug, Default)]
pub(super) struct Parts(Vec<Part>);

#[derive(Debug)]
struct Part {
    by: Vec<ProcessKey>,
    bytes: Vec<u8>,
    since: BootTime,
    /// It is too long, and what has been told of it is all that is.
    is_passed_over: bool,
}

impl Parts {
    /// Adds what these have written, one of them or all. Tells the lines that it ends, and whether they are cut.
    pub(super) fn add(
        &mut self,
        by: &[ProcessKey],
        bytes: &[u8],
        now: BootTime,
        mut tell: impl FnMut(&[ProcessKey], String, bool),
    ) {
        let place = self.0.iter().position(|part| part.by == by);
        let mut part = match place {
            Some(place) => self.0.swap_remove(place),
            None => Part { by: by.to_vec(), bytes: Vec::new(), since: now, is_passed_over: false },
        };
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let (text, has_ended) = match piece.strip_suffix(b"\n") {
                Some(text) => (text, true),
                None => (piece, false),
            };
            if part.bytes.is_empty() {
                part.since = now;
            }
            let room = LONGEST.saturating_sub(part.bytes.len());
            part.bytes.extend_from_slice(text.get(..room.min(text.len())).unwrap_or_default());
            if text.len() > room && !part.is_passed_over {
                tell(&part.by, words(&part.bytes), true);
                part.is_passed_over = true;
            }
            if has_ended {
                if !part.is_passed_over && !part.bytes.is_empty() {
                    tell(&part.by, words(&part.bytes), false);
                }
                part.bytes.clear();
                part.is_passed_over = false;
            }
        }
        if !part.bytes.is_empty() && self.0.len() < MOST {
            self.0.push(part);
        }
    }

    /// Tells what has waited for its end for long enough.
    pub(super) fn rest(&mut self, now: BootTime, mut tell: impl FnMut(&[ProcessKey], String, bool)) {
        for part in &mut self.0 {
            if now.0.saturating_sub(part.since.0) > PATIENCE && !part.is_passed_over {
                tell(&part.by, words(&part.bytes), true);
                // What comes later is a line of its own.
                part.bytes.clear();
            }
        }
        self.0.retain(|part| !part.bytes.is_empty());
    }

    /// Tells what one of them has begun, who has ended.
    pub(super) fn rest_of(&mut self, process: ProcessKey, mut tell: impl FnMut(&[ProcessKey], String)) {
        self.0.retain(|part| {
            let is_its = part.by == [process];
            if is_its && !part.is_passed_over {
                tell(&part.by, words(&part.bytes));
            }
            !is_its
        });
    }

    /// Forgets what has begun: what follows it was not seen.
    pub(super) fn forget(&mut self) {
        self.0.clear();
    }
}

fn words(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    text.trim_end_matches('\r').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(tgid: u32) -> ProcessKey {
        ProcessKey { tgid, start: BootTime(1) }
    }

    fn add(parts: &mut Parts, by: u32, bytes: &[u8]) -> Vec<(u32, String, bool)> {
        let mut told = Vec::new();
        parts.add(&[key(by)], bytes, BootTime(5), |by, text, is_cut| told.push((by[0].tgid, text, is_cut)));
        told
    }

    #[test]
    fn lines_are_put_together_for_each_apart() {
        let mut parts = Parts::default();
        assert_eq!(add(&mut parts, 7, b"one\nt"), [(7, "one".to_owned(), false)]);
        assert_eq!(add(&mut parts, 8, b"eight\n\n"), [(8, "eight".to_owned(), false)]);
        assert_eq!(add(&mut parts, 7, b"wo\r\n"), [(7, "two".to_owned(), false)]);
        assert!(parts.0.is_empty());
    }

    #[test]
    fn a_long_line_is_cut_and_told_once() {
        let mut parts = Parts::default();
        let long = "x".repeat(LONGEST + 10);
        let told = add(&mut parts, 7, long.as_bytes());
        assert_eq!(told, [(7, "x".repeat(LONGEST), true)]);
        assert_eq!(add(&mut parts, 7, long.as_bytes()), []);
        assert_eq!(add(&mut parts, 7, b"\nnext\n"), [(7, "next".to_owned(), false)]);
    }

    #[test]
    fn a_line_without_an_end_is_told_after_a_while_or_when_its_writer_ends() {
        let mut parts = Parts::default();
        add(&mut parts, 7, b"seven? ");
        add(&mut parts, 8, b"eight? ");
        let mut told = Vec::new();
        parts.rest(BootTime(6), |_, text, _| told.push(text));
        parts.rest_of(key(8), |_, text| told.push(text));
        parts.rest(BootTime(6 + PATIENCE), |_, text, _| told.push(text));
        assert_eq!(told, ["eight? ", "seven? "]);
    }
}
