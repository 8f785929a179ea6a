//! What a detector is: it watches for one hazard, or for two that the same facts decide.

use super::{Context, EarlierFork, ForkCase};
use crate::model::{
    event::{Event, Fork},
    evidence::Evidence,
    finding::HazardId,
    observation::Observation,
    process::ProcessKey,
};

/// How often a question is put that nobody answers: another process may keep whoever answers for some seconds.
pub(super) const MOST_UNANSWERED: u8 = 3;

/// Watches for a hazard.
///
/// The core calls every detector in the order of its list, with everything that happens; a detector remembers what it
/// needs, asks, and reports, by way of the [`Context`]. Where a method is not given, the detector does not care.
pub trait Detector: Send {
    /// Whether a copying fork gives reason to look at the forker, and at the child when its grace is over, and for which
    /// hazard; with a fork beside threads that was on the way to the forker. Of such a fork [`Self::on_forker`] is told.
    fn concern(&self, _fork: &Fork, _earlier: Option<&EarlierFork>) -> Option<HazardId> {
        None
    }

    /// Something happened in the life of a process. The process table shows how it was before.
    fn on_event(&mut self, _event: &Event, _context: &mut Context) {}

    /// Something was seen that a detector, this or another, has asked for, or that a child is born with.
    fn on_observation(&mut self, _seen: &Observation, _context: &mut Context) {}

    /// A child has lived on past the grace without exec: until it is forgotten it stands in the process table as such.
    fn on_life(&mut self, _child: ProcessKey, _context: &mut Context) {}

    /// The child of a fork that concerns somebody has lived on, and what could be seen of its forker is known.
    fn on_forker(&mut self, _case: &ForkCase<'_>, _context: &mut Context) {}

    /// A question was answered, this detector's or another's.
    fn on_evidence(&mut self, _evidence: &Evidence, _context: &mut Context) {}

    /// A timer is due that this detector has set, for this process and topic.
    fn on_timer(&mut self, _process: ProcessKey, _topic: u64, _context: &mut Context) {}

    /// A child that lived on is no longer followed: it has exec'd or ended, or cannot be looked at.
    fn forget(&mut self, _process: ProcessKey, _context: &mut Context) {}

    /// How many processes and objects it remembers, and whether that is within its bounds.
    #[cfg(test)]
    fn remembers(&self) -> (usize, bool) {
        (0, true)
    }
}

/// How often a question was put since it was last answered.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unanswered(u8);

impl Unanswered {
    /// It was not put yet.
    pub const NONE: Self = Self(0);

    /// Whether it is put and not yet answered.
    pub const fn is_open(self) -> bool {
        self.0 > 0
    }

    /// Whether it has been put often enough in vain.
    pub const fn is_hopeless(self) -> bool {
        self.0 >= MOST_UNANSWERED
    }

    /// It is put once more. Tells how often it was put in vain before.
    pub const fn put(&mut self) -> u8 {
        let before = self.0;
        self.0 = before.saturating_add(1);
        before
    }

    /// It was answered.
    pub const fn answered(&mut self) {
        self.0 = 0;
    }
}
