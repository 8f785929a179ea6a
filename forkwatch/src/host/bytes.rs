//! Bytes at positions: of another process's memory, of a file, or of a test. Never mapped: whoever owns a file may cut it
//! short, and that would end forkwatch with SIGBUS.
//!
//! All that takes structures apart reads through [`Bytes`], and so needs no process to be tried on anything. Each read
//! spends from the question's budget.

use std::{fs::File, io, os::unix::fs::FileExt};

use object::pod::{self, Pod};

use super::budget;

/// The most that one call takes.
const MAX_TAKEN: usize = 1024 * 1024;

/// Where bytes come from.
pub(super) trait Source {
    /// Fills the beginning of `bytes` with what is at that position, and says how much; 0 where nothing is.
    fn read_at(&self, bytes: &mut [u8], position: u64) -> io::Result<usize>;
}

impl Source for File {
    fn read_at(&self, bytes: &mut [u8], position: u64) -> io::Result<usize> {
        FileExt::read_at(self, bytes, position)
    }
}

/// Memory by its addresses, or a file by its offsets.
pub(super) struct Bytes(Box<dyn Source>);

impl Bytes {
    /// Those of a source.
    pub(super) fn of(source: impl Source + 'static) -> Self {
        Self(Box::new(source))
    }

    /// Exactly that many bytes.
    pub(super) fn array<const N: usize>(&self, position: u64) -> Option<[u8; N]> {
        let mut bytes = [0; N];
        (self.fill(&mut bytes, position) == N).then_some(bytes)
    }

    /// Exactly so many bytes.
    pub(super) fn take(&self, position: u64, length: usize) -> Option<Vec<u8>> {
        if length > MAX_TAKEN {
            return None;
        }
        let mut bytes = vec![0; length];
        (self.fill(&mut bytes, position) == length).then_some(bytes)
    }

    /// Up to so many bytes: fewer where no more can be read.
    pub(super) fn take_up_to(&self, position: u64, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length.min(MAX_TAKEN)];
        let filled = self.fill(&mut bytes, position);
        bytes.truncate(filled);
        bytes
    }

    /// How many of these bytes could be read.
    fn fill(&self, bytes: &mut [u8], position: u64) -> usize {
        let mut filled = 0;
        while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            let Some(next) = position.checked_add(filled as u64) else { break };
            if budget::read(rest.len()).is_err() {
                break;
            }
            match self.0.read_at(rest, next) {
                Ok(count @ 1..) => filled += count,
                _ => break,
            }
        }
        filled
    }

    /// A number or structure in the machine's own byte order.
    pub(super) fn get<T: Pod>(&self, position: u64) -> Option<T> {
        let bytes = self.take(position, size_of::<T>())?;
        pod::from_bytes(&bytes).ok().map(|(value, _)| *value)
    }

    /// Eight bytes as a number.
    pub(super) fn word(&self, position: u64) -> Option<u64> {
        self.array(position).map(u64::from_ne_bytes)
    }

    /// Four bytes as a number.
    pub(super) fn half(&self, position: u64) -> Option<u32> {
        self.array(position).map(u32::from_ne_bytes)
    }

    /// A text that a NUL ends, at most `limit` bytes of it.
    pub(super) fn text(&self, position: u64, limit: usize) -> Vec<u8> {
        let mut text = self.take_up_to(position, limit);
        if let Some(end) = text.iter().position(|byte| *byte == 0) {
            text.truncate(end);
        }
        text
    }
}

/// Bytes that are at hand, from a position on.
#[cfg(any(test, fuzzing))]
pub(super) struct Slice {
    /// The position of the first of them.
    pub(super) start: u64,
    /// The bytes from there on.
    pub(super) bytes: Vec<u8>,
}

#[cfg(any(test, fuzzing))]
impl Source for Slice {
    fn read_at(&self, bytes: &mut [u8], position: u64) -> io::Result<usize> {
        let from = position.checked_sub(self.start).and_then(|from| usize::try_from(from).ok());
        let rest = from.and_then(|from| self.bytes.get(from..)).unwrap_or_default();
        let count = rest.len().min(bytes.len());
        if let (Some(place), Some(rest)) = (bytes.get_mut(..count), rest.get(..count)) {
            place.copy_from_slice(rest);
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn slice() -> Bytes {
        Bytes::of(Slice { start: 100, bytes: b"abcdefgh\0ij".to_vec() })
    }

    #[test]
    fn what_is_not_all_there_is_not_taken() {
        let bytes = slice();
        assert_eq!(bytes.take(100, 3).as_deref(), Some(&b"abc"[..]));
        assert_eq!(bytes.take(109, 3), None);
        assert_eq!(bytes.take_up_to(109, 3), b"ij");
        assert_eq!(bytes.word(100), Some(u64::from_ne_bytes(*b"abcdefgh")));
        assert_eq!((bytes.word(99), bytes.half(u64::MAX)), (None, None));
        assert_eq!(bytes.text(102, 100), b"cdefgh");
        assert_eq!(bytes.text(102, 2), b"cd");
    }

    #[test]
    fn reads_end_with_the_budget() {
        let limits = budget::Limits { bytes: 8, steps: 10, time: Duration::from_secs(3600) };
        budget::question(limits, || {
            assert!(slice().word(100).is_some());
            assert_eq!(slice().half(100), None);
            assert_eq!(slice().take_up_to(100, 2), b"");
        });
    }
}
