//! The words of a lock in another process. Both calls end when this process is killed, whatever the memory waits for.

use std::io::{self, IoSlice, IoSliceMut};

use nix::{
    sys::uio::{RemoteIoVec, process_vm_readv, process_vm_writev},
    unistd::Pid,
};

use super::lock::Word;

const SIZE: usize = 4;

/// So many words of the memory of a thread, from an address on; nothing where they are not all to be had.
pub(super) fn read(thread: Pid, address: u64, count: usize) -> Option<Vec<u32>> {
    let mut bytes = vec![0; count.checked_mul(SIZE)?];
    let remote = RemoteIoVec { base: usize::try_from(address).ok()?, len: bytes.len() };
    let got = process_vm_readv(thread, &mut [IoSliceMut::new(&mut bytes)], &[remote]).ok()?;
    let (words, _) = bytes.as_chunks::<SIZE>();
    (got == bytes.len()).then(|| words.iter().map(|word| u32::from_ne_bytes(*word)).collect())
}

/// Writes what each word is to be, in their order. Should that break off, what was written is taken back.
pub(super) fn write(thread: Pid, words: &[Word]) -> io::Result<()> {
    for (done, word) in words.iter().enumerate() {
        if let Err(error) = write_word(thread, word.address, word.after) {
            for written in words.iter().take(done) {
                write_word(thread, written.address, written.before)?;
            }
            return Err(error);
        }
    }
    Ok(())
}

fn write_word(thread: Pid, address: u64, word: u32) -> io::Result<()> {
    let base = usize::try_from(address).map_err(io::Error::other)?;
    let remote = RemoteIoVec { base, len: SIZE };
    match process_vm_writev(thread, &[IoSlice::new(&word.to_ne_bytes())], &[remote])? {
        SIZE => Ok(()),
        _ => Err(io::ErrorKind::WriteZero.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word(of: &u32, before: u32, after: u32) -> Word {
        Word { name: "lock", address: std::ptr::from_ref(of).addr() as u64, before, after }
    }

    #[test]
    fn words_are_read_and_written_where_they_are() {
        let (own, memory) = (Pid::this(), vec![1_u32, 2, 3]);
        let address = memory.as_ptr().addr() as u64;
        assert_eq!(read(own, address, 3), Some(vec![1, 2, 3]));
        assert_eq!(read(own, 8, 1), None);
        write(own, &[word(&memory[2], 3, 30), word(&memory[0], 1, 10)]).unwrap();
        assert_eq!(read(own, address, 3), Some(vec![10, 2, 30]));
    }

    #[test]
    fn what_breaks_off_is_taken_back() {
        let (own, memory) = (Pid::this(), vec![1_u32]);
        let nowhere = Word { name: "lock", address: 8, before: 0, after: 1 };
        assert!(write(own, &[word(&memory[0], 1, 10), nowhere]).is_err());
        assert_eq!(read(own, memory.as_ptr().addr() as u64, 1), Some(vec![1]));
    }
}
