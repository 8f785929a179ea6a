//! The memory of other processes. Takes `CAP_SYS_PTRACE`, and for other users' `CAP_DAC_READ_SEARCH`.

mod own_pages;
mod pagemap;
mod process;

use std::{io, rc::Rc};

pub(super) use self::own_pages::OwnPages;
use self::process::{Mapped, Memory};
use super::{
    budget,
    bytes::Bytes,
    maps::{Mapping, Maps},
};
use crate::model::lock::Words;

const BYTES: usize = 4 * Words::COUNT;

/// The memory of a process by its addresses, as far as these mappings go. What is not in memory is fetched from local
/// files alone.
pub(super) fn of_process(process: u32, maps: Rc<Maps>) -> io::Result<Bytes> {
    of_thread(process, process, maps)
}

/// The same by one of its threads: that of a process whose main thread has ended can be read by the others alone.
pub(super) fn of_thread(process: u32, thread: u32, maps: Rc<Maps>) -> io::Result<Bytes> {
    Ok(Bytes::of(Mapped { memory: Memory::open(process, thread)?, maps }))
}

/// Whether the memory of a process may be read at all.
pub(super) fn may_be_read(process: u32) -> bool {
    Memory::open(process, process).is_ok()
}

/// The words around a futex word; absent where they may not be read, or do not all lie in its mapping.
///
/// A page that is not in memory is not brought in: a lock that somebody waits for is there.
pub(super) fn words(process: u32, thread: u32, address: u64, mapping: &Mapping) -> Option<Words> {
    let start = address.checked_sub(Words::BEFORE)?;
    let last = start.checked_add(BYTES as u64)?.checked_sub(1)?;
    if !mapping.contains(start) || !mapping.contains(last) {
        return None;
    }
    let memory = Memory::open(process, thread).ok()?;
    if !memory.is_there(start) || !memory.is_there(last) {
        return None;
    }
    let bytes: [u8; BYTES] = whole(&memory, Some(mapping), start)?;
    let mut words = [0_u32; Words::COUNT];
    let (parts, _) = bytes.as_chunks::<4>();
    for (word, part) in words.iter_mut().zip(parts) {
        *word = u32::from_ne_bytes(*part);
    }
    Some(Words(words))
}

/// So many bytes of a mapping, if they all lie in it and their pages are there.
pub(super) fn part<const N: usize>(
    process: u32,
    thread: u32,
    address: u64,
    mapping: &Mapping,
) -> Option<[u8; N]> {
    let last = address.checked_add(N as u64)?.checked_sub(1)?;
    if !mapping.contains(address) || !mapping.contains(last) {
        return None;
    }
    let memory = Memory::open(process, thread).ok()?;
    let there = memory.is_there(address) && memory.is_there(last);
    there.then(|| whole(&memory, Some(mapping), address))?
}

/// So many bytes of the memory that is a process's own, such as its stack, if their pages are there.
pub(super) fn there<const N: usize>(process: u32, address: u64) -> Option<[u8; N]> {
    whole(&Memory::open(process, process).ok()?, None, address)
}

/// All of so many bytes. Those of one page are of one moment.
fn whole<const N: usize>(memory: &Memory, mapping: Option<&Mapping>, address: u64) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    let mut filled = 0;
    while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        budget::read(rest.len()).ok()?;
        match memory.read(mapping, rest, address.checked_add(filled as u64)?) {
            Ok(count @ 1..) => filled += count,
            _ => return None,
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod sharing;

#[cfg(test)]
mod tests {
    use super::*;

    fn own_words(address: u64) -> Option<Words> {
        let own = std::process::id();
        words(own, own, address, Maps::of_process(own).unwrap().find(address)?)
    }

    #[test]
    fn words_are_read_from_16_bytes_before_to_32_after() {
        let memory: Vec<u32> = (100..130).collect();
        let seen = own_words(std::ptr::from_ref(&memory[10]).addr() as u64).unwrap();
        assert_eq!(seen.at(-16), Some(106));
        assert_eq!(seen.at(0), Some(110));
        assert_eq!(seen.at(28), Some(117));
        assert_eq!(seen.at(32), None);
    }

    #[test]
    fn what_is_not_wholly_there_is_not_read() {
        // SAFETY: an anonymous mapping at an address of the kernel's choice.
        let memory = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                8192,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        let start = memory.addr() as u64;
        assert_eq!(own_words(start + 64), None, "its page is not there yet");
        // SAFETY: the mapping is 8192 bytes long and writable.
        unsafe { memory.cast::<u8>().write(1) };
        assert!(own_words(start + 64).is_some());
        assert_eq!(own_words(start + 4096), None, "its second page is not there yet");
        assert_eq!(own_words(8), None);
        assert_eq!(own_words(u64::MAX), None);
        // SAFETY: nothing points into the mapping any more.
        unsafe { libc::munmap(memory, 8192) };
    }
}
