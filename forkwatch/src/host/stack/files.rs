//! An object's files, for what is not in memory.

use std::{
    ffi::OsStr,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use object::{
    NativeEndian,
    elf::{FileHeader64, SectionHeader64},
    pod,
};

use super::elf::Object;
use crate::host::bytes::Bytes;

/// Sections of one file that are looked at.
const MAX_SECTIONS: usize = 4096;
/// What two files that begin alike are compared by: the headers and, nearly always, the build id.
const PAGE: usize = 4096;
/// The longest name of a section that is looked for, and more.
const MAX_NAME: usize = 32;

const ENDIAN: NativeEndian = NativeEndian;

type Section = SectionHeader64<NativeEndian>;

/// The object's own file, then its debug file, as far as they can be opened and are what they should be.
pub(super) fn of(tgid: u32, memory: &Bytes, object: &Object) -> impl Iterator<Item = Bytes> {
    let head = &object.head;
    let root = PathBuf::from(format!("/proc/{tgid}/root"));
    let relative = |path: &[u8]| {
        let path = Path::new(OsStr::from_bytes(path));
        path.strip_prefix("/").ok().map(Path::to_owned)
    };
    // Through the process's own root; as this process sees it, which helps where that one has changed its root; by
    // the mapping itself, which wants CAP_CHECKPOINT_RESTORE; and the program's own, even if it was deleted.
    let own = relative(&head.path).map(|path| root.join(path));
    let here = relative(&head.path).map(|path| Path::new("/").join(path));
    let mapped = PathBuf::from(format!("/proc/{tgid}/map_files/{:x}-{:x}", head.start, head.end));
    let program = PathBuf::from(format!("/proc/{tgid}/exe"));
    let beginning =
        memory.take_up_to(head.start, PAGE.min(usize::try_from(head.end - head.start).unwrap_or(PAGE)));
    let is_same = move |file: &Bytes| !beginning.is_empty() && file.take_up_to(0, PAGE) == beginning;
    let objects = [own, here, Some(mapped), Some(program)].into_iter().flatten();
    let objects = objects.filter_map(|path| Bytes::of_file(&path).ok()).filter(is_same);

    let debug = object.build_id(memory).and_then(|id| debug_file(&id));
    let debug = debug.into_iter().flat_map(move |path| [root.join(&path), Path::new("/").join(&path)]);
    objects.chain(debug.filter_map(|path| Bytes::of_file(&path).ok()))
}

/// `usr/lib/debug/.build-id/ab/cdef….debug`, where distributions put what they have stripped (gdb, "Separate Debug
/// Files").
fn debug_file(id: &[u8]) -> Option<PathBuf> {
    let hex: String = id
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .filter_map(|digit| char::from_digit(digit.into(), 16))
        .collect();
    let (directory, file) = hex.split_at_checked(2)?;
    Some(format!("usr/lib/debug/.build-id/{directory}/{file}.debug").into())
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
