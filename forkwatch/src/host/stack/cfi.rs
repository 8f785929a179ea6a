//! The rule that an object gives for one address: from `.eh_frame_hdr`, a sorted table, to the entry in `.eh_frame`
//! that it names (Linux Standard Base, "Exception Frames"). Some hundred bytes are read, however large the object.

use gimli::{
    BaseAddresses, CieOrFde, EhFrame, EhFrameOffset, EndianSlice, FrameDescriptionEntry, NativeEndian,
    UnwindContext, UnwindSection, UnwindTableRow,
};

use super::{elf::Object, files};
use crate::host::{budget, bytes::Bytes, target_file::Files};

/// A function of 100,000 instructions has less than that.
const MAX_ENTRY: usize = 256 * 1024;
/// The whole section of a static program; one of 20 MiB of code has less.
const MAX_SECTION: usize = 8 * 1024 * 1024;
/// Length and id before an entry's content.
const ENTRY_HEAD: u64 = 8;
/// The encodings that every linker writes: version 1; the section's address relative to here, in 4 bytes; a count of
/// 4 bytes; a table relative to its own beginning, 4 bytes each.
const LAYOUT: [u8; 4] = [1, 0x1b, 0x03, 0x3b];

type Slice<'a> = EndianSlice<'a, NativeEndian>;

/// A section of rules, or a common entry (CIE) and behind it the one of a function (FDE) that builds on it, as if they
/// were one; and which entry is meant.
pub(super) struct Entry {
    bytes: Vec<u8>,
    /// Where the entry of the function begins in `bytes`.
    second: usize,
    /// Where `bytes` would begin in memory for that entry to be where it is: its addresses are relative to that.
    address: u64,
}

impl Entry {
    /// Finds the one that covers an address; absent where none does.
    pub(super) fn covering(files: &Files, memory: &Bytes, object: &Object, address: u64) -> Option<Self> {
        match object.unwind_table {
            Some(table) => Self::by_table(memory, table, address),
            None => Self::by_section(files, memory, object, address),
        }
    }

    fn by_table(memory: &Bytes, table: u64, address: u64) -> Option<Self> {
        if memory.take(table, LAYOUT.len())? != LAYOUT {
            return None;
        }
        let second_at = search(memory, table, address)?;
        let (mut second, id) = read(memory, second_at)?;
        // The distance from the field itself back to the common entry.
        let first_at = second_at.wrapping_add(4).wrapping_sub(u64::from(id));
        let (mut bytes, 0) = read(memory, first_at)? else { return None };
        let distance = u32::try_from(bytes.len()).ok()?.checked_add(4)?;
        second.get_mut(4..8)?.copy_from_slice(&distance.to_ne_bytes());
        let address_of_both = second_at.wrapping_sub(bytes.len() as u64);
        let start_of_second = bytes.len();
        bytes.append(&mut second);
        Some(Self { bytes, second: start_of_second, address: address_of_both })
    }

    /// Static programs have no table of their rules; where those are, only their file says.
    fn by_section(files: &Files, memory: &Bytes, object: &Object, address: u64) -> Option<Self> {
        let (at, size) =
            files::of(files, memory, object).find_map(|file| files::section(&file, b".eh_frame"))?;
        let at = at.wrapping_add(object.bias);
        let size = usize::try_from(size).ok().filter(|size| *size <= MAX_SECTION)?;
        let mut bytes = Vec::with_capacity(size);
        while bytes.len() < size {
            let portion = memory.take_up_to(at.wrapping_add(bytes.len() as u64), size - bytes.len());
            if portion.is_empty() {
                return None;
            }
            bytes.extend(portion);
        }
        let section = section(&bytes);
        let bases = BaseAddresses::default().set_eh_frame(at);
        let mut entries = section.entries(&bases);
        let second = loop {
            budget::steps(1).ok()?;
            if let CieOrFde::Fde(function) = entries.next().ok()?? {
                let function = function.parse(EhFrame::cie_from_offset).ok()?;
                if function.contains(address) {
                    break function.offset();
                }
            }
        };
        Some(Self { bytes, second, address: at })
    }

    /// Hands `use_row` the rules at the address.
    pub(super) fn with_row<T>(
        &self,
        address: u64,
        use_row: impl FnOnce(&EhFrame<Slice<'_>>, &FrameDescriptionEntry<Slice<'_>>, &UnwindTableRow<usize>) -> T,
    ) -> Option<T> {
        let section = section(&self.bytes);
        let bases = BaseAddresses::default().set_eh_frame(self.address);
        let function =
            section.fde_from_offset(&bases, EhFrameOffset(self.second), EhFrame::cie_from_offset).ok()?;
        if !function.contains(address) {
            return None;
        }
        let mut context = UnwindContext::new();
        let row = function.unwind_info_for_address(&section, &bases, &mut context, address).ok()?;
        Some(use_row(&section, &function, row))
    }
}

fn section(bytes: &[u8]) -> EhFrame<Slice<'_>> {
    let mut section = EhFrame::new(bytes, NativeEndian);
    section.set_address_size(8);
    section
}

/// The address of the last entry whose function begins at or before `address`.
fn search(memory: &Bytes, table: u64, address: u64) -> Option<u64> {
    let count = memory.half(table.wrapping_add(8))?;
    let relative = |value: u32| table.wrapping_add_signed(i64::from(value.cast_signed()));
    // Where the function begins, and where its entry is.
    let row = |index: u32| {
        let at = table.wrapping_add(12).wrapping_add(u64::from(index) * 8);
        Some((relative(memory.half(at)?), relative(memory.half(at.wrapping_add(4))?)))
    };
    let (mut low, mut high, mut found) = (0, count, None);
    while low < high {
        let middle = low + (high - low) / 2;
        let (start, entry) = row(middle)?;
        if start <= address {
            found = Some(entry);
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    found
}

/// An entry with its head, and the id in that.
fn read(memory: &Bytes, at: u64) -> Option<(Vec<u8>, u32)> {
    let length = memory.half(at)?;
    // 0 ends a section, and all ones begin the 64-bit form, which no compiler writes.
    let whole =
        usize::try_from(length).ok()?.checked_add(4).filter(|whole| (12..=MAX_ENTRY).contains(whole))?;
    let id = memory.half(at.wrapping_add(ENTRY_HEAD - 4))?;
    Some((memory.take(at, whole)?, id))
}
