//! The catalogue of hazards: what each is, how it is judged, what to tell the user.
//!
//! One file a hazard. A new one is that file, its line in [`CATALOGUE`] and its [`HazardId`].

pub mod allow;
mod blocked_signals;
mod connection_remedy;
pub mod crash_loop;
mod ecosystem;
pub mod fork_check;
mod lasted;
pub mod leaked_pipe;
pub mod lost_threads;
mod multithreaded_fork;
pub mod orphaned_lock;
mod pending_signals;
pub mod pinned_listener;
mod program_name;
mod service;
pub mod shared_connection;
pub mod shared_connection_closed;
mod text;
pub mod unreaped_children;
pub mod worker_killed;

pub use blocked_signals::WATCHED as WATCHED_SIGNALS;
pub use program_name::{called, program_name};
pub use service::service;
pub use text::{explain, markdown};

pub(crate) use self::lasted::lasted;
use crate::model::{
    event::{Exec, Fork},
    evidence::{ExecedSeen, ParentSeen},
    finding::{Certainty, Facts, Finding, HazardId, Remedy, Severity, State},
    process::{Comm, ProcessKey, Program},
    signals::SignalSet,
    time::{BootTime, nanoseconds},
};

/// Every hazard, in the order of the documentation.
pub static CATALOGUE: [&Hazard; 12] = [
    &multithreaded_fork::HAZARD,
    &pending_signals::HAZARD,
    &blocked_signals::HAZARD,
    &orphaned_lock::HAZARD,
    &shared_connection::HAZARD,
    &shared_connection_closed::HAZARD,
    &worker_killed::HAZARD,
    &crash_loop::HAZARD,
    &unreaped_children::HAZARD,
    &lost_threads::HAZARD,
    &leaked_pipe::HAZARD,
    &pinned_listener::HAZARD,
];

/// A hazard: its text for people, and its rule.
pub struct Hazard {
    /// Which.
    pub id: HazardId,
    /// A few words.
    pub title: &'static str,
    /// What goes wrong.
    pub what: &'static str,
    /// How it is detected.
    pub detection: &'static str,
    /// How sure a finding is.
    pub certainty: Certainty,
    /// Why it is that sure and no surer.
    pub certainty_reason: &'static str,
    /// How a first report stands.
    pub state: State,
    /// How much it matters, where nothing speaks against it.
    pub severity: Severity,
    /// What looks alike and stays silent, or is toned down.
    pub look_alikes: &'static [&'static str],
    /// What to change: for whom, and what.
    pub remedies: fn() -> Vec<(&'static str, Remedy)>,
    /// Further reading.
    pub links: &'static [&'static str],
    /// The rule.
    pub rule: Rule,
}

/// How a hazard is judged.
pub enum Rule {
    /// On a copying fork whose child lives on without exec.
    LivingChild {
        /// Whether the fork alone gives reason to follow it up.
        concerns: fn(&Fork) -> bool,
        /// The verdict, when all the evidence is in.
        judge: fn(&ForkCase<'_>) -> Judgement,
    },
    /// On a program that was started with signals blocked.
    StartedProgram {
        /// The verdict, when all the evidence is in.
        judge: fn(&ExecCase<'_>) -> Judgement,
    },
    /// As a module of the core follows what happens, by functions of the hazard's own.
    Followed,
}

/// A fork whose child lives on, with what became known of it.
pub struct ForkCase<'a> {
    /// When it is judged.
    pub at: BootTime,
    /// The fork.
    pub fork: &'a Fork,
    /// What the parent looked like some time later; absent where it was gone or unreadable by then.
    pub parent: Option<&'a ParentSeen>,
    /// What runs in the parent, as far as is known.
    pub program: &'a Program,
    /// Its name.
    pub program_name: &'a str,
}

impl ForkCase<'_> {
    /// Nanoseconds since the fork.
    fn age(&self) -> u64 {
        nanoseconds(self.at.since(self.fork.at))
    }
}

/// A program that started with signals blocked, with what became known of it.
pub struct ExecCase<'a> {
    /// The exec.
    pub exec: &'a Exec,
    /// The signals that nobody before the forker is to blame for.
    pub signals: SignalSet,
    /// What the process looked like some time later.
    pub seen: &'a ExecedSeen,
    /// The process that forked it, and its name; absent where it was gone by then.
    pub forker: Option<(ProcessKey, &'a str)>,
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
    /// How it stands.
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

/// The catalogue's entry of a hazard.
pub fn entry(id: HazardId) -> &'static Hazard {
    match id {
        HazardId::MultithreadedFork => &multithreaded_fork::HAZARD,
        HazardId::PendingSignals => &pending_signals::HAZARD,
        HazardId::BlockedSignals => &blocked_signals::HAZARD,
        HazardId::OrphanedLock => &orphaned_lock::HAZARD,
        HazardId::SharedConnection => &shared_connection::HAZARD,
        HazardId::SharedConnectionClosed => &shared_connection_closed::HAZARD,
        HazardId::CrashLoop => &crash_loop::HAZARD,
        HazardId::UnreapedChildren => &unreaped_children::HAZARD,
        HazardId::WorkerKilledWhileStuck => &worker_killed::HAZARD,
        HazardId::LostThreads => &lost_threads::HAZARD,
        HazardId::LeakedPipe => &leaked_pipe::HAZARD,
        HazardId::PinnedListener => &pinned_listener::HAZARD,
    }
}

/// Whether any hazard gives reason to follow this fork up.
pub fn concerns(fork: &Fork) -> bool {
    CATALOGUE.iter().any(|hazard| match hazard.rule {
        Rule::LivingChild { concerns, .. } => concerns(fork),
        Rule::StartedProgram { .. } | Rule::Followed => false,
    })
}

/// Names of threads for a sentence: the first few different ones, with how often each was seen.
fn name_threads(comms: impl Iterator<Item = Comm>) -> String {
    const SHOWN: usize = 4;
    let mut names: Vec<(Comm, usize)> = Vec::new();
    for comm in comms {
        match names.iter_mut().find(|(name, _)| *name == comm) {
            Some((_, count)) => *count += 1,
            None => names.push((comm, 1)),
        }
    }
    let mut shown: Vec<String> = names
        .iter()
        .take(SHOWN)
        .map(|(name, count)| if *count > 1 { format!("{name} x{count}") } else { name.to_string() })
        .collect();
    if names.len() > SHOWN {
        shown.push("...".to_owned());
    }
    shown.join(", ")
}

/// A uid after a pid in brackets; nothing where it is not known.
fn uid_words(uid: Option<u32>) -> String {
    uid.map_or_else(String::new, |uid| format!(", uid {uid}"))
}

fn remedy(text: &str, link: &str) -> Remedy {
    Remedy { text: text.to_owned(), link: link.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_hazard_is_in_the_catalogue_once() {
        assert_eq!(CATALOGUE.map(|hazard| hazard.id), HazardId::ALL);
        for id in HazardId::ALL {
            assert_eq!(entry(id).id, id);
        }
    }

    #[test]
    fn threads_are_named_without_repeating_a_name() {
        let comms = ["python", "flush", "python", "\x1b[2J", "grpc", "rdk:main"].map(Comm::from);
        assert_eq!(name_threads(comms.into_iter()), "python x2, flush, \\x1b[2J, grpc, ...");
    }
}
