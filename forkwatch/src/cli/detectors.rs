//! Which detectors work here: what `doctor` shows and the daemon's metrics export.

mod hidden;

use caps::Capability;
use serde::Serialize;

use self::hidden::hides;
use crate::{
    host::{mounts, sight::Sight},
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
    reach: Reach,
    /// What could be seen of some processes.
    sight: Sight,
}

/// What the capabilities let be seen of other users' processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reach {
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
    /// `clone_calls` how the clone family's calls are watched, or why they are not; `hooks` what can be on demand; `missing`
    /// the capabilities that a look into others' processes lacks; `sight` what could be seen of some processes.
    pub(super) fn here(
        stopped: Option<String>,
        clone_calls: Result<Hook, String>,
        hooks: Option<Hooks>,
        missing: &[Capability],
        sight: Sight,
    ) -> Self {
        let reach = if missing.is_empty() {
            Reach::Full
        } else if !missing.contains(&privilege::PTRACE) {
            Reach::Programs
        } else if mounts::mounts().is_ok_and(|mounts| mounts.hidepid.is_some()) {
            Reach::Hidden
        } else {
            Reach::Partial
        };
        Self { stopped, clone_calls, hooks, reach, sight }
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
    let Conditions { stopped, clone_calls, hooks, reach, sight } = conditions;
    let hazards = HazardId::ALL.into_iter().map(|hazard| {
        let lacks = hooks.as_ref().and_then(|hooks| lacks(hazard, hooks));
        let (state, reason) = of_hazard(hazard, *reach);
        let (state, reason) = match stopped {
            Some(why) => (DetectorState::Off, why.clone()),
            // What restricts it most is told; of equals, what the capabilities say.
            None => [Some((state, reason.to_owned())), hides(hazard, sight), lacks]
                .into_iter()
                .flatten()
                .reduce(|most, next| if next.0 > most.0 { next } else { most })
                .unwrap_or((state, String::new())),
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
    let Hooks { families, signals, sockets, tcp_shutdown, unix_shutdown } = hooks;
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
        HazardId::CrashLoop => {
            let why = families.as_ref().err()?;
            let what = "jobs that fail may be taken for workers that die";
            Some((DetectorState::Limited, format!("good ends of children cannot be watched ({why}): {what}")))
        }
        HazardId::WorkerKilledWhileStuck => {
            let why = signals.as_ref().err()?;
            Some((DetectorState::Off, format!("who sends a signal cannot be watched: {why}")))
        }
        _ => None,
    }
}

fn of_hazard(hazard: HazardId, reach: Reach) -> (DetectorState, &'static str) {
    match (reach, hazard) {
        (Reach::Full | Reach::Programs, HazardId::MultithreadedFork) => {
            (DetectorState::On, "forks of processes with threads whose child lives on without exec")
        }
        (Reach::Full | Reach::Programs, HazardId::PendingSignals) => {
            (DetectorState::On, "forks with signals pending and blocked whose child lives on without exec")
        }
        (Reach::Full, HazardId::BlockedSignals) => {
            (DetectorState::On, "programs that start with signals blocked")
        }
        (Reach::Full, HazardId::OrphanedLock) => {
            (DetectorState::On, "forked children that wait for a lock which nobody in them can release")
        }
        (Reach::Full, HazardId::SharedConnection) => {
            (DetectorState::On, "connections from before a fork that two processes use")
        }
        (Reach::Full, HazardId::SharedConnectionClosed) => {
            (DetectorState::On, "children that say goodbye on their parent's connection")
        }
        (
            Reach::Programs | Reach::Partial,
            HazardId::OrphanedLock | HazardId::SharedConnection | HazardId::SharedConnectionClosed,
        ) => (
            DetectorState::Limited,
            "without CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH the memory and the descriptors of other users' processes \
             cannot be read: only one's own are judged",
        ),
        (Reach::Full | Reach::Programs | Reach::Partial, HazardId::CrashLoop) => {
            (DetectorState::On, "forked children that keep dying and being replaced")
        }
        (Reach::Full | Reach::Programs | Reach::Partial, HazardId::UnreapedChildren) => {
            (DetectorState::On, "children that have ended and that their parent does not wait for")
        }
        (Reach::Full, HazardId::WorkerKilledWhileStuck) => {
            (DetectorState::On, "children that were killed while they waited for a lock that nobody releases")
        }
        (Reach::Programs | Reach::Partial, HazardId::WorkerKilledWhileStuck) => (
            DetectorState::Limited,
            "without CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH it is not seen whether other users' processes waited for a \
             lock when they were killed: only one's own are judged",
        ),
        (Reach::Full, HazardId::LostThreads) => (
            DetectorState::On,
            "background threads of known libraries that the parent has and the child lacks",
        ),
        (Reach::Programs | Reach::Partial, HazardId::LostThreads) => (
            DetectorState::Limited,
            "without CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH the reads and writes of other users' processes are not \
             seen: whether a child has worked is told by its CPU time alone",
        ),
        (Reach::Full, HazardId::LeakedPipe) => {
            (DetectorState::On, "forked children that wait on a pipe whose other end only they hold")
        }
        (Reach::Full, HazardId::PinnedListener) => {
            (DetectorState::On, "forked children that keep a listening socket and do not accept")
        }
        (
            Reach::Programs | Reach::Partial | Reach::Hidden,
            HazardId::LeakedPipe | HazardId::PinnedListener,
        ) => (
            DetectorState::Undecided,
            "without CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH the descriptors of other users' processes are hidden: who \
             else holds a pipe or socket stays unknown, and nothing is reported",
        ),
        (Reach::Partial, HazardId::MultithreadedFork | HazardId::PendingSignals) => (
            DetectorState::Limited,
            "without CAP_SYS_PTRACE the executables of other users' processes stay unknown: their programs are \
             named by their command lines",
        ),
        (Reach::Programs | Reach::Partial, HazardId::BlockedSignals) => (
            DetectorState::Limited,
            "without CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH it is not seen which blocked signals other users' \
             programs take in through signalfd: those are reported too",
        ),
        (Reach::Hidden, _) => (
            DetectorState::Limited,
            "/proc is mounted with hidepid, and CAP_SYS_PTRACE is missing: other users' processes are hidden, and \
             not judged",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::sight::{Aspect, View};
    use crate::kernel::{NoHook, SignalHook, SocketHook};

    fn states(conditions: &Conditions) -> Vec<(&'static str, DetectorState)> {
        detectors(conditions).iter().map(|detector| (detector.name, detector.state)).collect()
    }

    fn conditions(reach: Reach) -> Conditions {
        let clone_calls = Err("not asked for".to_owned());
        Conditions { stopped: None, clone_calls, hooks: None, reach, sight: Sight::default() }
    }

    /// A process of which everything is seen but this.
    fn view(tgid: u32, own: bool, refused: &[Aspect]) -> View {
        let seen = Aspect::ALL.into_iter().filter(|aspect| !refused.contains(aspect)).collect();
        let refused = refused.iter().map(|aspect| (*aspect, "Permission denied".to_owned())).collect();
        View { tgid, own, seen, refused }
    }

    /// The states of all that are not on, where these processes were tried.
    fn limits(views: Vec<View>) -> Vec<(&'static str, &'static str)> {
        let sight = Sight { hides_processes: false, views };
        let found = detectors(&Conditions { sight, clone_calls: Ok(Hook::Fexit), ..conditions(Reach::Full) });
        found
            .iter()
            .filter(|detector| detector.state != DetectorState::On)
            .map(|detector| (detector.name, detector.state.name()))
            .collect()
    }

    #[test]
    fn where_all_is_seen_all_is_on() {
        assert_eq!(limits(vec![view(1, true, &[]), view(800, false, &[])]), []);
        assert_eq!(limits(Vec::new()), []);
    }

    #[test]
    fn an_init_that_hides_its_descriptors_leaves_the_search_for_listeners_undecided() {
        let init = view(1, true, &Aspect::ALL);
        let expected = [("pinned-listener", "undecided")];
        assert_eq!(limits(vec![init.clone(), view(800, true, &[])]), expected);
        let sight = Sight { hides_processes: false, views: vec![init] };
        let found = detectors(&Conditions { sight, ..conditions(Reach::Full) });
        let pinned = found.iter().find(|detector| detector.name == "pinned-listener").unwrap();
        assert!(!pinned.state.works());
        assert!(
            pinned.reason.starts_with("the descriptors of process 1 cannot be seen here"),
            "{}",
            pinned.reason
        );
    }

    #[test]
    fn a_process_that_hides_leaves_both_searches_undecided() {
        let expected = [
            ("shared-connection", "limited"),
            ("shared-connection-closed", "limited"),
            ("leaked-pipe", "undecided"),
            ("pinned-listener", "undecided"),
        ];
        let views = vec![view(1, true, &[]), view(800, true, &[]), view(801, false, &[Aspect::Descriptors])];
        assert_eq!(limits(views), expected);
    }

    /// Yama's `ptrace_scope` 3, for one, which stops root too.
    #[test]
    fn a_host_that_lets_nobody_look_into_memory_leaves_locks_undecided() {
        let hidden = [Aspect::Calls, Aspect::Memory, Aspect::Sockets];
        let expected = [
            ("orphaned-lock", "undecided"),
            ("shared-connection", "limited"),
            ("shared-connection-closed", "limited"),
            ("worker-killed-while-stuck", "undecided"),
            ("leaked-pipe", "undecided"),
            ("pinned-listener", "undecided"),
        ];
        assert_eq!(limits(vec![view(1, true, &hidden), view(800, true, &hidden)]), expected);
        // Where others' alone are hidden, one's own are judged.
        let found =
            limits(vec![view(1, false, &[]), view(800, false, &[Aspect::Memory]), view(801, true, &[])]);
        assert_eq!(found, [("orphaned-lock", "limited"), ("worker-killed-while-stuck", "limited")]);
        // Of one's own none was there to be tried.
        assert_eq!(limits(vec![view(800, false, &[Aspect::Memory])]), found);
    }

    #[test]
    fn what_only_helps_limits() {
        let found = limits(vec![view(800, false, &[Aspect::Executable, Aspect::Traffic])]);
        let limited = ["multithreaded-fork", "pending-signals", "lost-threads"];
        assert_eq!(found, limited.map(|name| (name, "limited")));
        let found = limits(vec![view(800, false, &[Aspect::Sharing])]);
        assert_eq!(found, [("orphaned-lock", "limited"), ("worker-killed-while-stuck", "limited")]);
        let found = limits(vec![view(800, false, &[Aspect::Details])]);
        assert_eq!(found, [("blocked-signals", "limited"), ("pinned-listener", "undecided")]);
    }

    #[test]
    fn processes_that_are_not_listed_leave_both_searches_undecided() {
        let sight = Sight { hides_processes: true, views: Vec::new() };
        let found = detectors(&Conditions { sight, ..conditions(Reach::Full) });
        let undecided = found.iter().filter(|detector| detector.state == DetectorState::Undecided);
        let names: Vec<&str> = undecided.map(|detector| detector.name).collect();
        assert_eq!(names, ["leaked-pipe", "pinned-listener"]);
    }

    #[test]
    fn every_hazard_has_a_detector_and_clone_calls_too() {
        let names: Vec<&str> = states(&conditions(Reach::Full)).iter().map(|(name, _)| *name).collect();
        let expected: Vec<&str> =
            HazardId::ALL.into_iter().map(HazardId::name).chain(["clone-calls"]).collect();
        assert_eq!(names, expected);
    }

    #[test]
    fn nothing_works_where_the_kernel_side_does_not_run() {
        let stopped = Conditions { stopped: Some("no BTF".to_owned()), ..conditions(Reach::Full) };
        assert!(
            detectors(&stopped).iter().all(|detector| !detector.state.works() && detector.reason == "no BTF")
        );
    }

    #[test]
    fn what_cannot_be_seen_limits_the_hazards_alone() {
        for reach in [Reach::Programs, Reach::Partial, Reach::Hidden] {
            let limited = Conditions { clone_calls: Ok(Hook::Fexit), ..conditions(reach) };
            let found = states(&limited);
            let less = [DetectorState::Limited, DetectorState::Undecided];
            let limited = found.iter().filter(|(_, state)| less.contains(state)).count();
            let undecided: Vec<&str> = found
                .iter()
                .filter(|(_, state)| *state == DetectorState::Undecided)
                .map(|(name, _)| *name)
                .collect();
            assert_eq!(undecided, ["leaked-pipe", "pinned-listener"]);
            assert!(found.iter().all(|(_, state)| *state != DetectorState::Off), "{found:?}");
            assert_eq!(limited == HazardId::ALL.len(), reach == Reach::Hidden, "{found:?}");
            assert_eq!(found.last(), Some(&("clone-calls", DetectorState::On)));
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
            let conditions = Conditions { hooks: Some(hooks), ..conditions(Reach::Full) };
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
        let no_signals = Hooks { signals: Err(absent()), ..all.clone() };
        assert_eq!(state(no_signals, HazardId::WorkerKilledWhileStuck), DetectorState::Off);
        let no_families = Hooks { families: Err(absent()), ..all };
        assert_eq!(state(no_families, HazardId::CrashLoop), DetectorState::Limited);
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
        let conditions = Conditions { hooks: Some(hooks), ..conditions(Reach::Full) };
        let found = detectors(&conditions);
        let off: Vec<_> = found.iter().filter(|detector| !detector.state.works()).collect();
        let names: Vec<&str> = off.iter().map(|detector| detector.name).collect();
        assert_eq!(names, ["worker-killed-while-stuck", "clone-calls"]);
        assert!(
            off.iter().any(|detector| detector.reason.contains("tried at the start")
                && detector.reason.contains("as 0, and is 7")),
            "{off:?}"
        );
    }
}
