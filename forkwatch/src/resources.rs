//! The limits that forkwatch itself runs under: what it does to get by, and what it says where it cannot.

use std::{fs, io};

use nix::sys::{
    resource::{Resource, getrlimit, setrlimit},
    signal::{SigHandler, Signal, signal},
};

use crate::privilege;

/// Files that a daemon has open in its worst hour: some fifty for the kernel side, one for each HTTP connection, and those
/// of the processes that it looks at.
const FILES: u64 = 256;
/// With fewer left than this nothing can be looked at: each look at a process opens some, and several go on at a time.
const LEAST_LEFT: usize = 12;

/// Why forkwatch cannot run under a limit.
#[derive(Debug, thiserror::Error)]
pub enum ResourceError {
    /// Too few files may be open.
    #[error(
        "only {left} more files can be opened, of {limit}, which is too few to look at processes: raise the limit of \
         open files (ulimit -n, or LimitNOFILE= in the systemd unit) to {FILES}"
    )]
    Files {
        /// How many are left.
        left: usize,
        /// The limit of open files (`RLIMIT_NOFILE`).
        limit: u64,
    },
}

/// Has a write beyond the limit of file sizes fail, as on a full disk. Without this it would end the program (SIGXFSZ).
pub fn survive_full_files() {
    // SAFETY: to ignore a signal installs no handler that could run.
    let ignored = unsafe { signal(Signal::SIGXFSZ, SigHandler::SigIgn) };
    // It fails for unknown signals alone.
    debug_assert!(ignored.is_ok(), "{ignored:?}");
}

/// Raises the limit of open files where that is low: as far as it may be raised, and further with `CAP_SYS_RESOURCE`. To be
/// called before capabilities are given up.
pub fn raise_open_files() {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return };
    if soft >= FILES {
        return;
    }
    let wanted = if privilege::may_raise_limits().unwrap_or(false) { FILES } else { hard.min(FILES) };
    if wanted > soft && setrlimit(Resource::RLIMIT_NOFILE, wanted, hard.max(wanted)).is_ok() {
        tracing::info!("the limit of open files was raised from {soft} to {wanted}");
    }
}

/// Refuses to watch with so few files left that nothing could be looked at, and says so where they may run out. To be
/// called when all that is always open is.
pub fn check_open_files() -> Result<(), ResourceError> {
    let (left, limit) = (left_files(), limit_of_files());
    if left < LEAST_LEFT {
        return Err(ResourceError::Files { left, limit });
    }
    if limit < FILES {
        tracing::warn!(
            "only {left} more files can be opened: few HTTP connections are served at a time, and processes may not be \
             looked at in a storm; raise the limit of open files (ulimit -n, or LimitNOFILE= in the systemd unit) to \
             {FILES}"
        );
    }
    Ok(())
}

/// How many files can still be opened.
pub fn left_files() -> usize {
    let limit = usize::try_from(limit_of_files()).unwrap_or(usize::MAX);
    match fs::read_dir("/proc/self/fd") {
        // One of them is the directory itself.
        Ok(open) => (limit + 1).saturating_sub(open.count()),
        Err(error) if error.raw_os_error() == Some(libc::EMFILE) => 0,
        // Where that is hidden nothing is known of it.
        Err(_) => limit,
    }
}

fn limit_of_files() -> u64 {
    getrlimit(Resource::RLIMIT_NOFILE).map_or(u64::from(u32::MAX), |(soft, _)| soft.min(u64::from(u32::MAX)))
}

/// What a write that failed at the limit of file sizes asks for.
pub fn advice(error: &io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(libc::EFBIG) => {
            ". The limit of file sizes forbids it (ulimit -f, or LimitFSIZE= in the systemd unit)"
        }
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_opened_is_left_no_more() {
        let before = left_files();
        let files: Vec<_> = (0..500).map(|_| fs::File::open("/dev/null").unwrap()).collect();
        // Other tests open and close files meanwhile.
        assert!(left_files() < before - 200, "{} of {before}", left_files());
        drop(files);
    }

    #[test]
    fn what_to_raise_is_named() {
        let message = ResourceError::Files { left: 3, limit: 48 }.to_string();
        assert!(message.contains("only 3 more") && message.contains("LimitNOFILE="), "{message}");
        assert!(advice(&io::Error::from_raw_os_error(libc::EFBIG)).contains("ulimit -f"));
        assert_eq!(advice(&io::Error::from_raw_os_error(libc::ENOSPC)), "");
    }
}
