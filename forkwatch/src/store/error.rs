//! Why the store of findings cannot be used.

use std::{io, path::PathBuf};

use crate::output_file::OutputFileError;

/// Why the database cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file cannot be opened or made.
    #[error("cannot open the store of findings {}: {source}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// What went wrong below.
        source: io::Error,
    },
    /// The file is not one that forkwatch should write to.
    #[error("cannot open the store of findings {}: {source}", path.display())]
    Place {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: OutputFileError,
    },
    /// The file ends early.
    #[error("the store of findings {} was cut off", .0.display())]
    CutOff(PathBuf),
    /// A running watch has it.
    #[error("the store of findings {} is open in another forkwatch, which must be asked instead", .0.display())]
    Busy(PathBuf),
    /// It is read, and is none.
    #[error("{} is no store of findings: {why}", path.display())]
    None {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// Something went wrong inside.
    #[error("the store of findings: {0}")]
    Database(#[from] Box<redb::Error>),
    /// A row is none of ours.
    #[error("the store of findings holds what this forkwatch did not write: {0}")]
    Row(#[from] serde_json::Error),
}

impl StoreError {
    pub(super) fn inside(error: impl Into<redb::Error>) -> Self {
        Self::Database(Box::new(error.into()))
    }

    /// Whether the file holds something else than a database that can be read.
    pub(super) fn is_broken(&self) -> bool {
        match self {
            Self::CutOff(_) => true,
            Self::Database(error) => is_broken(error),
            _ => false,
        }
    }
}

/// Whether that is said of a file that holds something else.
fn is_broken(error: &redb::Error) -> bool {
    match error {
        redb::Error::Corrupted(_) | redb::Error::UpgradeRequired(_) | redb::Error::RepairAborted => true,
        // What redb says of a file that does not begin as it should.
        redb::Error::Io(error) => error.kind() == io::ErrorKind::InvalidData,
        _ => false,
    }
}
