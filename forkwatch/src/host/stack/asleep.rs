//! Where a thread sleeps, as `/proc` shows it without stopping it.

use std::io;

use crate::host::{
    absence,
    call::{Activity, Position},
    status::Status,
};

/// A sleep of a thread. While it is the same, the thread has not woken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sleep {
    pub(super) position: Position,
    activity: Activity,
    switches: u64,
}

impl Sleep {
    /// Says why not where it cannot be told, or the thread is awake.
    pub(super) fn of(tgid: u32, thread: u32) -> Result<Self, String> {
        let refused = |file, error: io::Error| refused(tgid, thread, file, &error);
        let activity = Activity::of_thread(tgid, thread).map_err(|error| refused("syscall", error))?;
        let status = Status::of_thread(tgid, thread).map_err(|error| refused("status", error))?;
        let Some(position) = activity.position() else {
            return Err(format!("thread {thread} runs; only that of a sleeping one can be told"));
        };
        Ok(Self { position, activity, switches: status.switches })
    }

    pub(super) fn is_in_futex(&self) -> bool {
        // A wait with a timeout goes on as restart_syscall(2) once it was interrupted.
        let is_futex = |number| number == libc::SYS_futex || number == libc::SYS_restart_syscall;
        self.activity.call().is_some_and(|call| is_futex(call.number))
    }
}

fn refused(tgid: u32, thread: u32, file: &str, error: &io::Error) -> String {
    let path = format!("/proc/{tgid}/task/{thread}/{file}");
    match error.raw_os_error() {
        _ if absence::is_gone(error) => format!("process {tgid} has no thread {thread} any more"),
        Some(libc::EACCES | libc::EPERM) => {
            format!("{path} cannot be read without CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH: {error}")
        }
        None => error.to_string(),
        _ => format!("{path} cannot be read: {error}"),
    }
}
