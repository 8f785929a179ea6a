//! Output that was in a process's buffers when it was forked: each copy is written, if both end in the usual way.
//!
//! glibc has its streams in a list that begins at `_IO_list_all`. What a stream of the child's has not written is from before
//! the fork where nobody has written the pages of its buffer since: then the child's memory there is its forker's still. It
//! is taken to be so, too, where the forker has the very same bytes at the same place: it leaves them there when it has
//! written them. Two that print the same after the fork cannot be told from that.

use std::{io, rc::Rc};

use super::{
    absence, budget,
    bytes::Bytes,
    clock,
    descriptors::Table,
    maps::Maps,
    memory::{self, OwnPages},
    program, stack,
    stat::Stat,
};
use crate::model::{
    glibc::{STREAM_SIZE, Stream},
    process::ProcessKey,
    unflushed::{ForkersCopy, MAX_STREAMS, Unflushed, UnflushedSeen, UnflushedStream},
};

/// Streams of one process that are looked at.
const MAX_LIST: usize = 256;
/// A buffer with more is none of the C library's making.
const MAX_BUFFER: u64 = 1024 * 1024;
/// The smallest page of any machine: a look at each of its pages is one at each so far apart.
const PAGE: u64 = 4096;

/// See [`crate::model::evidence::Request::Unflushed`].
pub(super) fn unflushed(child: ProcessKey, forker: ProcessKey) -> UnflushedSeen {
    let seen = look(child, forker).unwrap_or_else(|error| {
        let why = absence::reason(child.tgid, "mem", &error);
        why.map_or(UnflushedSeen::Gone, UnflushedSeen::Unreadable)
    });
    // What was read is another's where the pid has changed hands meanwhile.
    if Stat::lives(child) { seen } else { UnflushedSeen::Gone }
}

fn look(child: ProcessKey, forker: ProcessKey) -> io::Result<UnflushedSeen> {
    let stat = Stat::of_process(child.tgid)?;
    if !stat.is(child) || stat.process_has_ended() || !stat.is_unexeced() {
        return Ok(UnflushedSeen::Gone);
    }
    // Another C library has other streams, and a program without any has none.
    let Some(first) = stack::variable_of_c_library(child, b"_IO_list_all") else {
        return Ok(UnflushedSeen::None);
    };
    let streams = streams(child.tgid, first)?;
    if streams.iter().all(|(_, stream)| stream.unwritten.1 == 0) {
        return Ok(UnflushedSeen::None);
    }
    let pages = OwnPages::of_process(child.tgid)?;
    let own = memory_of(child.tgid)?;
    let forkers = Stat::of(forker).filter(|stat| !stat.process_has_ended());
    let forkers = forkers.and_then(|stat| memory_of(stat.id).ok());
    let table = Table::of_process(child.tgid);
    let mut found = Vec::new();
    for (at, stream) in streams {
        let (begin, length) = stream.unwritten;
        if length == 0 || found.len() >= MAX_STREAMS {
            continue;
        }
        let is_same = forkers.as_ref().is_some_and(|forkers| is_same(&own, forkers, begin, length));
        if !is_same && !is_untouched(&pages, begin, length)? {
            continue;
        }
        let Ok(fd) = u32::try_from(stream.descriptor) else { continue };
        let Some(descriptor) = table.get(fd)? else { continue };
        found.push(UnflushedStream {
            fd,
            path: String::from_utf8_lossy(descriptor.link()).into_owned(),
            bytes: length,
            forker: forkers.as_ref().map_or(ForkersCopy::Unknown, |forkers| copy_of(forkers, at, &stream)),
        });
    }
    // What was read of the forker is another's where its pid has changed hands meanwhile.
    if found.is_empty() || forkers.is_some() && !Stat::lives(forker) {
        return Ok(UnflushedSeen::None);
    }
    Ok(UnflushedSeen::Unflushed(Box::new(Unflushed {
        at: clock::now(),
        comm: stat.comm,
        program: program::read(child.tgid, &stat),
        streams: found,
    })))
}

fn memory_of(tgid: u32) -> io::Result<Bytes> {
    memory::of_process(tgid, Rc::new(Maps::of_process(tgid)?))
}

/// Whether two processes have the same at one place.
fn is_same(one: &Bytes, other: &Bytes, begin: u64, length: u64) -> bool {
    let Some(length) = usize::try_from(length).ok().filter(|length| *length as u64 <= MAX_BUFFER) else {
        return false;
    };
    one.take(begin, length).is_some_and(|bytes| other.take(begin, length) == Some(bytes))
}

/// The streams in the list of a process, and where each is.
fn streams(tgid: u32, list: u64) -> io::Result<Vec<(u64, Stream)>> {
    let memory = memory_of(tgid)?;
    let mut at = memory.word(list).unwrap_or_default();
    let mut found: Vec<(u64, Stream)> = Vec::new();
    // A list that goes in a circle ends here too.
    while at != 0 && found.len() < MAX_LIST {
        budget::steps(1)?;
        let Some(bytes) = memory.array::<STREAM_SIZE>(at) else { break };
        let Some(stream) = Stream::parse(&bytes) else { break };
        found.push((at, stream));
        at = stream.next;
    }
    Ok(found)
}

/// Whether nobody has written that memory since the fork.
fn is_untouched(pages: &OwnPages, begin: u64, length: u64) -> io::Result<bool> {
    if length > MAX_BUFFER {
        return Ok(false);
    }
    let last = begin.saturating_add(length - 1);
    let mut at = begin;
    loop {
        budget::steps(1)?;
        if !pages.is_untouched(at) {
            return Ok(false);
        }
        if at == last {
            return Ok(true);
        }
        at = at.saturating_add(PAGE).min(last);
    }
}

/// What the forker has of a stream's bytes: its stream is at the same address.
fn copy_of(forkers: &Bytes, at: u64, stream: &Stream) -> ForkersCopy {
    let its = forkers.array::<STREAM_SIZE>(at).and_then(|bytes| Stream::parse(&bytes));
    let is_it = |its: &Stream| its.buffer == stream.buffer && its.descriptor == stream.descriptor;
    match its.filter(is_it) {
        Some(its) if its.unwritten.1 >= stream.unwritten.1 => ForkersCopy::Unwritten,
        Some(_) => ForkersCopy::Written,
        None => ForkersCopy::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use std::{ffi::CString, os::fd::IntoRawFd as _};

    use super::*;
    use crate::host::forked::Forked;

    const BUFFER: usize = 8192;

    /// A stream of the C library's to a file, with a buffer in pages of its own.
    struct Output(*mut libc::FILE, i32);

    impl Output {
        fn new() -> Self {
            let fd = tempfile::tempfile().unwrap().into_raw_fd();
            // SAFETY: the mode is a string, and the descriptor belongs to the stream from now on.
            let stream = unsafe { libc::fdopen(fd, c"w".as_ptr()) };
            assert!(!stream.is_null());
            let (access, kind) =
                (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
            // SAFETY: a new mapping at an address of the kernel's choice.
            let buffer = unsafe { libc::mmap(std::ptr::null_mut(), BUFFER, access, kind, -1, 0) };
            // SAFETY: nothing was written yet, and the mapping stays for as long as the process.
            assert_eq!(unsafe { libc::setvbuf(stream, buffer.cast(), libc::_IOFBF, BUFFER) }, 0);
            Self(stream, fd)
        }

        fn put(&self, byte: char) {
            let text = CString::new(byte.to_string().repeat(3000)).unwrap();
            // SAFETY: the stream is open, and the text ends in NUL.
            assert!(unsafe { libc::fputs(text.as_ptr(), self.0) } >= 0);
        }

        fn flush(&self) {
            // SAFETY: the stream is open.
            assert_eq!(unsafe { libc::fflush(self.0) }, 0);
        }
    }

    impl Drop for Output {
        fn drop(&mut self) {
            // SAFETY: it is closed once.
            unsafe { libc::fclose(self.0) };
        }
    }

    fn own() -> ProcessKey {
        Stat::of_process(std::process::id()).unwrap().key()
    }

    fn seen(child: &Forked, output: &Output) -> Option<UnflushedStream> {
        match unflushed(child.key(), own()) {
            UnflushedSeen::Unflushed(seen) => {
                seen.streams.into_iter().find(|stream| stream.fd == output.1.cast_unsigned())
            }
            UnflushedSeen::None => None,
            other => panic!("{other:?}"),
        }
    }

    /// How many bytes a child has not written yet.
    fn unwritten(child: &Forked, output: &Output) -> u64 {
        let first = stack::variable_of_c_library(child.key(), b"_IO_list_all").unwrap();
        let streams = streams(child.tgid(), first).unwrap();
        streams.into_iter().find(|(_, stream)| stream.descriptor == output.1).unwrap().1.unwritten.1
    }

    fn wait_until(condition: impl Fn() -> bool) {
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
        while !condition() {
            assert!(std::time::Instant::now() < deadline);
            std::thread::yield_now();
        }
    }

    #[test]
    fn what_was_unwritten_at_the_fork_is_seen_until_the_child_writes_it() {
        let output = Output::new();
        output.put('x');
        let (carries, writes) = (Forked::new(), Forked::into(|| output.flush()));
        let stream = seen(&carries, &output).unwrap();
        assert_eq!((stream.bytes, stream.forker), (3000, ForkersCopy::Unwritten));
        wait_until(|| unwritten(&writes, &output) == 0);
        assert_eq!(seen(&writes, &output), None);
        output.flush();
        assert_eq!(seen(&carries, &output).unwrap().forker, ForkersCopy::Written);
    }

    #[test]
    fn what_was_written_before_or_is_the_childs_own_is_not_seen() {
        let output = Output::new();
        output.put('x');
        output.flush();
        let (idle, writes) = (Forked::new(), Forked::into(|| output.put('y')));
        assert_eq!(seen(&idle, &output), None);
        wait_until(|| unwritten(&writes, &output) == 3000);
        assert_eq!(seen(&writes, &output), None);
    }

    #[test]
    fn a_process_that_has_ended_is_gone() {
        let child = Forked::new();
        let key = child.key();
        drop(child);
        assert_eq!(unflushed(key, own()), UnflushedSeen::Gone);
    }
}
