//! What can be wrong with type information.

use std::io;
use std::path::PathBuf;

use super::{Kind, TypeId};

/// Why type information cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BtfError {
    /// The file cannot be read.
    #[error(
        "cannot read {}: {source}; forkwatch needs /sys mounted, and a kernel built with CONFIG_DEBUG_INFO_BTF=y",
        path.display()
    )]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system or the parser said.
        source: io::Error,
    },
    /// Something else than BTF.
    #[error("this is not kernel type information (BTF): it starts with {0:#06x} instead of 0xeb9f")]
    Magic(u16),
    /// BTF of a machine with the other byte order.
    #[error("this type information (BTF) has the other byte order: it was made for another machine")]
    ByteOrder,
    /// A version of the format that did not exist when this was written.
    #[error("type information (BTF) of version {0}: only version 1 is known, a newer forkwatch may help")]
    Version(u8),
    /// The bytes end too early.
    #[error("the type information (BTF) is damaged: it ends inside {0}")]
    Truncated(&'static str),
    /// A type of unknown kind has an unknown length, so nothing after it can be read.
    #[error(
        "type {id} of the kernel's type information (BTF) is encoded as {info:#010x}, which this version of \
         forkwatch does not know: a newer one may"
    )]
    UnknownKind {
        /// The type.
        id: TypeId,
        /// Its `info` word, with the kind in the bits from 24.
        info: u32,
    },
    /// A type that contradicts itself or others.
    #[error("the type information (BTF) is damaged: type {id} {what}")]
    Malformed {
        /// The type.
        id: TypeId,
        /// What is wrong with it.
        what: &'static str,
    },
    /// A member that does not start at a byte of its own.
    #[error("member {0} is a bitfield, which has no offset in bytes")]
    Bitfield(String),
    /// A type that ought to be there.
    #[error("the kernel's type information (BTF) has no {kind} {name}")]
    Missing {
        /// Kind that was looked for.
        kind: Kind,
        /// The name of the type or of the member.
        name: String,
    },
}
