//! Threads of a process that forked, and of which its child, which lives on, has none.

mod hazard;

pub(super) use self::hazard::{BY_DESIGN, HAZARD};
use crate::{
    core::{Context, Detector, ForkCase, Judgement, Output, Report},
    model::{event::Fork, finding::HazardId},
};

/// Judges each such fork once, when what there is to be known of it is known.
pub(super) struct MultithreadedFork;

impl Detector for MultithreadedFork {
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
