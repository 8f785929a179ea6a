//! Pids, as they are given out.

use std::io;

use super::file;

/// Whether anything was created since a sweep, as far as that can be told.
pub fn created_since(mark: u64) -> bool {
    last_pid().map_or(true, |last| last != mark)
}

/// The pid that was given out last: while it stays, nothing was created (`proc_loadavg(5)`).
pub(super) fn last_pid() -> io::Result<u64> {
    const PATH: &str = "/proc/loadavg";
    let text = file::read_small(PATH)?;
    let last = std::str::from_utf8(&text).ok().and_then(|text| text.split_ascii_whitespace().next_back());
    last.and_then(|pid| pid.parse().ok()).ok_or_else(|| file::unknown_layout(PATH))
}

/// Whether a process has been started before another that may have ended, or is that one. Pids ascend until they begin
/// anew, and then those above the last are the older ones.
pub(super) fn is_older(tgid: u32, other: u32) -> bool {
    last_pid().is_ok_and(|last| comes_first(tgid, other, last))
}

fn comes_first(tgid: u32, other: u32, last: u64) -> bool {
    match (u64::from(tgid) > last, u64::from(other) > last) {
        (true, false) => true,
        (false, true) => false,
        _ => tgid <= other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pids_that_begin_anew_are_put_in_order() {
        assert!(comes_first(700, 701, 900) && comes_first(700, 700, 900));
        assert!(!comes_first(702, 701, 900));
        // They began anew after 900.
        assert!(comes_first(900, 12, 40) && !comes_first(12, 900, 40));
        assert!(comes_first(899, 900, 40) && comes_first(12, 13, 40));
        assert!(is_older(std::process::id(), std::process::id()));
    }
}
