//! The system calls that the threads of a process sleep in.

use crate::{
    host::{
        awaited::{awaited, polls_for_ever},
        call::Activity,
        descriptors::Descriptor,
    },
    model::leak::{Held, Object},
};

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
    /// Whether a thread of a process with these descriptors sleeps in a read of one of those: or, for ever, until one of
    /// several pipes has something, as Ruby's `IO#read` and Python's `communicate` do. An event loop awaits other things, too,
    /// and has no end in mind.
    pub(super) fn read_any_of(&self, held: &[Held], process: u32, all: &[Descriptor]) -> bool {
        self.0.iter().filter_map(Activity::call).any(|call| {
            let is_held = |fd: u32| held.iter().any(|held| held.fd == fd);
            match call.number {
                libc::SYS_read | libc::SYS_readv => call.word(0).is_some_and(is_held),
                _ if polls_for_ever(call) => is_read(&awaited(process, call).input, is_held, all),
                _ => false,
            }
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

/// Whether one of the descriptors that are awaited is held, and all others are pipes, or what a runtime wakes itself by.
fn is_read(awaited: &[u32], is_held: impl Fn(u32) -> bool, all: &[Descriptor]) -> bool {
    let may_end = |fd: &u32| {
        let descriptor = all.iter().find(|descriptor| descriptor.number == *fd);
        descriptor.is_some_and(|descriptor| {
            matches!(descriptor.object(), Some(Object::Pipe(_)))
                || descriptor.link() == b"anon_inode:[eventfd]"
        })
    };
    awaited.iter().any(|fd| is_held(*fd)) && awaited.iter().all(may_end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{host::call::SystemCall, model::leak::Access};

    #[test]
    fn who_reads_a_descriptor_is_known_by_its_number() {
        let sleeping_in = |number, fd| Activity::Call(SystemCall::made_up(number, [fd, 0, 0, 0, 0, 0]));
        let held = [Held { fd: 3, access: Access::Read }];
        let own = std::process::id();
        assert!(Calls(vec![Activity::Running, sleeping_in(libc::SYS_read, 3)]).read_any_of(&held, own, &[]));
        assert!(!Calls(vec![sleeping_in(libc::SYS_read, 4)]).read_any_of(&held, own, &[]));
        assert!(!Calls(vec![sleeping_in(libc::SYS_write, 3)]).read_any_of(&held, own, &[]));
    }

    #[test]
    fn who_awaits_nothing_but_pipes_reads_them() {
        let made = |links: &[&str]| -> Vec<Descriptor> {
            (3..).zip(links).map(|(number, link)| Descriptor::made_up(number, link)).collect()
        };
        let (pipe, other, eventfd) = ("pipe:[7]", "pipe:[8]", "anon_inode:[eventfd]");
        let is_three = |fd: u32| fd == 3;
        assert!(is_read(&[3], is_three, &made(&[pipe])));
        assert!(is_read(&[4, 3, 5], is_three, &made(&[pipe, other, eventfd])));
        assert!(!is_read(&[4], is_three, &made(&[pipe, other])));
        assert!(!is_read(&[3, 4], is_three, &made(&[pipe, "socket:[9]"])));
        assert!(!is_read(&[3, 9], is_three, &made(&[pipe])));
        assert!(!is_read(&[], is_three, &made(&[pipe])));
    }

    #[test]
    fn a_wait_with_a_time_limit_is_none_for_ever() {
        let polls = |number, arguments| polls_for_ever(&SystemCall::made_up(number, arguments));
        assert!(polls(libc::SYS_ppoll, [0x7000, 2, 0, 0, 8, 0]));
        assert!(!polls(libc::SYS_ppoll, [0x7000, 2, 0x7100, 0, 8, 0]));
        assert!(polls(libc::SYS_pselect6, [9, 0x7000, 0, 0, 0, 0]));
        assert!(!polls(libc::SYS_pselect6, [9, 0x7000, 0, 0, 0x7100, 0]));
        assert!(!polls(libc::SYS_accept4, [0; 6]));
        #[cfg(target_arch = "x86_64")]
        {
            assert!(polls(libc::SYS_poll, [0x7000, 2, u64::from(u32::MAX), 0, 0, 0]));
            assert!(!polls(libc::SYS_poll, [0x7000, 2, 500, 0, 0, 0]));
            assert!(!polls(libc::SYS_select, [9, 0x7000, 0, 0, 0x7100, 0]));
        }
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
