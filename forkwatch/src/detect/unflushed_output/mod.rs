//! Output that a child carries from before its fork: it is written twice if both flush it.
//!
//! A child is looked at once, when its grace is over.

mod hazard;

pub(super) use self::hazard::HAZARD;
use self::hazard::judge;
use crate::{
    core::{Context, Detector, Output, Report},
    model::{
        evidence::{Evidence, Request},
        process::ProcessKey,
        unflushed::UnflushedSeen,
    },
};

/// Asks once about each child that lives on.
pub(super) struct UnflushedOutput;

impl Detector for UnflushedOutput {
    fn on_life(&mut self, child: ProcessKey, context: &mut Context) {
        let Some(process) = context.processes.get(child) else { return };
        let (child, Some(forker)) = (process.key, process.birth.parent) else { return };
        context.ask(Request::Unflushed { child, forker });
    }

    fn on_evidence(&mut self, evidence: &Evidence, context: &mut Context) {
        let Evidence::Unflushed { child, forker, seen } = evidence else { return };
        let Some(process) = context.processes.get(*child).filter(|process| process.life().is_some()) else {
            return;
        };
        let (child, forker, was_seen) = (process.key, *forker, process.birth.was_seen());
        match seen {
            UnflushedSeen::Unflushed(unflushed) => {
                let verdict = judge(child, forker, was_seen, unflushed);
                let parent = (forker, &unflushed.program);
                let finding = verdict.finding(context.now, HAZARD.id, parent, (child, unflushed.comm));
                context.follow(child);
                context.report(Report::until_the_end(finding));
            }
            UnflushedSeen::Unreadable(why) => {
                context.tell(Output::Undecided { hazard: HAZARD.id, child, why: why.clone() });
            }
            UnflushedSeen::None | UnflushedSeen::Gone => {}
        }
    }
}
