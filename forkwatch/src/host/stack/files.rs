//! An object's files, for what is not in memory.

use std::path::PathBuf;

use object::{
    NativeEndian,
    elf::{FileHeader64, SHT_NOTE, SectionHeader64},
    pod,
};

use super::elf::{MAX_NOTES, Object, find_build_id};
use crate::host::{bytes::Bytes, target_file::Files};

/// Sections of one file that are looked at.
const MAX_SECTIONS: usize = 4096;
/// What two files that begin alike are compared by: the headers and, nearly always, the build id.
const PAGE: usize = 4096;
/// The longest name of a section that is looked for, and more.
const MAX_NAME: usize = 32;

const ENDIAN: NativeEndian = NativeEndian;

type Section = SectionHeader64<NativeEndian>;

/// The object's own file, then its debug file, as far as they can be opened and are what they should be.
pub(super) fn of(files: &Files, memory: &Bytes, object: &Object) -> impl Iterator<Item = Bytes> {
    let own = || {
        let head = &object.head;
        let size = usize::try_from(head.end.saturating_sub(head.start)).unwrap_or(PAGE).min(PAGE);
        let beginning = memory.take_up_to(head.start, size);
        let id = object.build_id(memory);
        let is_same = |file: &Bytes| {
            let same_build = || id.is_none() || build_id(file).is_none_or(|other| Some(other) == id);
            !beginning.is_empty() && file.take_up_to(0, size) == beginning && same_build()
        };
        files.mapped(head, is_same)
    };
    let debug = || {
        let id = object.build_id(memory)?;
        files.known(&debug_file(&id)?, |file| build_id(file).as_ref() == Some(&id))
    };
    std::iter::once_with(own).chain(std::iter::once_with(debug)).flatten()
}

/// The id of the build that a file, or what was stripped from it, is of.
fn build_id(file: &Bytes) -> Option<Vec<u8>> {
    sections(file)?.iter().filter(|section| section.sh_type.get(ENDIAN) == SHT_NOTE).find_map(|section| {
        let size = usize::try_from(section.sh_size.get(ENDIAN)).ok()?.min(MAX_NOTES);
        find_build_id(&file.take_up_to(section.sh_offset.get(ENDIAN), size))
    })
}

/// `/usr/lib/debug/.build-id/ab/cdef….debug`, where distributions put what they have stripped (gdb, "Separate Debug
/// Files").
fn debug_file(id: &[u8]) -> Option<PathBuf> {
    let hex: String = id
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .filter_map(|digit| char::from_digit(digit.into(), 16))
        .collect();
    let (directory, file) = hex.split_at_checked(2)?;
    Some(format!("/usr/lib/debug/.build-id/{directory}/{file}.debug").into())
}

/// The headers of a file's sections.
pub(super) fn sections(file: &Bytes) -> Option<Vec<Section>> {
    let header: FileHeader64<NativeEndian> = file.get(0)?;
    let count = usize::from(header.e_shnum.get(ENDIAN)).min(MAX_SECTIONS);
    let bytes = file.take(header.e_shoff.get(ENDIAN), count.checked_mul(size_of::<Section>())?)?;
    pod::slice_from_all_bytes(&bytes).ok().map(<[Section]>::to_vec)
}

/// The address within the object, and the size, of the section of that name.
pub(super) fn section(file: &Bytes, name: &[u8]) -> Option<(u64, u64)> {
    let header: FileHeader64<NativeEndian> = file.get(0)?;
    let sections = sections(file)?;
    let names = sections.get(usize::from(header.e_shstrndx.get(ENDIAN)))?.sh_offset.get(ENDIAN);
    let name_at = |section: &Section| names.wrapping_add(u64::from(section.sh_name.get(ENDIAN)));
    let found = sections.iter().find(|section| file.text(name_at(section), MAX_NAME) == name)?;
    Some((found.sh_addr.get(ENDIAN), found.sh_size.get(ENDIAN)))
}
