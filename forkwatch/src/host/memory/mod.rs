//! Words of another process's memory: `/proc/PID/task/TID/mem`. Takes `CAP_SYS_PTRACE`, and for other
//! users' `CAP_DAC_READ_SEARCH`.

use std::{fs::File, io, os::unix::fs::FileExt};

use super::{bytes::Bytes, maps::Mapping};
use crate::model::lock::Words;

const BYTES: usize = 4 * Words::COUNT;

/// The words around a futex word; absent where they may not be read, or do not all lie in its mapping.
///
/// A page that is not in memory is not brought in: the file system behind it may be its process's own, and keep the
/// reader waiting for ever (fuse(4)).
pub(super) fn words(process: u32, thread: u32, address: u64, mapping: &Mapping) -> Option<Words> {
    let start = address.checked_sub(Words::BEFORE)?;
    let last = start.checked_add(BYTES as u64)?.checked_sub(1)?;
    let within = mapping.readable && mapping.contains(start) && mapping.contains(last);
    if !within || !is_there(process, thread, start).ok()? || !is_there(process, thread, last).ok()? {
        return None;
    }
    let bytes: [u8; BYTES] = Bytes::of_memory_by(process, thread).ok()?.array(start)?;
    let mut words = [0_u32; Words::COUNT];
    let (parts, _) = bytes.as_chunks::<4>();
    for (word, part) in words.iter_mut().zip(parts) {
        *word = u32::from_ne_bytes(*part);
    }
    Some(Words(words))
}

/// So many bytes of a process, if their pages are in memory: none is brought in, as above.
pub(super) fn there<const N: usize>(process: u32, address: u64) -> Option<[u8; N]> {
    let last = address.checked_add(N as u64)?.checked_sub(1)?;
    if !is_there(process, process, address).ok()? || !is_there(process, process, last).ok()? {
        return None;
    }
    Bytes::of_memory(process).ok()?.array(address)
}

/// Whether the page of an address is in memory or in swap (Documentation/admin-guide/mm/pagemap.rst).
fn is_there(process: u32, thread: u32, address: u64) -> io::Result<bool> {
    let page_size = page_size();
    let mut entry = [0_u8; 8];
    File::open(format!("/proc/{process}/task/{thread}/pagemap"))?
        .read_exact_at(&mut entry, (address / page_size).saturating_mul(8))?;
    Ok(u64::from_ne_bytes(entry) >> 62 != 0)
}

fn page_size() -> u64 {
    // SAFETY: sysconf(3) touches no memory of ours.
    let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    u64::try_from(size).unwrap_or(4096)
}

#[cfg(test)]
mod tests {
    use super::{super::maps::Maps, *};

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
