//! What the kernel writes of a lock on a file, in `/proc/locks` and in `fdinfo`.

use crate::model::inventory::FileLockKind;

/// A line of `/proc/locks`, or of a lock in `fdinfo` (`lock_get_status`, fs/locks.c):
/// `1: FLOCK  ADVISORY  WRITE 77 fe:00:5678 0 EOF`, with `->` after the number where somebody waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) waits: bool,
    pub(super) kind: FileLockKind,
    /// Who took it, or waits. Absent where the kernel does not tell.
    pub(super) pid: Option<u32>,
    /// Device and inode number, as the kernel writes them.
    pub(super) place: String,
}

impl Line {
    /// The locks that an `fdinfo` tells of: those that belong to this open file, or to this process by it
    /// (`__show_fd_locks`, fs/locks.c).
    pub(super) fn of_fdinfo(text: &[u8]) -> impl Iterator<Item = Self> {
        text.split(|byte| *byte == b'\n')
            .filter_map(|line| line.strip_prefix(b"lock:"))
            .filter_map(Self::parse)
            .filter(|line| !line.waits)
    }

    pub(super) fn parse(line: &[u8]) -> Option<Self> {
        let mut words = std::str::from_utf8(line).ok()?.split_ascii_whitespace().skip(1).peekable();
        let waits = words.next_if_eq(&"->").is_some();
        let kind = match words.next()? {
            "POSIX" => FileLockKind::Posix,
            "FLOCK" => FileLockKind::Flock,
            "OFDLCK" => FileLockKind::OpenFile,
            // Leases and delegations are asked back before anybody is in the way.
            _ => return None,
        };
        let pid: i64 = words.nth(2)?.parse().ok()?;
        let pid = u32::try_from(pid).ok().filter(|pid| *pid != 0);
        Some(Self { waits, kind, pid, place: words.next()?.to_owned() })
    }

    /// Whether the lock belongs to the open file, which a fork leaves to all.
    pub(super) fn is_of_file(&self) -> bool {
        self.kind != FileLockKind::Posix
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lines_of_locks_and_of_waits_are_read() {
        let line = |text: &str| Line::parse(text.as_bytes());
        let of = |waits, kind, pid| Some(Line { waits, kind, pid, place: "fe:00:5678".to_owned() });
        assert_eq!(
            line("1: FLOCK  ADVISORY  WRITE 77 fe:00:5678 0 EOF"),
            of(false, FileLockKind::Flock, Some(77))
        );
        assert_eq!(
            line("1: -> FLOCK  ADVISORY  WRITE 78 fe:00:5678 0 EOF"),
            of(true, FileLockKind::Flock, Some(78))
        );
        assert_eq!(
            line("3:  -> OFDLCK ADVISORY  READ -1 fe:00:5678 0 9"),
            of(true, FileLockKind::OpenFile, None)
        );
        assert_eq!(
            line("4: POSIX  ADVISORY  WRITE 0 fe:00:5678 0 EOF"),
            of(false, FileLockKind::Posix, None)
        );
        assert_eq!(line("5: LEASE  ACTIVE    READ 77 fe:00:80 0 EOF"), None);
        assert_eq!(line("6: FLOCK"), None);
    }

    proptest! {
        #[test]
        fn no_line_makes_it_panic(line in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = Line::parse(&line);
        }
    }
}
