//! All threads of a process, stopped. Dropped, they all go on.

use std::time::{Duration, Instant};

use nix::unistd::Pid;

use crate::host::traced::{Stop, Traced};

/// A sleeping thread stops as soon as a processor is free. One that waits for a disk does not, and is not waited for.
const PATIENCE: Duration = Duration::from_millis(500);

/// Threads that stand still.
pub(super) struct Standstill {
    threads: Vec<Traced>,
    since: Instant,
}

impl Standstill {
    /// Stops these threads; says why that cannot be. Those that were stopped by then go on.
    pub(super) fn of(tids: &[u32]) -> Result<Self, String> {
        // First all are seized, which holds up none of them.
        let threads = tids.iter().copied().map(Traced::seize).collect::<Result<Vec<_>, _>>()?;
        let since = Instant::now();
        let mut standstill = Self { threads, since };
        for thread in &standstill.threads {
            thread.interrupt().map_err(|error| said(thread.pid(), &error))?;
        }
        for thread in &mut standstill.threads {
            match thread.wait_until(since + PATIENCE) {
                Ok(Stop::Asked) => {}
                Ok(Stop::Signal) => return Err(format!("a signal for its thread {} came", thread.pid())),
                Err(error) => return Err(said(thread.pid(), &error)),
            }
        }
        Ok(standstill)
    }

    /// Has the call that a thread sleeps in end with EINTR when it goes on.
    pub(super) fn end_call(&self, tid: u32) -> Result<(), String> {
        let is_it = |thread: &&Traced| u32::try_from(thread.pid().as_raw()) == Ok(tid);
        let thread = self.threads.iter().find(is_it).ok_or_else(|| format!("its thread {tid} has ended"))?;
        thread.end_call().map_err(|error| format!("the call of its thread {tid} cannot be ended: {error}"))
    }

    /// Lets them go on; tells for how long they were kept.
    pub(super) fn end(self) -> Duration {
        let Self { threads, since } = self;
        drop(threads);
        since.elapsed()
    }
}

fn said(thread: Pid, error: &std::io::Error) -> String {
    format!("its thread {thread} does not stop: {error}")
}
