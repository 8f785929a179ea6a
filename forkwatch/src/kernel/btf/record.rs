//! One type as it is encoded: `struct btf_type` of include/uapi/linux/btf.h and what follows it.

use super::{BtfError, Kind, TypeId};

/// Length of `struct btf_type`.
pub(super) const RECORD_LEN: u32 = 12;

/// Bits of the `info` word that have a meaning, as the kernel checks them too (`BTF_INFO_MASK`): a set bit beyond
/// them would change the length of the type.
const INFO_BITS: u32 = 0x9f00_ffff;

/// An encoded type.
pub(super) struct Record<'a> {
    pub(super) id: TypeId,
    pub(super) kind: Kind,
    /// Offset of the name in the string section; 0 if it has none.
    pub(super) name: u32,
    /// In a struct or union: its members' offsets carry the length of bitfields.
    pub(super) flag: bool,
    /// The size of a type that has one, or the type that this one refers to.
    pub(super) size_or_type: u32,
    /// What the kind adds.
    trailing: &'a [u8],
    /// Bytes from this type to the next.
    pub(super) length: u32,
    /// What stands after this type.
    pub(super) following: &'a [u8],
}

impl<'a> Record<'a> {
    /// Decodes the type that `bytes` starts with.
    pub(super) fn decode(id: TypeId, bytes: &'a [u8]) -> Result<Self, BtfError> {
        const TRUNCATED: BtfError = BtfError::Truncated("one of its types");
        let ([name, info, size_or_type], rest) = split_words(bytes).ok_or(TRUNCATED)?;
        let kind = Kind::from_number(info >> 24 & 0x1f, info & 0xffff).filter(|_| info & !INFO_BITS == 0);
        let (kind, trailing_len) = kind.ok_or(BtfError::UnknownKind { id, info })?;
        let (trailing, following) = rest.split_at_checked(trailing_len as usize).ok_or(TRUNCATED)?;
        let length = RECORD_LEN + trailing_len;
        Ok(Self { id, kind, name, flag: info >> 31 == 1, size_or_type, trailing, length, following })
    }

    /// The type that a pointer, typedef or qualifier refers to, or an array consists of.
    pub(super) fn target(&self) -> Option<TypeId> {
        match self.kind {
            Kind::Pointer => Some(TypeId(self.size_or_type)),
            Kind::Array => self.array().map(|(element, _)| element),
            kind => kind.is_wrapper().then_some(TypeId(self.size_or_type)),
        }
    }

    /// An array's element type and length (`struct btf_array`).
    pub(super) fn array(&self) -> Option<(TypeId, u32)> {
        let ([element, _index, length], _) = split_words(self.trailing)?;
        (self.kind == Kind::Array).then_some((TypeId(element), length))
    }

    /// How many arguments a function's prototype has (`struct btf_param`); 0 of any other type.
    pub(super) fn arguments(&self) -> usize {
        if self.kind == Kind::Prototype { self.trailing.len() / 8 } else { 0 }
    }

    /// Whether this is an integer that fills less than its bytes: how compilers before `BTF_KIND_FLAG` (Linux 5.0)
    /// encode a bitfield.
    pub(super) fn is_partial_integer(&self) -> bool {
        // The offset of the value within the integer, and its length: both in bits.
        let whole = |[encoding]: [u32; 1]| self.size_or_type.checked_mul(8) == Some(encoding & 0x00ff_00ff);
        self.kind == Kind::Int && !split_words(self.trailing).is_some_and(|(words, _)| whole(words))
    }

    /// The members of a struct or union; none of any other type.
    pub(super) fn members(&self) -> impl Iterator<Item = RawMember> + use<'a> {
        let composite = matches!(self.kind, Kind::Struct | Kind::Union);
        let mut rest = if composite { self.trailing } else { &[] };
        let flag = self.flag;
        std::iter::from_fn(move || {
            let ([name, id, offset], following) = split_words(rest)?;
            rest = following;
            let (bit_offset, bits) = if flag { (offset & 0x00ff_ffff, offset >> 24) } else { (offset, 0) };
            Some(RawMember { name, id: TypeId(id), bit_offset, is_bitfield: bits != 0 })
        })
    }
}

/// A member of a struct or union (`struct btf_member`).
pub(super) struct RawMember {
    pub(super) name: u32,
    pub(super) id: TypeId,
    /// From the start of the struct.
    pub(super) bit_offset: u32,
    /// Whether the struct says that it is one; see also [`Record::is_partial_integer`].
    pub(super) is_bitfield: bool,
}

/// The first `N` words, and what follows them.
pub(super) fn split_words<const N: usize>(bytes: &[u8]) -> Option<([u32; N], &[u8])> {
    let (head, rest) = bytes.split_at_checked(N * 4)?;
    let mut words = [0; N];
    for (word, bytes) in words.iter_mut().zip(head.as_chunks().0) {
        *word = u32::from_ne_bytes(*bytes);
    }
    Some((words, rest))
}
