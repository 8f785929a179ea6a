//! Opens what is to be written, and follows no symbolic link that a stranger could have put into its way.
//!
//! A user who can write to a directory on the way can put a link there, and have forkwatch append to a file that is
//! not his to change, or make one. So the way is walked name by name. A link is followed where it belongs to root or to
//! forkwatch's own user, and lies in a directory of theirs that is not for everybody: else its owner may not have chosen
//! where it lies (hard links to links, and renames). A group may write there, as to `/var/log` on Ubuntu, where systemd
//! puts root's link to the logs of a service with a dynamic user.

use std::{
    collections::VecDeque,
    ffi::{OsStr, OsString},
    fs::File,
    io,
    os::fd::{AsFd, OwnedFd},
    path::{Component, Path, PathBuf},
};

use nix::{
    errno::Errno,
    fcntl::{AtFlags, OFlag, openat, readlinkat, renameat},
    sys::{
        stat::{FileStat, Mode, SFlag, fstat, fstatat},
        statfs::{PROC_SUPER_MAGIC, fstatfs},
    },
    unistd::{AccessFlags, UnlinkatFlags, faccessat, geteuid, unlinkat},
};

use crate::resources;

/// Command lines may hold secrets, so only owner and group may read.
const MODE: Mode = Mode::from_bits_truncate(0o640);
/// As many as the kernel follows (`MAXSYMLINKS`, include/linux/namei.h).
const MOST_LINKS: usize = 40;

/// Why nothing is written there. The message is about a file that has been named already.
#[derive(Debug, thiserror::Error)]
pub enum OutputFileError {
    /// The kernel refuses.
    #[error("{0}{hint}", hint = hint(.0))]
    Io(#[from] io::Error),
    /// A link that anybody could have put there.
    #[error(
        "{} is a symbolic link that another user could have put there (it belongs to uid {owner}, its directory to \
         uid {directory}, with mode {mode:o}): name the file that it should lead to, or one in a directory that \
         nobody else can write to",
        link.display()
    )]
    Link {
        /// The path of the link.
        link: PathBuf,
        /// The uid that the link belongs to.
        owner: u32,
        /// The uid that the directory of the link belongs to.
        directory: u32,
        /// Who may write to that.
        mode: u32,
    },
    /// A file that another user made, and could read.
    #[error(
        "it belongs to uid {0}, who could have put it there to read what is written: remove it, or name a file in a \
         directory that nobody else can write to"
    )]
    Foreign(u32),
    /// A file that has other names too.
    #[error(
        "it has {0} names (hard links), and another user could have given it this one: remove it, or name a file in \
         a directory that nobody else can write to"
    )]
    Linked(libc::nlink_t),
    /// There is something already that would be lost.
    #[error("it exists already, and is not overwritten: name another file, or remove it")]
    Exists,
    /// Whatever takes what is written could keep the watch waiting.
    #[error("it is {0}: name a regular file")]
    NotRegular(&'static str),
}

impl OutputFileError {
    /// Whether it would work with more privilege.
    pub fn is_privilege(&self) -> bool {
        matches!(self, Self::Io(error) if error.kind() == io::ErrorKind::PermissionDenied)
    }

    /// Whether another file has to be named.
    pub const fn is_refusal(&self) -> bool {
        matches!(self, Self::Link { .. } | Self::Foreign(_) | Self::Linked(_))
    }
}

impl From<Errno> for OutputFileError {
    fn from(errno: Errno) -> Self {
        Self::Io(errno.into())
    }
}

/// What whoever runs forkwatch as root does not expect.
fn hint(error: &io::Error) -> String {
    if error.kind() != io::ErrorKind::PermissionDenied {
        return resources::advice(error).to_owned();
    }
    format!(
        ". forkwatch writes files without CAP_DAC_OVERRIDE, so root too needs to be allowed by the permission bits: \
         name a file in a directory that uid {} can write to",
        geteuid()
    )
}

/// Where a file is, or would be: a name in a directory that is held open.
#[derive(Debug)]
pub struct Place {
    directory: OwnedFd,
    name: OsString,
    /// Whether others can write to the directory.
    is_shared: bool,
    /// What has this name now.
    found: Option<FileStat>,
    is_own_descriptor: bool,
}

impl Place {
    /// Walks to the directory of a path.
    pub fn find(path: &Path) -> Result<Self, OutputFileError> {
        let start = if path.is_absolute() { "/" } else { "." };
        let mut directory = open_directory(nix::fcntl::AT_FDCWD, OsStr::new(start), OFlag::empty())?;
        let mut rest = names(path);
        let mut walked = PathBuf::from(if path.is_absolute() { "/" } else { "" });
        let mut links = 0;
        while let Some(name) = rest.pop_front() {
            let is_last = rest.is_empty();
            let found = match fstatat(&directory, name.as_os_str(), AtFlags::AT_SYMLINK_NOFOLLOW) {
                Ok(found) => Some(found),
                Err(Errno::ENOENT) if is_last => None,
                Err(errno) => return Err(errno.into()),
            };
            if found.as_ref().is_none_or(|found| kind(found) != SFlag::S_IFLNK) {
                if is_last {
                    let is_shared = is_shared(&fstat(&directory)?);
                    return Ok(Self { directory, name, is_shared, found, is_own_descriptor: false });
                }
                directory = open_directory(&directory, &name, OFlag::O_NOFOLLOW)?;
                walked.push(&name);
                continue;
            }
            links += 1;
            if links > MOST_LINKS {
                return Err(Errno::ELOOP.into());
            }
            let holder = fstat(&directory)?;
            let owner = found.as_ref().map_or(u32::MAX, |found| found.st_uid);
            if !is_trusted(owner) || is_for_everybody(&holder) {
                return Err(OutputFileError::Link {
                    link: walked.join(&name),
                    owner,
                    directory: holder.st_uid,
                    mode: holder.st_mode & 0o7777,
                });
            }
            if fstatfs(&directory)?.filesystem_type() == PROC_SUPER_MAGIC {
                // Made by the kernel alone. Some lead to what has no path, such as a pipe.
                if is_last {
                    let found = Some(fstatat(&directory, name.as_os_str(), AtFlags::empty())?);
                    return Ok(Self { directory, name, is_shared: false, found, is_own_descriptor: true });
                }
                directory = open_directory(&directory, &name, OFlag::empty())?;
                walked.push(&name);
                continue;
            }
            let target = PathBuf::from(readlinkat(&directory, name.as_os_str())?);
            if target.is_absolute() {
                directory = open_directory(nix::fcntl::AT_FDCWD, OsStr::new("/"), OFlag::empty())?;
                walked = PathBuf::from("/");
            }
            let mut way = names(&target);
            way.append(&mut rest);
            rest = way;
        }
        Err(Errno::EISDIR.into())
    }

    /// Opens it for reading and appending, or makes it. Only a regular file will do.
    pub fn append(&self) -> Result<File, OutputFileError> {
        if let Some(found) = &self.found {
            self.check(found)?;
        }
        // A pipe that was put there meanwhile is not waited for.
        let how = OFlag::O_RDWR | OFlag::O_APPEND | OFlag::O_CREAT | OFlag::O_NONBLOCK;
        let file = self.open(how)?;
        self.check(&fstat(&file)?)?;
        Ok(file.into())
    }

    /// Opens it for reading and writing anywhere in it, or makes it. Only a regular file will do.
    pub fn update(&self) -> Result<File, OutputFileError> {
        if let Some(found) = &self.found {
            self.check(found)?;
        }
        let file = self.open(OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_NONBLOCK)?;
        self.check(&fstat(&file)?)?;
        Ok(file.into())
    }

    /// Makes it. Where there is something already it is opened if nothing can be lost there: if it is a character
    /// device, or what forkwatch has open as a file of its own.
    pub fn create(&self) -> Result<File, OutputFileError> {
        let Some(found) = &self.found else {
            return Ok(self.open(OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL)?.into());
        };
        match kind(found) {
            SFlag::S_IFCHR => {}
            SFlag::S_IFREG if self.is_own_descriptor => {}
            SFlag::S_IFIFO | SFlag::S_IFSOCK => {
                // Whoever reads it could stop to, and the watch would stop with it.
                return Err(OutputFileError::NotRegular(name_of(kind(found))));
            }
            _ => return Err(OutputFileError::Exists),
        }
        let file = self.open(OFlag::O_WRONLY | OFlag::O_APPEND)?;
        if kind(&fstat(&file)?) == kind(found) { Ok(file.into()) } else { Err(OutputFileError::Exists) }
    }

    /// Gives a file of this directory another name; one that is not there needs none.
    pub fn rename(&self, from: &OsStr, to: &OsStr) -> io::Result<()> {
        match renameat(&self.directory, from, &self.directory, to) {
            Err(Errno::ENOENT) => Ok(()),
            done => Ok(done?),
        }
    }

    /// Takes its name away.
    pub fn remove(&self) -> io::Result<()> {
        Ok(unlinkat(&self.directory, self.name.as_os_str(), UnlinkatFlags::NoRemoveDir)?)
    }

    /// Its name in the directory.
    pub fn name(&self) -> &OsStr {
        &self.name
    }

    /// Whether files of the directory can be made and renamed.
    pub fn check_directory(&self) -> io::Result<()> {
        let here = OsStr::new(".");
        Ok(faccessat(&self.directory, here, AccessFlags::W_OK | AccessFlags::X_OK, AtFlags::AT_EACCESS)?)
    }

    /// Whether it is a link of the kernel's to what forkwatch has open already, as `/dev/stdout` is.
    pub const fn is_own_descriptor(&self) -> bool {
        self.is_own_descriptor
    }

    /// Device and inode of what has the name.
    pub fn identity(&self) -> Option<(u64, u64)> {
        self.found.as_ref().map(|found| (found.st_dev, found.st_ino))
    }

    fn open(&self, how: OFlag) -> Result<OwnedFd, Errno> {
        let always = OFlag::O_CLOEXEC | OFlag::O_NOCTTY;
        let links = if self.is_own_descriptor { OFlag::empty() } else { OFlag::O_NOFOLLOW };
        openat(&self.directory, self.name.as_os_str(), how | always | links, MODE)
    }

    /// Refuses what is no regular file, or one that was put there to be written to.
    fn check(&self, found: &FileStat) -> Result<(), OutputFileError> {
        if kind(found) != SFlag::S_IFREG {
            return Err(OutputFileError::NotRegular(name_of(kind(found))));
        }
        if self.is_shared && !is_trusted(found.st_uid) {
            return Err(OutputFileError::Foreign(found.st_uid));
        }
        if self.is_shared && found.st_nlink > 1 {
            return Err(OutputFileError::Linked(found.st_nlink));
        }
        Ok(())
    }
}

/// The steps of a path, without the root.
fn names(path: &Path) -> VecDeque<OsString> {
    path.components()
        .filter_map(|component| match component {
            Component::Normal(name) => Some(name.to_owned()),
            Component::ParentDir => Some(OsString::from("..")),
            Component::Prefix(_) | Component::RootDir | Component::CurDir => None,
        })
        .collect()
}

/// A directory to go on from; it need not be readable.
fn open_directory(from: impl AsFd, name: &OsStr, more: OFlag) -> Result<OwnedFd, Errno> {
    openat(from, name, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC | more, Mode::empty())
}

fn is_trusted(uid: u32) -> bool {
    uid == 0 || uid == geteuid().as_raw()
}

/// Whether a directory is a stranger's, or everybody's to write to.
fn is_for_everybody(directory: &FileStat) -> bool {
    !is_trusted(directory.st_uid) || directory.st_mode & 0o002 != 0
}

/// Whether somebody else than root and forkwatch's own user can write to a directory. Where it has an access list,
/// the bits of the group are the most that this allows anybody (acl(5)).
fn is_shared(directory: &FileStat) -> bool {
    is_for_everybody(directory) || (directory.st_mode & 0o020 != 0 && directory.st_gid != 0)
}

fn kind(found: &FileStat) -> SFlag {
    SFlag::from_bits_truncate(found.st_mode) & SFlag::S_IFMT
}

fn name_of(kind: SFlag) -> &'static str {
    match kind {
        SFlag::S_IFDIR => "a directory",
        SFlag::S_IFIFO => "a pipe",
        SFlag::S_IFSOCK => "a socket",
        SFlag::S_IFLNK => "a symbolic link",
        _ => "a device",
    }
}

#[cfg(test)]
mod tests;
