//! Where processes' standard output and error go, and what is written there.
//!
//! A regular file is read from where it stood. Of a pipe, what lies in it is copied (tee(2)) through a duplicate of the end
//! that somebody reads from, which takes nothing out. The duplicate is closed before this returns. An end that can be
//! written to is never duplicated: whoever waits for the end of what a process writes, such as its master, must see it
//! when the process ends. Sockets are left alone: who reads them has taken everything at once, as the journal does.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read as _},
    os::{
        fd::{AsFd, OwnedFd},
        unix::{
            ffi::OsStrExt as _,
            fs::{FileExt as _, MetadataExt as _},
        },
    },
    path::Path,
};

use nix::{
    fcntl::{FcntlArg, OFlag, SpliceFFlags, fcntl, tee},
    sys::stat::fstat,
    unistd::pipe2,
};

use super::{
    attention::attend_to, descriptors::Table, file, pidfd::pidfd_open, socket::duplicate, stat::Stat,
    target_file,
};
use crate::model::{
    leak::{Access, Object},
    process::ProcessKey,
    written::{Count, Gulp, Stream, StreamAccess, StreamId, StreamsAsked, WrittenAsked, WrittenSeen},
};

/// Standard output and error.
const WRITTEN: [u32; 2] = [1, 2];
/// Most of a stream that is read in one look: what a pipe holds, unless somebody has made it larger.
const MOST: usize = 64 << 10;
/// Most streams of one answer.
const MOST_STREAMS: usize = 64;
/// Most descriptors that are looked at of a process that may read from a pipe.
const MOST_DESCRIPTORS: usize = 4096;

/// Where the standard output and error of these processes go. Pipes of which it is not known who reads from them are left out
/// unless that was looked for.
pub fn streams(asked: &StreamsAsked) -> Vec<Stream> {
    let mut found: BTreeMap<StreamId, Stream> = BTreeMap::new();
    for process in &asked.processes {
        for number in WRITTEN {
            let Some(stream) = stream(*process, number) else { continue };
            if found.len() >= MOST_STREAMS && !found.contains_key(&stream.id) {
                continue;
            }
            found.entry(stream.id).or_insert(stream).holders.push((*process, number));
        }
    }
    for (inode, process, number) in asked.readers.iter().filter(|reader| still_reads(reader)) {
        found.get_mut(&StreamId { device: 0, inode: *inode }).into_iter().for_each(|stream| {
            stream.access = StreamAccess::Pipe(*process, *number);
        });
    }
    let is_unknown = |stream: &Stream| stream.is_pipe() && matches!(stream.access, StreamAccess::No(_));
    if !asked.search {
        found.retain(|_, stream| !is_unknown(stream));
    }
    let pipes: Vec<StreamId> = found.values().filter(|one| is_unknown(one)).map(|one| one.id).collect();
    if !pipes.is_empty() {
        for (inode, process, number) in readers(&pipes) {
            if let Some(stream) = found.get_mut(&StreamId { device: 0, inode }) {
                stream.access = StreamAccess::Pipe(process, number);
            }
        }
    }
    found.into_values().collect()
}

/// Whether a process still has the end of a pipe that it was seen to have.
fn still_reads((inode, process, number): &(u64, ProcessKey, u32)) -> bool {
    let table = Table::of_process(process.tgid);
    Stat::of(*process).is_some()
        && table
            .get(*number)
            .is_ok_and(|found| found.and_then(|descriptor| descriptor.object()) == Some(Object::Pipe(*inode)))
        && matches!(table.access(*number), Ok(Some(Access::Read)))
}

impl Stream {
    fn is_pipe(&self) -> bool {
        self.name.starts_with("pipe:[")
    }
}

/// Where one descriptor of a process leads; none where that is nowhere that says anything.
fn stream(process: ProcessKey, number: u32) -> Option<Stream> {
    Stat::of(process)?;
    attend_to(process.tgid);
    let table = Table::of_process(process.tgid);
    let descriptor = table.get(number).ok()??;
    let name = String::from_utf8_lossy(descriptor.link()).into_owned();
    let no = |inode, why: &str| {
        let id = StreamId { device: 0, inode };
        Stream { id, name: name.clone(), access: StreamAccess::No(why.to_owned()), holders: Vec::new() }
    };
    match descriptor.object() {
        Some(Object::Pipe(inode)) => Some(no(inode, "nobody is known to read from it")),
        Some(Object::Socket(inode)) => {
            Some(no(inode, "it is a socket, as the journal's: journalctl shows what came there"))
        }
        None if name == "/dev/null" => None,
        None => {
            if let Some((_, about)) = target_file::file_of_descriptor(process.tgid, number) {
                let id = StreamId { device: about.dev(), inode: about.ino() };
                return Some(Stream {
                    id,
                    name,
                    access: StreamAccess::File(about.len()),
                    holders: Vec::new(),
                });
            }
            // Apart from other such names, and from real inodes.
            let mark = name.bytes().fold(0_u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
            let why = "it is a terminal, a device, or a file that another machine or program answers for";
            Some(no(mark | 1 << 63, why))
        }
    }
}

/// Who reads from these pipes and cannot write to them: inode, process, and its descriptor.
fn readers(pipes: &[StreamId]) -> Vec<(u64, ProcessKey, u32)> {
    let mut found = Vec::new();
    for tgid in file::numbers("/proc", usize::MAX).unwrap_or_default() {
        attend_to(tgid);
        let table = Table::of_process(tgid);
        let Ok(descriptors) = table.list(MOST_DESCRIPTORS) else { continue };
        for descriptor in descriptors {
            let Some(Object::Pipe(inode)) = descriptor.object() else { continue };
            if pipes.iter().any(|pipe| pipe.inode == inode)
                && matches!(table.access(descriptor.number), Ok(Some(Access::Read)))
                && let Ok(stat) = Stat::of_process(tgid)
            {
                found.push((inode, stat.key(), descriptor.number));
            }
        }
    }
    found
}

/// Reads what is to be read.
pub fn look(asked: &WrittenAsked) -> WrittenSeen {
    let counts: Vec<(ProcessKey, Option<u64>)> =
        asked.processes.iter().map(|(process, _)| (*process, written(*process))).collect();
    let has_written = |holder: ProcessKey| {
        asked
            .processes
            .iter()
            .zip(&counts)
            .any(|((process, then), (_, now))| *process == holder && then != now)
    };
    let is_read = |tap: &&Stream| asked.all || tap.holders.iter().any(|(holder, _)| has_written(*holder));
    let gulps = asked.taps.iter().filter(is_read).filter_map(gulp).collect();
    let count = |(process, before)| Count { process, before, after: written(process) };
    WrittenSeen { written: counts.into_iter().map(count).collect(), gulps }
}

/// Bytes that a process has written; none where it has ended, and nobody knows any more.
fn written(process: ProcessKey) -> Option<u64> {
    Stat::of(process)?;
    moved(process.tgid, "wchar:")
}

fn moved(tgid: u32, key: &str) -> Option<u64> {
    file::field(&file::read_small(format!("/proc/{tgid}/io")).ok()?, key)?.parse().ok()
}

fn gulp(tap: &Stream) -> Option<Gulp> {
    match tap.access {
        StreamAccess::File(position) => of_file(tap, position),
        StreamAccess::Pipe(process, number) => of_pipe(tap, process, number),
        StreamAccess::No(_) => None,
    }
}

/// What is new in a file. Where it is shorter than it was, somebody has emptied it, and it begins anew.
fn of_file(tap: &Stream, position: u64) -> Option<Gulp> {
    let StreamId { device, inode } = tap.id;
    let by_holder = tap.holders.iter().find_map(|(holder, number)| {
        attend_to(holder.tgid);
        Stat::of(*holder)?;
        let found = target_file::file_of_descriptor(holder.tgid, *number)?;
        ((found.1.dev(), found.1.ino()) == (device, inode)).then_some(found)
    });
    // All who had it may have ended.
    let path = Path::new(std::ffi::OsStr::from_bytes(tap.name.as_bytes()));
    let (file, about) = by_holder.or_else(|| target_file::file_at(path, device, inode))?;
    let length = about.len();
    let begin = if length < position { 0 } else { position };
    let new = length - begin;
    let passed_over = new.saturating_sub(MOST as u64);
    let mut bytes = vec![0; usize::try_from(new - passed_over).ok()?];
    let read = file.read_at(&mut bytes, begin + passed_over).ok()?;
    bytes.truncate(read);
    let position = begin + passed_over + u64::try_from(read).unwrap_or(0);
    Some(Gulp { id: tap.id, bytes, position, passed_over, taken: None })
}

/// What lies in a pipe.
fn of_pipe(tap: &Stream, process: ProcessKey, number: u32) -> Option<Gulp> {
    attend_to(process.tgid);
    // What it has read before: whoever compares must not take for new what was not taken out yet.
    let pidfd = pidfd_open(process.tgid).ok()?;
    Stat::of(process)?;
    let bytes = peek(&pidfd, number, tap.id.inode).ok()?;
    let taken = moved(process.tgid, "rchar:");
    Some(Gulp { id: tap.id, bytes, position: 0, passed_over: 0, taken })
}

/// Copies what lies in a pipe, and takes nothing out.
fn peek(pidfd: &OwnedFd, number: u32, inode: u64) -> io::Result<Vec<u8>> {
    let (ours, copy) = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?;
    {
        let end = duplicate(pidfd, number)?;
        is_reading_end(&end, inode)?;
        match tee(end.as_fd(), copy.as_fd(), MOST, SpliceFFlags::SPLICE_F_NONBLOCK) {
            Ok(_) | Err(nix::errno::Errno::EAGAIN) => {}
            Err(error) => return Err(error.into()),
        }
    }
    drop(copy);
    let mut bytes = Vec::new();
    File::from(ours).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Whether it is the end of that pipe from which is read, and nothing else.
fn is_reading_end(end: &OwnedFd, inode: u64) -> io::Result<()> {
    let about = fstat(end.as_fd())?;
    let flags = fcntl(end, FcntlArg::F_GETFL)?;
    if about.st_ino != inode
        || about.st_mode & libc::S_IFMT != libc::S_IFIFO
        || flags & libc::O_ACCMODE != libc::O_RDONLY
    {
        return Err(io::ErrorKind::NotFound.into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        io::Write as _,
        os::fd::AsRawFd as _,
        process::{Child, Command, Stdio},
    };

    use super::*;

    /// A shell that writes what it is told to.
    struct Writer(Child);

    impl Writer {
        fn new(out: impl Into<Stdio>) -> Self {
            let shell =
                Command::new("/bin/sh").stdin(Stdio::piped()).stdout(out).stderr(Stdio::null()).spawn();
            Self(shell.unwrap())
        }

        fn key(&self) -> ProcessKey {
            Stat::of_process(self.0.id()).unwrap().key()
        }

        /// Returns once it has been written.
        fn write(&mut self, line: &str) {
            let before = written(self.key());
            writeln!(self.0.stdin.as_mut().unwrap(), "echo {line}").unwrap();
            while written(self.key()) == before {
                std::thread::yield_now();
            }
        }

        fn end(&mut self) {
            self.0.kill().unwrap();
            self.0.wait().unwrap();
        }
    }

    fn of(process: ProcessKey) -> StreamsAsked {
        StreamsAsked { processes: vec![process], readers: Vec::new(), search: true }
    }

    fn asked(process: ProcessKey, before: Option<u64>, tap: &Stream) -> WrittenAsked {
        WrittenAsked { processes: vec![(process, before)], taps: vec![tap.clone()], all: false }
    }

    #[test]
    fn a_file_is_read_from_where_it_stood_also_when_its_writer_has_ended() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        fs::write(&path, "before\n").unwrap();
        let out = File::options().append(true).open(&path).unwrap();
        let mut writer = Writer::new(out);
        let process = writer.key();
        let [stream] = <[Stream; 1]>::try_from(streams(&of(process))).unwrap();
        assert_eq!(stream.access, StreamAccess::File(7));
        assert_eq!(stream.holders, [(process, 1)]);
        let mut tap = stream;
        let before = written(process);
        writer.write("one");
        let seen = look(&asked(process, before, &tap));
        let gulp = &seen.gulps[0];
        assert_eq!((gulp.bytes.as_slice(), gulp.position), (&b"one\n"[..], 11));
        assert!(look(&asked(process, written(process), &tap)).gulps.is_empty(), "nobody has written");
        tap.access = StreamAccess::File(gulp.position);
        writer.write("two");
        writer.end();
        let seen = look(&asked(process, before, &tap));
        assert_eq!(seen.gulps[0].bytes, b"two\n");
        assert_eq!(seen.written, [Count { process, before: None, after: None }]);
        // Emptied, as logrotate does it (copytruncate).
        fs::write(&path, "new\n").unwrap();
        tap.access = StreamAccess::File(15);
        let seen = look(&WrittenAsked { all: true, ..asked(process, before, &tap) });
        assert_eq!(seen.gulps[0].bytes, b"new\n");
        // Another file of that name is another stream.
        let other = folder.path().join("other");
        fs::write(&other, "other\n").unwrap();
        fs::rename(&other, &path).unwrap();
        assert!(look(&WrittenAsked { all: true, ..asked(process, before, &tap) }).gulps.is_empty());
    }

    #[test]
    fn what_lies_in_a_pipe_is_seen_and_stays_there_and_no_end_is_kept() {
        // Other tests start programs, too.
        let (end, other) = pipe2(OFlag::O_CLOEXEC).unwrap();
        let mut writer = Writer::new(other);
        let process = writer.key();
        let [stream] = <[Stream; 1]>::try_from(streams(&of(process))).unwrap();
        let number = u32::try_from(end.as_raw_fd()).unwrap();
        let own = Stat::of_process(std::process::id()).unwrap().key();
        assert_eq!(stream.access, StreamAccess::Pipe(own, number), "{stream:?}");
        // It is looked for among all processes only where that is asked for.
        assert!(streams(&StreamsAsked { search: false, ..of(process) }).is_empty());
        let readers = vec![(stream.id.inode, own, number)];
        let known = streams(&StreamsAsked { search: false, readers, ..of(process) });
        assert_eq!(known, std::slice::from_ref(&stream));
        let tap = stream;
        writer.write("hello");
        let seen = look(&asked(process, None, &tap));
        assert_eq!(seen.gulps[0].bytes, b"hello\n");
        writer.end();
        // Whoever reads gets all of it, and then its end.
        let mut all = String::new();
        File::from(end).read_to_string(&mut all).unwrap();
        assert_eq!(all, "hello\n");
    }

    #[test]
    fn an_end_that_can_be_written_to_is_not_duplicated() {
        let (end, other) = pipe2(OFlag::O_CLOEXEC).unwrap();
        let inode = fstat(&other).unwrap().st_ino;
        assert!(is_reading_end(&end, inode).is_ok() && is_reading_end(&end, inode + 1).is_err());
        assert!(is_reading_end(&other, inode).is_err());
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("fifo");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let both = OwnedFd::from(File::options().read(true).write(true).open(&path).unwrap());
        assert!(is_reading_end(&both, fstat(&both).unwrap().st_ino).is_err());
    }
}
