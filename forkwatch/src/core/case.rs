//! A fork that gives reason for suspicion, with the evidence as it comes in, and what is said of it.

use super::detector::Unanswered;
use crate::model::{
    event::Fork,
    finding::{Certainty, Facts, Finding, HazardId, Remedy, Severity, State},
    held_lock::HeldLocks,
    process::{Comm, ProcessKey, Program},
    program_name::program_name,
    seen::ParentSeen,
    thread::Occupation,
    time::{BootTime, nanoseconds},
};

/// A fork beside threads, of which a process is a child's child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EarlierFork {
    /// The process that forked.
    pub forker: ProcessKey,
    /// Comm of the thread that called fork.
    pub comm: Comm,
    /// Threads that it had then.
    pub threads: u32,
}

/// A fork whose child lives on, with what became known of it.
pub struct ForkCase<'a> {
    /// When it is judged.
    pub at: BootTime,
    /// The fork, as the kernel side reported it.
    pub fork: &'a Fork,
    /// A fork before it that left threads behind, of which the forker is a child's child or a child itself.
    pub earlier: Option<&'a EarlierFork>,
    /// The child's comm, when it was seen to live on.
    pub child_comm: Comm,
    /// What the parent looked like some time later; absent where it was gone or unreadable by then.
    pub parent: Option<&'a ParentSeen>,
    /// Whether the parent had ended by then.
    pub parent_ended: bool,
    /// What runs in the parent, as far as is known.
    pub program: &'a Program,
    /// The name that it goes by in metrics: `gunicorn`, not `python3.11`.
    pub program_name: &'a str,
    /// The locks that the child still carried, when it was known to live on, of threads that it does not have.
    pub held: Option<&'a HeldLocks>,
    /// What the parent's threads are called in its program and do, as far as that is known.
    pub occupations: &'a [Occupation],
}

impl ForkCase<'_> {
    /// Nanoseconds since the fork.
    pub fn age(&self) -> u64 {
        nanoseconds(self.at.since(self.fork.at))
    }

    /// The finding about this fork.
    pub fn finding(&self, hazard: HazardId, verdict: Verdict) -> Finding {
        let parent = (self.fork.parent, self.program);
        verdict.finding(self.at, hazard, parent, (self.fork.child, self.child_comm))
    }
}

/// What came of judging.
#[derive(Debug, PartialEq, Eq)]
pub enum Judgement {
    /// Not a case of this hazard.
    Clean,
    /// What would decide it could not be seen.
    Undecided,
    /// A case of it.
    Unsafe(Box<Verdict>),
}

/// What a hazard has to say of one case.
#[derive(Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Whether the fault was seen, or only its conditions.
    pub state: State,
    /// How sure it is.
    pub certainty: Certainty,
    /// How much it matters.
    pub severity: Severity,
    /// One plain sentence.
    pub summary: String,
    /// What it rests on.
    pub facts: Facts,
    /// What to change.
    pub remedy: Remedy,
}

impl Verdict {
    /// The finding about a process and one of its children.
    pub fn finding(
        self,
        at: BootTime,
        hazard: HazardId,
        (parent, program): (ProcessKey, &Program),
        (child, child_comm): (ProcessKey, Comm),
    ) -> Finding {
        let Self { state, certainty, severity, summary, facts, remedy } = self;
        Finding {
            at,
            number: 0,
            hazard,
            state,
            certainty,
            severity,
            summary,
            parent,
            program: program.clone(),
            program_name: program_name(program),
            child,
            child_comm,
            child_uid: None,
            facts,
            remedy,
            repeats: 0,
        }
    }
}

/// A fork that will be judged if the child lives on.
pub(super) struct Case {
    pub(super) fork: Fork,
    /// The hazards that the fork gave reason for.
    pub(super) concerns: Vec<HazardId>,
    /// The child's comm, once it is known to live on.
    pub(super) lives_on: Option<Comm>,
    pub(super) parent: Answer,
    pub(super) due: BootTime,
    pub(super) unanswered: Unanswered,
    /// The detectors that are about to learn more, a bit for the place of each.
    pub(super) on_hold: u64,
    pub(super) occupations: Vec<Occupation>,
}

/// What is known of the forker.
pub(super) enum Answer {
    Awaited,
    Unknown,
    Ended,
    Seen(Box<ParentSeen>),
}

impl Case {
    pub(super) fn new(fork: &Fork, concerns: Vec<HazardId>, due: BootTime) -> Self {
        let unanswered = Unanswered::default();
        let (lives_on, parent, on_hold) = (None, Answer::Awaited, 0);
        let (fork, occupations) = (fork.clone(), Vec::new());
        Self { fork, concerns, lives_on, parent, due, unanswered, on_hold, occupations }
    }

    /// Whether all the evidence is in.
    pub(super) const fn is_complete(&self) -> bool {
        self.on_hold == 0 && self.lives_on.is_some() && !matches!(self.parent, Answer::Awaited)
    }

    pub(super) fn awaits(&self, due: BootTime) -> bool {
        self.due == due && matches!(self.parent, Answer::Awaited)
    }

    /// What is known of the forker where nobody could look at it.
    pub(super) fn forker(&self) -> Program {
        Program { comm: self.fork.comm, uid: Some(self.fork.uid), ..Program::default() }
    }
}
