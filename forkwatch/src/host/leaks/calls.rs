//! The system calls that the threads of a process sleep in.

use crate::{host::call::Activity, model::leak::Held};

/// What the threads of a process do.
pub(super) struct Calls(pub(super) Vec<Activity>);

/// Calls in which a server could wait for connections, or for an order to take some.
///
/// Signals may tell of connections too (`fcntl(2)`, `F_SETSIG`), masters wait for signals and replace their workers,
/// and `recvmsg` may bring a descriptor or an order. `restart_syscall` can be a poll that was interrupted.
const SERVING: &[libc::c_long] = &[
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_accept,
    libc::SYS_accept4,
    libc::SYS_ppoll,
    libc::SYS_pselect6,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_pwait2,
    libc::SYS_io_uring_enter,
    libc::SYS_io_getevents,
    libc::SYS_rt_sigtimedwait,
    libc::SYS_rt_sigsuspend,
    libc::SYS_restart_syscall,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_poll,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_select,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_epoll_wait,
];

impl Calls {
    /// Whether a thread sleeps in a read of one of these descriptors.
    pub(super) fn read_any_of(&self, held: &[Held]) -> bool {
        self.0.iter().filter_map(Activity::call).any(|call| {
            let is_read = matches!(call.number, libc::SYS_read | libc::SYS_readv);
            is_read && call.word(0).is_some_and(|fd| held.iter().any(|held| held.fd == fd))
        })
    }

    /// Whether a thread is at work, or sleeps where it may wait for connections.
    pub(super) fn may_serve(&self) -> bool {
        self.0.iter().any(|activity| match activity {
            Activity::Running => true,
            Activity::Elsewhere(_) => false,
            Activity::Call(call) => SERVING.contains(&call.number),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{host::call::SystemCall, model::leak::Access};

    #[test]
    fn who_reads_a_descriptor_is_known_by_its_number() {
        let sleeping_in = |number, fd| Activity::Call(SystemCall::made_up(number, [fd, 0, 0, 0, 0, 0]));
        let held = [Held { fd: 3, access: Access::Read }];
        assert!(Calls(vec![Activity::Running, sleeping_in(libc::SYS_read, 3)]).read_any_of(&held));
        assert!(!Calls(vec![sleeping_in(libc::SYS_read, 4)]).read_any_of(&held));
        assert!(!Calls(vec![sleeping_in(libc::SYS_write, 3)]).read_any_of(&held));
    }

    #[test]
    fn whoever_runs_or_accepts_may_serve() {
        let sleeping_in = |number| Activity::Call(SystemCall::made_up(number, [3, 0, 0, 0, 0, 0]));
        let (read, accept) = (sleeping_in(libc::SYS_read), sleeping_in(libc::SYS_accept4));
        assert!(Calls(vec![read, Activity::Running]).may_serve());
        assert!(Calls(vec![read, accept]).may_serve());
        assert!(!Calls(vec![read, sleeping_in(libc::SYS_futex)]).may_serve());
    }
}
