//! The program that `forkwatch run` starts in place of the command: it waits until the watch is ready, and then becomes
//! the command. So the command is watched from its first instruction, in a process whose pid was known before.

use std::{
    ffi::OsString,
    fs::File,
    io::{self, Read},
    os::{
        fd::{FromRawFd, RawFd},
        unix::process::CommandExt,
    },
    process::Command,
};

use anyhow::{Context as _, Result};
use clap::Args;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};

use super::exit::Exit;

/// The command that runs it.
pub(super) const NAME: &str = "held-program";
/// What says that the watch is ready.
pub(super) const GO: u8 = b'g';
/// As shells and env(1) end where there is no such command.
const NOT_FOUND: u8 = 127;
/// As they end where it cannot be executed.
const NOT_EXECUTABLE: u8 = 126;

/// What it waits for, and what it becomes.
#[derive(Debug, Args)]
pub(super) struct Options {
    /// The descriptor of a pipe that tells when the watch is ready
    gate: RawFd,
    /// The command with its arguments
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
    command: Vec<OsString>,
}

/// Becomes the command. Returns only where that is impossible, or the watch has ended before it began.
pub(super) fn run(options: &Options) -> Result<Exit> {
    // SAFETY: `forkwatch run` gave this descriptor to this process, which uses it nowhere else. If somebody else names
    // one that is not open, the calls on it fail.
    let mut gate = unsafe { File::from_raw_fd(options.gate) };
    // The command is not to have it.
    fcntl(&gate, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).context("this command is for forkwatch run alone")?;
    let mut word = [0];
    if gate.read(&mut word).context("cannot wait for the watch")? == 0 || word != [GO] {
        // It has said why.
        return Ok(Exit::Failed);
    }
    let Some((program, arguments)) = options.command.split_first() else { return Ok(Exit::Usage) };
    let error = Command::new(program).args(arguments).exec();
    eprintln!("forkwatch: cannot run {}: {error}", program.display());
    let code = if error.kind() == io::ErrorKind::NotFound { NOT_FOUND } else { NOT_EXECUTABLE };
    Ok(Exit::Command(code))
}
