//! CPython's objects that note which thread holds them, from 3.6 to 3.15 and without a GIL: they are recognised by the
//! name of their type, so that no table of versions is needed.
//!
//! `Modules/_io/bufferedio.c` (`buffered`), `Modules/_threadmodule.c` (`rlockobject`), `Modules/_io/fileio.c`
//! (`fileio`), `Include/object.h`.

use std::{cell::RefCell, collections::HashMap};

use crate::{host::bytes::Bytes, model::held_lock::LockKind};

/// Bytes of what every object begins with, of the usual builds and of those without a GIL.
const HEADS: [u64; 2] = [16, 32];
/// No such object is larger.
const MAX_SIZE: u64 = 256;
/// The furthest that an owner stands from the beginning of an object.
const FURTHEST: usize = 192;
/// Types that are remembered.
const MAX_TYPES: usize = 4096;
/// The names of these types are shorter.
const MAX_NAME: usize = 32;
/// Nothing is mapped below.
const LOWEST: u64 = 0x1_0000;
/// No object of this kind is referred to so often; freed memory has a pointer there, or nothing.
const MOST_REFERENCES: u32 = 1 << 30;

/// A type, and how many bytes its objects have.
#[derive(Clone, Copy)]
struct Type {
    kind: LockKind,
    size: u64,
}

/// What is known of a process's types.
pub(super) struct Python<'a> {
    memory: &'a Bytes,
    types: RefCell<HashMap<(u64, u64), Option<Type>>>,
}

impl<'a> Python<'a> {
    pub(super) fn new(memory: &'a Bytes) -> Self {
        Self { memory, types: RefCell::default() }
    }

    /// The object that the word at an offset belongs to as its owner: where it begins, where its lock does, and what it
    /// is.
    pub(super) fn object_around(
        &self,
        bytes: &[u8],
        offset: usize,
    ) -> Option<(usize, Option<u64>, LockKind)> {
        let word = |at: usize| bytes.get(at..)?.first_chunk().map(|word| u64::from_ne_bytes(*word));
        for distance in (16..=FURTHEST).step_by(8) {
            let Some(start) = offset.checked_sub(distance) else { break };
            for head in HEADS {
                let type_at = start + usize::try_from(head).unwrap_or(0) - 8;
                let Some(class) = word(type_at).filter(|class| *class >= LOWEST && class.is_multiple_of(8))
                else {
                    continue;
                };
                if !is_alive(head, word(start)?, word(start + 8)?, word(start + 16)?) {
                    continue;
                }
                let Some(known) = self.class(class, head) else { continue };
                let distance = distance as u64;
                let is_owner = match known.kind {
                    // After its lock, which is a pointer, or a byte in 3.14.
                    LockKind::Recursive => distance == head + 8,
                    _ => distance > head && distance < known.size,
                };
                if is_owner {
                    let before = word(offset.checked_sub(8)?);
                    return Some((start, before.and_then(|lock| self.semaphore(lock)), known.kind));
                }
            }
        }
        None
    }

    /// A lock as versions before 3.14 have it: a semaphore somewhere else, of which nothing is left.
    fn semaphore(&self, address: u64) -> Option<u64> {
        (address >= LOWEST && address.is_multiple_of(8) && self.memory.half(address) == Some(0))
            .then_some(address)
    }

    /// What it is called, where that is told from what it leads to.
    pub(super) fn name(&self, kind: LockKind, object: u64) -> Option<String> {
        if kind != LockKind::Buffer {
            return None;
        }
        HEADS.iter().find_map(|head| {
            let class = self.memory.word(object.wrapping_add(head - 8))?;
            self.class(class, *head)?;
            let raw = self.memory.word(object.wrapping_add(*head))?;
            let class = self.memory.word(raw.wrapping_add(head - 8))?;
            if self.class_name(class, *head)? != b"_io.FileIO" {
                return None;
            }
            let descriptor = self.memory.half(raw.wrapping_add(*head))?;
            Some(match descriptor {
                0 => "standard input's buffer".to_owned(),
                1 => "standard output's buffer".to_owned(),
                2 => "standard error's buffer".to_owned(),
                other => format!("the buffer of descriptor {other}"),
            })
        })
    }

    fn class(&self, class: u64, head: u64) -> Option<Type> {
        if let Some(known) = self.types.borrow().get(&(class, head)) {
            return *known;
        }
        let kind = self.class_name(class, head).and_then(|name| match name.as_slice() {
            b"_io.BufferedWriter" | b"_io.BufferedReader" | b"_io.BufferedRandom" => Some(LockKind::Buffer),
            b"_thread.RLock" => Some(LockKind::Recursive),
            _ => None,
        });
        let known = kind.and_then(|kind| {
            // `tp_basicsize`, after `tp_name`.
            let size = self.memory.word(class.wrapping_add(head + 16)).filter(|size| *size <= MAX_SIZE)?;
            Some(Type { kind, size })
        });
        let mut types = self.types.borrow_mut();
        if types.len() < MAX_TYPES {
            types.insert((class, head), known);
        }
        known
    }

    /// `tp_name`: a type is an object of variable size.
    fn class_name(&self, class: u64, head: u64) -> Option<Vec<u8>> {
        let name = self.memory.word(class.wrapping_add(head + 8)).filter(|name| *name >= LOWEST)?;
        Some(self.memory.text(name, MAX_NAME))
    }
}

/// Whether somebody refers to an object that begins with these words.
pub(super) fn is_alive(head: u64, first: u64, second: u64, third: u64) -> bool {
    let count = |word: u64| u32::try_from(word & 0xffff_ffff).unwrap_or(0);
    let is_count = |count: u32| (1..MOST_REFERENCES).contains(&count);
    if head == 16 {
        // `ob_refcnt`, since 3.14 with 16 bits of overflow and 16 of flags.
        let (overflow, flags) = (first << 16 >> 48, first >> 48);
        is_count(count(first)) && overflow == 0 && flags < 0x100
    } else {
        // The count of the thread that made it, and that of the others with 2 bits of flags.
        is_count(count(second >> 32)) || third >> 2 != 0 && third >> 2 < u64::from(MOST_REFERENCES)
    }
}
