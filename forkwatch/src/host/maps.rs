//! What lies where in a process: `/proc/PID/maps` (`show_map_vma`, `fs/proc/task_mmu.c`).

use std::io;

use super::{attention::attend_to, budget, file};

/// The kernel's own default bound of mappings is 65530 (`vm.max_map_count`), of about 100 bytes each. Those above this
/// are unknown.
const MAX_TEXT: u64 = 8 * 1024 * 1024;
/// As long as a read takes, so many lines take to be understood.
const MAPPINGS_A_STEP: u64 = 4;
/// An object's segments follow each other; what is further away belongs to another copy of it.
const MAX_SEGMENTS: usize = 16;

/// The mappings of a process at one moment, by ascending address.
pub(super) struct Maps(Vec<Mapping>);

/// A line of `/proc/PID/maps`.
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own, as the kernel tells it")]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Mapping {
    /// The address of its first byte.
    pub(super) start: u64,
    /// The address after its last.
    pub(super) end: u64,
    /// Whether its process may read it.
    pub(super) readable: bool,
    /// Whether its process may write to it.
    pub(super) writable: bool,
    /// Whether code in it can run.
    pub(super) executable: bool,
    /// Whether other processes share it.
    pub(super) shared: bool,
    /// Where in its file it begins.
    pub(super) offset: u64,
    /// The file: its device, major and minor, and its inode.
    pub(super) file: (u64, u64, u64),
    /// The file's path as the process sees it; `[heap]`, `[vdso]` and the like; empty for anonymous memory.
    pub(super) path: Vec<u8>,
}

impl Maps {
    /// Reads those of a process.
    pub(super) fn of_process(tgid: u32) -> io::Result<Self> {
        attend_to(tgid);
        let maps = Self::parse(&file::read(format!("/proc/{tgid}/maps"), MAX_TEXT)?);
        budget::steps(maps.0.len() as u64 / MAPPINGS_A_STEP)?;
        Ok(maps)
    }

    /// These, by ascending address.
    #[cfg(any(test, fuzzing))]
    pub(super) const fn made_up(mappings: Vec<Mapping>) -> Self {
        Self(mappings)
    }

    /// The last line may be cut, and is left out then.
    pub(super) fn parse(text: &[u8]) -> Self {
        let lines = text.split_inclusive(|byte| *byte == b'\n').filter_map(|line| line.strip_suffix(b"\n"));
        let mut mappings: Vec<_> = lines.filter_map(Mapping::parse).collect();
        mappings.sort_unstable_by_key(|mapping| mapping.start);
        Self(mappings)
    }

    /// The mapping that an address lies in.
    pub(super) fn find(&self, address: u64) -> Option<&Mapping> {
        self.upto(address).last().filter(|mapping| mapping.contains(address))
    }

    /// Whether the mapping before one without a name is a file's, so that the object in that file may have its zeroed
    /// data there.
    pub(super) fn follows_file(&self, mapping: &Mapping) -> bool {
        let before = self.0.iter().find(|before| before.end == mapping.start);
        mapping.path.is_empty() && before.is_some_and(Mapping::is_file)
    }

    /// Whether nothing can be read right before a mapping, as before the stack of a thread.
    pub(super) fn follows_guard(&self, mapping: &Mapping) -> bool {
        let before = self.upto(mapping.start).iter().rev().nth(1);
        before.is_some_and(|before| before.end == mapping.start && !before.readable)
    }

    /// Whether a file of that name is mapped, whatever follows the name: `libpython` for `libpython3.11.so.1.0`.
    pub(super) fn has_file(&self, name: &str) -> bool {
        self.files().any(|path| {
            path.rsplit(|byte| *byte == b'/').next().is_some_and(|file| file.starts_with(name.as_bytes()))
        })
    }

    /// All mappings, by ascending address.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Mapping> {
        self.0.iter()
    }

    /// The paths of all files that are mapped, one of several segments more than once.
    pub(super) fn files(&self) -> impl Iterator<Item = &[u8]> {
        self.0.iter().filter(|mapping| mapping.is_file()).map(|mapping| mapping.path.as_slice())
    }

    /// The mapping of an object's first page, where its ELF header is, by any of the object's others.
    pub(super) fn head_of(&self, mapping: &Mapping) -> Option<&Mapping> {
        self.upto(mapping.start)
            .iter()
            .rev()
            .take(MAX_SEGMENTS)
            .find(|head| head.offset == 0 && head.file == mapping.file && head.path == mapping.path)
    }

    /// The first pages that come before an address, from the nearest on. Zeroed data of an object lies in a mapping
    /// without a name after those of its file.
    pub(super) fn heads_before(&self, address: u64) -> impl Iterator<Item = &Mapping> {
        let is_head = |mapping: &&Mapping| mapping.offset == 0 && mapping.is_file();
        self.upto(address).iter().rev().take(MAX_SEGMENTS).filter(is_head)
    }

    /// The files that code is mapped from, each once and by its first page.
    pub(super) fn objects(&self) -> impl Iterator<Item = &Mapping> {
        self.0
            .iter()
            .filter(|mapping| mapping.executable && mapping.is_file())
            .filter_map(|mapping| self.head_of(mapping))
    }

    fn upto(&self, address: u64) -> &[Mapping] {
        let count = self.0.partition_point(|mapping| mapping.start <= address);
        self.0.get(..count).unwrap_or_default()
    }
}

impl Mapping {
    /// `7f1c2000-7f1c4000 r-xp 00002000 fe:00 1234     /usr/lib/libc.so.6`. A path may hold blanks, and is padded with
    /// them on its left; a newline in it appears as `\012`.
    fn parse(line: &[u8]) -> Option<Self> {
        let mut fields = line.splitn(6, |byte| *byte == b' ');
        let mut next = || fields.next().and_then(|field| std::str::from_utf8(field).ok());
        let hexadecimal = |field| u64::from_str_radix(field, 16).ok();
        let (start, end) = next()?.split_once('-')?;
        let [readable, writable, executable, sharing] = next()?.as_bytes().first_chunk()?;
        let offset = hexadecimal(next()?)?;
        let (major, minor) = next()?.split_once(':')?;
        let inode = next()?.parse().ok()?;
        Some(Self {
            start: hexadecimal(start)?,
            end: hexadecimal(end)?,
            readable: *readable == b'r',
            writable: *writable == b'w',
            executable: *executable == b'x',
            shared: *sharing == b's',
            offset,
            file: (hexadecimal(major)?, hexadecimal(minor)?, inode),
            path: fields.next().unwrap_or_default().trim_ascii_start().to_vec(),
        })
    }

    /// Whether an address lies in it.
    pub(super) fn contains(&self, address: u64) -> bool {
        (self.start..self.end).contains(&address)
    }

    /// Whether it has a file behind it.
    pub(super) fn is_file(&self) -> bool {
        self.path.starts_with(b"/")
    }

    /// Whether this is what `other` is in another process of one image. Anonymous memory may have grown into the free
    /// space beside it since: then one of its ends has stayed.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        let same_offset = !self.is_file() || self.offset == other.offset;
        (&self.path, self.shared) == (&other.path, other.shared)
            && same_offset
            && (self.start == other.start || self.end == other.end)
    }
}

#[cfg(test)]
mod tests {
    use std::ops::Range;

    use proptest::prelude::*;

    use super::*;

    const TEXT: &[u8] = b"55d0c0000000-55d0c0002000 r--p 00000000 08:01 1234                       /usr/bin/a b (deleted)\n\
        55d0c0002000-55d0c0003000 r-xp 00002000 08:01 1234                       /usr/bin/a b (deleted)\n\
        55d0c0003000-55d0c0004000 rw-p 00000000 00:00 0 \n\
        55d0c0400000-55d0c0421000 rw-p 00000000 00:00 0                          [heap]\n\
        7f1000000000-7f1000001000 rw-s 00000000 00:01 5                          /dev/zero (deleted)\n\
        7f2000000000-7f2000001000 ---p 00000000 08:01 99                         /opt/lib/libpython3.8.so.1.0\n\
        7f2800000000-7f2800001000 r-xp 00000000 00:00 0                          [vdso]\n\
        7f3000000000-7f3000001000 r-xp 00000000 08:01 7  /a/path/that/is/cu";

    #[test]
    fn the_mapping_of_an_address_is_found() {
        let maps = Maps::parse(TEXT);
        let code = maps.find(0x55d0_c000_2fff).unwrap();
        assert_eq!((code.path.as_slice(), code.offset), (&b"/usr/bin/a b (deleted)"[..], 0x2000));
        assert!(code.readable && code.executable && !code.shared && code.is_file());
        assert_eq!(maps.find(0x55d0_c040_0000).unwrap().path, b"[heap]");
        let anonymous = maps.find(0x55d0_c000_3008).unwrap();
        assert!(anonymous.path.is_empty() && anonymous.readable && !anonymous.is_file());
        assert_eq!(maps.find(0x55d0_c000_4000), None);
        assert_eq!(maps.find(0xfff), None);
        assert!(maps.find(0x7f10_0000_0000).unwrap().shared);
        assert!(!maps.find(0x7f20_0000_0000).unwrap().readable);
        assert_eq!(maps.find(0x7f28_0000_0000).unwrap().path, b"[vdso]");
        assert_eq!(maps.find(0x7f30_0000_0000), None, "its line is cut");
    }

    #[test]
    fn an_address_leads_to_its_object() {
        let maps = Maps::parse(TEXT);
        let code = maps.find(0x55d0_c000_2fff).unwrap();
        assert_eq!(maps.head_of(code).unwrap().start, 0x55d0_c000_0000);
        assert_eq!(maps.heads_before(0x55d0_c000_3500).next().unwrap().start, 0x55d0_c000_0000);
        assert_eq!(maps.objects().count(), 1);
    }

    #[test]
    fn this_code_lies_in_this_program() {
        let maps = Maps::of_process(std::process::id()).unwrap();
        let here = maps.find(this_code_lies_in_this_program as *const () as u64).unwrap();
        assert!(here.executable && here.is_file());
    }

    #[test]
    fn a_library_is_known_by_the_beginning_of_its_name() {
        let maps = Maps::parse(TEXT);
        assert!(maps.has_file("libpython"));
        assert!(!maps.has_file("python3.8"));
        assert!(!maps.has_file("[heap]"));
    }

    #[test]
    fn memory_that_grew_on_one_side_is_the_same_memory() {
        let memory = |addresses: Range<u64>, path: &[u8], offset| Mapping {
            start: addresses.start,
            end: addresses.end,
            offset,
            path: path.to_owned(),
            ..Mapping::default()
        };
        let arena = memory(0x1000..0x3000, b"", 0);
        assert!(arena.is_same(&memory(0x0..0x3000, b"", 0x9000)));
        assert!(arena.is_same(&memory(0x1000..0x9000, b"", 0)));
        assert!(!arena.is_same(&memory(0x0..0x9000, b"", 0)));
        assert!(!arena.is_same(&memory(0x1000..0x3000, b"/memfd:x", 0)));
        let file = memory(0x1000..0x3000, b"/usr/bin/a", 0x1000);
        assert!(!file.is_same(&memory(0x1000..0x3000, b"/usr/bin/a", 0x2000)));
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in proptest::collection::vec(any::<u8>(), 0..300), address: u64) {
            let maps = Maps::parse(&text);
            maps.find(address).and_then(|mapping| maps.head_of(mapping));
            let _ = (maps.has_file("libpython"), maps.heads_before(address).count());
        }
    }
}
