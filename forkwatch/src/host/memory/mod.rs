//! The memory of other processes. Takes `CAP_SYS_PTRACE`, and for other users' `CAP_DAC_READ_SEARCH`.

mod own_pages;
mod pagemap;
mod process;

use std::{io, rc::Rc};

pub(super) use self::own_pages::OwnPages;
use self::{
    pagemap::page_size,
    process::{Mapped, Memory},
};
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

/// The words around a futex word, as far as they may be read; absent where that may not be, or is none.
///
/// A page that is not in memory is not brought in: a lock that somebody waits for is there. The page beside it need not
/// be, nor lie in the same mapping: a static variable may be the last of one, or the first.
pub(super) fn words(process: u32, thread: u32, address: u64, maps: &Maps) -> Option<Words> {
    let start = address.checked_sub(Words::BEFORE).filter(|_| address.is_multiple_of(4))?;
    let end = start.checked_add(BYTES as u64)?;
    let memory = Memory::open(process, thread).ok()?;
    let size = page_size();
    let boundary = (start / size + 1).checked_mul(size)?.min(end);
    let mut words = Words([None; Words::COUNT]);
    let (before, after) = words.0.split_at_mut_checked(usize::try_from((boundary - start) / 4).ok()?)?;
    for (part, at) in [(before, start), (after, boundary)] {
        let mapping = maps.find(at).filter(|_| !part.is_empty() && memory.is_there(at));
        let mut bytes = [0; BYTES];
        let bytes = bytes.get_mut(..4 * part.len())?;
        if mapping.is_some() && fill(&memory, mapping, bytes, at).is_some() {
            let (read, _) = bytes.as_chunks::<4>();
            part.iter_mut().zip(read).for_each(|(word, read)| *word = Some(u32::from_ne_bytes(*read)));
        }
    }
    words.at(0).map(|_| words)
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
    fill(memory, mapping, &mut bytes, address).map(|()| bytes)
}

/// Fills all of these bytes.
fn fill(memory: &Memory, mapping: Option<&Mapping>, bytes: &mut [u8], address: u64) -> Option<()> {
    let mut filled = 0;
    while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        budget::read(rest.len()).ok()?;
        match memory.read(mapping, rest, address.checked_add(filled as u64)?) {
            Ok(count @ 1..) => filled += count,
            _ => return None,
        }
    }
    Some(())
}

#[cfg(test)]
mod sharing;

#[cfg(test)]
mod tests {
    use super::*;

    fn own_words(address: u64) -> Option<Words> {
        let own = std::process::id();
        words(own, own, address, &Maps::of_process(own).unwrap())
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
    fn what_lies_on_another_page_is_read_as_far_as_that_is_there() {
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
        assert!(own_words(start + 64).is_some_and(|words| words.0.iter().all(Option::is_some)));
        assert_eq!(own_words(start + 4096), None, "its second page is not there yet");
        // The last lock of a page, whose words go on into what is not there.
        let last = own_words(start + 4096 - 24).unwrap();
        assert_eq!((last.at(-16), last.at(20), last.at(24)), (Some(0), Some(0), None));
        // And the first, whose words begin in what is not mapped.
        let first = own_words(start).unwrap();
        assert_eq!((first.at(0), first.at(28)), (Some(1), Some(0)));
        assert_eq!(own_words(start + 2), None, "no futex is there");
        assert_eq!(own_words(8), None);
        assert_eq!(own_words(u64::MAX), None);
        // SAFETY: nothing points into the mapping any more.
        unsafe { libc::munmap(memory, 8192) };
    }
}
