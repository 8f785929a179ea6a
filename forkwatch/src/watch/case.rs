//! A fork that gives reason for suspicion, with the evidence as it comes in.

use super::Output;
use crate::{
    hazard::{CATALOGUE, ForkCase, Hazard, Rule, Verdict},
    model::{
        event::Fork,
        evidence::ParentSeen,
        finding::Finding,
        process::{Comm, ProcessKey, Program},
        time::BootTime,
    },
};

/// A fork that will be judged if the child lives on.
pub(super) struct Case {
    pub(super) fork: Fork,
    /// The child's comm, once it is known to live on.
    pub(super) lives_on: Option<Comm>,
    pub(super) parent: Answer,
    pub(super) due: BootTime,
    pub(super) asked: u8,
}

pub(super) enum Answer {
    Awaited,
    Unknown,
    Seen(Box<ParentSeen>),
}

impl Case {
    pub(super) fn new(fork: &Fork, due: BootTime) -> Self {
        Self { fork: fork.clone(), lives_on: None, parent: Answer::Awaited, due, asked: 0 }
    }

    /// Whether all the evidence is in.
    pub(super) fn is_complete(&self) -> bool {
        self.lives_on.is_some() && !matches!(self.parent, Answer::Awaited)
    }

    pub(super) fn awaits(&self, due: BootTime) -> bool {
        self.due == due && matches!(self.parent, Answer::Awaited)
    }

    /// The hazards that the fork gave reason for.
    pub(super) fn hazards(&self) -> impl Iterator<Item = &'static Hazard> {
        CATALOGUE.into_iter().filter(|hazard| match hazard.rule {
            Rule::LivingChild { concerns, .. } => concerns(&self.fork),
            Rule::StartedProgram { .. } | Rule::Followed => false,
        })
    }

    /// What is known of the forker where nobody could look at it.
    pub(super) fn forker(&self) -> Program {
        Program { comm: self.fork.comm, uid: Some(self.fork.uid), ..Program::default() }
    }

    pub(super) fn finding(&self, hazard: &Hazard, verdict: Verdict, seen: &ForkCase<'_>) -> Finding {
        let child = (self.fork.child, self.lives_on.unwrap_or(self.fork.comm));
        verdict.finding(seen.at, hazard.id, (self.fork.parent, seen.program), child)
    }
}

impl Hazard {
    pub(super) fn undecided(&self, child: ProcessKey) -> Output {
        Output::Undecided { hazard: self.id, child }
    }
}
