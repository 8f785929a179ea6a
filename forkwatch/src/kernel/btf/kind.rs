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
    const ALL: [Self; 19] = [
        Self::Int,
        Self::Pointer,
        Self::Array,
        Self::Struct,
        Self::Union,
        Self::Enum,
        Self::Forward,
        Self::Typedef,
        Self::Volatile,
        Self::Const,
        Self::Restrict,
        Self::Function,
        Self::Prototype,
        Self::Variable,
        Self::Section,
        Self::Float,
        Self::DeclarationTag,
        Self::TypeTag,
        Self::Enum64,
    ];

    /// The kind of that number.
    pub(super) fn from_number(number: u32) -> Option<Self> {
        Self::ALL.get((number as usize).checked_sub(1)?).copied()
    }

    /// Bytes that follow the header of a type with `count` members, values or parameters.
    pub(super) const fn trailing(self, count: u32) -> u32 {
        match self {
            Self::Int | Self::Variable | Self::DeclarationTag => 4,
            Self::Array => 12,
            Self::Struct | Self::Union | Self::Section | Self::Enum64 => 12 * count,
            Self::Enum | Self::Prototype => 8 * count,
            Self::Pointer
            | Self::Forward
            | Self::Typedef
            | Self::Volatile
            | Self::Const
            | Self::Restrict
            | Self::Function
            | Self::Float
            | Self::TypeTag => 0,
        }
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
