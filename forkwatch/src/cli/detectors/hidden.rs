//! What becomes of a detector where the host hides what it has to see.

use crate::{
    host::sight::{Aspect, Sight, View},
    model::{detector::DetectorState, finding::HazardId},
};

/// Of which processes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wanted {
    /// Of those that it judges: it judges the others.
    Each,
    /// Of every process of the host but init, or else it concludes nothing.
    AllButInit,
    /// Of every process of the host, or else it concludes nothing.
    All,
    /// Of those that it judges, and without it does so less well.
    Helps,
}

/// What a hazard's detector has to see of processes.
const fn wants(hazard: HazardId) -> &'static [(Aspect, Wanted)] {
    match hazard {
        // Without the last, nothing is certain.
        HazardId::OrphanedLock | HazardId::WorkerKilledWhileStuck => {
            &[(Aspect::Calls, Wanted::Each), (Aspect::Memory, Wanted::Each), (Aspect::Sharing, Wanted::Helps)]
        }
        // Tables in /proc show the peers of TCP too.
        HazardId::SharedConnection | HazardId::SharedConnectionClosed => {
            &[(Aspect::Descriptors, Wanted::Each), (Aspect::Sockets, Wanted::Helps)]
        }
        HazardId::LeakedPipe => {
            &[(Aspect::Descriptors, Wanted::AllButInit), (Aspect::Calls, Wanted::AllButInit)]
        }
        HazardId::PinnedListener => &[
            (Aspect::Descriptors, Wanted::All),
            (Aspect::Details, Wanted::All),
            (Aspect::Calls, Wanted::All),
        ],
        HazardId::MultithreadedFork | HazardId::PendingSignals => &[(Aspect::Executable, Wanted::Helps)],
        HazardId::BlockedSignals => &[(Aspect::Details, Wanted::Helps)],
        HazardId::LostThreads => &[(Aspect::Traffic, Wanted::Helps)],
        HazardId::CrashLoop | HazardId::UnreapedChildren => &[],
    }
}

/// What this host hides of that which a hazard's detector has to see.
pub(super) fn hides(hazard: HazardId, sight: &Sight) -> Option<(DetectorState, String)> {
    let wants = wants(hazard);
    let searches = wants.iter().any(|(_, scope)| matches!(scope, Wanted::All | Wanted::AllButInit));
    if searches && sight.hides_processes {
        let why = "/proc does not list every process here: who else holds a pipe or socket stays unknown, and nothing \
                   is reported";
        return Some((DetectorState::Undecided, why.to_owned()));
    }
    let hides = |(aspect, scope): &(Aspect, Wanted)| {
        let counts = |view: &&View| view.tgid != 1 || *scope == Wanted::All;
        hides_aspect(*aspect, *scope, sight.views.iter().filter(counts))
    };
    // Of equals the first.
    wants.iter().filter_map(hides).reduce(|most, next| if next.0 > most.0 { next } else { most })
}

fn hides_aspect<'a>(
    aspect: Aspect,
    scope: Wanted,
    mut views: impl Iterator<Item = &'a View> + Clone,
) -> Option<(DetectorState, String)> {
    let seen = views.clone().any(|view| view.seen.contains(&aspect));
    let own_refused = views.clone().any(|view| view.own && view.refusal(aspect).is_some());
    let (refused, why) = views.find_map(|view| Some((view, view.refusal(aspect)?)))?;
    let what = aspect.words();
    let example = format!("{what} of process {} cannot be seen here ({why})", refused.tgid);
    Some(match scope {
        Wanted::All | Wanted::AllButInit => (
            DetectorState::Undecided,
            format!(
                "{example}: it may hold any pipe or socket, so that nothing can be concluded, nor is reported"
            ),
        ),
        Wanted::Helps => {
            (DetectorState::Limited, format!("{example}: such processes are judged without them"))
        }
        // Of others' processes nothing is seen, and none of one's own was there to be tried.
        Wanted::Each if seen || !own_refused => {
            (DetectorState::Limited, format!("{example}: such processes are not judged"))
        }
        Wanted::Each => (
            DetectorState::Undecided,
            format!("{example}, nor of any other that was tried: nothing is judged, nor reported"),
        ),
    })
}
