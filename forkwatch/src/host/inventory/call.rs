//! The system call that a thread sleeps in.

use std::io;

use crate::host::file;

/// A system call, as `proc_pid_syscall(5)` shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Call {
    number: libc::c_long,
    arguments: [u64; 4],
}

impl Call {
    /// What a thread sleeps in; absent where it runs, or sleeps elsewhere. Wants what ptrace wants.
    pub(super) fn of_thread(process: u32, thread: u32) -> io::Result<Option<Self>> {
        let text = file::read_small(format!("/proc/{process}/task/{thread}/syscall"))?;
        Ok(std::str::from_utf8(&text).ok().and_then(Self::parse))
    }

    fn parse(text: &str) -> Option<Self> {
        let mut fields = text.split_ascii_whitespace();
        let number = fields.next()?.parse().ok().filter(|number| *number >= 0)?;
        let mut arguments = [0; 4];
        for argument in &mut arguments {
            *argument = u64::from_str_radix(fields.next()?.strip_prefix("0x")?, 16).ok()?;
        }
        Some(Self { number, arguments })
    }

    /// Whether it waits in an epoll or `io_uring` instance.
    pub(super) fn waits_for_events(&self) -> bool {
        // Newer architectures have no epoll_wait.
        #[cfg(target_arch = "x86_64")]
        if self.number == libc::SYS_epoll_wait {
            return true;
        }
        [libc::SYS_epoll_pwait, libc::SYS_epoll_pwait2, libc::SYS_io_uring_enter].contains(&self.number)
    }

    /// The address of the mutex that it waits for without a timeout, as glibc does (`futex_wait` with
    /// `FUTEX_PRIVATE_FLAG`, in a word that says "locked, with waiters").
    pub(super) fn mutex(&self) -> Option<u64> {
        const WAIT_PRIVATE: u64 = (libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG).cast_unsigned() as u64;
        const LOCKED_WITH_WAITERS: u64 = 2;
        let [address, operation, value, timeout] = self.arguments;
        (self.number == libc::SYS_futex
            && operation & 0xffff_ffff == WAIT_PRIVATE
            && value & 0xffff_ffff == LOCKED_WITH_WAITERS
            && timeout == 0)
            .then_some(address)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_wait_for_a_mutex_is_told_from_others() {
        let mutex = |text: String| Call::parse(&text).and_then(|call| call.mutex());
        let futex = libc::SYS_futex;
        assert_eq!(mutex(format!("{futex} 0x7f10 0x80 0x2 0x0 0x0 0x0 0x7ffe 0x7f1c\n")), Some(0x7f10));
        // With a timeout; as a semaphore of glibc; another call.
        assert_eq!(mutex(format!("{futex} 0x7f10 0x80 0x2 0x7ffd 0x0 0x0 0x7ffe 0x7f1c\n")), None);
        assert_eq!(mutex(format!("{futex} 0x7f10 0x189 0x0 0x0 0x0 0x0 0x7ffe 0x7f1c\n")), None);
        assert_eq!(mutex(format!("{} 0x7f10 0x80 0x2 0x0 0x0 0x0 0x7ffe 0x7f1c\n", futex + 1)), None);
    }

    #[test]
    fn a_running_thread_is_in_no_call() {
        assert_eq!(Call::parse("running\n"), None);
        assert_eq!(Call::parse("-1 0x7ffe 0x7f1c\n"), None);
        let waits =
            Call::parse(&format!("{} 0x3 0x7f 0x40 0xffffffff 0x0 0x8 0x7 0x7\n", libc::SYS_epoll_pwait));
        assert!(waits.unwrap().waits_for_events());
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "\\PC*") {
            let _ = Call::parse(&text);
        }
    }
}
