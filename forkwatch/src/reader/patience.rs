//! How long an answer is waited for: a reader that could work, but is not given a processor, is not one that hangs.

use std::{
    fs, io,
    os::{fd::AsFd as _, unix::net::UnixStream},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
};

use crate::host;

/// How long it may stay with one of many processes.
const MOVES: Duration = Duration::from_secs(2);
/// How often it is seen to that it does not.
const LOOK: Duration = Duration::from_millis(250);
/// How many times its patience a starved reader is given in addition.
const MOST_STARVED: u32 = 3;

/// A time that may last so long, not counting how long the reader waited for a processor.
#[derive(Clone, Copy, Debug)]
struct Turn {
    began: Instant,
    /// How long the reader had waited for a processor by then.
    starved: Duration,
    patience: Duration,
}

impl Turn {
    fn is_over(&self, now: Instant, starved: Duration) -> bool {
        let starved = starved.saturating_sub(self.starved).min(self.patience * MOST_STARVED);
        now.saturating_duration_since(self.began) >= self.patience + starved
    }
}

/// How long a process of one thread could have run and was not let.
///
/// The kernel counts that, too (`schedstat`), but only once it does run: of one that waits all the time it says nothing.
#[derive(Debug)]
struct Starvation {
    pid: u32,
    looked: Instant,
    ran: Duration,
    sum: Duration,
}

impl Starvation {
    fn new(pid: u32, now: Instant) -> Self {
        Self { pid, looked: now, ran: ran(pid), sum: Duration::ZERO }
    }

    /// Adds the time since the last look, if it could run and did not.
    fn look(&mut self, now: Instant) -> Duration {
        let passed = now.saturating_duration_since(self.looked);
        let ran = ran(self.pid);
        if host::may_run(self.pid) {
            self.sum += passed.saturating_sub(ran.saturating_sub(self.ran));
        }
        (self.looked, self.ran) = (now, ran);
        self.sum
    }
}

/// Waits for the beginning of an answer of the reader `pid`. With `attention`, which says whom it looks into, it must turn
/// from one process to the next meanwhile. False where it took too long.
pub(super) fn wait(
    socket: &UnixStream,
    pid: u32,
    patience: Duration,
    attention: Option<&AtomicU32>,
) -> io::Result<bool> {
    let looked_into = || attention.map(|attention| attention.load(Ordering::Relaxed));
    let began = Instant::now();
    // Most answers come before anything else is asked.
    let mut starvation = None;
    let whole = Turn { began, starved: Duration::ZERO, patience };
    let mut one = Turn { patience: MOVES, ..whole };
    let mut at = looked_into();
    loop {
        if is_readable(socket, LOOK.min(patience))? {
            return Ok(true);
        }
        let now = Instant::now();
        let starved = starvation.get_or_insert_with(|| Starvation::new(pid, now)).look(now);
        if looked_into() != at {
            at = looked_into();
            one = Turn { began: now, starved, ..one };
        }
        if whole.is_over(now, starved) || attention.is_some() && one.is_over(now, starved) {
            return Ok(false);
        }
    }
}

fn is_readable(socket: &UnixStream, patience: Duration) -> io::Result<bool> {
    let milliseconds = u16::try_from(patience.as_millis() + 1).unwrap_or(u16::MAX);
    let mut waiting = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
    match poll(&mut waiting, PollTimeout::from(milliseconds)) {
        Ok(ready) => Ok(ready > 0),
        Err(Errno::EINTR) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

/// How long it ran, in all; nothing where the kernel does not say.
///
/// The first number of `schedstat`, in nanoseconds: Documentation/scheduler/sched-stats.rst.
fn ran(pid: u32) -> Duration {
    let numbers = fs::read_to_string(format!("/proc/{pid}/schedstat")).unwrap_or_default();
    let ran = numbers.split_whitespace().next().and_then(|ran| ran.parse().ok());
    Duration::from_nanos(ran.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command};

    use nix::{
        sys::signal::{Signal, kill},
        unistd::Pid,
    };
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    proptest! {
        #[test]
        fn who_is_not_starved_has_its_patience_and_who_is_has_four_times_as_long_at_most(
            before in 0_u32..100, starved in 0_u32..100, passed in 0_u32..100,
        ) {
            let turn = Turn { began: Instant::now(), starved: SECOND * before, patience: SECOND * 10 };
            let is_over = turn.is_over(turn.began + SECOND * passed, SECOND * (before + starved));
            prop_assert_eq!(is_over, passed >= 10 + starved.min(30));
        }
    }

    struct Busy(Child);

    impl Busy {
        fn on_the_first_processor() -> Option<Self> {
            let loops = ["-c", "0", "sh", "-c", "while :; do :; done"];
            Command::new("taskset").args(loops).spawn().ok().map(Self)
        }
    }

    impl Drop for Busy {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    /// Two that share a processor wait for it in turn; one that is stopped waits for none.
    #[test]
    fn a_starved_process_is_told_from_one_that_stands_still() {
        let both = [Busy::on_the_first_processor(), Busy::on_the_first_processor()];
        let [Some(first), Some(second)] = both else { return crate::skip::skip("taskset is missing") };
        let stopped = Busy::on_the_first_processor().unwrap();
        kill(Pid::from_raw(stopped.0.id().cast_signed()), Signal::SIGSTOP).unwrap();
        let deadline = Instant::now() + Duration::from_secs(60);
        while host::may_run(stopped.0.id()) {
            assert!(Instant::now() < deadline, "it is not stopped");
        }
        let [mut first, mut second, mut stopped] =
            [&first, &second, &stopped].map(|busy| Starvation::new(busy.0.id(), Instant::now()));
        while first.look(Instant::now()) + second.look(Instant::now()) < SECOND / 2 {
            assert!(Instant::now() < deadline, "two that share a processor never wait for it");
            std::thread::yield_now();
        }
        assert_eq!(stopped.look(Instant::now()), Duration::ZERO);
        let mut gone = Starvation::new(u32::MAX, Instant::now());
        assert_eq!(gone.look(Instant::now() + SECOND), Duration::ZERO);
    }

    #[test]
    fn an_answer_is_seen_and_standing_still_is_not_waited_for() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let attention = AtomicU32::new(1);
        let own = std::process::id();
        assert!(!wait(&ours, own, SECOND * 3600, Some(&attention)).unwrap(), "it stays with one process");
        super::super::frame::send(&theirs, &"answer").unwrap();
        assert!(wait(&ours, own, SECOND * 3600, Some(&attention)).unwrap());
    }
}
