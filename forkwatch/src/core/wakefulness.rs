//! When it is asked which children fell asleep: each second while any child lives on. A child that begins to wait for a
//! lock is so looked at within a second, however seldom it is looked at else.

use std::time::Duration;

use super::Core;
use crate::model::{
    evidence::Request,
    time::{BootTime, nanoseconds},
};

/// Between two passes over all tasks.
const INTERVAL: Duration = Duration::from_secs(1);

/// How long a child that sleeps on may go without a look at it. Records of its end may have been lost.
const SELDOM: Duration = Duration::from_secs(600);

/// Whether a child may have done anything since a look at it found nothing, as far as it is told who falls asleep.
///
/// Whatever a thread does, it falls asleep after it, and that is told at the next pass. So nothing that the child itself
/// does escapes whoever leaves it alone meanwhile.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rest {
    /// Whether it was told to have fallen asleep since the last look began: that may have come too early.
    has_moved: bool,
    /// When the look at it was answered, where that found nothing and nothing was told since.
    since: Option<BootTime>,
}

impl Rest {
    /// It is told that it fell asleep: it did something before.
    pub const fn fell_asleep(&mut self) {
        *self = Self { has_moved: true, since: None };
    }

    /// A look at it is asked for, and no other is on its way.
    pub const fn look_begins(&mut self) {
        *self = Self { has_moved: false, since: None };
    }

    /// A look found nothing that could become anything while it sleeps on. Whether that can be relied on: false where
    /// it may have fallen asleep after the look.
    pub const fn found_nothing(&mut self, now: BootTime) -> bool {
        self.since = if self.has_moved { None } else { Some(now) };
        !self.has_moved
    }

    /// A look found something, or could not tell.
    pub const fn is_over(&mut self) {
        self.since = None;
    }
}

/// Asks now and then which children fell asleep.
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

    /// Whether a child has slept on since a look at it found nothing, so that no other is needed.
    pub(super) fn sleeps_on(&self, rest: Rest, now: BootTime) -> bool {
        self.is_told() && rest.since.is_some_and(|since| now.since(since) < SELDOM)
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
