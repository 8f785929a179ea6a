//! `/proc/PID/maps`: what lies where in a process.

use std::io;

use crate::host::file;

/// The kernel's own default bound of mappings is 65530 (`vm.max_map_count`), of about 100 bytes each.
const MAX_TEXT: u64 = 8 * 1024 * 1024;
/// An object's segments follow each other; what is further away belongs to another copy of it.
const MAX_SEGMENTS: usize = 16;

/// One mapping.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mapping {
    /// Its first address.
    pub(super) start: u64,
    /// The address after its last.
    pub(super) end: u64,
    /// Whether code in it can run.
    pub(super) executable: bool,
    /// Where in the file it begins.
    pub(super) offset: u64,
    /// Device and inode of the file, as the kernel prints them.
    pub(super) file: Vec<u8>,
    /// The file's path as the process sees it, `[vdso]` and the like, or nothing.
    pub(super) path: Vec<u8>,
}

/// All of them, by ascending address.
pub(super) struct Mappings(Vec<Mapping>);

impl Mappings {
    pub(super) fn of_process(tgid: u32) -> io::Result<Self> {
        Ok(Self::parse(&file::read(format!("/proc/{tgid}/maps"), MAX_TEXT)?))
    }

    fn parse(text: &[u8]) -> Self {
        let mut mappings: Vec<_> = text.split(|byte| *byte == b'\n').filter_map(parse_line).collect();
        mappings.sort_unstable_by_key(|mapping| mapping.start);
        Self(mappings)
    }

    /// The mapping that an address lies in.
    pub(super) fn covering(&self, address: u64) -> Option<&Mapping> {
        self.upto(address).last().filter(|mapping| address < mapping.end)
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
        let is_head = |mapping: &&Mapping| mapping.offset == 0 && mapping.path.starts_with(b"/");
        self.upto(address).iter().rev().take(MAX_SEGMENTS).filter(is_head)
    }

    /// The files that code is mapped from, each once and by its first page.
    pub(super) fn objects(&self) -> impl Iterator<Item = &Mapping> {
        self.0
            .iter()
            .filter(|mapping| mapping.executable && mapping.path.starts_with(b"/"))
            .filter_map(|mapping| self.head_of(mapping))
    }

    fn upto(&self, address: u64) -> &[Mapping] {
        let count = self.0.partition_point(|mapping| mapping.start <= address);
        self.0.get(..count).unwrap_or_default()
    }
}

/// `7f1c2000-7f1c4000 r-xp 00002000 fe:00 1234     /usr/lib/libc.so.6` (`show_map_vma`, `fs/proc/task_mmu.c`); a
/// newline in a path appears as `\012`.
fn parse_line(line: &[u8]) -> Option<Mapping> {
    let mut fields = line.splitn(6, |byte| *byte == b' ');
    let mut next = || fields.next().and_then(|field| std::str::from_utf8(field).ok());
    let (start, end) = next()?.split_once('-')?;
    let permissions = next()?;
    let offset = next()?;
    let (device, inode) = (next()?, next()?);
    Some(Mapping {
        start: u64::from_str_radix(start, 16).ok()?,
        end: u64::from_str_radix(end, 16).ok()?,
        executable: permissions.as_bytes().get(2) == Some(&b'x'),
        offset: u64::from_str_radix(offset, 16).ok()?,
        file: format!("{device} {inode}").into_bytes(),
        path: fields.next().unwrap_or_default().trim_ascii_start().to_vec(),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TEXT: &[u8] = b"\
1000-2000 r--p 00000000 fe:00 12                         /opt/a b (deleted)\n\
2000-3000 r-xp 00001000 fe:00 12                         /opt/a b (deleted)\n\
3000-4000 rw-p 00000000 00:00 0 \n\
5000-6000 r-xp 00000000 00:00 0                          [vdso]\n";

    #[test]
    fn an_address_leads_to_its_object() {
        let mappings = Mappings::parse(TEXT);
        let code = mappings.covering(0x2fff).unwrap();
        assert_eq!(
            (code.start, code.executable, code.path.as_slice()),
            (0x2000, true, &b"/opt/a b (deleted)"[..])
        );
        assert_eq!(mappings.head_of(code).unwrap().start, 0x1000);
        assert_eq!(mappings.heads_before(0x3500).next().unwrap().start, 0x1000);
        assert_eq!(mappings.covering(0x4000), None);
        assert_eq!(mappings.covering(0xfff), None);
        assert_eq!(mappings.covering(0x5000).unwrap().path, b"[vdso]");
        assert_eq!(mappings.objects().count(), 1);
    }

    #[test]
    fn this_code_lies_in_this_program() {
        let mappings = Mappings::of_process(std::process::id()).unwrap();
        let here = mappings.covering(this_code_lies_in_this_program as *const () as u64).unwrap();
        assert!(here.executable && here.path.starts_with(b"/"));
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in proptest::collection::vec(any::<u8>(), 0..300), at in any::<u64>()) {
            let mappings = Mappings::parse(&text);
            mappings.covering(at).and_then(|mapping| mappings.head_of(mapping));
        }
    }
}
