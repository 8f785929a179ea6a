//! All that a process has in memory for itself, gone through page by page: what is no file's, and is there.
//!
//! Nothing is copied for it and nothing fetched: see [`super::process`] for how it is read.

use std::{cell::RefCell, io, os::unix::fs::FileExt as _};

use super::{
    pagemap::{Page, page_size},
    process::Memory,
};
use crate::host::{
    answering::Answers,
    attention::attend_to,
    budget::{self, Exceeded},
    maps::Mapping,
};

/// Pages that are read at once: as many as are asked about at once.
const PAGES: u64 = 64;
/// What lies across two pieces is shown with the second: as many bytes of the first are shown again.
const OVERLAP: usize = 256;

/// The pages of one process.
pub(in crate::host) struct OwnPages {
    process: u32,
    memory: Memory,
    /// What is read goes here, piece after piece.
    piece: RefCell<Vec<u8>>,
}

impl OwnPages {
    /// An error where the kernel does not tell which of its pages are there.
    pub(in crate::host) fn of_process(process: u32) -> io::Result<Self> {
        let memory = Memory::open(process, process)?;
        if memory.pages.is_none() {
            return Err(io::Error::other("the kernel shows no pagemap"));
        }
        let room = usize::try_from(PAGES * page_size()).unwrap_or(0) + 2 * OVERLAP;
        Ok(Self { process, memory, piece: RefCell::new(vec![0; room]) })
    }

    /// Whether a mapping may be gone through: the process can write to it, no other can, and no file system that others
    /// answer for comes into it. A device's memory may do something when it is read.
    pub(in crate::host) fn admits(&self, mapping: &Mapping) -> bool {
        let is_own = mapping.readable && mapping.writable && !mapping.shared;
        is_own
            && (!mapping.is_file()
                || !mapping.path.starts_with(b"/dev/") && self.memory.answers(mapping) == Answers::Itself)
    }

    /// Shows all of a mapping from an address on, in pieces by ascending address: where each begins, and what is there.
    /// The last [`OVERLAP`] bytes of a run of pages are shown once more, with zeros after them. Tells how many bytes were
    /// read.
    pub(in crate::host) fn go_through(
        &self,
        mapping: &Mapping,
        from: u64,
        mut show: impl FnMut(u64, &[u8]),
    ) -> Result<u64, Exceeded> {
        attend_to(self.process);
        let Some(pagemap) = &self.memory.pages else { return Ok(0) };
        let size = page_size();
        let mut piece = self.piece.borrow_mut();
        let (mut carried, mut searched) = (0, 0);
        let mut at = from.max(mapping.start) / size * size;
        while at < mapping.end {
            let count = usize::try_from(((mapping.end - at) / size).clamp(1, PAGES)).unwrap_or(1);
            let pages = pagemap.pages(at, count);
            budget::steps(1)?;
            if pages.is_empty() {
                break;
            }
            let is_own = |page: &Page| page.is_present() && !page.is_of_file();
            let own = pages.iter().take_while(|page| is_own(page)).count();
            if own == 0 {
                Self::end_run(&mut piece, &mut carried, at, &mut show);
                let others = pages.iter().take_while(|page| !is_own(page)).count().max(1);
                at = at.saturating_add((others as u64).saturating_mul(size));
                continue;
            }
            let length = usize::try_from(size).unwrap_or(0) * own;
            budget::read(length)?;
            let read = piece
                .get_mut(carried..carried + length)
                .map_or(0, |place| self.memory.plain.read_at(place, at).unwrap_or(0));
            searched += read as u64;
            if let Some(bytes) = piece.get(..carried + read) {
                show(at.saturating_sub(carried as u64), bytes);
            }
            let end = carried + read;
            carried = end.min(OVERLAP);
            piece.copy_within(end - carried..end, 0);
            at = at.saturating_add(length as u64);
            if read < length {
                Self::end_run(&mut piece, &mut carried, at - (length - read) as u64, &mut show);
            }
        }
        Self::end_run(&mut piece, &mut carried, at, &mut show);
        Ok(searched)
    }

    fn end_run(piece: &mut [u8], carried: &mut usize, end: u64, show: &mut impl FnMut(u64, &[u8])) {
        let length = std::mem::take(carried);
        if length == 0 {
            return;
        }
        if let Some(zeros) = piece.get_mut(length..length + OVERLAP) {
            zeros.fill(0);
        }
        if let Some(bytes) = piece.get(..length + OVERLAP) {
            show(end.saturating_sub(length as u64), bytes);
        }
    }

    /// Whether nobody has written the page of an address since a fork: another process has the very same. To be asked
    /// after the page was read.
    pub(in crate::host) fn is_untouched(&self, address: u64) -> bool {
        let page = self.memory.pages.as_ref().and_then(|pages| pages.pages(address, 1).first().copied());
        page.is_some_and(Page::is_shared_memory_of_forks)
    }
}
