//! Signals that were pending at a fork whose child lives on.

mod hazard;

pub(super) use self::hazard::HAZARD;
use super::by_fork::ByFork;

/// Judges forks with pending and blocked signals.
pub(super) fn detector() -> ByFork {
    ByFork { hazard: &HAZARD, concerns: hazard::concerns, judge: hazard::judge }
}
