//! Threads of a process that forked, and of which its child, which lives on, has none.

mod hazard;

pub(super) use self::hazard::{BY_DESIGN, HAZARD, notes};
use super::by_fork::ByFork;

/// Its detector.
pub(super) fn detector() -> ByFork {
    ByFork { hazard: &HAZARD, concerns: hazard::concerns, judge: hazard::judge }
}
