//! Tells the service manager that all is well, for as long as every part of the watch shows that it is.

use std::{convert::Infallible, io};

use tokio::time::Instant;

use super::alarm::Alarm;
use crate::{
    health::{self, Pulse},
    service::Watchdog,
};

/// Asks every part once an interval, and feeds the watchdog when all have answered. A part that hangs after it has
/// answered is asked again an interval later, which is when the manager has waited for half of its time; so it is
/// restarted within that time. Only ever fails.
pub(crate) async fn vouch(pulse: Pulse, watchdog: Watchdog) -> io::Result<Infallible> {
    let interval = watchdog.interval();
    let mut alarm = Alarm::new()?;
    let mut due = Instant::now();
    let mut was_well = true;
    loop {
        // Rounds that were missed are one.
        due = (due + interval).max(Instant::now());
        alarm.at(Some(due)).await?;
        let failing = pulse.round(interval).await;
        let is_well = failing.is_empty();
        if is_well {
            watchdog.feed();
        }
        match (was_well, is_well) {
            (true, false) => {
                let failing = health::describe(&failing);
                tracing::error!("{failing}: the service manager is no longer told that all is well");
            }
            (false, true) => tracing::info!("every part answers again"),
            (true, true) | (false, false) => {}
        }
        was_well = is_well;
    }
}
