//! How much memory a process takes, and how much of it is its own: `/proc/PID/smaps_rollup` (`proc_pid_smaps(5)`), for
//! which the kernel walks through all of it.

use std::io;

use super::file;
use crate::model::server::Memory;

/// That of a process.
pub(super) fn memory(tgid: u32) -> io::Result<Memory> {
    let path = format!("/proc/{tgid}/smaps_rollup");
    parse(&file::read_small(&path)?).ok_or_else(|| file::unknown_layout(&path))
}

fn parse(text: &[u8]) -> Option<Memory> {
    let bytes = |key| {
        let kibibytes: u64 = file::field(text, key)?.strip_suffix(" kB")?.trim().parse().ok()?;
        kibibytes.checked_mul(1024)
    };
    Some(Memory {
        resident: bytes("Rss:")?,
        shared: bytes("Shared_Clean:")?.checked_add(bytes("Shared_Dirty:")?)?,
        copied: bytes("Private_Dirty:")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_read_from_their_fields() {
        let text =
            b"55d0-7ffe ---p 00000000 00:00 0    [rollup]\nRss:   100 kB\nPss: 40 kB\nShared_Clean: 20 kB\n\
                     Shared_Dirty:   30 kB\nPrivate_Clean: 5 kB\nPrivate_Dirty:   45 kB\n";
        let Memory { resident, shared, copied } = parse(text).unwrap();
        assert_eq!((resident, shared, copied), (102_400, 51_200, 46_080));
        assert_eq!(parse(b"Rss: 100 kB\n"), None);
    }
}
