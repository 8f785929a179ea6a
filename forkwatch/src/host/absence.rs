//! Why a process cannot be read.

use std::io;

use super::pidfd::pidfd_open;
use crate::privilege;

/// Whether an error says that a task has ended, or is hidden.
pub(super) fn is_gone(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ESRCH))
}

/// What was read of a task; absent where that has ended.
pub(super) fn unless_gone<T>(read: io::Result<T>) -> io::Result<Option<T>> {
    match read {
        Err(error) if is_gone(&error) => Ok(None),
        read => read.map(Some),
    }
}

/// Whether there is a process of that pid, whatever `/proc` shows. Not asked by a signal: a reader may send none.
pub fn exists(tgid: u32) -> bool {
    let missing = |error: &io::Error| matches!(error.raw_os_error(), Some(libc::ESRCH));
    i32::try_from(tgid).is_ok_and(|pid| pid > 0) && !pidfd_open(tgid).is_err_and(|error| missing(&error))
}

/// Why a file of a process could not be read; absent where the process has ended.
///
/// With `hidepid=2` the directory of a living process of another user seems not to exist.
pub(super) fn reason(tgid: u32, file: &str, error: &io::Error) -> Option<String> {
    if is_gone(error) {
        return exists(tgid).then(|| format!("/proc/{tgid} is hidden (hidepid)"));
    }
    // All of /proc/PID that is looked at is open to whoever may read files that are their owner's alone, and may trace
    // the process (proc_pid_syscall, mm_access).
    let refused = matches!(error.raw_os_error(), Some(libc::EACCES | libc::EPERM));
    let advice = if refused { format!("; that takes {}", privilege::to_look()) } else { String::new() };
    Some(format!("cannot read /proc/{tgid}/{file}: {error}{advice}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hidden_process_is_told_from_one_that_has_ended() {
        let missing = io::Error::from_raw_os_error(libc::ENOENT);
        let refused = io::Error::from_raw_os_error(libc::EACCES);
        let own = std::process::id();
        assert_eq!(reason(own, "stat", &missing), Some(format!("/proc/{own} is hidden (hidepid)")));
        let refused = reason(own, "stat", &refused).unwrap();
        assert!(refused.starts_with(&format!("cannot read /proc/{own}/stat: ")), "{refused}");
        assert!(refused.contains("; that takes ") && refused.contains("CAP_SYS_PTRACE"), "{refused}");
        // No pid is as high as that.
        assert_eq!(reason(i32::MAX.unsigned_abs(), "stat", &missing), None);
    }

    #[test]
    fn what_has_ended_is_absent_and_what_cannot_be_read_an_error() {
        let failed = |number| unless_gone(Err::<(), _>(io::Error::from_raw_os_error(number)));
        assert!(matches!(failed(libc::ESRCH), Ok(None)) && matches!(failed(libc::ENOENT), Ok(None)));
        assert!(failed(libc::EMFILE).is_err() && failed(libc::EPERM).is_err());
        assert!(matches!(unless_gone(Ok(7)), Ok(Some(7))));
    }
}
