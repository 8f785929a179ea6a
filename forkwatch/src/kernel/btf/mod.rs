//! A reader of BTF, the type information that the kernel carries of itself (Documentation/bpf/btf.rst).
//!
//! It borrows the blob, 5 MB of a common kernel, and keeps one word per type besides: 2 ms and half a megabyte,
//! where aya's own parser takes 20 ms and leaves 13 MB, which is more than the whole daemon may hold.

mod blob;
mod error;
mod kind;
mod member;
mod record;
mod stub;
#[cfg(test)]
pub(super) mod synthetic;
#[cfg(test)]
mod tests;

use std::ffi::CStr;
use std::fmt;

pub use blob::{Blob, read};
pub use error::BtfError;
pub use kind::Kind;
pub use member::{Member, Type};
use record::{Record, split_words};

/// Where the running kernel shows its type information.
pub const KERNEL_BTF: &str = "/sys/kernel/btf/vmlinux";

/// `BTF_MAGIC` of include/uapi/linux/btf.h.
const MAGIC: u16 = 0xeb9f;

const VERSION: u8 = 1;

/// Length of the header as it was first defined; a later kernel may append to it.
const HEADER_LEN: u32 = 24;

/// Number of a type within its blob. 0 is `void` and has no record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TypeId(u32);

impl TypeId {
    /// The number, as `bpf(2)` takes it for `attach_btf_id`.
    pub const fn number(self) -> u32 {
        self.0
    }

    const fn is_void(self) -> bool {
        self.0 == 0
    }
}

impl fmt::Display for TypeId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// Type information, indexed by type id.
pub struct Btf<'a> {
    types: &'a [u8],
    strings: &'a [u8],
    /// Where type `index + 1` starts in `types`.
    offsets: Vec<u32>,
}

impl<'a> Btf<'a> {
    /// Checks the blob's structure and indexes its types, in one pass.
    pub fn parse(blob: &'a [u8]) -> Result<Self, BtfError> {
        let (types, strings) = sections(blob)?;
        let mut offsets = Vec::new();
        let mut rest = types;
        // A type takes 12 bytes or more and a section at most 4 GiB, so ids and offsets fit 32 bits.
        let mut id = TypeId(1);
        let mut offset = 0;
        while !rest.is_empty() {
            let record = Record::decode(id, rest)?;
            offsets.push(offset);
            offset += record.length;
            rest = record.following;
            id.0 += 1;
        }
        Ok(Self { types, strings, offsets })
    }

    /// The type of that kind and name; the first one, as in the kernel's `btf_find_by_name_kind`.
    pub fn find(&self, kind: Kind, name: &str) -> Option<TypeId> {
        self.find_all(&[(kind, name)]).first().copied().flatten()
    }

    /// The type of each kind and name, in the order they are asked for: in one pass, which takes a millisecond.
    pub fn find_all(&self, wanted: &[(Kind, &str)]) -> Vec<Option<TypeId>> {
        let mut found = vec![None; wanted.len()];
        let mut missing = wanted.len();
        for record in self.records() {
            if missing == 0 {
                break;
            }
            for (found, (kind, name)) in found.iter_mut().zip(wanted) {
                if found.is_none() && record.kind == *kind && self.is_string(record.name, name) {
                    *found = Some(record.id);
                    missing -= 1;
                }
            }
        }
        found
    }

    /// Whether the kernel describes a function of that name: no fentry or fexit program attaches to another.
    pub fn has_function(&self, name: &str) -> bool {
        self.find(Kind::Function, name).is_some()
    }

    /// How many arguments a function has.
    pub fn arguments(&self, function: TypeId) -> Result<usize, BtfError> {
        let prototype = TypeId(self.record(function)?.size_or_type);
        self.record(prototype).map(|prototype| prototype.arguments())
    }

    /// All types in the order of their ids.
    fn records(&self) -> impl Iterator<Item = Record<'a>> {
        let mut rest = self.types;
        (1..).map_while(move |id| {
            let record = Record::decode(TypeId(id), rest).ok()?;
            rest = record.following;
            Some(record)
        })
    }

    fn record(&self, id: TypeId) -> Result<Record<'a>, BtfError> {
        let index = (id.0 as usize).checked_sub(1);
        let offset = index.and_then(|index| self.offsets.get(index));
        let bytes = offset.and_then(|&offset| self.types.get(offset as usize..));
        Record::decode(id, bytes.ok_or(BtfError::Malformed { id, what: "is referred to but not there" })?)
    }

    /// The string at an offset of the string section.
    fn string(&self, offset: u32) -> Option<&'a [u8]> {
        let bytes = self.strings.get(offset as usize..)?;
        CStr::from_bytes_until_nul(bytes).ok().map(CStr::to_bytes)
    }

    fn name(&self, record: &Record<'_>) -> Result<&'a [u8], BtfError> {
        self.string(record.name).ok_or(BtfError::Malformed { id: record.id, what: "has no readable name" })
    }

    /// Whether `string` stands at that offset: without looking for its end first, and by its first byte before the
    /// others, which finding one name among a hundred thousand would else spend most of its time on.
    fn is_string(&self, offset: u32, string: &str) -> bool {
        let bytes = self.strings.get(offset as usize..).unwrap_or_default();
        // The empty string is nothing but its end.
        bytes.first() == string.as_bytes().first().or(Some(&0))
            && bytes.strip_prefix(string.as_bytes()).is_some_and(|rest| rest.first() == Some(&0))
    }
}

/// The sections of types and of strings.
fn sections(blob: &[u8]) -> Result<(&[u8], &[u8]), BtfError> {
    const TRUNCATED: BtfError = BtfError::Truncated("its header");
    let &[first, second, version, _flags, ..] = blob else { return Err(TRUNCATED) };
    match u16::from_ne_bytes([first, second]) {
        MAGIC => {}
        magic if magic == MAGIC.swap_bytes() => return Err(BtfError::ByteOrder),
        magic => return Err(BtfError::Magic(magic)),
    }
    if version != VERSION {
        return Err(BtfError::Version(version));
    }
    let ([_magic, length, type_offset, type_length, string_offset, string_length], _) =
        split_words(blob).ok_or(TRUNCATED)?;
    let body = blob.get(length as usize..).filter(|_| length >= HEADER_LEN).ok_or(TRUNCATED)?;
    let section = |offset: u32, length: u32| body.get(offset as usize..)?.get(..length as usize);
    Ok((
        section(type_offset, type_length).ok_or(BtfError::Truncated("its types"))?,
        section(string_offset, string_length).ok_or(BtfError::Truncated("its strings"))?,
    ))
}
