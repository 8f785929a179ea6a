//! Bounded reads of `/proc`.

use std::{
    fs::{self, File},
    io::{self, Read},
    path::Path,
};

use super::budget;

/// A task's `stat` and `status` are far smaller; what a process can make longer (its command line) has a bound of
/// its own.
const SMALL: u64 = 16 * 1024;

/// No larger file is read whatever the budget is.
const CHEAP: u64 = 64 * 1024;

/// Reads at most `limit` bytes of a file. What may be large is refused once the question's budget is used up; the rest
/// costs next to nothing, and who a process is must be told to the end. Who reads many asks the budget itself.
pub(super) fn read(path: impl AsRef<Path>, limit: u64) -> io::Result<Vec<u8>> {
    let grant = |bytes| if limit > CHEAP { budget::read(bytes) } else { Ok(()) };
    grant(0)?;
    let bytes = read_all(path, limit)?;
    grant(bytes.len())?;
    Ok(bytes)
}

fn read_all(path: impl AsRef<Path>, limit: u64) -> io::Result<Vec<u8>> {
    // Room for most of these files at once: without it the first read asks for 32 bytes, and each costs a call.
    let mut bytes = Vec::with_capacity(2048);
    File::open(path)?.take(limit).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Reads one of the small files of `/proc`.
pub(super) fn read_small(path: impl AsRef<Path>) -> io::Result<Vec<u8>> {
    read(path, SMALL)
}

/// The entries of a directory that are numbers (pids, tids, file descriptors), at most `limit`, in the kernel's
/// order: ascending for pids and descriptors, by age for tids.
pub(super) fn numbers(directory: impl AsRef<Path>, limit: usize) -> io::Result<Vec<u32>> {
    Ok(fs::read_dir(directory)?
        .map_while(Result::ok)
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .take(limit)
        .collect())
}

/// A file that holds something else than every kernel so far has written.
pub(super) fn unknown_layout(path: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{path} has an unknown layout"))
}

/// What follows `key` in the first line that starts with it, without surrounding blanks.
pub(super) fn field<'a>(text: &'a [u8], key: &str) -> Option<&'a str> {
    let line = text.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(key.as_bytes()))?;
    std::str::from_utf8(line).ok().map(str::trim)
}

/// Reads a mask such as `SigBlk:` and `sigmask:` hold.
pub(super) fn mask(text: &[u8], key: &str) -> Option<u64> {
    u64::from_str_radix(field(text, key)?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reading_stops_at_the_limit() {
        assert_eq!(read("/proc/self/status", 5).unwrap(), b"Name:");
        assert!(read("/proc/self/no-such-file", 5).is_err());
    }

    #[test]
    fn only_numbers_are_listed() {
        assert!(numbers("/proc", usize::MAX).unwrap().contains(&std::process::id()));
        assert_eq!(numbers("/proc/self/task", 1).unwrap(), [std::process::id()]);
    }
}
