//! Bits of `task_struct.flags`, the ninth field of `/proc/PID/stat` (include/linux/sched.h).

use std::sync::OnceLock;

use super::file;

/// It is ending.
pub(super) const EXITING: u32 = 0x4;
/// A worker of `io_uring`. Since 5.10 in this place; since 5.12 it is a thread of the process that it works for.
pub(super) const IO_WORKER: u32 = 0x10;
/// Forked, and has not exec'd since.
pub(super) const FORKNOEXEC: u32 = 0x40;
/// A kernel thread.
pub(super) const KTHREAD: u32 = 0x20_0000;
/// A kernel thread cloned from a process, such as vhost's. New in 6.4.
const USER_WORKER: u32 = 0x4000;

/// The bits that mark a kernel worker among the threads of a process.
///
/// Up to 5.16 the bit of `PF_USER_WORKER` meant `PF_USED_ASYNC`, which ordinary tasks carry too; from 5.17 to 6.3
/// it meant nothing, so that distributions could bring `PF_USER_WORKER` back to those kernels.
pub(super) fn worker() -> u32 {
    static WORKER: OnceLock<u32> = OnceLock::new();
    *WORKER.get_or_init(|| {
        let release = file::read_small("/proc/sys/kernel/osrelease").unwrap_or_default();
        worker_of(&String::from_utf8_lossy(&release))
    })
}

fn worker_of(release: &str) -> u32 {
    let mut numbers = release.split(|character: char| !character.is_ascii_digit()).map(str::parse::<u32>);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) if (major, minor) >= (5, 17) => IO_WORKER | USER_WORKER,
        _ => IO_WORKER,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bit_of_user_workers_is_trusted_only_where_it_means_that() {
        assert_eq!(worker_of("5.10.0-30-amd64"), IO_WORKER);
        assert_eq!(worker_of("5.16.20"), IO_WORKER);
        assert_eq!(worker_of("5.17.0-rc1"), IO_WORKER | USER_WORKER);
        assert_eq!(worker_of("6.18.44-fc-v669\n"), IO_WORKER | USER_WORKER);
        assert_eq!(worker_of("7.2"), IO_WORKER | USER_WORKER);
        assert_eq!(worker_of("nonsense"), IO_WORKER);
    }
}
