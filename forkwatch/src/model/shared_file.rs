//! Open files that a fork has left to several processes, and who uses them.

use serde::{Deserialize, Serialize};

use super::{
    inventory::{DatabaseKind, OpenFile},
    process::{Comm, ProcessKey, Program},
    time::BootTime,
};

/// Most open files of one process that are looked at.
pub const MAX_FILES: usize = 64;

/// The open files of a forked process that others of its family have too.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SharedFilesSeen {
    /// The forked process has ended or exec'd, or its pid belongs to another.
    Gone,
    /// There is nobody whom it could share them with any more.
    Left,
    /// They cannot be compared, for this reason.
    Unreadable(String),
    /// They were compared.
    Seen(Box<SharedFiles>),
}

/// What is known of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SharedFiles {
    /// When they were looked at.
    pub at: BootTime,
    /// The forked process's comm.
    pub comm: Comm,
    /// Its real uid, where that may be read.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub uid: Option<u32>,
    /// What runs in it, which is what runs in its family.
    pub program: Program,
    /// Regular files that both have open at one place for both: the first [`MAX_FILES`].
    pub files: Vec<SharedFile>,
    /// The database that was asked about, where the forked process has it open no longer and its forker has.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub closed: Option<ClosedDatabase>,
}

/// A regular file that several processes have open, with one offset for all.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SharedFile {
    /// The file, as the forked process has it.
    pub file: OpenFile,
    /// Where the next read or write begins.
    pub position: u64,
    /// Who was seen to move that, alone of the processes that were looked at.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub users: Vec<FileUser>,
    /// Which database it is, by how it begins.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub database: Option<DatabaseKind>,
    /// Who had a lock of its own on it (`fcntl`, `F_SETLK`), taken by the descriptor that the fork has left to all.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub lockers: Vec<ProcessKey>,
}

/// What a process did to the offset of a file, in moments in which no other of its family read or wrote anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileUser {
    /// Which process: its tgid, and when it started.
    pub process: ProcessKey,
    /// How often it moved.
    pub moves: u32,
    /// How often by a read.
    pub reads: u32,
    /// How often otherwise than by reading and writing: backwards, or further than anything was read or written.
    pub seeks: u32,
}

/// A database that a forked process has closed, and its forker has not.
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own, as it was seen")]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClosedDatabase {
    /// Its file, as the forker has it.
    pub file: OpenFile,
    /// Which library's it is.
    pub kind: DatabaseKind,
    /// Whether the forker has a journal of it open that somebody has deleted.
    pub journal_deleted: bool,
    /// Whether the forker has a lock on it: it is at work on it.
    pub locked: bool,
    /// Whether the forked process has other descriptors, so that it has not simply closed all.
    pub others_open: bool,
    /// Whether it was not seen to have the database: it was asked about no such, and the forker's journal is deleted.
    #[serde(default)]
    pub unseen: bool,
}
