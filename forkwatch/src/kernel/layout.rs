//! Where the kernel keeps what the eBPF side reads: its table, resolved against the running kernel.
//!
//! Rust has no CO-RE, and a wrong offset that lies within its struct is not noticed by the verifier. So the name,
//! kind and size of each field are checked here before its offset goes into the program.

mod field;

use std::fmt;

use forkwatch_ebpf::ABSENT;

use self::field::{Expected, FIELDS, Field, Need};
use super::btf::{Btf, BtfError, Kind, Member, Type, TypeId};

/// Offsets of all fields on one kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// In the order of [`FIELDS`].
    values: [u32; FIELDS.len()],
}

/// The structures of this kernel are not what the eBPF side was written for.
#[derive(Debug, thiserror::Error)]
#[error(
    "this kernel's data structures are not as forkwatch knows them, and it will not guess:{list} \
     This version does not support this kernel: please report it to the project, with the output of \
     `forkwatch doctor`.",
    list = List(problems)
)]
pub struct LayoutError {
    /// All that is wrong, not only the first.
    pub problems: Vec<Problem>,
}

/// A field that is not as expected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The struct, such as `task_struct`.
    pub structure: &'static str,
    /// The member's path, such as `pending.signal.sig`; empty where the whole struct is meant.
    pub member: &'static str,
    /// What it should be.
    pub expected: String,
    /// What it is instead.
    pub found: String,
}

impl Layout {
    /// Looks all fields up and checks them.
    pub fn resolve(btf: &Btf<'_>) -> Result<Self, LayoutError> {
        let mut values = [ABSENT; FIELDS.len()];
        let mut slots = values.iter_mut();
        let mut problems = Vec::new();
        let structures = || FIELDS.chunk_by(|one, next| one.structure == next.structure);
        let names: Vec<_> = structures()
            .filter_map(|fields| fields.first())
            .map(|field| (Kind::Struct, field.structure))
            .collect();
        for (fields, structure) in structures().zip(btf.find_all(&names)) {
            for (field, slot) in fields.iter().zip(&mut slots) {
                match field.value(btf, structure) {
                    Ok(Some(value)) => *slot = value,
                    Ok(None) if field.need != Need::Required => {}
                    Err(_) if field.need == Need::OnDemand => {}
                    Ok(None) => problems.push(field.problem("nothing of that name")),
                    Err(found) => problems.push(field.problem(found)),
                }
            }
        }
        if problems.is_empty() { Ok(Self { values }) } else { Err(LayoutError { problems }) }
    }

    /// The eBPF side's globals and their values: bytes, or [`ABSENT`] where this kernel has no such field.
    pub fn globals(&self) -> impl Iterator<Item = (&'static str, u32)> {
        FIELDS.iter().map(|field| field.global).zip(self.values)
    }

    /// Whether this kernel has the fields of all these globals.
    pub fn has(&self, globals: &[&str]) -> bool {
        globals
            .iter()
            .all(|wanted| self.globals().any(|(global, value)| global == *wanted && value != ABSENT))
    }

    /// The optional fields that this kernel lacks, such as `css_set.dfl_cgrp`.
    pub fn absent(&self) -> Vec<String> {
        let optional = FIELDS.iter().zip(self.values).filter(|(field, _)| field.need == Need::Optional);
        let absent = optional.filter(|(_, value)| *value == ABSENT);
        absent.map(|(field, _)| [field.structure, field.members.first().unwrap_or(&"")].join(".")).collect()
    }
}

impl Field {
    /// The field's value on this kernel; none if it is not there; what is there instead if it is not as expected.
    fn value(&self, btf: &Btf<'_>, structure: Option<TypeId>) -> Result<Option<u32>, String> {
        let text = |error| match error {
            BtfError::Bitfield(_) => "a bitfield".to_owned(),
            error => format!("that {error}"),
        };
        let Some(structure) = structure else { return Ok(None) };
        let Some(Member { offset, definition }) = self.find(btf, structure).map_err(text)? else {
            return Ok(None);
        };
        let target = btf.target(&definition).map_err(text)?;
        if !self.expected.matches(&definition, target.as_ref()) {
            return Err(describe(&definition, target.as_ref()));
        }
        Ok(if self.expected == Expected::Sized { definition.size } else { Some(offset) })
    }

    /// The member under the first of its names that this kernel knows, or the whole struct if none is asked for.
    fn find<'a>(&self, btf: &Btf<'a>, structure: TypeId) -> Result<Option<Member<'a>>, BtfError> {
        if self.members.is_empty() {
            return Ok(btf.resolve(structure)?.map(|definition| Member { offset: 0, definition }));
        }
        self.members.iter().find_map(|path| btf.member(structure, path).transpose()).transpose()
    }

    fn problem(&self, found: impl Into<String>) -> Problem {
        Problem {
            structure: self.structure,
            member: self.members.first().copied().unwrap_or_default(),
            expected: self.expected.to_string(),
            found: found.into(),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { structure, member, expected, found } = self;
        let dot = if member.is_empty() { "" } else { "." };
        write!(formatter, "struct {structure}{dot}{member}: expected {expected}, found {found}")
    }
}

struct List<'a>(&'a [Problem]);

impl fmt::Display for List<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|problem| write!(formatter, "\n  {problem}"))?;
        formatter.write_str("\n")
    }
}

/// A type in words, as [`Expected`] puts it.
fn describe(definition: &Type<'_>, target: Option<&Type<'_>>) -> String {
    let size = definition.size.unwrap_or(0);
    let name = |named: &Type<'_>| match named.name {
        [] => format!("nameless {}", named.kind),
        name => format!("{} {}", named.kind, name.escape_ascii()),
    };
    match (definition.kind, target) {
        (Kind::Pointer, None) => "a pointer to void".to_owned(),
        (Kind::Pointer, Some(target)) => format!("a pointer to {}", name(target)),
        (Kind::Array, Some(element)) => format!("an array of {size} bytes, of {}", name(element)),
        (Kind::Int | Kind::Enum | Kind::Enum64, _) => format!("an integer of {size} bytes"),
        _ => format!("a {} of {size} bytes", name(definition)),
    }
}

#[cfg(test)]
mod tests;
