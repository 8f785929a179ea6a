//! Which detectors work here: what `doctor` shows and the daemon's metrics export.

use serde::Serialize;

use crate::{
    host::mounts,
    kernel::{Hooks, clone_calls::Hook},
    model::finding::HazardId,
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

/// Whether a detector works.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum State {
    /// Fully.
    On,
    /// With restrictions.
    Limited,
    /// Not at all: its silence says nothing.
    Off,
}

/// A detector, and how far it works here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Detector {
    /// Its name: the hazard's, or `clone-calls`.
    pub(super) name: &'static str,
    /// Whether it works.
    pub(super) state: State,
    /// Why, and what that means.
    pub(super) reason: String,
}

impl Detector {
    /// The value of `forkwatch_detector_enabled{detector}`.
    pub(super) fn is_enabled(&self) -> bool {
        self.state != State::Off
    }
}

/// Every detector.
pub(super) fn detectors(conditions: &Conditions) -> Vec<Detector> {
    let Conditions { stopped, clone_calls, hooks, sight } = conditions;
    let hazards = HazardId::ALL.into_iter().map(|hazard| {
        let lacks = hooks.as_ref().and_then(|hooks| lacks(hazard, hooks));
        let (state, reason) = match (stopped, lacks, of_hazard(hazard, *sight)) {
            (Some(why), _, _) => (State::Off, why.clone()),
            (None, Some(lack), (State::On, _)) => lack,
            (None, Some((State::Off, why)), _) => (State::Off, why),
            (None, _, (state, reason)) => (state, reason.to_owned()),
        };
        Detector { name: hazard.name(), state, reason }
    });
    let (state, reason) = match (stopped, clone_calls) {
        (Some(why), _) | (None, Err(why)) => (State::Off, why.clone()),
        (None, Ok(hook)) => (State::On, format!("by {}", hook.describe())),
    };
    hazards.chain([Detector { name: "clone-calls", state, reason }]).collect()
}

/// What this kernel lacks for a hazard that is watched on demand.
fn lacks(hazard: HazardId, hooks: &Hooks) -> Option<(State, String)> {
    let Hooks { families, signals, sockets, tcp_shutdown, unix_shutdown } = hooks;
    match hazard {
        HazardId::SharedConnection | HazardId::SharedConnectionClosed if sockets.is_err() => {
            let why = sockets.as_ref().err().map(ToString::to_string).unwrap_or_default();
            Some((State::Off, format!("the use of a connection cannot be watched: {why}")))
        }
        HazardId::SharedConnectionClosed => {
            let missing = [("TCP", tcp_shutdown), ("Unix", unix_shutdown)]
                .into_iter()
                .filter_map(|(kind, hook)| Some(format!("{kind}: {}", hook.as_ref().err()?)));
            let missing: Vec<String> = missing.collect();
            let why = format!("farewells are seen, but not every shutdown(2). {}", missing.join("; "));
            (!missing.is_empty()).then_some((State::Limited, why))
        }
        HazardId::CrashLoop => {
            let why = families.as_ref().err()?;
            let what = "jobs that fail may be taken for workers that die";
            Some((State::Limited, format!("good ends of children cannot be watched ({why}): {what}")))
        }
        HazardId::WorkerKilledWhileStuck => {
            let why = signals.as_ref().err()?;
            Some((State::Off, format!("who sends a signal cannot be watched: {why}")))
        }
        _ => None,
    }
}

fn of_hazard(hazard: HazardId, sight: Sight) -> (State, &'static str) {
    match (sight, hazard) {
        (Sight::Full | Sight::Programs, HazardId::MultithreadedFork) => {
            (State::On, "forks of processes with threads whose child lives on without exec")
        }
        (Sight::Full | Sight::Programs, HazardId::PendingSignals) => {
            (State::On, "forks with signals pending and blocked whose child lives on without exec")
        }
        (Sight::Full, HazardId::BlockedSignals) => (State::On, "programs that start with signals blocked"),
        (Sight::Full, HazardId::OrphanedLock) => {
            (State::On, "forked children that wait for a lock which nobody in them can release")
        }
        (Sight::Full, HazardId::SharedConnection) => {
            (State::On, "connections from before a fork that two processes use")
        }
        (Sight::Full, HazardId::SharedConnectionClosed) => {
            (State::On, "children that say goodbye on their parent's connection")
        }
        (
            Sight::Programs | Sight::Partial,
            HazardId::OrphanedLock | HazardId::SharedConnection | HazardId::SharedConnectionClosed,
        ) => (
            State::Limited,
            "without CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH the memory and the descriptors of other users' processes \
             cannot be read: only one's own are judged",
        ),
        (Sight::Full | Sight::Programs | Sight::Partial, HazardId::CrashLoop) => {
            (State::On, "forked children that keep dying and being replaced")
        }
        (Sight::Full | Sight::Programs | Sight::Partial, HazardId::UnreapedChildren) => {
            (State::On, "children that have ended and that their parent does not wait for")
        }
        (Sight::Full | Sight::Programs | Sight::Partial, HazardId::WorkerKilledWhileStuck) => {
            (State::On, "children that were killed while they waited for a lock that nobody releases")
        }
        (Sight::Full, HazardId::LostThreads) => {
            (State::On, "background threads of known libraries that the parent has and the child lacks")
        }
        (Sight::Programs | Sight::Partial, HazardId::LostThreads) => (
            State::Limited,
            "without CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH the reads and writes of other users' processes are not \
             seen: whether a child has worked is told by its CPU time alone",
        ),
        (Sight::Full, HazardId::LeakedPipe) => {
            (State::On, "forked children that wait on a pipe whose other end only they hold")
        }
        (Sight::Full, HazardId::PinnedListener) => {
            (State::On, "forked children that keep a listening socket and do not accept")
        }
        (Sight::Programs | Sight::Partial, HazardId::LeakedPipe | HazardId::PinnedListener) => (
            State::Limited,
            "without CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH the descriptors of other users' processes are hidden: who \
             else holds a pipe or socket stays unknown, and nothing is reported",
        ),
        (Sight::Partial, HazardId::MultithreadedFork | HazardId::PendingSignals) => (
            State::Limited,
            "without CAP_SYS_PTRACE the executables of other users' processes stay unknown: their programs are \
             named by their command lines",
        ),
        (Sight::Programs | Sight::Partial, HazardId::BlockedSignals) => (
            State::Limited,
            "without CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH it is not seen which blocked signals other users' \
             programs take in through signalfd: those are reported too",
        ),
        (Sight::Hidden, _) => (
            State::Limited,
            "/proc is mounted with hidepid, and CAP_SYS_PTRACE is missing: other users' processes are hidden, and \
             not judged",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::{NoHook, SignalHook, SocketHook};

    fn states(conditions: &Conditions) -> Vec<(&'static str, State)> {
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
            detectors(&stopped).iter().all(|detector| !detector.is_enabled() && detector.reason == "no BTF")
        );
    }

    #[test]
    fn what_cannot_be_seen_limits_the_hazards_alone() {
        for sight in [Sight::Programs, Sight::Partial, Sight::Hidden] {
            let limited = Conditions { clone_calls: Ok(Hook::Fexit), ..conditions(sight) };
            let found = states(&limited);
            let limited = found.iter().filter(|(_, state)| *state == State::Limited).count();
            assert!(found.iter().all(|(_, state)| *state != State::Off), "{found:?}");
            assert_eq!(limited == HazardId::ALL.len(), sight == Sight::Hidden, "{found:?}");
            assert_eq!(found.last(), Some(&("clone-calls", State::On)));
        }
    }

    #[test]
    fn what_the_kernel_lacks_switches_off_what_needs_it() {
        let absent = || NoHook::Absent("tracepoint".to_owned());
        let all = Hooks {
            families: Ok(()),
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
        assert_eq!(state(all.clone(), closed), State::On);
        assert_eq!(state(Hooks { unix_shutdown: Err(absent()), ..all.clone() }, closed), State::Limited);
        let no_sockets = Hooks { sockets: Err(absent()), ..all.clone() };
        for hazard in [HazardId::SharedConnection, closed] {
            assert_eq!(state(no_sockets.clone(), hazard), State::Off);
        }
        assert_eq!(state(no_sockets, HazardId::OrphanedLock), State::On);
        let no_signals = Hooks { signals: Err(absent()), ..all.clone() };
        assert_eq!(state(no_signals, HazardId::WorkerKilledWhileStuck), State::Off);
        let no_families = Hooks { families: Err(absent()), ..all };
        assert_eq!(state(no_families, HazardId::CrashLoop), State::Limited);
    }

    #[test]
    fn what_was_tried_and_came_out_wrong_is_off_with_what_was_seen() {
        let untrue = NoHook::Untrue("the sender of a signal was reported as 0, and is 7".to_owned());
        let hooks = Hooks {
            families: Ok(()),
            signals: Err(untrue),
            sockets: Ok(SocketHook::Tracepoints),
            tcp_shutdown: Ok(()),
            unix_shutdown: Ok(()),
        };
        let conditions = Conditions { hooks: Some(hooks), ..conditions(Sight::Full) };
        let found = detectors(&conditions);
        let off: Vec<_> = found.iter().filter(|detector| !detector.is_enabled()).collect();
        let names: Vec<&str> = off.iter().map(|detector| detector.name).collect();
        assert_eq!(names, ["worker-killed-while-stuck", "clone-calls"]);
        assert!(
            off.iter().any(|detector| detector.reason.contains("tried at the start")
                && detector.reason.contains("as 0, and is 7")),
            "{off:?}"
        );
    }
}
