//! Where CPython keeps the type of all types, from which every other is found.

use std::{fs, os::unix::ffi::OsStrExt as _};

use super::{
    super::elf::Object,
    named_version,
    offsets::{COOKIE, FREE_THREADED_AT},
    symbols,
};
use crate::host::{
    bytes::Bytes,
    maps::{Mapping, Maps},
};

/// What leads to the types of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::host) struct Types {
    /// The address of `PyType_Type`, which every type of the usual kind names as its own.
    pub(in crate::host) type_of_types: u64,
    /// Whether it has no GIL: objects have a longer head then.
    pub(in crate::host) free_threaded: bool,
}

/// Those of a process; absent where no CPython runs in it that exports them.
pub(in crate::host) fn types(process: u32, memory: &Bytes, maps: &Maps) -> Option<Types> {
    let program = fs::read_link(format!("/proc/{process}/exe")).ok();
    let program = program.as_deref().map(|path| path.as_os_str().as_bytes());
    let mut objects: Vec<&Mapping> = maps
        .objects()
        .filter(|head| Some(head.path.as_slice()) == program || named_version(&head.path).is_some())
        .collect();
    objects.dedup_by_key(|head| head.start);
    objects.iter().find_map(|head| {
        let object = Object::read(memory, head).ok()?;
        let type_of_types = symbols::address_of(memory, &object, b"PyType_Type")?;
        let runtime = symbols::address_of(memory, &object, b"_PyRuntime");
        let word = |at: u64| runtime.and_then(|runtime| memory.word(runtime.wrapping_add(at)));
        // Since 3.13 the runtime says so itself.
        let free_threaded = word(0) == Some(u64::from_ne_bytes(*COOKIE))
            && word(FREE_THREADED_AT).is_some_and(|flag| flag != 0);
        Some(Types { type_of_types, free_threaded })
    })
}
