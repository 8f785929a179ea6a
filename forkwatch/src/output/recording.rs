//! Recordings: what the core and the outputs were fed, in order, so that they can be fed the same again.
//!
//! A recording is JSON lines. The first is a [`Header`]; each of the others is an [`Input`]: an event, an answer with
//! the time at which it was given, the passing of time, or what outputs asked for beside. Lines of one kind may be missing
//! in recordings of versions that did not know it.

use std::io::{self, BufRead, BufWriter, Read, Write};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::model::{
    evidence::Evidence, particulars::Particulars, reported::Reported, rescued::Rescued, standing::Standing,
    time::BootTime,
};

mod line;

use line::{Line, Owned};

/// Name and version of the format.
pub const FORMAT: &str = "forkwatch.recording/1";
/// What comes before the version.
const FAMILY: &str = "forkwatch.recording/";
/// A longer line is none of ours: the longest answer has 64 threads and 4 KiB of command line.
const MAX_LINE: u64 = 1024 * 1024;

/// The first line of a recording.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Header {
    /// The version of the format: [`FORMAT`] in what is written now.
    pub format: String,
    /// The version of forkwatch that wrote it.
    pub version: String,
    /// The version of the wire format between kernel side and user side.
    pub abi: u32,
    /// The host's boot.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub boot_id: Option<String>,
    /// The host's name, as `uname -n` shows it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub host_name: Option<String>,
    /// Nanoseconds to add to a time for the Unix time.
    pub wall_offset: i64,
    /// The host's pids are below this.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub pid_max: Option<u32>,
    /// When the watch began; 0 in recordings of versions that did not note it.
    #[serde(default)]
    pub began: BootTime,
    /// The settings that the core judged by.
    pub settings: Value,
}

impl Header {
    /// A header of this build's.
    pub fn new(context: &super::Context, settings: Value) -> Self {
        Self {
            format: FORMAT.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            abi: forkwatch_ebpf::ABI_VERSION,
            boot_id: context.boot_id.clone(),
            host_name: context.host_name.clone(),
            wall_offset: context.wall_offset,
            pid_max: context.pid_max,
            began: context.began,
            settings,
        }
    }

    /// The host that was recorded.
    pub fn context(&self) -> super::Context {
        super::Context {
            host_name: self.host_name.clone(),
            boot_id: self.boot_id.clone(),
            wall_offset: self.wall_offset,
            pid_max: self.pid_max,
            began: self.began,
        }
    }
}

/// Something that the core or the outputs were fed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// A record of the kernel side.
    Reported {
        /// What it held.
        reported: Reported,
        /// The number of the question about its particulars, where one was asked: an answer follows, and outputs were not
        /// told of the event before it came.
        question: Option<u64>,
    },
    /// The answer to a question about an event's particulars.
    Particulars {
        /// The question's number.
        question: u64,
        /// What was found out about the event.
        particulars: Particulars,
    },
    /// How a process that was named to be watched stood.
    Standing(Standing),
    /// A lock was released in a child.
    Rescued(Rescued),
    /// An answer to a request.
    Evidence {
        /// When it was given.
        at: BootTime,
        /// What the host has answered.
        evidence: Evidence,
    },
    /// Time passed, up to here.
    Advance(BootTime),
    /// From here on the core judged by other settings.
    Settings(Value),
    /// The watch ended.
    End(BootTime),
}

impl Input {
    /// When it came, where that matters.
    pub const fn at(&self) -> Option<BootTime> {
        match self {
            Self::Reported { reported, question: _ } => Some(reported.at()),
            Self::Evidence { at, evidence: _ } | Self::Advance(at) | Self::End(at) => Some(*at),
            Self::Rescued(rescued) => Some(rescued.at),
            Self::Settings(_) | Self::Particulars { .. } | Self::Standing(_) => None,
        }
    }
}

/// Why a recording cannot be replayed. Lines are counted from 1.
#[derive(Debug, thiserror::Error)]
pub enum RecordingError {
    /// The file could not be read.
    #[error("cannot read the recording: {0}")]
    Io(#[from] io::Error),
    /// There is nothing in it.
    #[error("the recording is empty: the recorder ended before it wrote its first line; record again")]
    Empty,
    /// It is something else.
    #[error(
        "this is not a recording of forkwatch: its first line is no header of the format {FORMAT}; give a file that --record wrote"
    )]
    Foreign,
    /// Another version of the format.
    #[error(
        "this recording has the format {0}, and this forkwatch reads {FORMAT}: replay it with the version that wrote it, or with a newer one"
    )]
    Version(String),
    /// The last line is cut off: the recorder was killed, or its disk was full.
    #[error(
        "line {line} of the recording is cut off: the recorder was killed or its disk was full; all lines before it are good"
    )]
    Truncated {
        /// The number of the line, from 1.
        line: u64,
    },
    /// A line in the middle is broken.
    #[error(
        "line {line} of the recording is broken: {reason}; the file was damaged or edited: repair the line, or record again"
    )]
    Corrupt {
        /// The number of the line, from 1.
        line: u64,
        /// What is wrong with it.
        reason: String,
    },
}

/// Writes a recording. Buffers; what is in the buffer is written when it is dropped, or by [`Writer::flush`].
#[derive(Debug)]
pub struct Writer<W: Write> {
    out: BufWriter<W>,
}

impl<W: Write> Writer<W> {
    /// Begins a recording with its header.
    pub fn new(out: W, header: &Header) -> io::Result<Self> {
        let mut writer = Self { out: BufWriter::new(out) };
        writer.line(header)?;
        Ok(writer)
    }

    /// Records that the core was fed an event, and, where outputs wait for its particulars, under which number.
    pub fn reported(&mut self, reported: &Reported, question: Option<u64>) -> io::Result<()> {
        self.line(&Line::reported(reported, question))
    }

    /// Records an event's particulars.
    pub fn particulars(&mut self, question: u64, particulars: &Particulars) -> io::Result<()> {
        self.line(&Line::particulars(question, particulars))
    }

    /// Records how a process stood.
    pub fn standing(&mut self, standing: &Standing) -> io::Result<()> {
        self.line(&Line::standing(standing))
    }

    /// Records that a lock was released in a child.
    pub fn rescued(&mut self, rescued: &Rescued) -> io::Result<()> {
        self.line(&Line::rescued(rescued))
    }

    /// Records that the core was fed an answer.
    pub fn evidence(&mut self, at: BootTime, evidence: &Evidence) -> io::Result<()> {
        self.line(&Line::evidence(at, evidence))
    }

    /// Records that the core was told of the time.
    pub fn advance(&mut self, to: BootTime) -> io::Result<()> {
        self.line(&Line::advance(to))
    }

    /// Records that the core judges by other settings from here on.
    pub fn settings(&mut self, settings: Value) -> io::Result<()> {
        self.line(&Line::settings(settings))
    }

    /// Records that the watch ended.
    pub fn end(&mut self, at: BootTime) -> io::Result<()> {
        self.line(&Line::end(at))
    }

    /// Writes out what is in the buffer.
    pub fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }

    fn line(&mut self, line: &impl Serialize) -> io::Result<()> {
        serde_json::to_writer(&mut self.out, line)?;
        self.out.write_all(b"\n")
    }
}

/// Reads a recording, one input after the other. Ends after the first error.
#[derive(Debug)]
pub struct Reader<R> {
    source: R,
    header: Header,
    line: u64,
    ended: bool,
}

impl<R: BufRead> Reader<R> {
    /// Reads the header.
    pub fn new(mut source: R) -> Result<Self, RecordingError> {
        let text = read_line(&mut source)?;
        if text.is_empty() {
            return Err(RecordingError::Empty);
        }
        let value: Value = serde_json::from_slice(&text).map_err(|_| {
            let cut = !is_whole(&text) && text.starts_with(b"{\"format\":\"forkwatch.");
            if cut { RecordingError::Truncated { line: 1 } } else { RecordingError::Foreign }
        })?;
        match value.get("format").and_then(Value::as_str) {
            Some(FORMAT) => {}
            Some(other) if other.starts_with(FAMILY) => {
                return Err(RecordingError::Version(other.to_owned()));
            }
            _ => return Err(RecordingError::Foreign),
        }
        let header = serde_json::from_value(value)
            .map_err(|error| RecordingError::Corrupt { line: 1, reason: error.to_string() })?;
        Ok(Self { source, header, line: 1, ended: false })
    }

    /// The first line.
    pub const fn header(&self) -> &Header {
        &self.header
    }

    fn read(&mut self) -> Result<Option<Input>, RecordingError> {
        let text = read_line(&mut self.source)?;
        if text.is_empty() {
            return Ok(None);
        }
        self.line += 1;
        let line = self.line;
        match serde_json::from_slice::<Owned>(text.trim_ascii_end()) {
            Ok(input) => input
                .into_input()
                .map(Some)
                .ok_or_else(|| RecordingError::Corrupt { line, reason: line::EXPECTED.to_owned() }),
            Err(_) if !is_whole(&text) => Err(RecordingError::Truncated { line }),
            Err(error) => Err(RecordingError::Corrupt { line, reason: reason(&error) }),
        }
    }
}

impl<R: BufRead> Iterator for Reader<R> {
    type Item = Result<Input, RecordingError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let input = self.read().transpose();
        self.ended = !matches!(input, Some(Ok(_)));
        input
    }
}

/// A line with its end, or what there is of it; nothing at the end of the file.
fn read_line(source: &mut impl BufRead) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    source.by_ref().take(MAX_LINE).read_until(b'\n', &mut line)?;
    Ok(line)
}

/// Whether a line was written to its end. One that is too long was not written by forkwatch.
fn is_whole(line: &[u8]) -> bool {
    line.ends_with(b"\n") || u64::try_from(line.len()).is_ok_and(|length| length >= MAX_LINE)
}

/// The parser's words, without the line that it counts: it sees one line at a time.
fn reason(error: &serde_json::Error) -> String {
    error.to_string().replace(" at line 1 column ", " at column ")
}

#[cfg(test)]
mod tests;
