//! What the processes of servers write to their standard output and error, where somebody has asked for that.

use serde::{Deserialize, Serialize};

use super::{
    process::{Comm, ProcessKey},
    time::BootTime,
};

/// A file, pipe or socket: its device, which is 0 for a pipe or a socket, and its inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct StreamId {
    /// The device of a file.
    pub device: u64,
    /// The inode number on that device.
    pub inode: u64,
}

/// Where some processes' standard output or error goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stream {
    /// Its device and inode.
    pub id: StreamId,
    /// As the kernel shows it: a path, `pipe:[4711]`. Not safe for a terminal.
    pub name: String,
    /// How it can be read.
    pub access: StreamAccess,
    /// Who has it, and as which descriptor: 1 or 2.
    pub holders: Vec<(ProcessKey, u32)>,
}

/// How a stream can be read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StreamAccess {
    /// From this position of a file on.
    File(u64),
    /// At the end of a pipe that a process reads from, and has as this descriptor.
    Pipe(ProcessKey, u32),
    /// Not at all, and why.
    No(String),
}

/// Where some processes' standard output and error go: what is to be found out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamsAsked {
    /// The processes whose output is meant.
    pub processes: Vec<ProcessKey>,
    /// Who reads from pipes, as far as it is known: the inode, the process, and its descriptor.
    pub readers: Vec<(u64, ProcessKey, u32)>,
    /// Whether it is looked for who reads from the others, among all processes.
    pub search: bool,
}

/// A look at streams.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WrittenAsked {
    /// Processes, and how many bytes each had written when it was looked at last: a stream is read if one of those who have
    /// it has written since.
    pub processes: Vec<(ProcessKey, Option<u64>)>,
    /// The streams.
    pub taps: Vec<Stream>,
    /// Whether all of them are read, whoever has written.
    pub all: bool,
}

/// What was written to the streams since the last look.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WrittenSeen {
    /// What each process has written.
    pub written: Vec<Count>,
    /// What is in the streams that were read.
    pub gulps: Vec<Gulp>,
}

/// How many bytes a process has written in all, to whatever; none where it has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Count {
    /// Its tgid, and when it started.
    pub process: ProcessKey,
    /// Before the streams were read: with what is counted here, the next look begins.
    pub before: Option<u64>,
    /// After they were read: of all that was read, it has written no more than this.
    pub after: Option<u64>,
}

/// What was read of a stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gulp {
    /// The stream's device and inode.
    pub id: StreamId,
    /// Of a file, what is new in it; of a pipe, all that lies in it.
    pub bytes: Vec<u8>,
    /// Of a file, where the next look begins.
    pub position: u64,
    /// Of a file, what was passed over, because it was too much.
    pub passed_over: u64,
    /// Of a pipe, how many bytes the process that reads it has read in all, from whatever.
    pub taken: Option<u64>,
}

/// A line that a worker has written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WrittenLine {
    /// When it was read, which is at most some hundredths of a second after it was written.
    pub at: BootTime,
    /// The server that it is of, and whether its kind is known. Not safe for a terminal.
    pub server: (String, bool),
    /// Who has written it: one process, or several of which one has.
    pub by: Vec<(ProcessKey, Comm)>,
    /// The descriptor that it was written to, 1 or 2; none where both lead there.
    pub descriptor: Option<u32>,
    /// The line, without its end. Not safe for a terminal.
    pub text: String,
    /// Whether it was longer, or its end was not seen.
    pub is_cut: bool,
}

/// What workers have written and nobody is shown, since the last of these.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unshown {
    /// Lines that were read, and were too many.
    pub lines: u64,
    /// Bytes that were not read, because they came to a file too fast.
    pub passed_over: u64,
    /// Bytes that somebody else had read from a pipe before they could be seen, as far as that can be counted.
    pub taken: u64,
}

impl Unshown {
    /// Whether everything was shown.
    pub fn is_nothing(&self) -> bool {
        *self == Self::default()
    }

    /// What is not shown, in words; none where there is nothing.
    pub fn words(&self) -> Vec<String> {
        let counts = [
            (self.lines, "line", "of workers too many to show"),
            (self.passed_over, "byte", "of workers not read, too fast"),
            (self.taken, "byte", "of workers gone from pipes unseen"),
        ];
        let words = counts.iter().filter(|(count, ..)| *count > 0).map(|(count, what, why)| {
            let plural = if *count == 1 { "" } else { "s" };
            format!("{count} {what}{plural} {why}")
        });
        words.collect()
    }
}

impl std::ops::AddAssign for Unshown {
    fn add_assign(&mut self, more: Self) {
        self.lines = self.lines.saturating_add(more.lines);
        self.passed_over = self.passed_over.saturating_add(more.passed_over);
        self.taken = self.taken.saturating_add(more.taken);
    }
}
