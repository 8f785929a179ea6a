//! CPython's locks that note no owner, from 3.6 to 3.15 and without a GIL: the objects of the type `_thread.lock`, which
//! `threading.Lock` makes. First that type is looked for, then every word that names it.
//!
//! `Modules/_threadmodule.c` (`lockobject`), `Include/object.h`, `Include/cpython/lock.h` (`PyMutex`).

use super::python::is_alive;
use crate::host::{
    budget::Exceeded,
    bytes::Bytes,
    maps::{Mapping, Maps},
    memory::OwnPages,
    stack::{PythonTypes, python_types},
};

const NAME: &[u8] = b"_thread.lock";
/// Types of one process of which the name is read.
const MAX_TYPES: u32 = 16 * 1024;
/// `_Py_LOCKED`, and with `_Py_HAS_PARKED` all that a `PyMutex` can be.
const LOCKED: u8 = 1;
const MOST_OF_MUTEX: u8 = 3;

/// How a lock lies in its object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    /// A pointer to a `sem_t`, weak references, and a byte that repeats whether it is held.
    Semaphore,
    /// A `PyMutex`, from 3.13.1 on.
    Mutex,
}

/// The type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PlainType {
    /// Its address, which its objects bear.
    pub(super) class: u64,
    /// Bytes of what every object begins with; the last word of it is the type.
    head: u64,
    shape: Shape,
}

/// A lock without an owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Plain {
    /// Where the lock itself is; absent where that is a place within the object.
    pub(super) semaphore: Option<u64>,
    /// Bytes from the beginning of the object to its lock, or to the pointer to it.
    pub(super) within: u64,
    pub(super) held: bool,
}

impl PlainType {
    /// Looks for it where types are: among the variables of the interpreter, and where it allocates memory early.
    pub(super) fn find(process: u32, memory: &Bytes, pages: &OwnPages, maps: &Maps) -> Option<Self> {
        let types = python_types(process, memory, maps)?;
        let admitted: Vec<&Mapping> = maps.iter().filter(|mapping| pages.admits(mapping)).collect();
        let heap = admitted.iter().filter(|mapping| mapping.path == b"[heap]");
        let files = admitted.iter().filter(|mapping| mapping.is_file() || maps.follows_file(mapping));
        let others = admitted.iter().filter(|mapping| mapping.path.is_empty() && !maps.follows_file(mapping));
        let mut seeker = Seeker { types, memory, found: None, left: MAX_TYPES };
        for mapping in heap.chain(files).chain(others) {
            if seeker.go_through(pages, mapping).is_err() || seeker.found.is_some() || seeker.left == 0 {
                break;
            }
        }
        seeker.found
    }

    /// The lock whose type the word at an offset is: where the object begins, and what it is.
    pub(super) fn object_at(&self, memory: &Bytes, bytes: &[u8], offset: usize) -> Option<(usize, Plain)> {
        let word = |at: usize| bytes.get(at..)?.first_chunk().map(|word| u64::from_ne_bytes(*word));
        let head = usize::try_from(self.head).ok()?;
        let start = (offset + 8).checked_sub(head)?;
        if word(offset)? != self.class
            || !is_alive(self.head, word(start)?, word(start + 8)?, word(start + 16)?)
        {
            return None;
        }
        let within = self.head;
        let plain = match self.shape {
            Shape::Semaphore => {
                let semaphore = word(start + head)?;
                let value = memory.half(semaphore).filter(|value| *value <= 1)?;
                Plain { semaphore: Some(semaphore), within, held: value == 0 }
            }
            Shape::Mutex => {
                let byte = *bytes.get(start + head)?;
                if byte > MOST_OF_MUTEX {
                    return None;
                }
                Plain { semaphore: None, within, held: byte & LOCKED != 0 }
            }
        };
        Some((start, plain))
    }

    /// One that lies at this address.
    #[cfg(test)]
    pub(super) const fn made_up(class: u64, is_mutex: bool) -> Self {
        let shape = if is_mutex { Shape::Mutex } else { Shape::Semaphore };
        Self { class, head: 16, shape }
    }
}

/// Goes from type to type.
struct Seeker<'a> {
    types: PythonTypes,
    memory: &'a Bytes,
    found: Option<PlainType>,
    left: u32,
}

impl Seeker<'_> {
    fn go_through(&mut self, pages: &OwnPages, mapping: &Mapping) -> Result<(), Exceeded> {
        let type_of_types = self.types.type_of_types;
        pages.go_through(mapping, mapping.start, |at, bytes| {
            if self.found.is_some() {
                return;
            }
            for (index, word) in bytes.as_chunks::<8>().0.iter().enumerate() {
                if u64::from_ne_bytes(*word) == type_of_types {
                    self.type_at(at, bytes, index * 8);
                }
            }
        })?;
        Ok(())
    }

    /// A type names the type of types in its head; its size follows, its name, and the size of its objects.
    fn type_at(&mut self, at: u64, bytes: &[u8], offset: usize) {
        let word = |at: usize| Some(u64::from_ne_bytes(*bytes.get(at..)?.first_chunk()?));
        let (Some(name), Some(size)) = (word(offset + 16), word(offset + 24)) else { return };
        let head = if self.types.free_threaded { 32 } else { 16 };
        let shape = match size.checked_sub(head) {
            Some(24) => Shape::Semaphore,
            Some(8) => Shape::Mutex,
            _ => return,
        };
        if self.left == 0 {
            return;
        }
        self.left -= 1;
        if self.memory.text(name, NAME.len() + 1) == NAME {
            let class = at.wrapping_add(offset as u64).wrapping_sub(head - 8);
            self.found = Some(PlainType { class, head, shape });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::bytes::Slice;

    const START: u64 = 0x10_0000;
    const CLASS: u64 = START + 0x400;
    const TYPE_OF_TYPES: u64 = START + 0xf00;

    fn put(bytes: &mut [u8], at: u64, word: u64) {
        let at = usize::try_from(at).unwrap();
        bytes[at..at + 8].copy_from_slice(&word.to_ne_bytes());
    }

    /// A type of this name with objects of this size, and an object of it at 0x100 whose lock is a word.
    fn memory(name: &[u8], size: u64, lock: u64) -> Vec<u8> {
        let mut bytes = vec![0; 4096];
        put(&mut bytes, 0x400, 21);
        put(&mut bytes, 0x408, TYPE_OF_TYPES);
        put(&mut bytes, 0x418, START + 0x600);
        put(&mut bytes, 0x420, size);
        bytes[0x600..0x600 + name.len()].copy_from_slice(name);
        put(&mut bytes, 0x100, 2);
        put(&mut bytes, 0x108, CLASS);
        put(&mut bytes, 0x110, lock);
        bytes
    }

    fn found(bytes: &[u8], free_threaded: bool) -> Option<PlainType> {
        let memory = Bytes::of(Slice { start: START, bytes: bytes.to_vec() });
        let types = PythonTypes { type_of_types: TYPE_OF_TYPES, free_threaded };
        let mut seeker = Seeker { types, memory: &memory, found: None, left: MAX_TYPES };
        seeker.type_at(START, bytes, 0x408);
        seeker.found
    }

    #[test]
    fn the_type_is_known_by_its_name_and_how_a_lock_lies_by_its_size() {
        let mutex = PlainType::made_up(CLASS, true);
        let of = |name, size| found(&memory(name, size, 0), false);
        assert_eq!(of(NAME, 40), Some(PlainType::made_up(CLASS, false)));
        assert_eq!(of(NAME, 24), Some(mutex));
        assert_eq!((of(NAME, 48), of(b"_thread.lockx", 40), of(b"_thread.RLock", 40)), (None, None, None));
        let free_threaded = found(&memory(NAME, 40, 0), true);
        assert_eq!(free_threaded, Some(PlainType { class: CLASS - 16, head: 32, ..mutex }));
    }

    #[test]
    fn a_lock_is_held_or_free_or_no_lock() {
        let semaphore = START + 0x800;
        for (is_mutex, lock, value, expected) in [
            (false, semaphore, 0, Some(true)),
            (false, semaphore, 1, Some(false)),
            (false, semaphore, 2, None),
            (false, 0, 0, None),
            (true, 1, 0, Some(true)),
            (true, 3, 0, Some(true)),
            (true, 0xff00, 0, Some(false)),
            (true, 4, 0, None),
        ] {
            let mut bytes = memory(NAME, 40, lock);
            put(&mut bytes, 0x800, value);
            let memory = Bytes::of(Slice { start: START, bytes: bytes.clone() });
            let class = PlainType::made_up(CLASS, is_mutex);
            let object = class.object_at(&memory, &bytes, 0x108);
            assert_eq!(object.map(|(_, plain)| plain.held), expected, "{is_mutex} {lock:#x} {value}");
            assert!(object.is_none_or(|(start, _)| start == 0x100));
            // Nobody refers to it any more.
            put(&mut bytes, 0x100, 0);
            assert_eq!(class.object_at(&memory, &bytes, 0x108), None);
            assert_eq!(class.object_at(&memory, &bytes[..0x110], 0x108), None);
        }
    }
}
