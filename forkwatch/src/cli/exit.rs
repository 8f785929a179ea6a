//! How the program ends, and what it says when it fails.

use std::{io, process::ExitCode};

use anyhow::Error;

use crate::{
    client::AskError, config::ConfigError, hooks::HooksError, host::ScanError, kernel::KernelError,
    output_file::OutputFileError, privilege::PrivilegeError, serve::TokenError, tls::TlsError,
};

/// The exit codes, as the help and the man page document them.
pub(super) const HELP: &str = "\
Exit status:
  0  fine, also when ended by Ctrl-C, SIGTERM or a closed pipe
  1  something failed while running
  2  wrong usage: an option, or a configuration that cannot be used
  3  not enough privilege
  4  this kernel lacks what is needed
  10 scan: something is proven wrong; check: a fork would not be safe;
     run, and tail with --fail-on: something was found that counts
  11 rescue: nothing was released, for the reason that is said
run ends as its command did otherwise, with 128 and the number of the signal
that killed it, 126 or 127 where it cannot be run
";

/// How the program ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Fine.
    Fine,
    /// Something failed while running.
    Failed,
    /// Wrong usage.
    Usage,
    /// Not enough privilege.
    Privilege,
    /// This kernel lacks what is needed.
    Unsupported,
    /// Something was found that should not be.
    Found,
    /// What was asked for was not done, on purpose.
    Refused,
    /// As the command that was watched ended.
    Command(u8),
}

impl Exit {
    /// The code, which is a promise.
    const fn code(self) -> u8 {
        match self {
            Self::Fine => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Privilege => 3,
            Self::Unsupported => 4,
            Self::Found => 10,
            Self::Refused => 11,
            Self::Command(code) => code,
        }
    }
}

/// A mistake on the command line that clap cannot see.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct UsageError(pub(super) String);

/// Says on stderr what failed, if something did, and gives the exit code.
pub fn report(result: Result<Exit, Error>) -> ExitCode {
    let exit = result.unwrap_or_else(|error| {
        if is_broken_pipe(&error) {
            return Exit::Fine;
        }
        eprintln!("forkwatch: {}", message(&error));
        of_error(&error)
    });
    ExitCode::from(exit.code())
}

/// The error and its causes, each told once: many of our messages have their cause in them already.
pub(super) fn message(error: &Error) -> String {
    error.chain().map(ToString::to_string).fold(String::new(), |text, cause| {
        if text.is_empty() {
            cause
        } else if text.contains(&cause) {
            text
        } else {
            format!("{text}: {cause}")
        }
    })
}

/// Whoever read our output has seen enough.
fn is_broken_pipe(error: &Error) -> bool {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<io::Error>())
        .any(|cause| cause.kind() == io::ErrorKind::BrokenPipe)
}

fn of_error(error: &Error) -> Exit {
    if let Some(error) = error.downcast_ref::<KernelError>() {
        return of_kernel_error(error);
    }
    if error.is::<PrivilegeError>() || matches!(error.downcast_ref(), Some(AskError::Forbidden(_))) {
        return Exit::Privilege;
    }
    if let Some(ScanError::Unreadable { source, .. }) = error.downcast_ref::<ScanError>()
        && source.kind() == io::ErrorKind::PermissionDenied
    {
        return Exit::Privilege;
    }
    if error.is::<ConfigError>()
        || matches!(error.downcast_ref(), Some(HooksError::Config(_)))
        || error.is::<TokenError>()
        || error.is::<TlsError>()
        || error.is::<UsageError>()
    {
        return Exit::Usage;
    }
    // Behind what the file was for.
    match error.chain().find_map(|cause| cause.downcast_ref::<OutputFileError>()) {
        Some(error) if error.is_privilege() => return Exit::Privilege,
        Some(error) if error.is_refusal() => return Exit::Usage,
        _ => {}
    }
    Exit::Failed
}

/// What an error of the kernel side comes to.
pub(super) const fn of_kernel_error(error: &KernelError) -> Exit {
    match error {
        error if error.is_privilege() => Exit::Privilege,
        error if error.is_unsupported() => Exit::Unsupported,
        _ => Exit::Failed,
    }
}

#[cfg(test)]
mod tests {
    use anyhow::Context as _;

    use super::*;

    #[test]
    fn a_cause_that_was_told_is_not_told_again() {
        let full = || io::Error::from_raw_os_error(libc::ENOSPC);
        let told = anyhow::anyhow!("cannot write: {}", full());
        assert_eq!(message(&told), "cannot write: No space left on device (os error 28)");
        let with_cause = Err::<(), _>(full()).context(format!("cannot write: {}", full())).unwrap_err();
        assert_eq!(message(&with_cause), message(&told));
        let untold = Err::<(), _>(full()).context("cannot write").unwrap_err();
        assert_eq!(message(&untold), message(&told));
    }

    #[test]
    fn what_may_not_be_read_lacks_privilege() {
        let exit = |kind: io::ErrorKind| {
            of_error(&ScanError::Unreadable { path: "/proc/7/task".to_owned(), source: kind.into() }.into())
        };
        assert_eq!(exit(io::ErrorKind::PermissionDenied), Exit::Privilege);
        assert_eq!(exit(io::ErrorKind::InvalidData), Exit::Failed);
        assert_eq!(of_error(&ScanError::NoSuchProcess(7).into()), Exit::Failed);
    }

    #[test]
    fn a_file_that_may_not_be_written_lacks_privilege_and_one_that_is_refused_is_wrong_usage() {
        let of = |error: OutputFileError| of_error(&Error::from(error).context("cannot write to x"));
        assert_eq!(of(io::Error::from(io::ErrorKind::PermissionDenied).into()), Exit::Privilege);
        assert_eq!(of(OutputFileError::Foreign(7)), Exit::Usage);
        assert_eq!(of(OutputFileError::Exists), Exit::Failed);
    }

    #[test]
    fn a_closed_pipe_is_found_behind_what_was_being_done() {
        let closed =
            Err::<(), _>(io::Error::from(io::ErrorKind::BrokenPipe)).context("cannot write").unwrap_err();
        assert!(is_broken_pipe(&closed));
        assert!(!is_broken_pipe(&anyhow::anyhow!("cannot write")));
    }
}
