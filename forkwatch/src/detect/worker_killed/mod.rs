//! Children that were killed by their parent while they hung.

pub(super) mod hazard;

pub(super) use self::hazard::HAZARD;
use crate::{
    core::{Context, Detector, Report, how_it_ended},
    model::{event::Event, finding::Finding, resolution::Resolution},
};

/// Joins the kill to what the child hung at, which the detector of the hang tells at its end.
pub(super) struct WorkerKilled;

impl Detector for WorkerKilled {
    fn on_event(&mut self, event: &Event, context: &mut Context) {
        let Event::Exit(exit) = event else { return };
        let Some(hung) = context.processes.life(exit.process).and_then(|life| life.hung.as_deref()) else {
            return;
        };
        let (stuck, since) = hung;
        let end = context.end(exit);
        if how_it_ended(&end, true) != Resolution::KilledByParent {
            return;
        }
        let mut verdict = hazard::judge(stuck, end.signal.as_deref(), exit.at.since(*since));
        verdict.facts.end = Some(Box::new(end.of_program(&stuck.program_name)));
        let parent = (stuck.parent, &stuck.program);
        let finding = verdict.finding(exit.at, HAZARD.id, parent, (exit.process, exit.comm));
        let finding = Finding { program_name: stuck.program_name.clone(), ..finding };
        context.report(Report { of_one_child: true, ..Report::of(finding) });
    }
}
