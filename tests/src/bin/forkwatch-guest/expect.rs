//! Waiting for what must come.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};

/// Far more than anything here takes in an emulated machine on a busy host; only a failing test waits so long.
const DEADLINE: Duration = Duration::from_secs(30);
/// How often is looked.
const INTERVAL: Duration = Duration::from_millis(10);

/// Looks again and again until there is an answer.
pub(crate) fn until<T>(what: &str, mut look: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let end = Instant::now() + DEADLINE;
    loop {
        if let Some(answer) = look()? {
            return Ok(answer);
        }
        if Instant::now() >= end {
            bail!("waited {DEADLINE:?} in vain for {what}");
        }
        thread::sleep(INTERVAL);
    }
}
