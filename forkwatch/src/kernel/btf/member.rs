//! Finding a member by its path, and what it is.

use super::record::{RawMember, Record};
use super::{Btf, BtfError, Kind, TypeId};

/// How many typedefs, qualifiers and arrays may be stacked (`MAX_RESOLVE_DEPTH` of kernel/bpf/btf.c).
const MAX_DEPTH: usize = 32;

/// How many members one look-up may pass. `task_struct` has about 300, and only a cycle has more than this.
const MAX_MEMBERS: usize = 1 << 17;

/// Bytes of a pointer: eBPF knows only 64-bit ones, and forkwatch is built for 64-bit kernels alone.
const POINTER_SIZE: u32 = 8;

/// A type without the typedefs and qualifiers around it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Type<'a> {
    /// Its number.
    pub id: TypeId,
    /// What it is; never a typedef, qualifier or tag.
    pub kind: Kind,
    /// Its own name, not that of a typedef; empty if it has none.
    pub name: &'a [u8],
    /// Its size in bytes; none for what has no size, such as a function.
    pub size: Option<u32>,
}

/// A member of a struct, at any depth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member<'a> {
    /// Bytes from the start of the struct that the path started from.
    pub offset: u32,
    /// Its type, as the struct declares it.
    pub definition: Type<'a>,
}

impl<'a> Btf<'a> {
    /// The member that a dotted path such as `pending.signal` leads to. Anonymous structs and unions are looked
    /// into, typedefs and qualifiers looked through. None if there is no such member.
    pub fn member(&self, structure: TypeId, path: &str) -> Result<Option<Member<'a>>, BtfError> {
        let beyond = || BtfError::Malformed { id: structure, what: "has a member beyond its end" };
        let (mut id, mut offset) = (structure, 0_u32);
        for name in path.split('.') {
            let Some((member, bits)) = self.find_member(id, name)? else { return Ok(None) };
            let record = self.unwrapped(member.id)?;
            let is_bitfield = member.is_bitfield || record.as_ref().is_some_and(Record::is_partial_integer);
            if is_bitfield || bits % 8 != 0 {
                return Err(BtfError::Bitfield(name.to_owned()));
            }
            offset = offset.checked_add(bits / 8).ok_or_else(beyond)?;
            id = member.id;
        }
        let what = "has a member of type void";
        let definition = self.resolve(id)?.ok_or(BtfError::Malformed { id: structure, what })?;
        let end = offset.checked_add(definition.size.unwrap_or(0));
        if end.is_none() || end > self.size(structure)? {
            return Err(beyond());
        }
        Ok(Some(Member { offset, definition }))
    }

    /// The type itself, without typedefs and qualifiers; none for `void`.
    pub fn resolve(&self, id: TypeId) -> Result<Option<Type<'a>>, BtfError> {
        let Some(record) = self.unwrapped(id)? else { return Ok(None) };
        let size = self.size(record.id)?;
        Ok(Some(Type { id: record.id, kind: record.kind, name: self.name(&record)?, size }))
    }

    /// What a pointer points to or an array consists of; none for `void` and for any other type.
    pub fn target(&self, of: &Type<'_>) -> Result<Option<Type<'a>>, BtfError> {
        self.record(of.id)?.target().map_or(Ok(None), |target| self.resolve(target))
    }

    /// A named member of a struct, and its offset in bits. Anonymous members' own members count as the struct's.
    fn find_member(&self, structure: TypeId, name: &str) -> Result<Option<(RawMember, u32)>, BtfError> {
        let mut pending = vec![(structure, 0_u32)];
        let mut passed = 0;
        while let Some((id, base)) = pending.pop() {
            let Some(record) = self.unwrapped(id)? else { continue };
            for member in record.members() {
                passed += 1;
                if passed > MAX_MEMBERS {
                    return Err(BtfError::Malformed { id: structure, what: "contains itself" });
                }
                let what = "has a member beyond its end";
                let overflow = BtfError::Malformed { id: structure, what };
                let bits = base.checked_add(member.bit_offset).ok_or(overflow)?;
                if self.is_string(member.name, "") {
                    pending.push((member.id, bits));
                } else if self.is_string(member.name, name) {
                    return Ok(Some((member, bits)));
                }
            }
        }
        Ok(None)
    }

    /// The record behind typedefs and qualifiers; none for `void`.
    fn unwrapped(&self, mut id: TypeId) -> Result<Option<Record<'a>>, BtfError> {
        for _ in 0..MAX_DEPTH {
            if id.is_void() {
                return Ok(None);
            }
            let record = self.record(id)?;
            match record.target().filter(|_| record.kind.is_wrapper()) {
                Some(target) => id = target,
                None => return Ok(Some(record)),
            }
        }
        Err(BtfError::Malformed { id, what: "is defined through too many others" })
    }

    fn size(&self, mut id: TypeId) -> Result<Option<u32>, BtfError> {
        let mut count = 1_u32;
        let too_large = |id| BtfError::Malformed { id, what: "is too large" };
        for _ in 0..MAX_DEPTH {
            let Some(record) = self.unwrapped(id)? else { return Ok(None) };
            let size = match record.kind {
                Kind::Int | Kind::Enum | Kind::Enum64 | Kind::Float | Kind::Struct | Kind::Union => {
                    record.size_or_type
                }
                Kind::Pointer => POINTER_SIZE,
                _ => match record.array() {
                    Some((element, length)) => {
                        count = count.checked_mul(length).ok_or_else(|| too_large(id))?;
                        id = element;
                        continue;
                    }
                    None => return Ok(None),
                },
            };
            return size.checked_mul(count).ok_or_else(|| too_large(id)).map(Some);
        }
        Err(BtfError::Malformed { id, what: "is defined through too many others" })
    }
}
