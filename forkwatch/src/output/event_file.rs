//! Events as lines in a file that is rotated by size and survives a full disk.
//!
//! Whatever happens to the disk, the watch goes on: an event that cannot be written is counted as lost, what was
//! written of it is cut off again so that every line stays whole, and the next event is tried as if nothing had
//! been.

use std::{
    ffi::{OsStr, OsString},
    fs::File,
    io::{self, Read, Seek, SeekFrom, Write},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use nix::fcntl::{Flock, FlockArg};

use crate::{
    output_file::{OutputFileError, Place},
    resources,
};

/// How far back a line's beginning is looked for.
const LONGEST_LINE: u64 = 1 << 20;
/// An outage is over when nothing has failed for this long: a disk that is full but for a few bytes takes short lines
/// and refuses long ones, and shall not fill the log.
const SETTLED: Duration = Duration::from_secs(10);

/// Why an event file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum EventFileError {
    /// It cannot be opened, made or read.
    #[error("cannot open the event file {}: {source}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// What went wrong below.
        source: OutputFileError,
    },
    /// It ends in the middle of a line that is no event.
    #[error("cannot use {} as event file: it holds something else; name another file", .0.display())]
    NotEvents(PathBuf),
    /// Another process has it locked.
    #[error("cannot use {} as event file: another forkwatch writes to it; name another file", .0.display())]
    Locked(PathBuf),
    /// Rotation would fail.
    #[error(
        "cannot rotate the event file {}: its directory is not writable ({source}); make it so for this user, name \
         a file elsewhere, or set events.max_bytes = 0 and leave rotation to others",
        path.display()
    )]
    Directory {
        /// The file.
        path: PathBuf,
        /// What the system or the parser said.
        source: io::Error,
    },
}

/// When the file is rotated and what is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rotation {
    /// Size in bytes at which it is rotated; 0 for never.
    pub max_bytes: u64,
    /// How many rotated files are kept: `FILE.1` is the newest.
    pub keep: u32,
}

/// An event file that is open for appending, locked against other writers.
pub struct EventFile {
    path: PathBuf,
    rotation: Rotation,
    file: Flock<File>,
    length: u64,
    /// Size at which the next rotation is tried.
    rotate_at: u64,
    /// Bytes of an unfinished line at the end that are still to be cut off.
    torn: u64,
    outage: Option<Outage>,
    settled: Duration,
}

/// A time in which writes fail.
struct Outage {
    lost: u64,
    last: Instant,
}

impl EventFile {
    /// Opens the file, or makes it. To be called with the capabilities that the program will keep, so that what
    /// cannot be written or rotated later is told now.
    pub fn open(path: &Path, rotation: Rotation) -> Result<Self, EventFileError> {
        let place = find(path)?;
        let rotation = possible(rotation, &place);
        if rotation.max_bytes > 0 {
            place
                .check_directory()
                .map_err(|source| EventFileError::Directory { path: path.to_owned(), source })?;
        }
        let (file, length) = open(path, &place)?;
        Ok(Self {
            path: path.to_owned(),
            rotation,
            file,
            length,
            rotate_at: rotation.max_bytes,
            torn: 0,
            outage: None,
            settled: SETTLED,
        })
    }

    /// The path as the configuration has it.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Appends an event, `line` being its JSON without a line break. Says whether it was written; if not, it is
    /// lost, and the log tells so once per outage.
    pub fn append(&mut self, line: &str) -> bool {
        let mut bytes = Vec::with_capacity(line.len() + 1);
        bytes.extend_from_slice(line.as_bytes());
        bytes.push(b'\n');
        let size = bytes.len() as u64;
        if self.rotation.max_bytes > 0 && self.length > 0 && self.length + size > self.rotate_at {
            self.rotate();
        }
        match self.write(&bytes) {
            Ok(()) => {
                self.length += size;
                self.recovered();
                true
            }
            Err(error) => {
                self.failed(&error);
                false
            }
        }
    }

    /// Opens the path anew, in case others have renamed the file (SIGHUP), and applies a new rotation. If that fails
    /// the old file stays in use.
    pub fn reopen(&mut self, rotation: Rotation) -> Result<(), EventFileError> {
        let place = find(&self.path)?;
        let ours = self.file.metadata().ok().map(|ours| (ours.dev(), ours.ino()));
        // Unchanged, it is still locked by us.
        if ours.is_none() || place.identity() != ours {
            (self.file, self.length) = open(&self.path, &place)?;
            self.torn = 0;
        }
        self.rotation = possible(rotation, &place);
        self.rotate_at = self.rotation.max_bytes;
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.cut()?;
        let mut rest = bytes;
        while !rest.is_empty() {
            let written = match self.file.write(rest) {
                Ok(0) => Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => Ok(written),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(0),
                Err(error) => Err(error),
            };
            match written {
                Ok(written) => rest = rest.get(written..).unwrap_or_default(),
                Err(error) => {
                    self.torn = (bytes.len() - rest.len()) as u64;
                    // If this fails too, the next write begins with it.
                    let _ = self.cut();
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// Cuts off an unfinished line.
    fn cut(&mut self) -> io::Result<()> {
        if self.torn > 0 {
            let length = self.file.metadata()?.len();
            self.file.set_len(length.saturating_sub(self.torn))?;
            self.torn = 0;
        }
        Ok(())
    }

    fn rotate(&mut self) {
        if let Err(error) = self.try_rotate() {
            tracing::warn!(
                path = %self.path.display(), %error,
                "cannot rotate the event file: it grows on, and rotation is tried again later"
            );
            self.rotate_at = self.length.saturating_add(self.rotation.max_bytes);
        }
    }

    /// Renames the oldest first, so that whatever fails, no file is lost but the one that is due.
    /// All in one directory, whatever its path leads to meanwhile; a rename replaces a link and does not follow it.
    fn try_rotate(&mut self) -> Result<(), EventFileError> {
        let failed =
            |source: io::Error| EventFileError::Open { path: self.path.clone(), source: source.into() };
        let place = find(&self.path)?;
        let name = place.name();
        for number in (1..self.rotation.keep).rev() {
            place.rename(&numbered(name, number), &numbered(name, number + 1)).map_err(failed)?;
        }
        if self.rotation.keep > 0 {
            place.rename(name, &numbered(name, 1)).map_err(failed)?;
        } else {
            place.remove().map_err(failed)?;
        }
        (self.file, self.length) = open(&self.path, &place)?;
        self.rotate_at = self.rotation.max_bytes;
        self.torn = 0;
        Ok(())
    }

    fn failed(&mut self, error: &io::Error) {
        let outage = self.outage.get_or_insert_with(|| {
            tracing::warn!(
                path = %self.path.display(), %error,
                "cannot write to the event file: events are lost to it until it can be written again{}",
                resources::advice(error)
            );
            Outage { lost: 0, last: Instant::now() }
        });
        outage.lost += 1;
        outage.last = Instant::now();
    }

    fn recovered(&mut self) {
        if let Some(outage) = self.outage.take_if(|outage| outage.last.elapsed() >= self.settled) {
            tracing::warn!(
                path = %self.path.display(), lost = outage.lost,
                "the event file can be written again"
            );
        }
    }
}

/// `FILE.N`
fn numbered(name: &OsStr, number: u32) -> OsString {
    let mut name = name.to_owned();
    name.push(format!(".{number}"));
    name
}

/// What forkwatch was started with, such as `/dev/stdout`, has no name that could be another's.
const fn possible(rotation: Rotation, place: &Place) -> Rotation {
    if place.is_own_descriptor() { Rotation { max_bytes: 0, ..rotation } } else { rotation }
}

fn find(path: &Path) -> Result<Place, EventFileError> {
    Place::find(path).map_err(|source| EventFileError::Open { path: path.to_owned(), source })
}

/// Opens, locks and mends a file, and says how long it is.
fn open(path: &Path, place: &Place) -> Result<(Flock<File>, u64), EventFileError> {
    let file = place.append().map_err(|source| EventFileError::Open { path: path.to_owned(), source })?;
    let failed = |source: io::Error| EventFileError::Open { path: path.to_owned(), source: source.into() };
    let mut file = Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| match errno {
        nix::Error::EWOULDBLOCK => EventFileError::Locked(path.to_owned()),
        errno => failed(errno.into()),
    })?;
    let length = file.metadata().map_err(failed)?.len();
    let whole = mend(&mut file, length).map_err(failed)?;
    whole.map(|length| (file, length)).ok_or_else(|| EventFileError::NotEvents(path.to_owned()))
}

/// Cuts off an event that a crash left unfinished, and says how long the file is now. Of anything else, nothing is
/// cut off: the answer is `None`.
fn mend(file: &mut File, length: u64) -> io::Result<Option<u64>> {
    let from = length.saturating_sub(LONGEST_LINE);
    file.seek(SeekFrom::Start(length.saturating_sub(1)))?;
    let mut tail = Vec::new();
    file.read_to_end(&mut tail)?;
    if tail.last().is_none_or(|byte| *byte == b'\n') {
        return Ok(Some(length));
    }
    tail.clear();
    file.seek(SeekFrom::Start(from))?;
    file.read_to_end(&mut tail)?;
    let start = match tail.iter().rposition(|byte| *byte == b'\n') {
        Some(newline) => newline + 1,
        None if from == 0 => 0,
        None => return Ok(None),
    };
    if tail.get(start) != Some(&b'{') {
        return Ok(None);
    }
    let whole = from + start as u64;
    file.set_len(whole)?;
    Ok(Some(whole))
}

#[cfg(test)]
mod tests;
