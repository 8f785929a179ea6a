//! A builder of type information, for tests.

use super::{Kind, TypeId};

/// A blob in the making. Each function adds one type and gives its id; `VOID` is a valid target.
pub(in crate::kernel) struct Builder {
    types: Vec<u8>,
    strings: Vec<u8>,
    next: u32,
}

/// The type that is no type.
pub(in crate::kernel) const VOID: TypeId = TypeId(0);

/// A member: name (empty for an anonymous one), type and offset in bytes.
pub(in crate::kernel) type Entry<'a> = (&'a str, TypeId, u32);

impl Builder {
    pub(in crate::kernel) fn new() -> Self {
        Self { types: Vec::new(), strings: vec![0], next: 1 }
    }

    /// The id that the next type will get.
    pub(in crate::kernel) fn next(&self) -> TypeId {
        TypeId(self.next)
    }

    pub(in crate::kernel) fn int(&mut self, name: &str, size: u32) -> TypeId {
        self.partial_int(name, size, size * 8)
    }

    pub(in crate::kernel) fn partial_int(&mut self, name: &str, size: u32, bits: u32) -> TypeId {
        self.add(Kind::Int, name, 0, size, &[bits])
    }

    /// A pointer, typedef, qualifier, tag or function: what has a target and nothing else.
    pub(in crate::kernel) fn wrap(&mut self, kind: Kind, name: &str, target: TypeId) -> TypeId {
        self.add(kind, name, 0, target.0, &[])
    }

    pub(in crate::kernel) fn pointer(&mut self, target: TypeId) -> TypeId {
        self.wrap(Kind::Pointer, "", target)
    }

    pub(in crate::kernel) fn typedef(&mut self, name: &str, target: TypeId) -> TypeId {
        self.wrap(Kind::Typedef, name, target)
    }

    pub(in crate::kernel) fn array(&mut self, element: TypeId, length: u32) -> TypeId {
        self.add(Kind::Array, "", 0, 0, &[element.0, 0, length])
    }

    pub(in crate::kernel) fn composite(
        &mut self,
        kind: Kind,
        name: &str,
        size: u32,
        members: &[Entry<'_>],
    ) -> TypeId {
        let bits: Vec<_> = members.iter().map(|&(name, id, offset)| (name, id, offset * 8)).collect();
        self.composite_bits(kind, name, size, 0, &bits)
    }

    /// As [`Self::composite`], with the members' offset words as they are encoded.
    pub(in crate::kernel) fn composite_bits(
        &mut self,
        kind: Kind,
        name: &str,
        size: u32,
        flag: u32,
        members: &[Entry<'_>],
    ) -> TypeId {
        let words: Vec<_> =
            members.iter().flat_map(|&(name, id, word)| [self.string(name), id.0, word]).collect();
        let count = u32::try_from(members.len()).unwrap();
        self.add(kind, name, flag << 31 | count, size, &words)
    }

    pub(in crate::kernel) fn structure(&mut self, name: &str, size: u32, members: &[Entry<'_>]) -> TypeId {
        self.composite(Kind::Struct, name, size, members)
    }

    /// Any type at all: `info` holds the bits beside the kind, `word` the size or type.
    pub(in crate::kernel) fn add(
        &mut self,
        kind: Kind,
        name: &str,
        info: u32,
        word: u32,
        trailing: &[u32],
    ) -> TypeId {
        let words = [self.string(name), (kind as u32) << 24 | info, word];
        self.types.extend(words.iter().chain(trailing).flat_map(|word| word.to_ne_bytes()));
        self.next += 1;
        TypeId(self.next - 1)
    }

    pub(in crate::kernel) fn blob(&self) -> Vec<u8> {
        blob(&self.types, &self.strings)
    }

    fn string(&mut self, string: &str) -> u32 {
        if string.is_empty() {
            return 0;
        }
        let offset = u32::try_from(self.strings.len()).unwrap();
        self.strings.extend(string.bytes().chain([0]));
        offset
    }
}

/// A blob of these sections.
pub(in crate::kernel) fn blob(types: &[u8], strings: &[u8]) -> Vec<u8> {
    let length = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap();
    let header = [24, 0, length(types), length(types), length(strings)];
    let start = super::MAGIC.to_ne_bytes().into_iter().chain([super::VERSION, 0]);
    start
        .chain(header.into_iter().flat_map(u32::to_ne_bytes))
        .chain(types.iter().chain(strings).copied())
        .collect()
}
