//! Threads that wait on a futex.

use super::call::SystemCall;

/// `FUTEX_PRIVATE_FLAG`, and `FUTEX2_PRIVATE` of the newer calls: the futex is the process's alone
/// (include/uapi/linux/futex.h).
const PRIVATE: u32 = 128;
/// `FUTEX_CLOCK_REALTIME`.
const REALTIME: u32 = 256;
const WAIT: u32 = 0;
const WAIT_BITSET: u32 = 9;
/// `futex_wait(2)` of Linux 6.7; one number on every architecture (scripts/syscall.tbl).
const FUTEX_WAIT_CALL: libc::c_long = 455;

/// A wait for a futex of the process alone that only a wake-up or a signal can end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct EndlessWait {
    /// The address of the futex word.
    pub(super) address: u64,
    /// The operation with its flags, in the terms of `futex(2)`.
    pub(super) operation: u32,
    /// The value that the word had.
    pub(super) value: u32,
}

impl EndlessWait {
    /// Absent for every other call: also for a futex that other processes may share, one with a timeout, and those
    /// of which the kernel knows the owner (`FUTEX_LOCK_PI`).
    pub(super) fn of(call: &SystemCall) -> Option<Self> {
        let [address, _, _, timeout, newer_timeout, _] = call.arguments;
        let flags = |index| call.word(index).filter(|flags| flags & PRIVATE != 0);
        if call.number == libc::SYS_futex {
            let operation = flags(1)?;
            let waits = matches!(operation & !(PRIVATE | REALTIME), WAIT | WAIT_BITSET);
            (waits && timeout == 0).then_some(Self { address, operation, value: call.word(2)? })
        } else if call.number == FUTEX_WAIT_CALL {
            flags(3)?;
            let operation = WAIT_BITSET | PRIVATE;
            (newer_timeout == 0).then_some(Self { address, operation, value: call.word(1)? })
        } else {
            None
        }
    }

    /// Whether this is how glibc waits for a semaphore that is used up.
    pub(super) const fn is_for_semaphore(&self) -> bool {
        self.operation & !REALTIME == WAIT_BITSET | PRIVATE && self.value == 0
    }

    /// A wait for a moment, as who spins makes it again and again: `FUTEX_WAIT`, which alone has a timeout that counts from
    /// the call. So wait the spin locks of gperftools (src/base/spinlock_linux-inl.h); the C
    /// libraries and Rust name a time by `FUTEX_WAIT_BITSET`.
    pub(super) fn of_moment(call: &SystemCall) -> Option<Self> {
        let [address, _, _, timeout, ..] = call.arguments;
        let operation = call.word(1).filter(|operation| *operation == WAIT | PRIVATE)?;
        let is_one = call.number == libc::SYS_futex && timeout != 0;
        is_one.then_some(Self { address, operation, value: call.word(2)? })
    }

    /// The same for a futex that other processes may share as well.
    pub(super) fn of_any(call: &SystemCall) -> Option<Self> {
        let [address, _, _, timeout, newer_timeout, _] = call.arguments;
        if call.number == libc::SYS_futex {
            let operation = call.word(1)?;
            let waits = matches!(operation & !(PRIVATE | REALTIME), WAIT | WAIT_BITSET);
            (waits && timeout == 0).then_some(Self { address, operation, value: call.word(2)? })
        } else if call.number == FUTEX_WAIT_CALL {
            let operation = WAIT_BITSET | (call.word(3)? & PRIVATE);
            (newer_timeout == 0).then_some(Self { address, operation, value: call.word(1)? })
        } else {
            None
        }
    }

    /// Whether the futex is the process's alone.
    pub(super) const fn is_private(&self) -> bool {
        self.operation & PRIVATE != 0
    }

    /// Whether this is how glibc waits for a mutex: for a word that says "locked, with waiters".
    pub(super) const fn is_for_mutex(&self) -> bool {
        self.operation == WAIT | PRIVATE && self.value == 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(number: libc::c_long, arguments: [u64; 6]) -> Option<EndlessWait> {
        EndlessWait::of(&SystemCall::made_up(number, arguments))
    }

    #[test]
    fn a_futex_that_others_share_is_told_from_ones_own() {
        let of_any = |number, arguments| EndlessWait::of_any(&SystemCall::made_up(number, arguments));
        let futex = libc::SYS_futex;
        // glibc's mutexes and semaphores of several processes, and the newer call without FUTEX2_PRIVATE.
        for (number, arguments) in [
            (futex, [16, 0, 2, 0, 0, 0]),
            (futex, [16, 265, 0, 0, 0, 7]),
            (FUTEX_WAIT_CALL, [16, 0, 7, 2, 0, 1]),
        ] {
            assert_eq!(of_any(number, arguments).map(|wait| wait.is_private()), Some(false), "{arguments:?}");
            assert_eq!(of(number, arguments), None);
        }
        assert_eq!(of_any(futex, [16, 128, 2, 0, 0, 0]).map(|wait| wait.is_private()), Some(true));
        // With a timeout, waking, and another call.
        for (number, arguments) in
            [(futex, [16, 0, 2, 9, 0, 0]), (futex, [16, 1, 2, 0, 0, 0]), (libc::SYS_read, [0; 6])]
        {
            assert_eq!(of_any(number, arguments), None, "{arguments:?}");
        }
    }

    #[test]
    fn only_private_waits_without_a_timeout_count() {
        let futex = libc::SYS_futex;
        let mutex = EndlessWait { address: 0x55_8000, operation: 128, value: 2 };
        assert_eq!(of(futex, [0x55_8000, 128, 2, 0, 7, 7]), Some(mutex));
        assert!(mutex.is_for_mutex() && !mutex.is_for_semaphore());
        // glibc's rwlocks, condition variables and semaphores: WAIT_BITSET with CLOCK_REALTIME.
        let semaphore = EndlessWait { address: 0x55_8000, operation: 393, value: 0 };
        assert_eq!(of(futex, [0x55_8000, 393, 0, 0, 0, 0xffff_ffff]), Some(semaphore));
        assert!(!semaphore.is_for_mutex() && semaphore.is_for_semaphore());
        // With a timeout, shared (pthread_join), waking, and requeueing.
        assert_eq!(of(futex, [0x55_8000, 393, 0, 0x7ffe_0000, 0, 0xffff_ffff]), None);
        assert_eq!(of(futex, [0x55_8000, 265, 77, 0, 0, 0xffff_ffff]), None);
        assert_eq!(of(futex, [0x55_8000, 129, 1, 0, 0, 0]), None);
        assert_eq!(of(futex, [0x55_8000, 139, 1, 0, 0, 0]), None);
        assert_eq!(of(libc::SYS_read, [0x55_8000, 128, 2, 0, 0, 0]), None);
    }

    #[test]
    fn a_wait_for_a_moment_is_one_that_counts_from_the_call() {
        let of_moment = |arguments| EndlessWait::of_moment(&SystemCall::made_up(libc::SYS_futex, arguments));
        let spins = EndlessWait { address: 0x55_8000, operation: 128, value: 9 };
        assert_eq!(of_moment([0x55_8000, 128, 9, 0x7ffe_0000, 0, 0]), Some(spins));
        // Without an end, until a time, shared, and waking.
        for (operation, timeout) in [(128, 0), (137, 9), (393, 9), (0, 9), (129, 9)] {
            assert_eq!(of_moment([0x55_8000, operation, 9, timeout, 0, 0]), None, "{operation} {timeout}");
        }
    }

    #[test]
    fn what_stands_above_an_int_has_no_meaning() {
        let junk = 0xdead_beef_0000_0000;
        let wait = of(libc::SYS_futex, [8, junk | 128, junk | 2, 0, 0, 0]).unwrap();
        assert_eq!((wait.operation, wait.value), (128, 2));
    }

    #[test]
    fn the_newer_call_is_told_in_the_older_terms() {
        let wait = Some(EndlessWait { address: 8, operation: 137, value: 5 });
        assert_eq!(of(FUTEX_WAIT_CALL, [8, 5, 0xffff_ffff, 0x82, 0, 0]), wait);
        assert_eq!(of(FUTEX_WAIT_CALL, [8, 5, 0xffff_ffff, 2, 0, 0]), None);
        assert_eq!(of(FUTEX_WAIT_CALL, [8, 5, 0xffff_ffff, 0x82, 0x7ffe, 0]), None);
    }
}
