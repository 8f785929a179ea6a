//! Signals that were pending at a fork whose child lives on.

mod hazard;

pub(super) use self::hazard::HAZARD;
use crate::{
    core::{Context, Detector, ForkCase, Judgement, Output, Report},
    model::{event::Fork, finding::HazardId},
};

/// Judges each such fork once, when what there is to be known of it is known.
pub(super) struct PendingSignals;

impl Detector for PendingSignals {
    fn concern(&self, fork: &Fork) -> Option<HazardId> {
        hazard::concerns(fork).then_some(HAZARD.id)
    }

    fn on_forker(&mut self, case: &ForkCase<'_>, context: &mut Context) {
        if !hazard::concerns(case.fork) {
            return;
        }
        match hazard::judge(case) {
            Judgement::Clean => {}
            Judgement::Undecided => {
                context.tell(Output::Undecided { hazard: HAZARD.id, child: case.fork.child });
            }
            Judgement::Unsafe(verdict) => {
                let finding = case.finding(HAZARD.id, *verdict);
                let until_its_end = case.fork.tracked;
                context.report(Report { until_its_end, ..Report::of(finding) });
            }
        }
    }
}
