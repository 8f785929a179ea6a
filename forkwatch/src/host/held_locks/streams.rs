//! The locks of glibc's `FILE`s. Every one that is open stands in a list, and its lock notes the descriptor of the
//! thread that holds it (`struct _IO_FILE` in `bits/types/struct_FILE.h`, `_IO_lock_t` in `sysdeps/nptl/stdio-lock.h`,
//! unchanged since glibc 2.2, on 64 bits). fork(3) makes these locks anew in the child (`fresetlockfiles`).

use super::lost::Owner;
use crate::host::{bytes::Bytes, maps::Maps, stack};

/// `_chain`, `_fileno` and `_lock`.
const CHAIN: u64 = 0x68;
const NUMBER: u64 = 0x70;
const LOCK: u64 = 0x88;
/// `owner`, after the lock and how often it was taken.
const OWNER: u64 = 8;
/// Streams that are looked at.
const MAX_STREAMS: usize = 256;

/// A stream whose lock somebody holds.
pub(super) struct Stream {
    /// The address of its lock.
    pub(super) lock: u64,
    pub(super) owner: Owner,
    pub(super) name: String,
}

/// Those that are held.
pub(super) fn held(memory: &Bytes, maps: &Maps) -> Vec<Stream> {
    let mut found = Vec::new();
    let list = stack::exported(memory, maps, stack::is_of_c_library, b"_IO_list_all");
    let mut next = list.and_then(|list| memory.word(list));
    for _ in 0..MAX_STREAMS {
        let Some(stream) = next.filter(|stream| *stream != 0) else { break };
        let lock = memory.word(stream.wrapping_add(LOCK)).filter(|lock| *lock != 0);
        if let Some(lock) = lock
            && memory.half(lock).is_some_and(|word| matches!(word, 1 | 2))
            && let Some(owner) = memory.word(lock.wrapping_add(OWNER)).filter(|owner| *owner != 0)
        {
            let number = memory.half(stream.wrapping_add(NUMBER));
            found.push(Stream { lock, owner: Owner::Descriptor(owner), name: name(number) });
        }
        next = memory.word(stream.wrapping_add(CHAIN));
    }
    found
}

fn name(number: Option<u32>) -> String {
    match number {
        Some(0) => "stdin".to_owned(),
        Some(1) => "stdout".to_owned(),
        Some(2) => "stderr".to_owned(),
        Some(number) if number <= i32::MAX.cast_unsigned() => format!("the FILE of descriptor {number}"),
        // One that writes to memory.
        _ => "a FILE".to_owned(),
    }
}
