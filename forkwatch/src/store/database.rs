//! How the database is opened: on a file, in memory, or as a copy of a file in memory.

use std::{fs::File, io, os::unix::fs::FileExt as _, path::Path};

use nix::fcntl::{Flock, FlockArg};
use redb::{Builder, Database, StorageBackend, backends::InMemoryBackend};

use super::{error::StoreError, shape};
use crate::output_file::Place;

/// Memory for pages of the database.
const CACHE: usize = 1 << 20;
/// Most that is read of a file into memory, for whoever asks while no watch runs.
const MOST_READ: u64 = 1 << 30;

/// Of a file, which is made where there is none.
pub(super) fn open(path: &Path) -> Result<Database, StoreError> {
    let place = Place::find(path).map_err(|source| StoreError::Place { path: path.to_owned(), source })?;
    let file = place.update().map_err(|source| StoreError::Place { path: path.to_owned(), source })?;
    check_whole(path, &file)?;
    builder().create_file(file).map_err(|error| match error {
        redb::DatabaseError::DatabaseAlreadyOpen => StoreError::Busy(path.to_owned()),
        error => StoreError::inside(error),
    })
}

/// In memory, and empty.
pub(super) fn in_memory() -> Result<Database, StoreError> {
    on(InMemoryBackend::new())
}

/// In memory, with what a file holds that no watch has open. The file stays as it is.
pub(super) fn copy_of(path: &Path) -> Result<Database, StoreError> {
    let failed = |source| StoreError::Open { path: path.to_owned(), source };
    let file = File::open(path).map_err(failed)?;
    let file = Flock::lock(file, FlockArg::LockSharedNonblock).map_err(|(_, errno)| match errno {
        nix::Error::EWOULDBLOCK => StoreError::Busy(path.to_owned()),
        errno => failed(errno.into()),
    })?;
    let metadata = file.metadata().map_err(failed)?;
    if !metadata.is_file() {
        return Err(failed(io::Error::other("it is no regular file")));
    }
    let length = metadata.len();
    if length == 0 {
        return Err(StoreError::None { path: path.to_owned(), why: "it is empty".to_owned() });
    }
    check_whole(path, &file)?;
    if length > MOST_READ {
        return Err(failed(io::Error::other("it is longer than any that forkwatch makes")));
    }
    let memory = InMemoryBackend::new();
    let copy = || -> io::Result<()> {
        StorageBackend::set_len(&memory, length)?;
        let mut bytes = Vec::new();
        io::Read::read_to_end(&mut io::Read::take(&*file, length), &mut bytes)?;
        StorageBackend::write(&memory, 0, &bytes)
    };
    copy().map_err(failed)?;
    on(memory).map_err(|error| StoreError::None {
        path: path.to_owned(),
        why: match error {
            StoreError::Database(error) => error.to_string(),
            other => other.to_string(),
        },
    })
}

fn on(memory: InMemoryBackend) -> Result<Database, StoreError> {
    builder().create_with_backend(memory).map_err(StoreError::inside)
}

fn builder() -> Builder {
    let mut builder = Builder::new();
    builder.set_cache_size(CACHE);
    builder.create_with_file_format_v3(true);
    builder
}

/// Refuses a file that ends before its database does.
fn check_whole(path: &Path, file: &File) -> Result<(), StoreError> {
    let failed = |source| StoreError::Open { path: path.to_owned(), source };
    let mut head = [0; shape::HEAD];
    let length = file.metadata().map_err(failed)?.len();
    // One that is new.
    if length == 0 {
        return Ok(());
    }
    match file.read_exact_at(&mut head, 0) {
        Ok(()) if shape::is_whole(&head, length) => Ok(()),
        Ok(()) => Err(StoreError::CutOff(path.to_owned())),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            Err(StoreError::CutOff(path.to_owned()))
        }
        Err(error) => Err(failed(error)),
    }
}
