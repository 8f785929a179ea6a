//! The mappings of a process: `/proc/PID/maps` (`show_map_vma`, `fs/proc/task_mmu.c`).

use std::{io, ops::Range};

use super::file;

/// Some forty thousand mappings; those above them are unknown.
const MAX_MAPS: u64 = 4 * 1024 * 1024;

/// The mappings of a process at one moment.
pub(super) struct Maps(Vec<u8>);

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Region {
    /// Its addresses.
    pub(super) range: Range<u64>,
    /// Whether its process may read it.
    pub(super) readable: bool,
    /// Whether other processes share it.
    pub(super) shared: bool,
    /// Where in its file it begins.
    pub(super) offset: u64,
    /// A file's path, `[heap]`, `[stack]`; empty for anonymous memory.
    pub(super) name: String,
}

impl Maps {
    /// Reads those of a process.
    pub(super) fn of_process(tgid: u32) -> io::Result<Self> {
        file::read(format!("/proc/{tgid}/maps"), MAX_MAPS).map(Self)
    }

    /// The mapping that an address lies in.
    pub(super) fn find(&self, address: u64) -> Option<Region> {
        self.lines()
            .find(|line| Region::range(line).is_some_and(|range| range.contains(&address)))
            .and_then(Region::parse)
    }

    /// Whether the mapping before one without a name is a file's, so that the object in that file may have its zeroed
    /// data there.
    pub(super) fn follows_file(&self, region: &Region) -> bool {
        let before = self
            .lines()
            .find(|line| Region::range(line).is_some_and(|range| range.end == region.range.start));
        region.name.is_empty() && before.and_then(Region::parse).is_some_and(|before| before.is_file())
    }

    /// Whether a file of that name is mapped, whatever follows the name: `libpython` for `libpython3.11.so.1.0`.
    pub(super) fn has_file(&self, name: &str) -> bool {
        self.lines().any(|line| {
            let file = line.rsplit(|byte| *byte == b'/').next();
            line.contains(&b'/') && file.is_some_and(|file| file.starts_with(name.as_bytes()))
        })
    }

    /// The last line may be cut, and is left out then.
    fn lines(&self) -> impl Iterator<Item = &[u8]> {
        self.0.split_inclusive(|byte| *byte == b'\n').filter_map(|line| line.strip_suffix(b"\n"))
    }
}

impl Region {
    fn range(line: &[u8]) -> Option<Range<u64>> {
        let addresses = line.split(|byte| *byte == b' ').next()?;
        let (start, end) = std::str::from_utf8(addresses).ok()?.split_once('-')?;
        Some(u64::from_str_radix(start, 16).ok()?..u64::from_str_radix(end, 16).ok()?)
    }

    /// A name may hold blanks, and is padded with them on its left. The kernel writes a newline in it as `\012`.
    fn parse(line: &[u8]) -> Option<Self> {
        let range = Self::range(line)?;
        let text = String::from_utf8_lossy(line);
        // Addresses, permissions, offset, device, inode.
        let mut fields = text.splitn(6, ' ');
        let permissions = fields.nth(1)?;
        let offset = u64::from_str_radix(fields.next()?, 16).ok()?;
        let name = fields.nth(2).unwrap_or_default().trim_start_matches(' ').to_owned();
        let (readable, shared) = (permissions.starts_with('r'), permissions.ends_with('s'));
        Some(Self { range, readable, shared, offset, name })
    }

    /// Whether it has a file behind it.
    pub(super) fn is_file(&self) -> bool {
        self.name.starts_with('/')
    }

    /// Whether this is what `other` is in another process of one image. Anonymous memory may have grown into the free
    /// space beside it since: then one of its ends has stayed.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        let mine =
            |region: &Self| (region.name.clone(), region.shared, region.is_file().then_some(region.offset));
        mine(self) == mine(other)
            && (self.range.start == other.range.start || self.range.end == other.range.end)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TEXT: &[u8] = b"55d0c0000000-55d0c0002000 r--p 00001000 08:01 1234                       /usr/bin/a b\n\
        55d0c0400000-55d0c0421000 rw-p 00000000 00:00 0                          [heap]\n\
        7f0000000000-7f0000021000 rw-p 00000000 00:00 0 \n\
        7f1000000000-7f1000001000 rw-s 00000000 00:01 5                          /dev/zero (deleted)\n\
        7f2000000000-7f2000001000 ---p 00000000 08:01 99                         /opt/lib/libpython3.8.so.1.0\n\
        7f3000000000-7f30";

    #[test]
    fn the_mapping_of_an_address_is_found() {
        let maps = Maps(TEXT.to_vec());
        let program = maps.find(0x55d0_c000_1fff).unwrap();
        assert_eq!((program.name.as_str(), program.offset, program.shared), ("/usr/bin/a b", 0x1000, false));
        assert_eq!(maps.find(0x55d0_c000_2000), None);
        assert_eq!(maps.find(0x55d0_c040_0000).unwrap().name, "[heap]");
        let anonymous = maps.find(0x7f00_0000_0008).unwrap();
        assert!(anonymous.name.is_empty() && anonymous.readable && !anonymous.is_file());
        assert!(maps.find(0x7f10_0000_0000).unwrap().shared);
        assert!(!maps.find(0x7f20_0000_0000).unwrap().readable);
        assert_eq!(maps.find(0x7f30_0000_0000), None);
    }

    #[test]
    fn a_library_is_known_by_the_beginning_of_its_name() {
        let maps = Maps(TEXT.to_vec());
        assert!(maps.has_file("libpython"));
        assert!(!maps.has_file("python3.8"));
        assert!(!maps.has_file("[heap]"));
    }

    #[test]
    fn memory_that_grew_on_one_side_is_the_same_memory() {
        let region = |range: Range<u64>, name: &str, offset| Region {
            range,
            readable: true,
            shared: false,
            offset,
            name: name.to_owned(),
        };
        let arena = region(0x1000..0x3000, "", 0);
        assert!(arena.is_same(&region(0x0..0x3000, "", 0x9000)));
        assert!(arena.is_same(&region(0x1000..0x9000, "", 0)));
        assert!(!arena.is_same(&region(0x0..0x9000, "", 0)));
        assert!(!arena.is_same(&region(0x1000..0x3000, "/memfd:x", 0)));
        let file = region(0x1000..0x3000, "/usr/bin/a", 0x1000);
        assert!(!file.is_same(&region(0x1000..0x3000, "/usr/bin/a", 0x2000)));
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in proptest::collection::vec(any::<u8>(), 0..300), address: u64) {
            let maps = Maps(text);
            let _ = (maps.find(address), maps.has_file("libpython"));
        }
    }
}
