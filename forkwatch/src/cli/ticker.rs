//! A clock that wakes the program once an interval and no more: tokio's own timers wake it several times for one that
//! is seconds away, as they pass from one of its wheels to the next.

use std::{
    io,
    os::fd::{AsRawFd, OwnedFd, RawFd},
    time::Duration,
};

use nix::sys::{
    time::TimeSpec,
    timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags},
};
use tokio::io::{Interest, unix::AsyncFd};

/// See `timerfd_create(2)`.
pub(super) struct Ticker(AsyncFd<Clock>);

struct Clock(OwnedFd);

impl AsRawFd for Clock {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

impl Ticker {
    /// Ticks from now on, first after one interval. Must be called on a tokio runtime.
    pub(super) fn every(interval: Duration) -> io::Result<Self> {
        let clock =
            TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC)?;
        // An interval of 0 would switch it off.
        let interval = TimeSpec::from_duration(interval.max(Duration::from_millis(1)));
        clock.set(Expiration::Interval(interval), TimerSetTimeFlags::empty())?;
        // SAFETY: the clock owns its descriptor, and gives the same one for as long as it lives.
        Ok(Self(unsafe { AsyncFd::register_with_interest(Clock(clock.into()), Interest::READABLE) }?))
    }

    /// Waits for the next tick. Those that have been missed are one.
    pub(super) async fn tick(&mut self) -> io::Result<()> {
        loop {
            let mut guard = self.0.readable().await?;
            let read = guard.try_io(|clock| {
                let mut ticks = [0; 8];
                nix::unistd::read(&clock.get_ref().0, &mut ticks).map_err(io::Error::from)
            });
            if let Ok(read) = read {
                return read.map(drop);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[tokio::test]
    async fn it_ticks_once_an_interval() {
        let began = Instant::now();
        let mut ticker = Ticker::every(Duration::from_millis(20)).unwrap();
        for _ in 0..3 {
            ticker.tick().await.unwrap();
        }
        assert!(began.elapsed() >= Duration::from_millis(60));
    }
}
