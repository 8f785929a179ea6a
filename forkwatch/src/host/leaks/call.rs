//! The system calls that threads sleep in.

use std::io;

use crate::host::file;

/// What the threads of a process do.
pub(super) struct Calls(pub(super) Vec<Call>);

/// What a thread does (`proc_pid_syscall(5)`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Call {
    /// It runs, or could.
    Running,
    /// It sleeps, in no system call: in a page fault, say.
    Outside,
    /// It sleeps in this call.
    In {
        /// The call's number, as this program's own architecture counts.
        number: i64,
        /// Its first argument.
        argument: u64,
    },
}

/// Calls by name, for people; and whether a server could wait for connections in it, or for an order to take some.
///
/// Signals may tell of connections too (`fcntl(2)`, `F_SETSIG`), masters wait for signals and replace their workers,
/// and `recvmsg` may bring a descriptor or an order. `restart_syscall` can be a poll that was interrupted.
const CALLS: &[(libc::c_long, &str, bool)] = &[
    (libc::SYS_read, "read", false),
    (libc::SYS_readv, "readv", false),
    (libc::SYS_write, "write", false),
    (libc::SYS_writev, "writev", false),
    (libc::SYS_futex, "futex", false),
    (libc::SYS_nanosleep, "nanosleep", false),
    (libc::SYS_clock_nanosleep, "clock_nanosleep", false),
    (libc::SYS_wait4, "wait4", false),
    (libc::SYS_waitid, "waitid", false),
    (libc::SYS_flock, "flock", false),
    (libc::SYS_fcntl, "fcntl", false),
    (libc::SYS_connect, "connect", false),
    (libc::SYS_sendto, "sendto", false),
    (libc::SYS_sendmsg, "sendmsg", false),
    (libc::SYS_recvfrom, "recvfrom", true),
    (libc::SYS_recvmsg, "recvmsg", true),
    (libc::SYS_accept, "accept", true),
    (libc::SYS_accept4, "accept4", true),
    (libc::SYS_ppoll, "ppoll", true),
    (libc::SYS_pselect6, "pselect6", true),
    (libc::SYS_epoll_pwait, "epoll_pwait", true),
    (libc::SYS_epoll_pwait2, "epoll_pwait2", true),
    (libc::SYS_io_uring_enter, "io_uring_enter", true),
    (libc::SYS_io_getevents, "io_getevents", true),
    (libc::SYS_rt_sigtimedwait, "rt_sigtimedwait", true),
    (libc::SYS_rt_sigsuspend, "rt_sigsuspend", true),
    (libc::SYS_restart_syscall, "restart_syscall", true),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_pause, "pause", false),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_poll, "poll", true),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_select, "select", true),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_epoll_wait, "epoll_wait", true),
];

impl Call {
    pub(super) fn of_thread(process: u32, thread: u32) -> io::Result<Self> {
        let path = format!("/proc/{process}/task/{thread}/syscall");
        let text = file::read_small(&path)?;
        let text = std::str::from_utf8(&text).ok();
        text.and_then(Self::parse).ok_or_else(|| file::unknown_layout(&path))
    }

    fn parse(text: &str) -> Option<Self> {
        let mut fields = text.split_ascii_whitespace();
        match fields.next()? {
            "running" => Some(Self::Running),
            "-1" => Some(Self::Outside),
            number => Some(Self::In {
                number: number.parse().ok()?,
                argument: u64::from_str_radix(fields.next()?.strip_prefix("0x")?, 16).ok()?,
            }),
        }
    }

    /// Whether the thread is at work, or sleeps where it may wait for connections.
    pub(super) fn may_serve(self) -> bool {
        match self {
            Self::Running => true,
            Self::Outside => false,
            Self::In { number, .. } => CALLS.iter().any(|(known, _, serves)| *serves && *known == number),
        }
    }

    /// For people.
    pub(super) fn name(self) -> String {
        match self {
            Self::Running => "running".to_owned(),
            Self::Outside => "unknown".to_owned(),
            Self::In { number, .. } => CALLS
                .iter()
                .find(|(known, _, _)| *known == number)
                .map_or_else(|| format!("system call {number}"), |(_, name, _)| (*name).to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_has_a_number_and_a_first_argument() {
        let read = libc::SYS_read;
        let call = Call::parse(&format!("{read} 0x5 0x7ffe 0x1 0x0 0x0 0x0 0x7ffe 0x7f1c\n"));
        assert_eq!(call, Some(Call::In { number: read, argument: 5 }));
        assert_eq!(call.unwrap().name(), "read");
        assert!(!call.unwrap().may_serve());
        assert_eq!(Call::parse("running\n"), Some(Call::Running));
        assert_eq!(Call::parse("-1 0x7ffe 0x7f1c\n"), Some(Call::Outside));
        assert_eq!(Call::parse("7"), None);
        assert_eq!(Call::parse(""), None);
    }

    #[test]
    fn whoever_runs_or_accepts_may_serve() {
        assert!(Call::Running.may_serve());
        assert!(Call::In { number: libc::SYS_accept4, argument: 3 }.may_serve());
        assert!(!Call::In { number: libc::SYS_futex, argument: 3 }.may_serve());
    }
}
