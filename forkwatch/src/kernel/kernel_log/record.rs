//! A record of aya-log, as `aya-log-ebpf` writes it (its `log!` macro, and aya-log-common).
//!
//! aya-log's own reader (`aya_log::EbpfLogger`, 0.3.0) panics at a record that it does not know, and takes numbers for
//! members of an enumeration unchecked. This one knows what the object's lines are made of, and refuses all else.

use aya_log_common::{ArgumentKind, DisplayHint, Level, LogValueLength, RecordFieldKind};
use forkwatch_ebpf::log::{self, Speaker};

/// A line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Whose decision it tells.
    pub speaker: Speaker,
    /// How much it matters.
    pub level: tracing::Level,
    /// What it says.
    pub text: String,
}

/// Reads a record: its length, the six fields of its head, and the parts of its text. Room behind it is of no meaning.
pub(super) fn decode(record: &[u8]) -> Option<Line> {
    let (length, _) = record.split_first_chunk::<{ size_of::<LogValueLength>() }>()?;
    let length = usize::from(LogValueLength::from_ne_bytes(*length));
    let mut rest = record.get(size_of::<LogValueLength>()..length)?;
    let mut field = |kind: RecordFieldKind| take(&mut rest, kind.into());
    let speaker = speaker(field(RecordFieldKind::Target)?)?;
    let level = level(field(RecordFieldKind::Level)?)?;
    // Where in the sources it is said.
    for kind in [RecordFieldKind::Module, RecordFieldKind::File, RecordFieldKind::Line] {
        field(kind)?;
    }
    let parts = u32::from_ne_bytes(field(RecordFieldKind::NumArgs)?.try_into().ok()?);
    let mut text = String::new();
    for _ in 0..parts {
        let (kind, value) = next(&mut rest)?;
        if kind == u8::from(ArgumentKind::Str) {
            text.push_str(str::from_utf8(value).ok()?);
        } else if kind == u8::from(ArgumentKind::U64) {
            text.push_str(&u64::from_ne_bytes(value.try_into().ok()?).to_string());
        } else if kind != u8::from(ArgumentKind::DisplayHint) || value != [u8::from(DisplayHint::Default)] {
            return None;
        }
    }
    rest.is_empty().then_some(Line { speaker, level, text })
}

fn speaker(name: &[u8]) -> Option<Speaker> {
    log::ALL.iter().find(|speaker| speaker.name.as_bytes() == name).copied()
}

fn level(value: &[u8]) -> Option<tracing::Level> {
    let levels = [
        (Level::Error, tracing::Level::ERROR),
        (Level::Warn, tracing::Level::WARN),
        (Level::Info, tracing::Level::INFO),
        (Level::Debug, tracing::Level::DEBUG),
        (Level::Trace, tracing::Level::TRACE),
    ];
    levels.into_iter().find(|(level, _)| [u8::from(*level)] == value).map(|(_, level)| level)
}

/// The value of the next part, if it is of this kind.
fn take<'a>(rest: &mut &'a [u8], wanted: u8) -> Option<&'a [u8]> {
    next(rest).filter(|(kind, _)| *kind == wanted).map(|(_, value)| value)
}

/// The next part: its kind, the length of its value, and the value.
fn next<'a>(rest: &mut &'a [u8]) -> Option<(u8, &'a [u8])> {
    let (kind, behind) = rest.split_first()?;
    let (length, behind) = behind.split_first_chunk::<{ size_of::<LogValueLength>() }>()?;
    let (value, behind) = behind.split_at_checked(usize::from(LogValueLength::from_ne_bytes(*length)))?;
    *rest = behind;
    Some((*kind, value))
}

#[cfg(test)]
pub(super) mod tests {
    use aya_log_common::{Argument as _, Field, Header};

    use super::*;

    /// What `aya-log-ebpf` writes for `debug!((), target: target, "process {}: gone", 7)`.
    pub(in super::super) fn written(target: &str) -> Vec<u8> {
        let mut record = Vec::new();
        let mut write = |bytes: &[u8]| {
            record.extend_from_slice(bytes);
            Some(())
        };
        Header::new(target, Level::Debug, "forkwatch_ebpf::fork", "src/fork.rs", 42, 4)
            .unwrap()
            .with_bytes(&mut write)
            .unwrap();
        let (kind, value) = "process ".as_argument();
        Field::new(kind, value).unwrap().with_bytes(&mut write).unwrap();
        let (kind, value) = DisplayHint::Default.as_argument();
        Field::new(kind, value).unwrap().with_bytes(&mut write).unwrap();
        let (kind, value) = 7_u64.as_argument();
        Field::new(kind, value).unwrap().with_bytes(&mut write).unwrap();
        let (kind, value) = ": gone".as_argument();
        Field::new(kind, value).unwrap().with_bytes(&mut write).unwrap();
        let length = LogValueLength::try_from(record.len() + 2).unwrap();
        let mut whole = length.to_ne_bytes().to_vec();
        whole.extend(record);
        // The ring gives out room by powers of two.
        whole.resize(whole.len().next_power_of_two(), 0);
        whole
    }

    #[test]
    fn what_aya_log_writes_is_read() {
        let line = decode(&written("fork")).unwrap();
        assert_eq!(line.speaker, log::FORK);
        assert_eq!((line.level, line.text.as_str()), (tracing::Level::DEBUG, "process 7: gone"));
    }

    #[test]
    fn what_is_not_whole_is_refused() {
        let record = written("fork");
        let length = usize::from(u16::from_ne_bytes([record[0], record[1]]));
        for cut in 0..length {
            assert_eq!(decode(&record[..cut]), None, "cut at {cut}");
        }
        assert_eq!(decode(&written("somebody")), None);
    }

    #[test]
    fn no_byte_that_is_another_ends_the_reader() {
        let record = written("fork");
        let mut refused = 0;
        for at in 0..record.len() {
            for value in 0..=u8::MAX {
                let mut other = record.clone();
                other[at] = value;
                refused += usize::from(decode(&other).is_none());
            }
        }
        assert!(refused > record.len(), "{refused}");
    }
}
