//! What forkwatch judges: a folder for each hazard, or for two that the same facts decide.
//!
//! In each folder `mod.rs` is the detector, what it remembers and when it looks, and `hazard.rs` (of two, a file for
//! each) is the hazard: its words, and the rule by which it is judged. A new hazard is a folder, its line in
//! [`CATALOGUE`] and in [`all`], and its [`HazardId`].

mod blocked_signals;
mod by_fork;
mod calls;
mod crash_loop;
mod duplicated_random;
mod escaped_child;
pub mod fork_check;
mod held_locks;
mod killed_member;
pub mod leaks;
mod lock_left_behind;
mod lost_threads;
mod multithreaded_fork;
pub mod orphaned_lock;
mod pending_signals;
mod rules;
mod server_setup;
pub mod shared_connection;
mod shared_event_loop;
mod shared_files;
#[cfg(test)]
mod tests;
mod text;
mod thread_names;
mod unflushed_output;
mod unreaped_children;
mod worker_killed;
mod worker_not_ready;

pub use blocked_signals::WATCHED as WATCHED_SIGNALS;
pub use rules::{NoThreads, check_rule};
pub use text::{explain, markdown};

use crate::{
    core::Detector,
    model::{
        detector::{Aspect, DetectorState, Observable, Reach, Wanted},
        finding::{Certainty, HazardId, Remedy, Severity, State},
        resolution::Resolution,
    },
};

/// Every hazard, in the order of the documentation.
pub static CATALOGUE: &[&Hazard] = &[
    &multithreaded_fork::HAZARD,
    &held_locks::HAZARD,
    &pending_signals::HAZARD,
    &blocked_signals::HAZARD,
    &orphaned_lock::HAZARD,
    &orphaned_lock::lost_thread::HAZARD,
    &shared_connection::hazard::HAZARD,
    &shared_connection::closed::HAZARD,
    &worker_killed::HAZARD,
    &crash_loop::HAZARD,
    &unreaped_children::HAZARD,
    &lost_threads::HAZARD,
    &leaks::leaked_pipe::HAZARD,
    &leaks::pinned_listener::HAZARD,
    &leaks::nobody_accepts::HAZARD,
    &shared_event_loop::HAZARD,
    &lock_left_behind::HAZARD,
    &duplicated_random::HAZARD,
    &killed_member::abandoned_semaphore::HAZARD,
    &killed_member::lost_result::HAZARD,
    &killed_member::not_replaced::HAZARD,
    &shared_files::offset::HAZARD,
    &shared_files::database::HAZARD,
    &unflushed_output::HAZARD,
    &escaped_child::HAZARD,
    &worker_not_ready::HAZARD,
    &server_setup::HAZARD,
];

/// Every detector. They are called in this order: who tells of a hang comes before those that ask for it.
pub fn all() -> Vec<Box<dyn Detector>> {
    vec![
        Box::<multithreaded_fork::MultithreadedFork>::default(),
        Box::new(pending_signals::detector()),
        Box::<blocked_signals::BlockedSignals>::default(),
        Box::<orphaned_lock::OrphanedLock>::default(),
        Box::<shared_connection::SharedConnection>::default(),
        Box::new(worker_killed::WorkerKilled),
        Box::<crash_loop::CrashLoop>::default(),
        Box::<unreaped_children::UnreapedChildren>::default(),
        Box::<lost_threads::LostThreads>::default(),
        Box::<leaks::Leaks>::default(),
        Box::<held_locks::HeldLocks>::default(),
        Box::<shared_event_loop::SharedEventLoop>::default(),
        Box::<lock_left_behind::LockLeftBehind>::default(),
        Box::<duplicated_random::DuplicatedRandom>::default(),
        Box::<killed_member::KilledMember>::default(),
        Box::<leaks::KeptPipes>::default(),
        Box::new(unflushed_output::UnflushedOutput),
        Box::<shared_files::SharedFiles>::default(),
        Box::<escaped_child::EscapedChild>::default(),
        Box::<worker_not_ready::WorkerNotReady>::default(),
        Box::<server_setup::ServerSetup>::default(),
        Box::<lost_threads::FeltAbsence>::default(),
        Box::<lock_left_behind::KeptLocks>::default(),
        Box::<lost_threads::Backlog>::default(),
    ]
}

/// What is to be said of a hazard.
pub struct Hazard {
    /// Its id, which never changes: rules, metrics and events have it.
    pub id: HazardId,
    /// A few words.
    pub title: &'static str,
    /// What goes wrong.
    pub what: &'static str,
    /// What forkwatch looks at to find it, and what it takes to report it.
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
    /// What its detector finds, where it works fully.
    pub watches: &'static str,
    /// What its detector has to see of processes.
    pub sees: &'static [(Aspect, Wanted)],
    /// From which reach on, but for [`Reach::Hidden`], it works how far, and what that means.
    pub without_sight: Option<(Reach, DetectorState, &'static str)>,
    /// What the kernel side has to observe for it on demand, and how far it works without, and what that means.
    pub needs: &'static [(Observable, DetectorState, &'static str)],
    /// Whether its findings name threads, which rules of the operator may name then.
    pub knows_threads: bool,
    /// Whether its detector tells how many children hang now.
    pub tells_who_hangs: bool,
    /// How a finding may end; none where it is about something that has happened and is over.
    pub ends: &'static [Resolution],
}

/// How a finding ends that its child's end ends.
const WITH_CHILD: &[Resolution] = &[
    Resolution::Execed,
    Resolution::Exited,
    Resolution::AskedByParent,
    Resolution::AskedByOther,
    Resolution::Killed,
    Resolution::KilledByParent,
    Resolution::KilledByOther,
    Resolution::Ended,
];
/// The same, where the child may wake.
const WITH_CHILD_OR_AWAKE: &[Resolution] = &with_child_or(Resolution::Woke);
/// The same, where what was found may be so no longer.
const WITH_CHILD_OR_CLEARED: &[Resolution] = &with_child_or(Resolution::Cleared);

const fn with_child_or(other: Resolution) -> [Resolution; WITH_CHILD.len() + 1] {
    let mut ends = [other; WITH_CHILD.len() + 1];
    let (of_child, _) = ends.split_at_mut(WITH_CHILD.len());
    of_child.copy_from_slice(WITH_CHILD);
    ends
}

/// The hazard with this id, if there is one.
pub fn find(id: &str) -> Option<&'static Hazard> {
    CATALOGUE.iter().copied().find(|hazard| hazard.id.name() == id)
}

/// Whether a finding of this hazard names a process that had ended before it was found.
pub fn is_about_the_dead(id: &str) -> bool {
    [
        &worker_killed::HAZARD,
        &crash_loop::HAZARD,
        &unreaped_children::HAZARD,
        &killed_member::abandoned_semaphore::HAZARD,
        &killed_member::lost_result::HAZARD,
        &killed_member::not_replaced::HAZARD,
    ]
    .iter()
    .any(|hazard| hazard.id.name() == id)
}

/// The ids of all hazards.
pub fn ids() -> impl Iterator<Item = HazardId> {
    CATALOGUE.iter().copied().map(|hazard| hazard.id)
}

/// How findings may end, by the id of their hazard.
pub fn ends() -> impl Iterator<Item = (HazardId, &'static [Resolution])> {
    CATALOGUE.iter().map(|hazard| (hazard.id, hazard.ends))
}

/// Those of them of which it is told how many children hang now.
pub fn hangs() -> impl Iterator<Item = HazardId> {
    CATALOGUE.iter().copied().filter(|hazard| hazard.tells_who_hangs).map(|hazard| hazard.id)
}

/// A uid after a pid in brackets; nothing where it is not known.
fn uid_words(uid: Option<u32>) -> String {
    uid.map_or_else(String::new, |uid| format!(", uid {uid}"))
}

#[cfg(test)]
mod catalogue_tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_hazard_is_in_the_catalogue_once() {
        let names: BTreeSet<&str> = ids().map(HazardId::name).collect();
        assert_eq!(names.len(), CATALOGUE.len());
        assert!(names.iter().all(|name| find(name).is_some_and(|hazard| hazard.id.name() == *name)));
    }

    #[test]
    fn every_hazard_has_its_words() {
        for hazard in CATALOGUE {
            let Hazard { title, what, detection, certainty_reason, look_alikes, links, watches, .. } = hazard;
            let words = [*title, *what, *detection, *certainty_reason, *watches];
            let words: Vec<&str> =
                words.into_iter().chain(look_alikes.iter().chain(*links).copied()).collect();
            let name = hazard.id.name();
            assert!(words.iter().all(|words| !words.is_empty() && !words.starts_with("To be")), "{name}");
            assert!(
                !look_alikes.is_empty() && !links.is_empty() && !(hazard.remedies)().is_empty(),
                "{name}"
            );
        }
    }
}
