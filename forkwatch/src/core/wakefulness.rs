//! When it is asked which children fell asleep: each second while any child lives on. A child that begins to wait for a
//! lock is so looked at within a second, however seldom it is looked at else.

use std::time::Duration;

use super::Core;
use crate::model::{
    evidence::Request,
    time::{BootTime, nanoseconds},
};

/// How often.
const INTERVAL: Duration = Duration::from_secs(1);

/// The next time.
#[derive(Default)]
pub(super) struct Wakefulness {
    next: BootTime,
    /// Whether this kernel tells; absent before the first answer. Where it does not, nobody asks any more.
    is_told: Option<bool>,
}

impl Wakefulness {
    /// When it is asked next, where so many children live on.
    pub(super) fn deadline(&self, living: usize) -> Option<BootTime> {
        // The end of time never comes.
        (living > 0 && self.is_told != Some(false) && self.next.0 != u64::MAX).then_some(self.next)
    }

    /// Takes in that a child lives on: from now on it is asked.
    pub(super) fn is_of_use(&mut self, now: BootTime) {
        self.next = self.next.max(after(now));
    }

    /// Takes in whether this kernel tells.
    pub(super) const fn answered(&mut self, is_told: bool) {
        self.is_told = Some(is_told);
    }

    /// Whether it is known to tell.
    pub(super) const fn is_told(&self) -> bool {
        matches!(self.is_told, Some(true))
    }
}

/// At whole seconds, when others are looked at too: one wake-up does for all of them.
fn after(now: BootTime) -> BootTime {
    let interval = nanoseconds(INTERVAL);
    BootTime((now.0 / interval).saturating_add(1).saturating_mul(interval))
}

impl Core {
    /// Asks, if it is time.
    pub(super) fn look_who_fell_asleep(&mut self) {
        let context = &mut self.context;
        if context.wakefulness.deadline(context.processes.living()).is_none_or(|due| due > context.now) {
            return;
        }
        context.wakefulness.next = after(context.now);
        context.ask(Request::FellAsleep);
    }
}
