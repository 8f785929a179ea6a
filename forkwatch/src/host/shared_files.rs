//! Regular files that a forked process and others of its family have open at one place for all, and who moves that.
//!
//! The kernel does not tell who moved the offset of an open file. It counts what each process has read and written
//! (`/proc/PID/io`). Where the offset has moved and, of all that have the file, the count of one process alone has, that one
//! moved it. A count is read before the offset and after it, so that nothing of the others' can lie in between. All children
//! of the forker are looked at for that, and where an offset moves that none of them moved, nothing is concluded.

use std::{io, thread::sleep, time::Duration};

use super::{
    absence::{self, unless_gone},
    budget, clock,
    descriptors::{Descriptor, STANDARD, Table},
    file,
    kcmp::{FILES, same, same_file},
    lock_line::Line,
    program,
    stat::Stat,
    status::Status,
    target_file,
};
use crate::model::{
    inventory::{DatabaseKind, FileLockKind, OpenFile},
    process::ProcessKey,
    shared_file::{ClosedDatabase, FileUser, MAX_FILES, SharedFile, SharedFiles, SharedFilesSeen},
};

/// Descriptors that are looked at, from the lowest.
const MAX_DESCRIPTORS: usize = 4096;
/// Threads of the forker whose children are looked at, and children.
const MAX_THREADS: usize = 1024;
const MAX_CHILDREN: usize = 32;
/// How often the offsets are looked at: where nothing speaks for a use, and else.
const FEW: usize = 3;
const MANY: usize = 60;
/// How long after one look the next is.
const PAUSE: Duration = Duration::from_millis(1);

/// See [`crate::model::evidence::Request::SharedFiles`].
pub(super) struct Question<'a> {
    /// The forked process: its tgid, and when it started.
    pub(super) child: ProcessKey,
    /// The process that forked it.
    pub(super) forker: ProcessKey,
    /// Another child of that.
    pub(super) sibling: Option<ProcessKey>,
    /// Descriptors at which both had a database.
    pub(super) databases: &'a [u32],
    /// Whether something speaks for a use, so that it is worth to look often.
    pub(super) closely: bool,
}

/// Looks.
pub(super) fn shared_files(question: &Question<'_>) -> SharedFilesSeen {
    let seen = question.look().unwrap_or_else(|error| {
        let why = absence::reason(question.child.tgid, "fdinfo", &error);
        why.map_or(SharedFilesSeen::Left, SharedFilesSeen::Unreadable)
    });
    // What was read is another's where the pid has changed hands meanwhile.
    if Stat::lives(question.child) { seen } else { SharedFilesSeen::Gone }
}

impl Question<'_> {
    fn look(&self) -> io::Result<SharedFilesSeen> {
        let living = |process| Stat::of(process).filter(|stat| !stat.process_has_ended());
        let Some(own) = living(self.child).filter(Stat::is_unexeced) else {
            return Ok(SharedFilesSeen::Gone);
        };
        let descriptors = Table::of_process(self.child.tgid).list(MAX_DESCRIPTORS)?;
        // Who else has them costs a look at each of its siblings, of which there may be a thousand.
        let (others, is_complete) =
            if descriptors.iter().any(is_candidate) { self.others()? } else { (vec![self.forker], true) };
        let mut family = vec![self.child];
        for other in others {
            if family.contains(&other) {
                continue;
            }
            // A program that was started since the fork has another stack, and what it was passed it has on purpose. Who
            // shares the whole table of descriptors asked for that.
            let is_kin = living(other).is_some_and(|its| its.stack == own.stack && own.stack != 0);
            let is_like_a_thread = unless_gone(same(FILES, (self.child.tgid, 0), (other.tgid, 0)))?;
            if is_kin && is_like_a_thread == Some(false) {
                family.push(other);
            }
        }
        if family.len() < 2 {
            return Ok(SharedFilesSeen::Left);
        }
        let mut looks = Looks { family: &family, is_complete, files: Vec::new() };
        for descriptor in descriptors.iter().filter(|one| is_candidate(one)) {
            if looks.files.len() >= MAX_FILES {
                break;
            }
            looks.files.extend(Candidate::of(descriptor, &family)?);
        }
        let closed = self.databases.iter().find_map(|fd| closed_database(*fd, self.forker, &descriptors));
        let closed = closed.or_else(|| deleted_journal(self.forker, &descriptors));
        Ok(SharedFilesSeen::Seen(Box::new(SharedFiles {
            at: clock::now(),
            comm: own.comm,
            uid: Status::of_process(self.child.tgid).ok().map(|status| status.uid),
            program: program::read(self.child.tgid, &own),
            files: looks.look(self.closely)?,
            closed,
        })))
    }

    /// Those who may have its files too, and whether these are all.
    fn others(&self) -> io::Result<(Vec<ProcessKey>, bool)> {
        let (children, is_complete) = children(self.forker.tgid)?;
        let others = [Some(self.forker), self.sibling].into_iter().flatten().chain(children);
        Ok((others.collect(), is_complete))
    }
}

/// The forked children of a process that have not exec'd, and whether these are all.
fn children(forker: u32) -> io::Result<(Vec<ProcessKey>, bool)> {
    let mut found = Vec::new();
    let Some(threads) = unless_gone(file::numbers(format!("/proc/{forker}/task"), MAX_THREADS))? else {
        return Ok((found, true));
    };
    for thread in threads {
        budget::steps(1)?;
        // A kernel without this file tells of none (CONFIG_PROC_CHILDREN).
        let text = file::read_small(format!("/proc/{forker}/task/{thread}/children")).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        for tgid in text.split_ascii_whitespace().filter_map(|tgid| tgid.parse().ok()) {
            budget::steps(1)?;
            let Some(stat) = unless_gone(Stat::of_process(tgid))?.filter(Stat::is_unexeced) else { continue };
            if found.len() >= MAX_CHILDREN {
                return Ok((found, false));
            }
            found.push(stat.key());
        }
    }
    Ok((found, true))
}

/// Whether a descriptor may be one of a regular file that is used, and not the output of a program.
fn is_candidate(descriptor: &Descriptor) -> bool {
    let link = descriptor.link();
    let is_other = [&b"/dev/"[..], b"/proc/", b"/sys/"].iter().any(|start| link.starts_with(start));
    descriptor.number > STANDARD && link.starts_with(b"/") && (!is_other || link.starts_with(b"/dev/shm/"))
}

fn on_path(descriptor: &Descriptor) -> OpenFile {
    OpenFile { fd: descriptor.number, path: String::from_utf8_lossy(descriptor.link()).into_owned() }
}

/// An open file of the child's that others of the family have too.
struct Candidate {
    file: OpenFile,
    database: Option<DatabaseKind>,
    /// Who has it, by the place in the family.
    sharers: Vec<usize>,
    can_write: bool,
}

impl Candidate {
    fn of(descriptor: &Descriptor, family: &[ProcessKey]) -> io::Result<Option<Self>> {
        let [child, others @ ..] = family else { return Ok(None) };
        let fd = descriptor.number;
        let Some(info) = Info::read(child.tgid, fd)?.filter(Info::is_read) else { return Ok(None) };
        let mut sharers = vec![0];
        for (place, other) in (1..).zip(others) {
            budget::steps(1)?;
            let is_like = Table::of_process(other.tgid).get(fd)?.as_ref() == Some(descriptor);
            if is_like && unless_gone(same_file((child.tgid, fd), (other.tgid, fd)))? == Some(true) {
                sharers.push(place);
            }
        }
        if sharers.len() < 2 {
            return Ok(None);
        }
        // Of a place that is no regular file, or that cannot be asked without a wait, nothing follows.
        let Some(bytes) = target_file::of_descriptor(child.tgid, fd) else { return Ok(None) };
        let database = database(&bytes.take_up_to(0, HEADER));
        let (file, can_write) = (on_path(descriptor), info.can_write());
        Ok(Some(Self { file, database, sharers, can_write }))
    }
}

/// So much of a file tells which database it is.
const HEADER: usize = 24;

/// Which database begins so: `SQLite`'s magic string (fileformat2.html, 1.3); `MDB_MAGIC` of LMDB's first page, after the
/// header of that, and of its file of locks (`mdb.c`); gdbm's (`gdbmconst.h`); Berkeley DB's, of its hashes and trees (`db_page.h`).
fn database(header: &[u8]) -> Option<DatabaseKind> {
    const LMDB: u32 = 0xbeef_c0de;
    const GDBM: std::ops::RangeInclusive<u32> = 0x1357_9acd..=0x1357_9ad1;
    const BERKELEY: [u32; 2] = [0x0006_1561, 0x0005_3162];
    let word =
        |at: usize| header.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map(u32::from_ne_bytes);
    if header.starts_with(b"SQLite format 3\0") {
        Some(DatabaseKind::Sqlite)
    } else if word(16) == Some(LMDB) || word(0) == Some(LMDB) {
        Some(DatabaseKind::Lmdb)
    } else if word(0).is_some_and(|magic| GDBM.contains(&magic)) {
        Some(DatabaseKind::Gdbm)
    } else if word(12).is_some_and(|magic| BERKELEY.contains(&magic)) {
        Some(DatabaseKind::BerkeleyDb)
    } else {
        None
    }
}

/// What `fdinfo` tells of an open file.
struct Info {
    position: u64,
    flags: i32,
    text: Vec<u8>,
}

impl Info {
    /// Absent where the descriptor is closed.
    fn read(tgid: u32, fd: u32) -> io::Result<Option<Self>> {
        let path = format!("/proc/{tgid}/fdinfo/{fd}");
        let Some(text) = unless_gone(file::read_small(&path))? else { return Ok(None) };
        let number = |key, radix| file::field(&text, key).map(|number| u64::from_str_radix(number, radix));
        match (number("pos:", 10), number("flags:", 8)) {
            (Some(Ok(position)), Some(Ok(flags))) => {
                let flags = i32::try_from(flags & 0x7fff_ffff).unwrap_or_default();
                Ok(Some(Self { position, flags, text }))
            }
            _ => Err(file::unknown_layout(&path)),
        }
    }

    /// Whether it can be read at its offset. What only writes, or appends, is helped by a common offset: nothing is
    /// written over.
    fn is_read(&self) -> bool {
        let others = libc::O_PATH | libc::O_APPEND;
        self.flags & libc::O_ACCMODE != libc::O_WRONLY && self.flags & others == 0
    }

    fn can_write(&self) -> bool {
        self.flags & libc::O_ACCMODE == libc::O_RDWR
    }

    fn is_locked_by(&self, tgid: u32) -> bool {
        Line::of_fdinfo(&self.text).any(|line| line.kind == FileLockKind::Posix && line.pid == Some(tgid))
    }
}

/// What a process has read and written, in bytes and calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Traffic {
    read: u64,
    written: u64,
    calls: u64,
}

impl Traffic {
    fn of(tgid: u32) -> io::Result<Self> {
        let path = format!("/proc/{tgid}/io");
        Self::parse(&file::read_small(&path)?).ok_or_else(|| file::unknown_layout(&path))
    }

    /// `proc_pid_io(5)`.
    fn parse(text: &[u8]) -> Option<Self> {
        let number = |key| file::field(text, key)?.parse::<u64>().ok();
        let calls = number("syscr:")?.wrapping_add(number("syscw:")?);
        Some(Self { read: number("rchar:")?, written: number("wchar:")?, calls })
    }
}

/// Looks at the files of a family, one soon after the other.
struct Looks<'a> {
    /// The child first.
    family: &'a [ProcessKey],
    /// Whether it has all children of its forker.
    is_complete: bool,
    files: Vec<Candidate>,
}

/// What every process had read and written, and then where every file stood.
struct Look {
    traffic: Vec<Traffic>,
    positions: Vec<Option<u64>>,
}

impl Looks<'_> {
    fn look(self, closely: bool) -> io::Result<Vec<SharedFile>> {
        if self.files.is_empty() {
            return Ok(Vec::new());
        }
        let is_database = self.files.iter().any(|file| file.database.is_some());
        let count = if closely || is_database { MANY } else { FEW };
        let mut lockers: Vec<Vec<ProcessKey>> = vec![Vec::new(); self.files.len()];
        let mut looks = Vec::with_capacity(count);
        for number in 0..count {
            if number > 0 {
                sleep(PAUSE);
            }
            budget::steps(1)?;
            let traffic = self.family.iter().map(|process| Traffic::of(process.tgid));
            // Where one of them ends meanwhile, nothing is told this time.
            let Some(traffic) = unless_gone(traffic.collect::<io::Result<_>>())? else {
                return Ok(Vec::new());
            };
            let mut positions = Vec::with_capacity(self.files.len());
            for (file, lockers) in self.files.iter().zip(&mut lockers) {
                positions.push(self.position(file, lockers)?);
            }
            looks.push(Look { traffic, positions });
        }
        let last = looks.last().map(|look| look.positions.clone()).unwrap_or_default();
        let files = self.files.iter().zip(lockers).zip(last).enumerate();
        let seen = files.filter_map(|(place, ((file, lockers), position))| {
            Some(SharedFile {
                file: file.file.clone(),
                position: position?,
                users: self.users(place, file, &looks),
                database: file.database,
                lockers,
            })
        });
        Ok(seen.collect())
    }

    /// Where a file stands; and who has a lock on it, if it is a database.
    fn position(&self, file: &Candidate, lockers: &mut Vec<ProcessKey>) -> io::Result<Option<u64>> {
        let mut position = None;
        for (place, process) in self.family.iter().enumerate() {
            if !file.sharers.contains(&place) || place > 0 && file.database.is_none() {
                continue;
            }
            let Some(info) = Info::read(process.tgid, file.file.fd)? else { continue };
            if place == 0 {
                position = Some(info.position);
            }
            if file.database.is_some() && info.is_locked_by(process.tgid) && !lockers.contains(process) {
                lockers.push(*process);
            }
        }
        Ok(position)
    }

    /// Who moved the offset of that file. Nobody is told where somebody else did, too: what a process read or wrote at that
    /// moment then says nothing of this file.
    fn users(&self, place: usize, file: &Candidate, looks: &[Look]) -> Vec<FileUser> {
        let mut users: Vec<FileUser> = Vec::new();
        if !self.is_complete {
            return users;
        }
        for looks in looks.windows(3) {
            let [before, after, later] = looks else { continue };
            let at = |look: &Look| look.positions.get(place).copied().flatten();
            let (Some(from), Some(to)) = (at(before), at(after)) else { continue };
            if from == to {
                continue;
            }
            let traffic = before.traffic.iter().zip(&later.traffic);
            let mut active = traffic
                .enumerate()
                .filter(|(member, (before, later))| file.sharers.contains(member) && before != later);
            let Some((mover, (before, later))) = active.next() else { return Vec::new() };
            let Some(process) = self.family.get(mover).filter(|_| active.next().is_none()) else { continue };
            let read = later.read.saturating_sub(before.read);
            let written = later.written.saturating_sub(before.written);
            let by = to.checked_sub(from);
            let is_seek = by.is_none_or(|by| by > read.saturating_add(written));
            let is_read = !is_seek && (!file.can_write || by.is_some_and(|by| written < by));
            if !users.iter().any(|user| user.process == *process) {
                users.push(FileUser { process: *process, moves: 0, reads: 0, seeks: 0 });
            }
            if let Some(user) = users.iter_mut().find(|user| user.process == *process) {
                user.moves += 1;
                user.reads += u32::from(is_read);
                user.seeks += u32::from(is_seek);
            }
        }
        users
    }
}

/// The database that a forker has at a descriptor, where the child has closed its own.
fn closed_database(fd: u32, forker: ProcessKey, of_child: &[Descriptor]) -> Option<ClosedDatabase> {
    let descriptor = Table::of_process(forker.tgid).get(fd).ok()??;
    if of_child.contains(&descriptor) {
        return None;
    }
    let bytes = target_file::of_descriptor(forker.tgid, fd)?;
    let kind = database(&bytes.take_up_to(0, HEADER))?;
    let info = Info::read(forker.tgid, fd).ok()??;
    let deleted: Vec<u8> = [descriptor.link(), DELETED_JOURNAL].concat();
    let others = Table::of_process(forker.tgid).list(MAX_DESCRIPTORS).ok()?;
    Some(ClosedDatabase {
        file: on_path(&descriptor),
        kind,
        journal_deleted: others.iter().any(|other| other.link() == deleted),
        locked: info.is_locked_by(forker.tgid),
        others_open: of_child.iter().any(|one| one.number > STANDARD),
        unseen: false,
    })
}

/// What is added to the path of a database for that of its journal, and by the kernel to that of a deleted file.
const DELETED_JOURNAL: &[u8] = b"-journal (deleted)";

/// The `SQLite` database that a forker is at work on whose journal somebody has deleted, and which the child has not open.
/// `SQLite` itself closes a journal before it deletes it (`pagerCloseJournal`, `pager_end_transaction`, pager.c).
fn deleted_journal(forker: ProcessKey, of_child: &[Descriptor]) -> Option<ClosedDatabase> {
    let of_forker = Table::of_process(forker.tgid).list(MAX_DESCRIPTORS).ok()?;
    let mut databases = of_forker.iter().filter_map(|one| one.link().strip_suffix(DELETED_JOURNAL));
    databases.find_map(|path| {
        let fd = of_forker.iter().find(|one| one.link() == path)?.number;
        let closed = closed_database(fd, forker, of_child)?;
        (closed.kind == DatabaseKind::Sqlite).then_some(ClosedDatabase { unseen: true, ..closed })
    })
}

#[cfg(test)]
mod tests;
