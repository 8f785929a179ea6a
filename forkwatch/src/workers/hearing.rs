//! Who has written which line: looks at streams, one soon after the other, made into lines of workers.
//!
//! A stream does not say who wrote to it. But each process counts what it writes (`wchar` of `/proc/PID/io`), and looks are
//! so close that mostly one of those who have a stream has written since the last. Where several have, a line is said to be
//! one of theirs.

mod copies;
mod parts;

use std::collections::{BTreeMap, HashMap, VecDeque};

use self::{copies::Copies, parts::Parts};
use crate::model::{
    process::{Comm, ProcessKey},
    time::BootTime,
    written::{
        Count, Gulp, Stream, StreamAccess, StreamId, StreamsAsked, Unshown, WrittenAsked, WrittenLine,
        WrittenSeen,
    },
};

/// Most processes that are listened to.
pub const MOST_PROCESSES: usize = 64;
/// Last lines of a process that are kept.
const KEPT: usize = 5;
/// How long a process that is no worker any more, and a stream that nobody has any more, is still listened to.
const LEAVING: u64 = 3_000_000_000;
/// How long bytes wait for the count of whoever wrote them.
const LATE: u64 = 100_000_000;
/// A file that appears later, such as after a rotation, is read from its beginning, if it is no longer than this.
const NEW: u64 = 64 << 10;
/// Most lines in a second.
const MOST_LINES: u64 = 500;

/// What is listened to, and what was heard.
#[derive(Debug, Default)]
pub struct Hearing {
    processes: BTreeMap<ProcessKey, Member>,
    taps: BTreeMap<StreamId, Tap>,
    last: HashMap<ProcessKey, VecDeque<String>>,
    /// Whether streams were looked for before.
    has_begun: bool,
    second: u64,
    in_second: u64,
    unshown: Unshown,
}

/// A process that is to be listened to.
#[derive(Clone, Debug)]
pub struct Heard {
    /// Its tgid, and when it started.
    pub process: ProcessKey,
    /// What it is called.
    pub comm: Comm,
    /// Whether it is a master, and no worker.
    pub is_master: bool,
    /// The server that it is of, and whether its kind is known.
    pub server: (String, bool),
}

/// A process that is listened to.
#[derive(Debug)]
struct Member {
    about: Heard,
    /// When it was seen to be one of its family for the last time.
    seen: BootTime,
    /// What it had written when it was looked at last.
    written: Option<u64>,
}

/// A stream that is listened to.
#[derive(Debug)]
struct Tap {
    stream: Stream,
    seen: BootTime,
    /// What lay in a pipe.
    copies: Copies,
    parts: Parts,
    /// Bytes of which nobody has counted that he wrote them, and since when.
    waiting: Option<(BootTime, Vec<u8>)>,
}

/// Who may have written something, and how much each has since the last look.
type Writers = Vec<(ProcessKey, u64)>;

impl Hearing {
    /// Who is listened to now: masters and workers.
    pub fn family(&mut self, family: Vec<Heard>, now: BootTime) {
        for about in family {
            if let Some(member) = self.processes.get_mut(&about.process) {
                (member.about, member.seen) = (about, now);
            } else if self.processes.len() < MOST_PROCESSES {
                self.processes.insert(about.process, Member { about, seen: now, written: None });
            }
        }
        self.processes.retain(|_, member| now.0.saturating_sub(member.seen.0) <= LEAVING);
        let processes = &self.processes;
        self.last.retain(|process, _| processes.contains_key(process));
    }

    /// Whether there is anybody to listen to.
    pub fn is_empty(&self) -> bool {
        self.processes.is_empty()
    }

    /// What is to be found out of their streams; `search` also has it looked for who reads from pipes.
    pub fn streams_question(&self, search: bool) -> StreamsAsked {
        let reader = |tap: &Tap| match tap.stream.access {
            StreamAccess::Pipe(process, number) => Some((tap.stream.id.inode, process, number)),
            _ => None,
        };
        StreamsAsked {
            processes: self.processes.keys().copied().collect(),
            readers: self.taps.values().filter_map(reader).collect(),
            search,
        }
    }

    /// Takes in where their output goes. Gives the names of those that cannot be read, and why, that were not known before.
    pub fn streams(&mut self, found: Vec<Stream>, now: BootTime) -> Vec<(String, String)> {
        let mut unread = Vec::new();
        for mut stream in found {
            let Some(tap) = self.taps.get_mut(&stream.id) else {
                if let StreamAccess::No(why) = &stream.access {
                    unread.push((stream.name.clone(), why.clone()));
                }
                if let (true, StreamAccess::File(length)) = (self.has_begun, &mut stream.access) {
                    *length = length.saturating_sub(NEW);
                }
                let (id, parts) = (stream.id, Parts::default());
                let tap = Tap { stream, seen: now, copies: Copies::default(), parts, waiting: None };
                self.taps.insert(id, tap);
                continue;
            };
            tap.seen = now;
            if !matches!((&tap.stream.access, &stream.access), (StreamAccess::File(_), StreamAccess::File(_)))
            {
                if tap.stream.access != stream.access {
                    tap.copies = Copies::default();
                }
                tap.stream.access = stream.access;
            }
            tap.stream.holders = stream.holders;
            tap.stream.name = stream.name;
        }
        self.has_begun = true;
        self.taps.retain(|_, tap| now.0.saturating_sub(tap.seen.0) <= LEAVING);
        unread
    }

    /// What the next look is to look at; everything, or where somebody has written.
    pub fn question(&self, all: bool) -> WrittenAsked {
        WrittenAsked {
            processes: self.processes.iter().map(|(process, member)| (*process, member.written)).collect(),
            taps: self.taps.values().map(|tap| tap.stream.clone()).filter(is_read).collect(),
            all,
        }
    }

    /// Takes in a look. Gives the lines that have come to their end.
    pub fn seen(&mut self, seen: WrittenSeen, now: BootTime) -> Vec<WrittenLine> {
        let grown = self.grown(&seen.written);
        let mut lines = Vec::new();
        for gulp in seen.gulps {
            self.gulp(gulp, &grown, now, &mut lines);
        }
        for tap in self.taps.values_mut() {
            tap.parts.rest(now, |by, text, is_cut| {
                lines.extend(line(&self.processes, &tap.stream, by, text, is_cut, now));
            });
        }
        for line in &lines {
            self.keep(line);
        }
        self.bounded(lines, now)
    }

    /// The last lines of a process, which are forgotten.
    pub fn last(&mut self, process: ProcessKey, now: BootTime) -> Vec<String> {
        for tap in self.taps.values_mut() {
            let mut rest = Vec::new();
            tap.parts.rest_of(process, |by, text| {
                rest.extend(line(&self.processes, &tap.stream, by, text, true, now));
            });
            for line in rest {
                keep(&mut self.last, &line);
            }
        }
        self.last.remove(&process).unwrap_or_default().into()
    }

    /// What nobody is shown since this was asked last, and the pipes of which something was taken out before it could be
    /// seen. Their names are not safe for a terminal.
    pub fn unshown(&mut self) -> (Unshown, Vec<String>) {
        let mut unshown = std::mem::take(&mut self.unshown);
        let mut pipes = Vec::new();
        for tap in self.taps.values_mut() {
            let taken = tap.copies.missed();
            if taken > 0 {
                unshown.taken = unshown.taken.saturating_add(taken);
                pipes.push(tap.stream.name.clone());
            }
        }
        (unshown, pipes)
    }

    /// Who has written since the last look. Of one that has ended nobody knows how much.
    fn grown(&mut self, counts: &[Count]) -> Writers {
        let mut grown = Vec::new();
        for Count { process, before, after } in counts {
            let Some(member) = self.processes.get_mut(process) else { continue };
            let written = match (member.written, after) {
                (Some(then), Some(now)) => now.saturating_sub(then),
                // It has ended; or it was not looked at before, and what it has written until now may be in a stream by now.
                (Some(_), None) | (None, Some(_)) => u64::MAX,
                (None, None) => 0,
            };
            if written > 0 {
                grown.push((*process, written));
            }
            member.written = *before;
        }
        grown
    }

    fn gulp(&mut self, gulp: Gulp, grown: &Writers, now: BootTime, lines: &mut Vec<WrittenLine>) {
        let Some(tap) = self.taps.get_mut(&gulp.id) else { return };
        let holders = &tap.stream.holders;
        let writers: Writers = grown
            .iter()
            .filter(|(one, _)| holders.iter().any(|(holder, _)| holder == one))
            .copied()
            .collect();
        let new = if let StreamAccess::File(position) = &mut tap.stream.access {
            *position = gulp.position;
            if gulp.passed_over > 0 {
                self.unshown.passed_over = self.unshown.passed_over.saturating_add(gulp.passed_over);
                tap.parts.forget();
            }
            gulp.bytes
        } else {
            let most = writers.iter().fold(0_u64, |sum, (_, written)| sum.saturating_add(*written));
            tap.copies.added(&gulp.bytes, most, gulp.taken)
        };
        let (since, mut bytes) = tap.waiting.take().unwrap_or((now, Vec::new()));
        if now.0.saturating_sub(since.0) > LATE {
            // Somebody else has the stream, too, who is none of them.
            bytes.clear();
        }
        let since = if bytes.is_empty() { now } else { since };
        bytes.extend(new);
        if bytes.is_empty() {
            return;
        }
        let by = authors(&writers, bytes.len() as u64, &tap.stream);
        if by.is_empty() {
            tap.waiting = Some((since, bytes));
            return;
        }
        tap.parts.add(&by, &bytes, now, |by, text, is_cut| {
            lines.extend(line(&self.processes, &tap.stream, by, text, is_cut, now));
        });
    }

    fn keep(&mut self, line: &WrittenLine) {
        keep(&mut self.last, line);
    }

    fn bounded(&mut self, mut lines: Vec<WrittenLine>, now: BootTime) -> Vec<WrittenLine> {
        let second = now.0 / 1_000_000_000;
        if second != self.second {
            (self.second, self.in_second) = (second, 0);
        }
        let room = usize::try_from(MOST_LINES.saturating_sub(self.in_second)).unwrap_or(0);
        if lines.len() > room {
            self.unshown.lines += (lines.len() - room) as u64;
            lines.truncate(room);
        }
        self.in_second += lines.len() as u64;
        lines
    }
}

/// Whether a stream can be read.
fn is_read(stream: &Stream) -> bool {
    !matches!(stream.access, StreamAccess::No(_))
}

/// Who has written so many bytes; several where it cannot be told; nobody where none has counted anything.
fn authors(writers: &Writers, bytes: u64, stream: &Stream) -> Vec<ProcessKey> {
    let exact: Vec<ProcessKey> =
        writers.iter().filter(|(_, written)| *written == bytes).map(|(one, _)| *one).collect();
    match (writers.as_slice(), exact.as_slice()) {
        ([(one, written)], _) if *written >= bytes => vec![*one],
        ([_, _, ..], [one]) => vec![*one],
        ([], _) => Vec::new(),
        // He has written less than that: somebody else has the stream, too.
        ([_], _) => {
            let mut all: Vec<ProcessKey> = stream.holders.iter().map(|(holder, _)| *holder).collect();
            all.sort_unstable();
            all.dedup();
            all
        }
        (several, _) => several.iter().map(|(one, _)| *one).collect(),
    }
}

/// A line of a worker; none of what only masters can have written.
fn line(
    processes: &BTreeMap<ProcessKey, Member>,
    stream: &Stream,
    by: &[ProcessKey],
    text: String,
    is_cut: bool,
    at: BootTime,
) -> Option<WrittenLine> {
    let members: Vec<(ProcessKey, &Member)> =
        by.iter().filter_map(|one| Some((*one, processes.get(one)?))).collect();
    if members.iter().all(|(_, member)| member.about.is_master) {
        return None;
    }
    let mut descriptors: Vec<u32> =
        stream.holders.iter().filter(|(holder, _)| by.contains(holder)).map(|(_, number)| *number).collect();
    descriptors.sort_unstable();
    descriptors.dedup();
    let descriptor = if let [only] = descriptors.as_slice() { Some(*only) } else { None };
    let server = members.first().map(|(_, member)| member.about.server.clone())?;
    let by = members.into_iter().map(|(one, member)| (one, member.about.comm)).collect();
    Some(WrittenLine { at, server, by, descriptor, text, is_cut })
}

fn keep(last: &mut HashMap<ProcessKey, VecDeque<String>>, line: &WrittenLine) {
    let cut = if line.is_cut { "…" } else { "" };
    for (process, _) in &line.by {
        let lines = last.entry(*process).or_default();
        if lines.len() >= KEPT {
            lines.pop_front();
        }
        let text = &line.text;
        lines.push_back(match line.by.len() {
            1 => format!("{text}{cut}"),
            several => format!("(one of {several} processes) {text}{cut}"),
        });
    }
}

#[cfg(test)]
mod tests;
