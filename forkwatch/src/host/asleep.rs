//! What the threads of a process sleep in. Reads what never waits: `stat`, and `syscall` of its threads.

use std::io;

use super::{
    absence,
    call::{Activity, SystemCall},
    futex::EndlessWait,
    stat::Stat,
    task,
};
use crate::model::process::{Comm, ProcessKey};

/// `FUTEX_LOCK_PI` and `FUTEX_LOCK_PI2` (include/uapi/linux/futex.h).
const LOCK_PI: [u32; 2] = [6, 13];
/// What of the operation is a flag: `FUTEX_PRIVATE_FLAG` and `FUTEX_CLOCK_REALTIME`.
const FLAGS: u32 = PRIVATE | 256;
/// `FUTEX_PRIVATE_FLAG`.
const PRIVATE: u32 = 128;

/// A thread that sleeps in a system call. Two are equal if it is the same call, made at the same place with the same
/// arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sleeper {
    /// The tid of the thread.
    pub tid: u32,
    call: SystemCall,
}

/// A word that a thread waits for in `futex(2)`, without a timeout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wait {
    /// Where the word is.
    pub address: u64,
    /// The operation with its flags, in the terms of `futex(2)`.
    pub operation: u32,
    /// The value that it had.
    pub value: u32,
}

impl Wait {
    /// Whether other processes may wait for the same word, or wake who does.
    pub const fn is_shared(&self) -> bool {
        self.operation & PRIVATE == 0
    }
}

impl Sleeper {
    /// The call that it sleeps in: `futex`.
    pub fn call(&self) -> String {
        self.call.name()
    }

    /// The word that it waits for; absent where it sleeps in another call, or may be woken by the clock.
    pub fn wait(&self) -> Option<Wait> {
        let EndlessWait { address, operation, value } = EndlessWait::of_any(&self.call)?;
        Some(Wait { address, operation, value })
    }

    /// Whether it waits for a lock of which the kernel knows the owner: a priority-inheriting mutex.
    pub fn inherits_priority(&self) -> bool {
        let operation = self.call.word(1).map(|operation| operation & !FLAGS);
        self.call.number == libc::SYS_futex && operation.is_some_and(|operation| LOCK_PI.contains(&operation))
    }
}

/// Why not all threads of a process are known to sleep.
#[derive(Debug, thiserror::Error)]
pub enum Awake {
    /// There is nothing to look at.
    #[error("it has ended")]
    Gone,
    /// It runs another program now.
    #[error("it has exec'd")]
    Execed,
    /// Nothing can be said while this thread is awake.
    #[error("its thread {0} ({1}) runs, and does not sleep in a system call")]
    Runs(u32, Comm),
    /// There are more than are looked at.
    #[error("it has too many threads to look at them all")]
    TooMany,
    /// One could not be looked at.
    #[error("what its thread {0} does cannot be read: {1}")]
    Unreadable(u32, #[source] io::Error),
    /// Not even its threads are to be seen.
    #[error("its threads cannot be listed: {0}")]
    Unlisted(#[source] io::Error),
}

/// What the threads of a forked and never exec'd process sleep in: all of them, or nothing is told. The kernel's own
/// workers are left out.
pub fn asleep(process: ProcessKey) -> Result<Vec<Sleeper>, Awake> {
    let is_there = || match Stat::of(process) {
        None => Err(Awake::Gone),
        Some(stat) if stat.process_has_ended() => Err(Awake::Gone),
        Some(stat) if !stat.is_unexeced() => Err(Awake::Execed),
        Some(_) => Ok(()),
    };
    is_there()?;
    let threads = task::user_threads(process.tgid).map_err(Awake::Unlisted)?;
    if threads.len() >= task::MAX_TASKS {
        return Err(Awake::TooMany);
    }
    let mut sleepers = Vec::with_capacity(threads.len());
    for thread in threads {
        match Activity::of_thread(process.tgid, thread.id) {
            Ok(Activity::Call(call)) => sleepers.push(Sleeper { tid: thread.id, call }),
            Ok(Activity::Running | Activity::Elsewhere(_)) => {
                return Err(Awake::Runs(thread.id, thread.comm));
            }
            Err(error) if absence::is_gone(&error) => {}
            Err(error) => return Err(Awake::Unreadable(thread.id, error)),
        }
    }
    is_there()?;
    Ok(sleepers)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::forked::Forked;

    fn sleeper(number: libc::c_long, arguments: [u64; 6]) -> Sleeper {
        Sleeper { tid: 7, call: SystemCall::made_up(number, arguments) }
    }

    #[test]
    fn a_child_that_pauses_sleeps_and_one_that_spins_does_not() {
        let child = Forked::new();
        let key = child.key();
        let seen = std::iter::repeat_with(|| asleep(key)).find_map(Result::ok).unwrap();
        let [sleeper] = seen.as_slice() else { panic!("{seen:?}") };
        assert_eq!((sleeper.tid, sleeper.wait()), (child.tgid(), None));
        let spinner = Forked::into(|| {
            loop {
                std::hint::spin_loop();
            }
        });
        assert!(matches!(asleep(spinner.key()), Err(Awake::Runs(tid, _)) if tid == spinner.tgid()));
        let other = ProcessKey { start: crate::model::time::BootTime(0), ..key };
        assert!(matches!(asleep(other), Err(Awake::Gone)));
    }

    #[test]
    fn a_wait_is_told_from_others() {
        let wait = sleeper(libc::SYS_futex, [16, 0x80, 2, 0, 0, 0]);
        assert_eq!(wait.wait(), Some(Wait { address: 16, operation: 0x80, value: 2 }));
        assert!(!wait.inherits_priority());
        for operation in [6, 0x86, 0x8d] {
            assert!(sleeper(libc::SYS_futex, [16, operation, 0, 0, 0, 0]).inherits_priority());
        }
        assert!(!sleeper(libc::SYS_read, [6; 6]).inherits_priority());
    }
}
