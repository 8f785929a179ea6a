//! Waiting for conditions.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};

/// Far longer than anything here takes on a loaded machine of two CPUs, among other tests; only a failing test waits so
/// long.
pub const DEADLINE: Duration = Duration::from_secs(90);
/// How often a condition is looked at that announces itself in no other way.
const INTERVAL: Duration = Duration::from_millis(10);

/// Looks again and again until there is an answer.
pub fn until<T>(what: &str, look: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    until_within(DEADLINE, what, look)
}

/// The same, with another deadline.
pub fn until_within<T>(
    deadline: Duration,
    what: &str,
    mut look: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let end = Instant::now() + deadline;
    loop {
        if let Some(answer) = look()? {
            return Ok(answer);
        }
        if Instant::now() >= end {
            bail!("waited {deadline:?} in vain for {what}");
        }
        thread::sleep(INTERVAL);
    }
}
