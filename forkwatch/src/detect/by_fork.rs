//! The detector of every hazard that what is known of a fork decides, once its child lives on.

use super::Hazard;
use crate::{
    core::{Context, Detector, EarlierFork, ForkCase, Judgement, Output, Report},
    model::{event::Fork, finding::HazardId},
};

/// Judges each fork that may be a case of the hazard once, when what there is to be known of it is known.
pub(super) struct ByFork {
    /// The hazard whose cases it finds.
    pub(super) hazard: &'static Hazard,
    /// Whether the fork, or one on the way to the forker, gives reason to follow it up.
    pub(super) concerns: fn(&Fork, Option<&EarlierFork>) -> bool,
    /// The verdict, when all the evidence is in.
    pub(super) judge: fn(&ForkCase<'_>) -> Judgement,
}

impl Detector for ByFork {
    fn concern(&self, fork: &Fork, earlier: Option<&EarlierFork>) -> Option<HazardId> {
        (self.concerns)(fork, earlier).then_some(self.hazard.id)
    }

    fn on_forker(&mut self, case: &ForkCase<'_>, context: &mut Context) {
        let Some(hazard) = self.concern(case.fork, case.earlier) else { return };
        match (self.judge)(case) {
            Judgement::Clean => {}
            Judgement::Undecided => {
                let why = "its parent could not be looked at".to_owned();
                context.tell(Output::Undecided { hazard, child: case.fork.child, why });
            }
            Judgement::Unsafe(verdict) => {
                let finding = case.finding(hazard, *verdict);
                context.report(Report { until_its_end: case.fork.tracked, ..Report::of(finding) });
            }
        }
    }
}
