//! A child to look at, for tests.

use nix::{
    sys::{
        signal::{Signal, kill},
        wait::waitpid,
    },
    unistd::{ForkResult, Pid, fork},
};

use super::stat::Stat;
use crate::model::process::ProcessKey;

/// A fork of the test's process that lives on without exec until it is killed, at the latest when this is dropped.
pub(super) struct Forked(Pid);

impl Forked {
    /// Forks a child that sleeps until this is dropped.
    pub(super) fn new() -> Self {
        Self::into(|| ())
    }

    /// One that does this, which must be async-signal-safe or nearly so, and then sleeps.
    pub(super) fn into(act: impl FnOnce()) -> Self {
        // SAFETY: the child does what glibc allows after fork, and never returns to the test harness.
        match unsafe { fork() }.unwrap() {
            ForkResult::Parent { child } => Self(child),
            ForkResult::Child => {
                act();
                loop {
                    // SAFETY: pause(2) touches no memory.
                    unsafe { libc::pause() };
                }
            }
        }
    }

    pub(super) const fn pid(&self) -> Pid {
        self.0
    }

    pub(super) fn tgid(&self) -> u32 {
        self.0.as_raw().try_into().unwrap()
    }

    pub(super) fn stat(&self) -> Stat {
        Stat::of_process(self.tgid()).unwrap()
    }

    pub(super) fn key(&self) -> ProcessKey {
        self.stat().key()
    }

    /// Has the test itself see to its end.
    pub(super) fn unguarded(self) -> Pid {
        std::mem::ManuallyDrop::new(self).0
    }
}

impl Drop for Forked {
    fn drop(&mut self) {
        let _ = kill(self.0, Signal::SIGKILL);
        let _ = waitpid(self.0, None);
    }
}
