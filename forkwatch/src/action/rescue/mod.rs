//! Releases an orphaned lock in a child, as the library that made it would have.
//!
//! The child is stopped by ptrace(2), all threads of it, for less than a millisecond. Is everything as it was when the lock
//! was proven orphaned, then the words are written, and the threads let go: the kernel restarts their futex(2), which
//! reads the word again and finds the lock free. Whether that is right to do the caller decides: here nothing is judged
//! but the kind of the lock.

pub mod lock;
mod memory;
mod standstill;

use std::{
    io,
    time::{Duration, Instant},
};

use nix::unistd::Pid;

pub use self::lock::{Kind, NoRelease, Release, Word};
use self::standstill::Standstill;
use crate::{
    host::{
        self,
        asleep::{Awake, Sleeper, Wait, asleep},
    },
    model::{lock::MemoryUsers, process::ProcessKey},
};

/// For so long a thread is watched that should go on.
const PATIENCE: Duration = Duration::from_secs(1);
/// Between two looks at it.
const PAUSE: Duration = Duration::from_millis(2);

/// A lock that can be released.
#[derive(Debug)]
pub struct Rescue {
    process: ProcessKey,
    /// The thread that waits for it.
    thread: u32,
    wait: Wait,
    /// Where the lock is: at the word that the thread waits for, or elsewhere.
    lock: u64,
    /// What is to be written.
    pub release: Release,
}

/// A lock that was released, and what became of its thread.
#[derive(Clone, Copy, Debug)]
pub struct Released {
    /// For how long the threads of the child were stopped, at most.
    pub stopped: Duration,
    /// Whether the thread was seen to have left its wait within a second.
    pub went_on: bool,
}

/// Why a lock was not released.
#[derive(Debug, thiserror::Error)]
pub enum RescueError {
    /// Its threads do not all sleep.
    #[error("{0}")]
    Awake(#[from] Awake),
    /// It is no lock that can be released.
    #[error("{0}")]
    Lock(#[from] NoRelease),
    /// The thread sleeps for something else, or has ended.
    #[error("its thread {0} does not wait for that lock any more")]
    NotWaiting(u32),
    /// Others may use the lock.
    #[error("its memory is used by other processes too ({0}), which may hold the lock")]
    Shared(String),
    /// Others may use the lock.
    #[error("it could not be found out whether other processes use its memory: {0}")]
    Unknown(String),
    /// A thread of the child could not be stopped; this says which, and why.
    #[error("{0}")]
    NotStopped(String),
    /// Something has changed since the lock was proven orphaned.
    #[error("{0} changed while it was being stopped")]
    Changed(&'static str),
    /// Nothing is as it should be now, or some of it.
    #[error("the words could not be written: {0}")]
    NotWritten(#[source] io::Error),
}

impl RescueError {
    /// Whether the child is as it was.
    pub const fn is_refusal(&self) -> bool {
        !matches!(self, Self::NotWritten(_))
    }
}

impl Rescue {
    /// How the lock can be released that this thread waits for, whose address is this. Changes nothing.
    pub fn prepare(process: ProcessKey, thread: u32, address: u64) -> Result<Self, RescueError> {
        let sleepers = asleep(process)?;
        let wait = wait_of(&sleepers, thread).ok_or(RescueError::NotWaiting(thread))?;
        let release = look(thread, wait, address)?;
        Ok(Self { process, thread, wait, lock: address, release })
    }

    /// Releases it, if everything is as it was.
    pub fn carry_out(&self) -> Result<Released, RescueError> {
        match host::memory_users(self.process, self.thread) {
            MemoryUsers::Alone => {}
            MemoryUsers::Shared(others) => {
                let others: Vec<String> = others.iter().map(u32::to_string).collect();
                return Err(RescueError::Shared(others.join(", ")));
            }
            MemoryUsers::Unknown(why) => return Err(RescueError::Unknown(why)),
        }
        let before = asleep(self.process)?;
        let tids: Vec<u32> = before.iter().map(|sleeper| sleeper.tid).collect();
        let standstill = Standstill::of(&tids).map_err(RescueError::NotStopped)?;
        // They all have stopped: what is seen from here on stays so.
        if asleep(self.process)? != before {
            return Err(RescueError::Changed("what its threads do"));
        }
        if wait_of(&before, self.thread) != Some(self.wait) {
            return Err(RescueError::NotWaiting(self.thread));
        }
        if look(self.thread, self.wait, self.lock)? != self.release {
            return Err(RescueError::Changed("the lock"));
        }
        if self.release.ends_call {
            // Should nothing be written after that, the thread looks at the lock, and waits again.
            standstill.end_call(self.thread).map_err(RescueError::NotStopped)?;
        }
        memory::write(id(self.thread)?, &self.release.words).map_err(RescueError::NotWritten)?;
        let stopped = standstill.end();
        Ok(Released { stopped, went_on: self.goes_on() })
    }

    /// Whether the thread leaves its wait.
    fn goes_on(&self) -> bool {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let waits = match asleep(self.process) {
                Ok(sleepers) => wait_of(&sleepers, self.thread) == Some(self.wait),
                // Awake, or ended.
                Err(_) => false,
            };
            if !waits || Instant::now() >= deadline {
                return !waits;
            }
            std::thread::sleep(PAUSE);
        }
    }
}

fn wait_of(sleepers: &[Sleeper], thread: u32) -> Option<Wait> {
    sleepers.iter().find(|sleeper| sleeper.tid == thread)?.wait()
}

/// What is to be written, by what the words say now.
fn look(thread: u32, wait: Wait, lock: u64) -> Result<Release, RescueError> {
    let pid = id(thread)?;
    if lock != wait.address {
        return Ok(lock::py_mutex::release(wait, lock, |address, count| memory::read(pid, address, count))?);
    }
    let words = |offset, count| memory::read(pid, wait.address.checked_add_signed(offset)?, count);
    Ok(lock::release(wait, words)?)
}

fn id(thread: u32) -> Result<Pid, RescueError> {
    i32::try_from(thread).map(Pid::from_raw).map_err(|_| RescueError::NotWaiting(thread))
}
