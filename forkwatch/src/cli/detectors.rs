//! Which detectors work here: what `doctor` shows and the daemon's metrics export.

use serde::Serialize;

use crate::{
    host::mounts,
    kernel::{Hooks, clone_calls::Hook},
    model::{detector::DetectorState, finding::HazardId},
    privilege,
};

/// What detectors depend on.
#[derive(Clone, Debug)]
pub(super) struct Conditions {
    /// Why the kernel side does not run, where it does not.
    stopped: Option<String>,
    /// How clone calls are watched, or why they are not.
    clone_calls: Result<Hook, String>,
    /// What can be watched on demand; absent where the kernel side does not run.
    hooks: Option<Hooks>,
    sight: Sight,
}

/// What can be seen of other users' processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sight {
    /// Everything.
    Full,
    /// Their executables, but not their memory and file descriptors: `CAP_DAC_READ_SEARCH` is missing.
    Programs,
    /// Not even those: `CAP_SYS_PTRACE` is missing.
    Partial,
    /// Nothing: `/proc` hides them besides.
    Hidden,
}

impl Conditions {
    /// Those of this host and this thread. `stopped` says why the kernel side does not run, where it does not;
    /// `clone_calls` how the clone family's calls are watched, or why they are not; `hooks` what can be on demand.
    pub(super) fn here(
        stopped: Option<String>,
        clone_calls: Result<Hook, String>,
        hooks: Option<Hooks>,
    ) -> Self {
        let sight = if privilege::missing_for_others().is_ok_and(|missing| missing.is_empty()) {
            Sight::Full
        } else if privilege::have_ptrace().unwrap_or(false) {
            Sight::Programs
        } else if mounts::mounts().is_ok_and(|mounts| mounts.hidepid.is_some()) {
            Sight::Hidden
        } else {
            Sight::Partial
        };
        Self { stopped, clone_calls, hooks, sight }
    }
}

/// A detector, and how far it works here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Detector {
    /// Its name: the hazard's, or `clone-calls`.
    pub(super) name: &'static str,
    /// Whether it works.
    pub(super) state: DetectorState,
    /// Why, and what that means.
    pub(super) reason: String,
    /// Whether it asks about processes, and does not rest on what comes through the ring alone.
    #[serde(skip)]
    pub(super) asks: bool,
}

/// Every detector.
pub(super) fn detectors(conditions: &Conditions) -> Vec<Detector> {
    let Conditions { stopped, clone_calls, hooks, sight } = conditions;
    let hazards = HazardId::ALL.into_iter().map(|hazard| {
        let lacks = hooks.as_ref().and_then(|hooks| lacks(hazard, hooks));
        let (state, reason) = match (stopped, lacks, of_hazard(hazard, *sight)) {
            (Some(why), _, _) => (DetectorState::Off, why.clone()),
            (None, Some(lack), (DetectorState::On, _)) => lack,
            (None, Some((DetectorState::Off, why)), _) => (DetectorState::Off, why),
            (None, _, (state, reason)) => (state, reason.to_owned()),
        };
        Detector { name: hazard.name(), state, reason, asks: true }
    });
    let (state, reason) = match (stopped, clone_calls) {
        (Some(why), _) | (None, Err(why)) => (DetectorState::Off, why.clone()),
        (None, Ok(hook)) => (DetectorState::On, format!("by {}", hook.describe())),
    };
    hazards.chain([Detector { name: "clone-calls", state, reason, asks: false }]).collect()
}

/// What this kernel lacks for a hazard that is watched on demand.
fn lacks(hazard: HazardId, hooks: &Hooks) -> Option<(DetectorState, String)> {
    let Hooks { signals, sockets, tcp_shutdown, unix_shutdown } = hooks;
    match hazard {
        HazardId::SharedConnection | HazardId::SharedConnectionClosed if sockets.is_err() => {
            let why = sockets.as_ref().err().map(ToString::to_string).unwrap_or_default();
            Some((DetectorState::Off, format!("the use of a connection cannot be watched: {why}")))
        }
        HazardId::SharedConnectionClosed => {
            let missing = [("TCP", tcp_shutdown), ("Unix", unix_shutdown)]
                .into_iter()
                .filter_map(|(kind, hook)| Some(format!("{kind}: {}", hook.as_ref().err()?)));
            let missing: Vec<String> = missing.collect();
            let why = format!("farewells are seen, but not every shutdown(2). {}", missing.join("; "));
            (!missing.is_empty()).then_some((DetectorState::Limited, why))
        }
        HazardId::WorkerKilledWhileStuck => {
            let why = signals.as_ref().err()?;
            Some((DetectorState::Off, format!("who sends a signal cannot be watched: {why}")))
        }
        _ => None,
    }
}

fn of_hazard(hazard: HazardId, sight: Sight) -> (DetectorState, &'static str) {
    match (sight, hazard) {
        (Sight::Full | Sight::Programs, HazardId::MultithreadedFork) => {
            (DetectorState::On, "forks of processes with threads whose child lives on without exec")
        }
        (Sight::Full | Sight::Programs, HazardId::PendingSignals) => {
            (DetectorState::On, "forks with signals pending and blocked whose child lives on without exec")
        }
        (Sight::Full, HazardId::BlockedSignals) => {
            (DetectorState::On, "programs that start with signals blocked")
        }
        (Sight::Full, HazardId::OrphanedLock) => {
            (DetectorState::On, "forked children that wait for a lock which nobody in them can release")
        }
        (Sight::Full, HazardId::SharedConnection) => {
            (DetectorState::On, "connections from before a fork that two processes use")
        }
        (Sight::Full, HazardId::SharedConnectionClosed) => {
            (DetectorState::On, "children that say goodbye on their parent's connection")
        }
        (
            Sight::Programs | Sight::Partial,
            HazardId::OrphanedLock | HazardId::SharedConnection | HazardId::SharedConnectionClosed,
        ) => (
            DetectorState::Limited,
            "without CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH the memory and the descriptors of other users' processes \
             cannot be read: only one's own are judged",
        ),
        (Sight::Full | Sight::Programs | Sight::Partial, HazardId::CrashLoop) => {
            (DetectorState::On, "forked children that keep dying and being replaced")
        }
        (Sight::Full | Sight::Programs | Sight::Partial, HazardId::UnreapedChildren) => {
            (DetectorState::On, "children that have ended and that their parent does not wait for")
        }
        (Sight::Full | Sight::Programs | Sight::Partial, HazardId::WorkerKilledWhileStuck) => {
            (DetectorState::On, "children that were killed while they waited for a lock that nobody releases")
        }
        (Sight::Full, HazardId::LostThreads) => (
            DetectorState::On,
            "background threads of known libraries that the parent has and the child lacks",
        ),
        (Sight::Programs | Sight::Partial, HazardId::LostThreads) => (
            DetectorState::Limited,
            "without CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH the reads and writes of other users' processes are not \
             seen: whether a child has worked is told by its CPU time alone",
        ),
        (Sight::Full, HazardId::LeakedPipe) => {
            (DetectorState::On, "forked children that wait on a pipe whose other end only they hold")
        }
        (Sight::Full, HazardId::PinnedListener) => {
            (DetectorState::On, "forked children that keep a listening socket and do not accept")
        }
        (Sight::Programs | Sight::Partial, HazardId::LeakedPipe | HazardId::PinnedListener) => (
            DetectorState::Limited,
            "without CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH the descriptors of other users' processes are hidden: who \
             else holds a pipe or socket stays unknown, and nothing is reported",
        ),
        (Sight::Partial, HazardId::MultithreadedFork | HazardId::PendingSignals) => (
            DetectorState::Limited,
            "without CAP_SYS_PTRACE the executables of other users' processes stay unknown: their programs are \
             named by their command lines",
        ),
        (Sight::Programs | Sight::Partial, HazardId::BlockedSignals) => (
            DetectorState::Limited,
            "without CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH it is not seen which blocked signals other users' \
             programs take in through signalfd: those are reported too",
        ),
        (Sight::Hidden, _) => (
            DetectorState::Limited,
            "/proc is mounted with hidepid, and CAP_SYS_PTRACE is missing: other users' processes are hidden, and \
             not judged",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::{NoHook, SignalHook, SocketHook};

    fn states(conditions: &Conditions) -> Vec<(&'static str, DetectorState)> {
        detectors(conditions).iter().map(|detector| (detector.name, detector.state)).collect()
    }

    fn conditions(sight: Sight) -> Conditions {
        Conditions { stopped: None, clone_calls: Err("not asked for".to_owned()), hooks: None, sight }
    }

    #[test]
    fn every_hazard_has_a_detector_and_clone_calls_too() {
        let names: Vec<&str> = states(&conditions(Sight::Full)).iter().map(|(name, _)| *name).collect();
        let expected: Vec<&str> =
            HazardId::ALL.into_iter().map(HazardId::name).chain(["clone-calls"]).collect();
        assert_eq!(names, expected);
    }

    #[test]
    fn nothing_works_where_the_kernel_side_does_not_run() {
        let stopped = Conditions { stopped: Some("no BTF".to_owned()), ..conditions(Sight::Full) };
        assert!(
            detectors(&stopped).iter().all(|detector| !detector.state.works() && detector.reason == "no BTF")
        );
    }

    #[test]
    fn what_cannot_be_seen_limits_the_hazards_alone() {
        for sight in [Sight::Programs, Sight::Partial, Sight::Hidden] {
            let limited = Conditions { clone_calls: Ok(Hook::Fexit), ..conditions(sight) };
            let found = states(&limited);
            let limited = found.iter().filter(|(_, state)| *state == DetectorState::Limited).count();
            assert!(found.iter().all(|(_, state)| *state != DetectorState::Off), "{found:?}");
            assert_eq!(limited == HazardId::ALL.len(), sight == Sight::Hidden, "{found:?}");
            assert_eq!(found.last(), Some(&("clone-calls", DetectorState::On)));
        }
    }

    #[test]
    fn what_the_kernel_lacks_switches_off_what_needs_it() {
        let absent = || NoHook::Absent("tracepoint".to_owned());
        let all = Hooks {
            signals: Ok(SignalHook::Copy),
            sockets: Ok(SocketHook::Tracepoints),
            tcp_shutdown: Ok(()),
            unix_shutdown: Ok(()),
        };
        let state = |hooks: Hooks, hazard: HazardId| {
            let conditions = Conditions { hooks: Some(hooks), ..conditions(Sight::Full) };
            let found = detectors(&conditions);
            found.into_iter().find(|detector| detector.name == hazard.name()).unwrap().state
        };
        let closed = HazardId::SharedConnectionClosed;
        assert_eq!(state(all.clone(), closed), DetectorState::On);
        assert_eq!(
            state(Hooks { unix_shutdown: Err(absent()), ..all.clone() }, closed),
            DetectorState::Limited
        );
        let no_sockets = Hooks { sockets: Err(absent()), ..all.clone() };
        for hazard in [HazardId::SharedConnection, closed] {
            assert_eq!(state(no_sockets.clone(), hazard), DetectorState::Off);
        }
        assert_eq!(state(no_sockets, HazardId::OrphanedLock), DetectorState::On);
        let no_signals = Hooks { signals: Err(absent()), ..all };
        assert_eq!(state(no_signals, HazardId::WorkerKilledWhileStuck), DetectorState::Off);
    }
}
