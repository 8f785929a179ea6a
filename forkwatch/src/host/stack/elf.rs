//! An object as the loader has laid it out in a process: what unwinding and naming need is all in memory, so that it
//! does not matter whether its file is in another mount namespace, unreadable, replaced or deleted.

use object::{
    NativeEndian,
    elf::{
        Dyn64, ELFCLASS64, ELFMAG, FileHeader64, NT_GNU_BUILD_ID, NoteHeader64, PT_DYNAMIC, PT_GNU_EH_FRAME,
        PT_LOAD, PT_NOTE, ProgramHeader64,
    },
    pod,
};

use crate::{
    host::{bytes::Bytes, maps::Mapping},
    model::process,
};

/// Program headers of one object that are looked at.
const MAX_HEADERS: usize = 64;
/// Entries of a dynamic section that are looked at.
const MAX_DYNAMIC: usize = 128;

/// Bytes of notes that are looked at.
pub(super) const MAX_NOTES: usize = 4096;

const ENDIAN: NativeEndian = NativeEndian;

type Header = FileHeader64<NativeEndian>;
type Segment = ProgramHeader64<NativeEndian>;

/// One object in the memory of a process.
pub(super) struct Object {
    /// The mapping of its first page.
    pub(super) head: Mapping,
    /// What is added to an address in the file to have the one in memory.
    pub(super) bias: u64,
    /// Where `.eh_frame_hdr` is in memory; absent where there is none.
    pub(super) unwind_table: Option<u64>,
    segments: Vec<Segment>,
}

impl Object {
    /// Reads the headers; says what is wrong where they are not those of a 64-bit object.
    pub(super) fn read(memory: &Bytes, head: &Mapping) -> Result<Self, String> {
        let unreadable = || format!("the ELF header of {} cannot be read", name(head));
        let header: Header = memory.get(head.start).ok_or_else(unreadable)?;
        if header.e_ident.magic != ELFMAG || header.e_ident.class != ELFCLASS64 {
            return Err(format!("{} is not a 64-bit ELF object", name(head)));
        }
        let count = usize::from(header.e_phnum.get(ENDIAN)).min(MAX_HEADERS);
        let at = head.start.wrapping_add(header.e_phoff.get(ENDIAN));
        let bytes = memory.take(at, count.saturating_mul(size_of::<Segment>())).ok_or_else(unreadable)?;
        let segments = pod::slice_from_all_bytes::<Segment>(&bytes).map_err(|()| unreadable())?.to_vec();
        let first = segments.iter().find(|segment| kind(segment) == PT_LOAD).ok_or_else(unreadable)?;
        // The first segment is mapped from its page on.
        let bias =
            head.start.wrapping_sub(first.p_vaddr.get(ENDIAN).wrapping_sub(first.p_offset.get(ENDIAN)));
        let table = segments.iter().find(|segment| kind(segment) == PT_GNU_EH_FRAME);
        let unwind_table = table.map(|segment| bias.wrapping_add(segment.p_vaddr.get(ENDIAN)));
        Ok(Self { head: head.clone(), bias, unwind_table, segments })
    }

    /// Whether an address in memory is the object's.
    pub(super) fn covers(&self, address: u64) -> bool {
        let inside = address.wrapping_sub(self.bias);
        self.segments.iter().filter(|segment| kind(segment) == PT_LOAD).any(|segment| {
            inside.checked_sub(segment.p_vaddr.get(ENDIAN)).is_some_and(|at| at < segment.p_memsz.get(ENDIAN))
        })
    }

    /// Where in the file an address in memory is.
    pub(super) fn file_offset(&self, address: u64) -> Option<u64> {
        let inside = address.wrapping_sub(self.bias);
        self.segments.iter().filter(|segment| kind(segment) == PT_LOAD).find_map(|segment| {
            let at = inside.checked_sub(segment.p_vaddr.get(ENDIAN))?;
            (at < segment.p_filesz.get(ENDIAN)).then(|| segment.p_offset.get(ENDIAN).wrapping_add(at))
        })
    }

    /// The id that the linker gave to this build of it.
    pub(super) fn build_id(&self, memory: &Bytes) -> Option<Vec<u8>> {
        self.segments.iter().filter(|segment| kind(segment) == PT_NOTE).find_map(|segment| {
            let size = usize::try_from(segment.p_memsz.get(ENDIAN)).ok()?;
            let notes =
                memory.take_up_to(self.bias.wrapping_add(segment.p_vaddr.get(ENDIAN)), size.min(MAX_NOTES));
            find_build_id(&notes)
        })
    }

    /// The values of the dynamic section by their tags.
    pub(super) fn dynamic(&self, memory: &Bytes) -> Vec<(i64, u64)> {
        let Some(segment) = self.segments.iter().find(|segment| kind(segment) == PT_DYNAMIC) else {
            return Vec::new();
        };
        let size = size_of::<Dyn64<NativeEndian>>();
        let size =
            usize::try_from(segment.p_memsz.get(ENDIAN)).unwrap_or(0).min(MAX_DYNAMIC * size) / size * size;
        let bytes =
            memory.take(self.bias.wrapping_add(segment.p_vaddr.get(ENDIAN)), size).unwrap_or_default();
        let entries = pod::slice_from_all_bytes::<Dyn64<NativeEndian>>(&bytes).unwrap_or_default();
        let pair = |entry: &Dyn64<NativeEndian>| (entry.d_tag.get(ENDIAN), entry.d_val.get(ENDIAN));
        entries.iter().map(pair).take_while(|(tag, _)| *tag != 0).collect()
    }
}

/// Notes follow each other: a head, a name and a description, each filled up to four bytes (elf(5)).
pub(super) fn find_build_id(mut notes: &[u8]) -> Option<Vec<u8>> {
    loop {
        let (head, rest) = pod::from_bytes::<NoteHeader64<NativeEndian>>(notes).ok()?;
        let length = |size: u32| usize::try_from(size).ok();
        let name = length(head.n_namesz.get(ENDIAN))?;
        let description = length(head.n_descsz.get(ENDIAN))?;
        let from = name.checked_next_multiple_of(4)?;
        let to = from.checked_add(description)?;
        if head.n_type.get(ENDIAN) == NT_GNU_BUILD_ID && rest.get(..name)? == b"GNU\0" {
            return rest.get(from..to).map(<[u8]>::to_vec);
        }
        notes = rest.get(to.checked_next_multiple_of(4)?..)?;
    }
}

fn kind(segment: &Segment) -> u32 {
    segment.p_type.get(ENDIAN)
}

/// A mapping's name for a sentence.
pub(super) fn name(mapping: &Mapping) -> String {
    process::escape(mapping.path.strip_suffix(b" (deleted)").unwrap_or(&mapping.path))
}
