//! Where a thread sleeps, as `/proc` shows it without stopping it.

use std::io;

use crate::host::file;

/// A sleep of a thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sleep {
    /// The system call; -1 for none, such as a page fault.
    pub(super) call: libc::c_long,
    pub(super) stack: u64,
    pub(super) instruction: u64,
    /// How often it has gone to sleep so far: where that is the same later, it has not woken meanwhile.
    pub(super) count: u64,
}

impl Sleep {
    /// Says why not where it cannot be told, or the thread is awake.
    pub(super) fn of(tgid: u32, thread: u32) -> Result<Self, String> {
        let path = format!("/proc/{tgid}/task/{thread}/syscall");
        let read = |path: &str| file::read_small(path).map_err(|error| refused(tgid, thread, path, &error));
        let call = read(&path)?;
        let status = read(&format!("/proc/{tgid}/task/{thread}/status"))?;
        let call = String::from_utf8_lossy(&call);
        if call.trim() == "running" {
            return Err(format!("thread {thread} runs; only that of a sleeping one can be told"));
        }
        let count = file::field(&status, "voluntary_ctxt_switches:").and_then(|count| count.parse().ok());
        let sleep = parse(&call).zip(count);
        let ((call, stack, instruction), count) =
            sleep.ok_or_else(|| format!("{path} has an unknown layout"))?;
        Ok(Self { call, stack, instruction, count })
    }

    pub(super) const fn is_in_futex(&self) -> bool {
        // A wait with a timeout goes on as restart_syscall(2) once it was interrupted.
        self.call == libc::SYS_futex || self.call == libc::SYS_restart_syscall
    }
}

/// `proc_pid_syscall(5)`: the number of the call, its six arguments unless there is no call, the stack pointer and the
/// program counter.
fn parse(text: &str) -> Option<(libc::c_long, u64, u64)> {
    let mut fields = text.split_ascii_whitespace();
    let call: libc::c_long = fields.next()?.parse().ok()?;
    let arguments = if call == -1 { 0 } else { 6 };
    let number = |field: Option<&str>| u64::from_str_radix(field?.strip_prefix("0x")?, 16).ok();
    let mut fields = fields.skip(arguments);
    Some((call, number(fields.next())?, number(fields.next())?))
}

fn refused(tgid: u32, thread: u32, path: &str, error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::ENOENT | libc::ESRCH) => format!("process {tgid} has no thread {thread} any more"),
        Some(libc::EACCES | libc::EPERM) => format!("{path} cannot be read without CAP_SYS_PTRACE: {error}"),
        _ => format!("{path} cannot be read: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_two_numbers_are_the_registers() {
        let call = "202 0x5581d0c0 0x80 0x2 0x0 0x0 0x0 0x7ffe 0x7f1c\n";
        assert_eq!(parse(call), Some((202, 0x7ffe, 0x7f1c)));
        assert_eq!(parse("-1 0x7ffe 0x7f1c\n"), Some((-1, 0x7ffe, 0x7f1c)));
        assert_eq!(parse("202 0x5581d0c0 0x80 0x2\n"), None);
        assert_eq!(parse("running\n"), None);
        assert_eq!(parse(""), None);
    }
}
