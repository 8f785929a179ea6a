//! The memory of a process, read so that it neither waits nor copies, as far as the kernel lets one.
//!
//! `/proc/PID/mem` copies nothing, but sleeps where a page must be fetched, and not even SIGKILL ends that sleep
//! (`__access_remote_vm` in mm/memory.c: its faults may neither be retried nor killed): a page of a file system that
//! never answers would hold the reader for good. `process_vm_readv(2)` can be killed, but it pins what it reads, and a
//! page that a fork shares is copied for that (`gup_must_unshare`, mm/gup.c). So anonymous memory is read the first
//! way, and only where it is there; files the second, which copies none of them.

use std::{
    cell::RefCell,
    fs::File,
    io::{self, IoSliceMut},
    os::unix::fs::FileExt,
    rc::Rc,
};

use super::pagemap::{Page, Pagemap, page_size};
use crate::host::{
    answering::Answers,
    attention::attend_to,
    bytes::Source,
    file_systems,
    maps::{Mapping, Maps},
};

/// What the kernel shows of its own code in every process: there is no file system behind it, fetched or not.
const KERNELS_OWN: &[u8] = b"[vdso]";

/// How a page is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// `/proc/PID/mem`.
    Plain,
    /// `process_vm_readv(2)`.
    Killable,
}

/// The memory of a process, of the program that it runs now: after an exec there is none to be read.
pub(super) struct Memory {
    process: u32,
    thread: u32,
    pub(super) plain: File,
    pub(super) pages: Option<Pagemap>,
    /// The device that was asked about last, and who answers for its file system.
    answers: RefCell<Option<((u64, u64), Answers)>>,
}

impl Memory {
    /// By one of its threads: that of a process whose main thread has ended can be read by the others alone.
    pub(super) fn open(process: u32, thread: u32) -> io::Result<Self> {
        let plain = File::open(format!("/proc/{process}/task/{thread}/mem"))?;
        let pages = Pagemap::of_thread(process, thread);
        Ok(Self { process, thread, plain, pages, answers: RefCell::new(None) })
    }

    /// Whether the page of an address is in memory or in swap. Where the kernel does not tell, it is taken for that.
    pub(super) fn is_there(&self, address: u64) -> bool {
        self.pages
            .as_ref()
            .is_none_or(|pages| pages.pages(address, 1).first().is_some_and(|page| page.is_there()))
    }

    /// Fills the beginning of `bytes`, as far as its pages can be read in the same way as the first. `mapping` is the
    /// one that the address lies in; without one only memory is read that is no file's for sure.
    pub(super) fn read(
        &self,
        mapping: Option<&Mapping>,
        bytes: &mut [u8],
        address: u64,
    ) -> io::Result<usize> {
        attend_to(self.process);
        let end = mapping.map_or(u64::MAX, |mapping| mapping.end);
        let size = page_size();
        let first = address / size;
        let room = usize::try_from(end.saturating_sub(address)).unwrap_or(usize::MAX).min(bytes.len());
        let Some(last) = (room as u64).checked_sub(1).and_then(|last| address.checked_add(last)) else {
            return Ok(0);
        };
        let count = usize::try_from(last / size - first + 1).unwrap_or(usize::MAX);
        let (way, pages) = match &self.pages {
            Some(pagemap) => {
                let pages = pagemap.pages(address, count);
                let way = |page: &Page| self.way(mapping, Some(*page));
                let first = pages.first().and_then(way);
                (first, pages.iter().take_while(|page| way(page) == first).count())
            }
            None => (self.way(mapping, None), count),
        };
        let until = first.saturating_add(pages as u64).saturating_mul(size);
        let length = usize::try_from(until.saturating_sub(address)).unwrap_or(usize::MAX).min(room);
        let bytes = bytes.get_mut(..length).unwrap_or_default();
        match way {
            Some(Way::Plain) => FileExt::read_at(&self.plain, bytes, address),
            Some(Way::Killable) => self.read_killably(bytes, address),
            None => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    /// How a page is read; absent where that might wait for somebody, or bring in what is not there.
    fn way(&self, mapping: Option<&Mapping>, page: Option<Page>) -> Option<Way> {
        way(mapping, page, |mapping| self.answers(mapping))
    }

    pub(super) fn answers(&self, mapping: &Mapping) -> Answers {
        let (major, minor, _) = mapping.file;
        let known = self.answers.borrow().filter(|(device, _)| *device == (major, minor));
        known.map_or_else(
            || {
                let answers = file_systems::of_device(self.process, (major, minor));
                *self.answers.borrow_mut() = Some(((major, minor), answers));
                answers
            },
            |(_, answers)| answers,
        )
    }

    fn read_killably(&self, bytes: &mut [u8], address: u64) -> io::Result<usize> {
        let refused = |_| io::Error::from(io::ErrorKind::InvalidInput);
        let pid = libc::pid_t::try_from(self.thread).map_err(refused)?;
        let start = usize::try_from(address).map_err(refused)?;
        let theirs = libc::iovec { iov_base: std::ptr::without_provenance_mut(start), iov_len: bytes.len() };
        let mut ours = IoSliceMut::new(bytes);
        // SAFETY: an `IoSliceMut` is laid out as the iovec of bytes that may be written; the other one is an address of
        // the other process, which the kernel checks.
        let read = unsafe { libc::process_vm_readv(pid, (&raw mut ours).cast(), 1, &raw const theirs, 1, 0) };
        usize::try_from(read).map_err(|_| io::Error::last_os_error())
    }
}

fn way(mapping: Option<&Mapping>, page: Option<Page>, answers: impl Fn(&Mapping) -> Answers) -> Option<Way> {
    let is_memory = page.is_some_and(|page| page.is_there() && !page.is_of_file());
    let Some(mapping) = mapping else { return is_memory.then_some(Way::Plain) };
    if !mapping.readable {
        return None;
    }
    match page {
        _ if mapping.path == KERNELS_OWN => Some(Way::Plain),
        _ if !mapping.is_file() => page.is_none_or(Page::is_there).then_some(Way::Plain),
        Some(page) if page.is_present() && page.is_of_file() => Some(Way::Killable),
        // A copy of the process's own, which it can give back at any moment: then the file is read after all.
        Some(page) if page.is_there() => {
            Some(if answers(mapping) == Answers::Itself { Way::Plain } else { Way::Killable })
        }
        _ => (answers(mapping) != Answers::Anybody).then_some(Way::Killable),
    }
}

/// The memory of a process together with what lies where in it.
pub(super) struct Mapped {
    pub(super) memory: Memory,
    pub(super) maps: Rc<Maps>,
}

impl Source for Mapped {
    fn read_at(&self, bytes: &mut [u8], position: u64) -> io::Result<usize> {
        let mapping = self.maps.find(position).ok_or(io::ErrorKind::NotFound)?;
        self.memory.read(Some(mapping), bytes, position)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(path: &str) -> Mapping {
        Mapping { readable: true, path: path.into(), ..Mapping::default() }
    }

    #[test]
    fn nothing_is_read_that_somebody_else_must_fetch() {
        let (present, absent) = (Page::with(true, false, false), Page::with(false, false, false));
        let (file, swapped) = (Page::with(true, false, true), Page::with(false, true, false));
        let (itself, others, anybody) = (Answers::Itself, Answers::Others, Answers::Anybody);
        for (mapping, page, answers, expected) in [
            (of(""), Some(present), anybody, Some(Way::Plain)),
            (of("[heap]"), Some(swapped), anybody, Some(Way::Plain)),
            (of("[anon:/tmp/x]"), Some(present), anybody, Some(Way::Plain)),
            (of(""), Some(absent), itself, None),
            (of("[vdso]"), Some(absent), anybody, Some(Way::Plain)),
            // The file's own pages.
            (of("/usr/bin/x"), Some(file), itself, Some(Way::Killable)),
            (of("/fuse/x"), Some(file), anybody, Some(Way::Killable)),
            (of("/usr/bin/x"), Some(absent), itself, Some(Way::Killable)),
            (of("/net/x"), Some(absent), others, Some(Way::Killable)),
            (of("/net/x"), Some(present), others, Some(Way::Killable)),
            (of("/fuse/x"), Some(absent), anybody, None),
            (of("/fuse/[vdso]"), Some(absent), anybody, None),
            // What was written in them.
            (of("/usr/bin/x"), Some(present), itself, Some(Way::Plain)),
            (of("/fuse/x"), Some(present), anybody, Some(Way::Killable)),
            (of("/fuse/x"), Some(swapped), anybody, Some(Way::Killable)),
            // Without pagemap.
            (of(""), None, anybody, Some(Way::Plain)),
            (of("/usr/bin/x"), None, itself, Some(Way::Killable)),
            (of("/fuse/x"), None, anybody, None),
        ] {
            assert_eq!(way(Some(&mapping), page, |_| answers), expected, "{mapping:?} {page:?}");
            assert_eq!(way(Some(&Mapping { readable: false, ..mapping }), page, |_| answers), None);
        }
        assert_eq!(way(None, Some(present), |_| itself), Some(Way::Plain));
        for page in [Some(absent), Some(file), None] {
            assert_eq!(way(None, page, |_| itself), None);
        }
    }
}
