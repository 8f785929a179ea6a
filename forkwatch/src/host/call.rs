//! What a thread does at the moment: `/proc/PID/task/TID/syscall` (`proc_pid_syscall`, fs/proc/base.c).

use std::io;

use super::file;

/// What a thread does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Activity {
    /// It runs, or wants to.
    Running,
    /// It sleeps, but in no system call: in a page fault, or stopped on the way back to its program.
    Elsewhere(Position),
    /// It sleeps in a system call.
    Call(SystemCall),
}

/// A system call that a thread sleeps in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SystemCall {
    /// Its number in the kernel's table of this architecture.
    pub(super) number: libc::c_long,
    /// Its arguments, as the registers had them.
    pub(super) arguments: [u64; 6],
    /// Where it was made.
    pub(super) position: Position,
}

/// Where in its program a thread has entered the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Position {
    /// The stack pointer.
    pub(super) stack: u64,
    /// The instruction pointer.
    pub(super) instruction: u64,
}

impl Activity {
    /// What a thread does. Takes `CAP_SYS_PTRACE` and `CAP_DAC_READ_SEARCH` for
    /// other users' threads.
    pub(super) fn of_thread(process: u32, thread: u32) -> io::Result<Self> {
        let path = format!("/proc/{process}/task/{thread}/syscall");
        let text = file::read_small(&path)?;
        Self::parse(&text).ok_or_else(|| file::unknown_layout(&path))
    }

    /// The system call that it sleeps in.
    pub(super) const fn call(&self) -> Option<&SystemCall> {
        match self {
            Self::Call(call) => Some(call),
            Self::Running | Self::Elsewhere(_) => None,
        }
    }

    /// Where it sleeps; absent where it is awake.
    pub(super) const fn position(&self) -> Option<Position> {
        match self {
            Self::Running => None,
            Self::Elsewhere(position) | Self::Call(SystemCall { position, .. }) => Some(*position),
        }
    }

    /// For people.
    pub(super) fn name(&self) -> String {
        match self {
            Self::Running => "running".to_owned(),
            Self::Elsewhere(_) => "unknown".to_owned(),
            Self::Call(call) => call.name(),
        }
    }

    pub(super) fn parse(text: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(text).ok()?.trim_end();
        if text == "running" {
            return Some(Self::Running);
        }
        let (number, rest) = text.split_once(' ')?;
        let number: libc::c_long = number.parse().ok()?;
        let mut fields = rest.split(' ').map(|field| u64::from_str_radix(field.strip_prefix("0x")?, 16).ok());
        let mut next = || fields.next()?;
        let is_call = number >= 0;
        let arguments = if is_call { [next()?, next()?, next()?, next()?, next()?, next()?] } else { [0; 6] };
        let position = Position { stack: next()?, instruction: next()? };
        Some(if is_call {
            Self::Call(SystemCall { number, arguments, position })
        } else {
            Self::Elsewhere(position)
        })
    }
}

impl SystemCall {
    /// An argument that the kernel takes for 32 bits: what stands above them has no meaning.
    pub(super) fn word(&self, index: usize) -> Option<u32> {
        let argument = self.arguments.get(index)?;
        u32::try_from(argument & u64::from(u32::MAX)).ok()
    }

    /// What it is called: `futex`; by its number where it is none that programs are known to sleep in.
    pub(super) fn name(&self) -> String {
        let known = NAMES.iter().chain(LEGACY_NAMES).find(|(number, _)| *number == self.number);
        known.map_or_else(|| format!("system call {}", self.number), |(_, name)| (*name).to_owned())
    }

    /// One with these arguments.
    #[cfg(test)]
    pub(super) const fn made_up(number: libc::c_long, arguments: [u64; 6]) -> Self {
        Self { number, arguments, position: Position { stack: 0, instruction: 0 } }
    }
}

/// Calls that programs sleep in.
const NAMES: &[(libc::c_long, &str)] = &[
    (libc::SYS_accept, "accept"),
    (libc::SYS_accept4, "accept4"),
    (libc::SYS_clock_nanosleep, "clock_nanosleep"),
    (libc::SYS_close, "close"),
    (libc::SYS_connect, "connect"),
    (libc::SYS_epoll_pwait, "epoll_pwait"),
    (libc::SYS_epoll_pwait2, "epoll_pwait2"),
    (libc::SYS_fcntl, "fcntl"),
    (libc::SYS_fdatasync, "fdatasync"),
    (libc::SYS_flock, "flock"),
    (libc::SYS_fsync, "fsync"),
    (libc::SYS_futex, "futex"),
    (libc::SYS_futex_waitv, "futex_waitv"),
    (libc::SYS_io_getevents, "io_getevents"),
    (libc::SYS_io_uring_enter, "io_uring_enter"),
    (libc::SYS_mq_timedreceive, "mq_timedreceive"),
    (libc::SYS_mq_timedsend, "mq_timedsend"),
    (libc::SYS_msgrcv, "msgrcv"),
    (libc::SYS_msgsnd, "msgsnd"),
    (libc::SYS_nanosleep, "nanosleep"),
    (libc::SYS_openat, "openat"),
    (libc::SYS_ppoll, "ppoll"),
    (libc::SYS_pread64, "pread64"),
    (libc::SYS_pselect6, "pselect6"),
    (libc::SYS_pwrite64, "pwrite64"),
    (libc::SYS_read, "read"),
    (libc::SYS_readv, "readv"),
    (libc::SYS_recvfrom, "recvfrom"),
    (libc::SYS_recvmmsg, "recvmmsg"),
    (libc::SYS_recvmsg, "recvmsg"),
    (libc::SYS_restart_syscall, "restart_syscall"),
    (libc::SYS_rt_sigsuspend, "rt_sigsuspend"),
    (libc::SYS_rt_sigtimedwait, "rt_sigtimedwait"),
    (libc::SYS_semop, "semop"),
    (libc::SYS_semtimedop, "semtimedop"),
    (libc::SYS_sendfile, "sendfile"),
    (libc::SYS_sendmsg, "sendmsg"),
    (libc::SYS_sendto, "sendto"),
    (libc::SYS_splice, "splice"),
    (libc::SYS_wait4, "wait4"),
    (libc::SYS_waitid, "waitid"),
    (libc::SYS_write, "write"),
    (libc::SYS_writev, "writev"),
];

/// Older forms of the same, which newer architectures never had.
#[cfg(target_arch = "x86_64")]
const LEGACY_NAMES: &[(libc::c_long, &str)] = &[
    (libc::SYS_epoll_wait, "epoll_wait"),
    (libc::SYS_fork, "fork"),
    (libc::SYS_open, "open"),
    (libc::SYS_pause, "pause"),
    (libc::SYS_poll, "poll"),
    (libc::SYS_select, "select"),
    (libc::SYS_vfork, "vfork"),
];
#[cfg(not(target_arch = "x86_64"))]
const LEGACY_NAMES: &[(libc::c_long, &str)] = &[];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn each_kind_of_line_is_read() {
        let line =
            format!("{} 0x5581d0c0 0xffffffff00000080 0x2 0x0 0x0 0x0 0x7ffe0 0x7f1c0\n", libc::SYS_futex);
        let Some(Activity::Call(call)) = Activity::parse(line.as_bytes()) else { panic!() };
        assert_eq!(call.arguments[0], 0x5581_d0c0);
        assert_eq!(call.word(1), Some(0x80));
        assert_eq!(call.word(6), None);
        assert_eq!(call.position, Position { stack: 0x7_ffe0, instruction: 0x7_f1c0 });
        assert_eq!(call.name(), "futex");
        assert_eq!(Activity::parse(b"running\n"), Some(Activity::Running));
        let fault = Activity::parse(b"-1 0x7ffe 0x7f1c\n");
        assert_eq!(fault, Some(Activity::Elsewhere(Position { stack: 0x7ffe, instruction: 0x7f1c })));
        assert_eq!(Activity::Running.position(), None);
        assert_eq!(Activity::parse(b""), None);
        assert_eq!(Activity::parse(b"7"), None);
        assert_eq!(Activity::parse(b"202 0x5581d0c0 0x80\n"), None);
    }

    #[test]
    fn an_unknown_call_goes_by_its_number() {
        let call = SystemCall::made_up(9999, [0; 6]);
        assert_eq!(call.name(), "system call 9999");
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Activity::parse(&text);
        }
    }
}
