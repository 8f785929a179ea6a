//! The kinds of type that BTF knows.

use std::fmt;

/// What a type is: `BTF_KIND_*` of include/uapi/linux/btf.h, with its number there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    /// An integer, boolean or character.
    Int = 1,
    /// A pointer.
    Pointer = 2,
    /// An array.
    Array = 3,
    /// A struct.
    Struct = 4,
    /// A union.
    Union = 5,
    /// An enumeration of at most 32 bits.
    Enum = 6,
    /// A struct or union that is declared, not defined.
    Forward = 7,
    /// A typedef.
    Typedef = 8,
    /// The qualifier `volatile`.
    Volatile = 9,
    /// The qualifier `const`.
    Const = 10,
    /// The qualifier `restrict`.
    Restrict = 11,
    /// A function.
    Function = 12,
    /// A function's parameters and result.
    Prototype = 13,
    /// A variable.
    Variable = 14,
    /// A section of variables.
    Section = 15,
    /// A floating point number.
    Float = 16,
    /// An attribute of a declaration, such as `user`.
    DeclarationTag = 17,
    /// An attribute of a pointer's target, such as `__rcu`.
    TypeTag = 18,
    /// An enumeration of 64 bits.
    Enum64 = 19,
}

impl Kind {
    /// Each kind by its number less 1, with the bytes that follow the header of such a type: so many, and so many
    /// more for each member, value or parameter.
    const ALL: [(Self, u32, u32); 19] = [
        (Self::Int, 4, 0),
        (Self::Pointer, 0, 0),
        (Self::Array, 12, 0),
        (Self::Struct, 0, 12),
        (Self::Union, 0, 12),
        (Self::Enum, 0, 8),
        (Self::Forward, 0, 0),
        (Self::Typedef, 0, 0),
        (Self::Volatile, 0, 0),
        (Self::Const, 0, 0),
        (Self::Restrict, 0, 0),
        (Self::Function, 0, 0),
        (Self::Prototype, 0, 8),
        (Self::Variable, 4, 0),
        (Self::Section, 0, 12),
        (Self::Float, 0, 0),
        (Self::DeclarationTag, 4, 0),
        (Self::TypeTag, 0, 0),
        (Self::Enum64, 0, 12),
    ];

    /// The kind of that number, and how many bytes follow the header of such a type with `count` members, values
    /// or parameters.
    pub(super) fn from_number(number: u32, count: u32) -> Option<(Self, u32)> {
        let &(kind, fixed, each) = Self::ALL.get((number as usize).checked_sub(1)?)?;
        Some((kind, fixed + each * count))
    }

    /// Whether the type only names or qualifies another one.
    pub(super) const fn is_wrapper(self) -> bool {
        matches!(self, Self::Typedef | Self::Volatile | Self::Const | Self::Restrict | Self::TypeTag)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Int => "integer",
            Self::Pointer => "pointer",
            Self::Array => "array",
            Self::Struct => "struct",
            Self::Union => "union",
            Self::Enum | Self::Enum64 => "enum",
            Self::Forward => "declared struct",
            Self::Typedef => "typedef",
            Self::Volatile => "volatile",
            Self::Const => "const",
            Self::Restrict => "restrict",
            Self::Function => "function",
            Self::Prototype => "function prototype",
            Self::Variable => "variable",
            Self::Section => "section",
            Self::Float => "floating point number",
            Self::DeclarationTag => "declaration tag",
            Self::TypeTag => "type tag",
        })
    }
}
