//! Points in time, as the kernel counts them.

use std::{ops::Add, time::Duration};

use serde::{Deserialize, Serialize};

/// A point in time: nanoseconds of `CLOCK_BOOTTIME`, the clock that `/proc/PID/stat` and the kernel side use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct BootTime(pub u64);

/// Nanoseconds in a clock tick, the unit of starts in `/proc/PID/stat`: `USER_HZ` is 100 on every architecture that
/// forkwatch runs on (include/asm-generic/param.h).
pub const TICK: u64 = 10_000_000;

/// A duration as evidence and findings hold it: five hundred years are the longest.
pub fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

impl BootTime {
    /// The clock tick it falls into, as the kernel rounds the starts in `/proc/PID/stat`.
    pub const fn ticks(self) -> u64 {
        self.0 / TICK
    }

    /// The beginning of a clock tick.
    pub const fn from_ticks(ticks: u64) -> Self {
        Self(ticks.saturating_mul(TICK))
    }

    /// The time from `earlier` to this point; zero where `earlier` is later.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for BootTime {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(nanoseconds(duration)))
    }
}
