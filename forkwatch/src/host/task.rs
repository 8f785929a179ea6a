//! The threads of a process, as `/proc/PID/task` lists them.

use std::io;

use super::{file, stat::Stat, status::Status};
use crate::model::{signals::SignalSet, time::BootTime};

/// Threads that are looked at, from the oldest; counts of a process with more of them are lower bounds.
pub(super) const MAX_TASKS: usize = 4096;
/// More pids than can be handed out within one clock tick, and far fewer than half of the smallest `pid_max`.
const PIDS_IN_A_TICK: u32 = 8192;

/// The live threads that run user code: no kernel workers, none that is ending. Threads that end meanwhile are
/// left out.
pub(super) fn user_threads(tgid: u32) -> io::Result<Vec<Stat>> {
    Ok(threads(tgid)?.into_iter().filter(|thread| !thread.has_ended() && !thread.is_worker()).collect())
}

/// How many kernel workers are among the threads of a process.
pub(super) fn worker_count(tgid: u32) -> io::Result<u32> {
    let workers = threads(tgid)?.iter().filter(|thread| thread.is_worker() && !thread.has_ended()).count();
    Ok(u32::try_from(workers).unwrap_or(u32::MAX))
}

fn threads(tgid: u32) -> io::Result<Vec<Stat>> {
    let tids = file::numbers(format!("/proc/{tgid}/task"), MAX_TASKS)?;
    Ok(tids.into_iter().filter_map(|tid| Stat::of_thread(tgid, tid).ok()).collect())
}

/// Signals that every live user thread of a process blocks; absent where there is none to ask.
pub(super) fn blocked_by_all(tgid: u32) -> io::Result<Option<SignalSet>> {
    Ok(user_threads(tgid)?
        .into_iter()
        .filter_map(|thread| Status::of_thread(tgid, thread.id).ok())
        .map(|status| status.blocked)
        .reduce(SignalSet::and))
}

/// Whether a thread lived already when `child` was forked.
///
/// `/proc` shows starts in ticks of 10 ms. Within the tick of the fork the order of ids decides: the kernel hands
/// them out in ascending order, and the child drew its own before it was announced. Where that does not tell (the
/// ids wrapped round just then), the thread counts as younger: a thread too few is silence, one too many would be a
/// false accusation.
pub(super) fn is_older(thread: &Stat, forked_at: BootTime, child: u32) -> bool {
    let fork_tick = forked_at.ticks();
    thread.start < fork_tick
        || thread.start == fork_tick
            && child.checked_sub(thread.id).is_some_and(|distance| (1..PIDS_IN_A_TICK).contains(&distance))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn thread(id: u32, start: u64) -> Stat {
        Stat {
            id,
            comm: "x".into(),
            state: b'S',
            parent: 1,
            session: 1,
            flags: 0,
            threads: 2,
            start,
            stack: 0,
        }
    }

    #[test]
    fn in_the_tick_of_the_fork_only_lower_ids_are_older() {
        let forked_at = BootTime(1_005_000_000);
        assert!(is_older(&thread(900, 99), forked_at, 500));
        assert!(!is_older(&thread(400, 101), forked_at, 500));
        assert!(is_older(&thread(499, 100), forked_at, 500));
        assert!(!is_older(&thread(501, 100), forked_at, 500));
        // The ids wrapped round between the two.
        assert!(!is_older(&thread(310, 100), forked_at, 32_760));
        assert!(!is_older(&thread(32_760, 100), forked_at, 310));
    }

    #[test]
    fn kernel_workers_are_told_from_threads() {
        let pid = std::process::id();
        let mut parameters = [0_u32; 30];
        parameters[2] = 2; // IORING_SETUP_SQPOLL: starts a kernel worker at once.
        // SAFETY: struct io_uring_params is 120 bytes long, as is the array, and nothing is read or mapped.
        let ring = unsafe { libc::syscall(libc::SYS_io_uring_setup, 1, parameters.as_mut_ptr()) };
        if ring < 0 {
            eprintln!("not tested, io_uring is refused here: {}", io::Error::last_os_error());
            return;
        }
        assert!(worker_count(pid).unwrap() >= 1);
        let users = user_threads(pid).unwrap();
        assert!(users.iter().any(|thread| thread.id == pid));
        assert!(users.iter().all(|thread| !thread.comm.bytes().starts_with(b"iou-sqp")));
    }

    #[test]
    fn a_process_that_is_gone_is_an_error() {
        assert!(user_threads(u32::MAX).is_err());
    }
}
