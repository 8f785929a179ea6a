//! One moment to be woken at.
//!
//! The kernel tells it. tokio's own timers lie in wheels that are turned while they wait: of ten seconds that is three
//! wake-ups.

use std::{
    future::pending,
    io,
    os::fd::{AsFd, AsRawFd, RawFd},
    time::Duration,
};

use nix::sys::{
    time::TimeSpec,
    timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags},
};
use tokio::{
    io::{Interest, unix::AsyncFd},
    time::Instant,
};

/// Moments no further apart than this are the same: each is computed anew from what is left.
const SAME: Duration = Duration::from_millis(1);

/// Wakes whoever waits for it.
pub(crate) struct Alarm {
    timer: AsyncFd<Timer>,
    set: Option<Instant>,
}

impl Alarm {
    /// Must be called on a tokio runtime.
    pub(crate) fn new() -> io::Result<Self> {
        let flags = TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC;
        let timer = Timer(TimerFd::new(ClockId::CLOCK_MONOTONIC, flags)?);
        // SAFETY: the timer owns its descriptor, and gives the same one for as long as it lives.
        let timer = unsafe { AsyncFd::register_with_interest(timer, Interest::READABLE) };
        Ok(Self { timer: timer.map_err(io::Error::from)?, set: None })
    }

    /// Returns at that moment, a little later, or seldom before it; never where none is given.
    pub(crate) async fn at(&mut self, due: Option<Instant>) -> io::Result<()> {
        let Some(due) = due else { return pending().await };
        let apart = |set: Instant| due.saturating_duration_since(set).max(set.saturating_duration_since(due));
        if self.set.is_none_or(|set| apart(set) > SAME) {
            // Rather after it than just before it, when there would be nothing to do yet. A time of zero would stop it.
            let wait = due.saturating_duration_since(Instant::now()) + SAME;
            let expiration = Expiration::OneShot(TimeSpec::from_duration(wait));
            self.timer.get_ref().0.set(expiration, TimerSetTimeFlags::empty())?;
            self.set = Some(due);
        }
        // What has expired is not read: to set the timer anew forgets it.
        self.timer.readable().await?.clear_ready();
        self.set = None;
        Ok(())
    }
}

/// As tokio wants it.
struct Timer(TimerFd);

impl AsRawFd for Timer {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_wakes_at_the_moment_whatever_it_was_set_to_before() {
        let mut alarm = Alarm::new().unwrap();
        let begun = Instant::now();
        for milliseconds in [10, 0, 30] {
            // Given up before it came.
            let later = Some(begun + Duration::from_secs(3600));
            let given_up = tokio::time::timeout(Duration::from_millis(1), alarm.at(later)).await;
            assert!(given_up.is_err(), "woken an hour early");
            let due = Instant::now() + Duration::from_millis(milliseconds);
            alarm.at(Some(due)).await.unwrap();
            assert!(Instant::now() + SAME >= due);
        }
        assert!(begun.elapsed() < Duration::from_secs(60));
    }
}
