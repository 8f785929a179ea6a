//! Opens what is to be read whole: a regular file, and nothing that could keep its reader waiting.

use std::{
    fs::{File, FileType, Metadata, OpenOptions},
    io::{self, Read as _},
    os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _},
    path::Path,
};

/// Why a file cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum InputFileError {
    /// The kernel refuses.
    #[error("cannot open {path}: {source}")]
    Open {
        /// The file.
        path: String,
        /// What the system or the parser said.
        source: io::Error,
    },
    /// It is something that may never end, or never answer.
    #[error("{path} is {kind}: name a regular file")]
    NotRegular {
        /// The file.
        path: String,
        /// What it is instead, in words: a directory, a pipe.
        kind: &'static str,
    },
    /// Nobody would write so much.
    #[error("{path} is longer than {most} bytes: it is another file than was meant")]
    TooLong {
        /// The file.
        path: String,
        /// How long it may be.
        most: u64,
    },
}

/// Opens a regular file. Neither a pipe that nobody writes to nor a device is waited for, or read.
pub fn open(path: &Path) -> Result<File, InputFileError> {
    opened(path).map(|(file, _)| file)
}

/// Reads a regular file of so many bytes at most.
pub fn read(path: &Path, most: u64) -> Result<Vec<u8>, InputFileError> {
    let (file, metadata) = opened(path)?;
    let name = || path.display().to_string();
    let mut bytes = Vec::new();
    if metadata.len() <= most {
        // It may grow meanwhile, and files of /proc have no length.
        file.take(most + 1)
            .read_to_end(&mut bytes)
            .map_err(|source| InputFileError::Open { path: name(), source })?;
    }
    let length = metadata.len().max(bytes.len() as u64);
    if length > most { Err(InputFileError::TooLong { path: name(), most }) } else { Ok(bytes) }
}

fn opened(path: &Path) -> Result<(File, Metadata), InputFileError> {
    let failed = |source| InputFileError::Open { path: path.display().to_string(), source };
    let check = |metadata: Metadata| {
        if metadata.is_file() {
            return Ok(metadata);
        }
        let kind = kind(metadata.file_type());
        Err(InputFileError::NotRegular { path: path.display().to_string(), kind })
    };
    // First by name: to open a device may do something already.
    check(path.metadata().map_err(failed)?)?;
    // What it was may have been replaced by a pipe.
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(path)
        .map_err(failed)?;
    let metadata = check(file.metadata().map_err(failed)?)?;
    Ok((file, metadata))
}

/// What something is that is no regular file.
fn kind(kind: FileType) -> &'static str {
    if kind.is_dir() {
        "a directory"
    } else if kind.is_fifo() {
        "a pipe"
    } else if kind.is_socket() {
        "a socket"
    } else if kind.is_symlink() {
        "a symbolic link"
    } else {
        "a device"
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn what_could_keep_a_reader_waiting_is_refused_by_its_kind() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(&pipe, &link).unwrap();
        for (path, kind) in [
            (pipe.as_path(), "a pipe"),
            (&link, "a pipe"),
            (folder.path(), "a directory"),
            (Path::new("/dev/zero"), "a device"),
            (Path::new("/dev/tty"), "a device"),
        ] {
            for message in [open(path).err().unwrap(), read(path, 10).err().unwrap()].map(|e| e.to_string()) {
                assert!(message.contains(kind) && message.contains("regular file"), "{message}");
            }
        }
        let message = open(Path::new("/nonexistent/x")).err().unwrap().to_string();
        assert!(message.contains("/nonexistent/x") && message.contains("No such file"), "{message}");
    }

    #[test]
    fn no_more_is_read_than_was_said() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, "0123456789").unwrap();
        assert_eq!(read(&path, 10).unwrap(), b"0123456789");
        assert!(matches!(read(&path, 9), Err(InputFileError::TooLong { most: 9, .. })));
        // It says of itself that it has no bytes.
        assert!(matches!(read(Path::new("/proc/self/status"), 9), Err(InputFileError::TooLong { .. })));
        File::create(&path).unwrap().set_len(1 << 32).unwrap();
        assert!(matches!(read(&path, 1 << 20), Err(InputFileError::TooLong { .. })));
    }
}
