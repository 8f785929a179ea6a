//! Which detectors work here: what `doctor` shows and the daemon's metrics export.

mod clone_calls;
mod hidden;

use caps::Capability;
use serde::Serialize;

pub(crate) use self::clone_calls::{describe as describe_requested, way as requested};
use self::hidden::hides;
use crate::{
    detect::{CATALOGUE, Hazard},
    host::{mounts, sight::Sight},
    kernel::{NoProbe, Probe, Probes, Way},
    model::detector::{DetectorState, Observable, Reach},
    output::metrics::RestsOn,
    privilege,
};

/// What detectors depend on.
#[derive(Clone, Debug)]
pub(crate) struct Conditions {
    /// Why the kernel side does not run, where it does not.
    stopped: Option<String>,
    /// How that is watched which is on request only, or why it is not.
    requested: Result<&'static Way, String>,
    /// How each probe is had; absent where the kernel side does not run.
    probes: Option<Probes>,
    reach: Reach,
    /// What could be seen of some processes.
    sight: Sight,
}

impl Conditions {
    /// Those of this host and this thread. `stopped` says why the kernel side does not run, where it does not;
    /// `requested` how that is watched which is on request only, or why it is not; `probes` how each probe is had; `missing`
    /// the capabilities that a look into others' processes lacks; `sight` what could be seen of some processes.
    pub(crate) fn here(
        stopped: Option<String>,
        requested: Result<&'static Way, String>,
        probes: Option<Probes>,
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
        Self { stopped, requested, probes, reach, sight }
    }
}

/// A detector, and how far it works here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Detector {
    /// Its name: the hazard's, or that of what is watched on request.
    pub(crate) name: &'static str,
    /// Whether it works.
    pub(crate) state: DetectorState,
    /// Why, and what that means.
    pub(crate) reason: String,
    /// What it rests on, which may fail later.
    #[serde(skip)]
    pub(crate) rests_on: RestsOn,
    /// Whether it works only where somebody has asked for it, so that it is no fault if it is off.
    #[serde(skip)]
    pub(crate) on_request: bool,
}

/// Every detector.
pub(crate) fn detectors(conditions: &Conditions) -> Vec<Detector> {
    let Conditions { stopped, requested, probes, reach, sight } = conditions;
    let hazards = CATALOGUE.iter().copied().map(|hazard| {
        let lacks = probes.as_ref().and_then(|probes| lacks(hazard, probes));
        let (state, reason) = by_reach(hazard, *reach);
        let (state, reason) = match stopped {
            Some(why) => (DetectorState::Off, why.clone()),
            // What restricts it most is told; of equals, what the capabilities say.
            None => [Some((state, reason.to_owned())), hides(hazard.sees, sight), lacks]
                .into_iter()
                .flatten()
                .reduce(|most, next| if next.0 > most.0 { next } else { most })
                .unwrap_or((state, String::new())),
        };
        let late = hazard.needs.iter().find(|(observation, ..)| *observation == Observable::Sleepers);
        let rests_on = RestsOn { answers: true, late_sleepers: late.map(|(_, state, _)| *state) };
        Detector { name: hazard.id.name(), state, reason, rests_on, on_request: false }
    });
    hazards.chain([clone_calls::detector(stopped.as_deref(), requested.as_ref().copied())]).collect()
}

/// What this kernel cannot observe for a hazard; of several the first.
fn lacks(hazard: &Hazard, probes: &Probes) -> Option<(DetectorState, String)> {
    hazard.needs.iter().find_map(|(observation, state, meaning)| {
        let why = missing(*observation, probes)?;
        Some((*state, format!("{meaning}: {why}")))
    })
}

/// Why something cannot be observed on this kernel, where it cannot.
fn missing(observation: Observable, probes: &Probes) -> Option<String> {
    let missing = |probe| probes.way(probe).err().map(ToString::to_string);
    match observation {
        Observable::SocketUse => missing(Probe::Sockets),
        // Who does not ask for it knows what is not seen.
        Observable::Heirs if probes.way(Probe::Heirs) == Err(&NoProbe::NotAsked) => None,
        Observable::Heirs => missing(Probe::Heirs),
        Observable::Senders => missing(Probe::Signals),
        Observable::Sleepers => missing(Probe::Sleepers),
        Observable::GoodEnds => missing(Probe::Families),
        Observable::Shutdowns => {
            let kinds = [("TCP", Probe::TcpShutdown), ("Unix", Probe::UnixShutdown)].into_iter();
            let missing = kinds.filter_map(|(kind, probe)| Some(format!("{kind}: {}", missing(probe)?)));
            let missing: Vec<String> = missing.collect();
            (!missing.is_empty()).then(|| missing.join("; "))
        }
    }
}

/// How far a hazard's detector works with what the capabilities let be seen.
fn by_reach(hazard: &Hazard, reach: Reach) -> (DetectorState, &'static str) {
    match hazard.without_sight {
        Some((from, state, meaning)) if reach >= from && (reach < Reach::Hidden || !state.works()) => {
            (state, meaning)
        }
        _ if reach == Reach::Hidden => (
            DetectorState::Limited,
            "/proc is mounted with hidepid, and CAP_SYS_PTRACE is missing: other users' processes are hidden, and \
             not judged",
        ),
        _ => (DetectorState::On, hazard.watches),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        host::sight::View,
        model::{detector::Aspect, finding::HazardId},
    };

    fn states(conditions: &Conditions) -> Vec<(&'static str, DetectorState)> {
        detectors(conditions).iter().map(|detector| (detector.name, detector.state)).collect()
    }

    fn asked_for() -> Result<&'static Way, String> {
        requested(&Probes::all())
    }

    fn conditions(reach: Reach) -> Conditions {
        let requested = Err("not asked for".to_owned());
        Conditions { stopped: None, requested, probes: None, reach, sight: Sight::default() }
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
        let found = detectors(&Conditions { sight, requested: asked_for(), ..conditions(Reach::Full) });
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
    fn an_init_that_hides_its_descriptors_leaves_the_search_for_listeners_less_sure() {
        let init = view(1, true, &Aspect::ALL);
        let expected = [("pinned-listener", "limited"), ("nobody-accepts", "limited")];
        assert_eq!(limits(vec![init.clone(), view(800, true, &[])]), expected);
        let sight = Sight { hides_processes: false, views: vec![init] };
        let found = detectors(&Conditions { sight, ..conditions(Reach::Full) });
        let pinned = found.iter().find(|detector| detector.name == "pinned-listener").unwrap();
        assert!(pinned.state.works() && pinned.reason.ends_with("less sure"), "{}", pinned.reason);
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
            ("nobody-accepts", "undecided"),
            ("shared-event-loop", "limited"),
            ("lock-left-behind", "limited"),
            ("shared-offset", "limited"),
            ("shared-database-file", "limited"),
            ("unflushed-output", "limited"),
            ("worker-not-ready", "limited"),
            ("server-setup", "limited"),
        ];
        let views = vec![view(1, true, &[]), view(800, true, &[]), view(801, false, &[Aspect::Descriptors])];
        assert_eq!(limits(views), expected);
    }

    /// Yama's `ptrace_scope` 3, for one, which stops root too.
    #[test]
    fn a_host_that_lets_nobody_look_into_memory_leaves_locks_undecided() {
        let hidden = [Aspect::Calls, Aspect::Memory, Aspect::Sockets];
        let expected = [
            ("held-locks", "undecided"),
            ("orphaned-lock", "undecided"),
            ("waits-for-lost-thread", "undecided"),
            ("shared-connection", "limited"),
            ("shared-connection-closed", "limited"),
            ("worker-killed-while-stuck", "undecided"),
            ("lost-threads", "limited"),
            ("leaked-pipe", "undecided"),
            ("pinned-listener", "undecided"),
            ("nobody-accepts", "undecided"),
            ("shared-event-loop", "undecided"),
            ("duplicated-random", "undecided"),
            ("abandoned-semaphore", "undecided"),
            ("lost-result", "undecided"),
            ("unflushed-output", "undecided"),
            ("escaped-child", "undecided"),
            ("worker-not-ready", "undecided"),
            ("server-setup", "undecided"),
        ];
        assert_eq!(limits(vec![view(1, true, &hidden), view(800, true, &hidden)]), expected);
        // Where others' alone are hidden, one's own are judged.
        let found =
            limits(vec![view(1, false, &[]), view(800, false, &[Aspect::Memory]), view(801, true, &[])]);
        let limited = [
            "held-locks",
            "orphaned-lock",
            "waits-for-lost-thread",
            "worker-killed-while-stuck",
            "lost-threads",
            "shared-event-loop",
            "duplicated-random",
            "abandoned-semaphore",
            "lost-result",
            "unflushed-output",
            "escaped-child",
            "server-setup",
        ];
        assert_eq!(found, limited.map(|name| (name, "limited")));
        // Of one's own none was there to be tried.
        assert_eq!(limits(vec![view(800, false, &[Aspect::Memory])]), found);
    }

    #[test]
    fn what_only_helps_limits() {
        let found = limits(vec![view(800, false, &[Aspect::Executable, Aspect::Traffic])]);
        let limited = [
            "multithreaded-fork",
            "pending-signals",
            "lost-threads",
            "worker-not-replaced",
            "shared-offset",
            "shared-database-file",
        ];
        assert_eq!(found, limited.map(|name| (name, "limited")));
        let found = limits(vec![view(800, false, &[Aspect::Sharing])]);
        assert_eq!(
            found,
            [
                ("orphaned-lock", "limited"),
                ("worker-killed-while-stuck", "limited"),
                ("shared-event-loop", "limited"),
                ("lock-left-behind", "limited"),
                ("shared-offset", "limited"),
                ("shared-database-file", "limited"),
            ]
        );
        let found = limits(vec![view(800, false, &[Aspect::Details])]);
        assert_eq!(
            found,
            [
                ("blocked-signals", "limited"),
                ("pinned-listener", "undecided"),
                ("nobody-accepts", "undecided"),
                ("shared-event-loop", "limited"),
                ("lock-left-behind", "limited"),
                ("shared-offset", "limited"),
                ("shared-database-file", "limited"),
            ]
        );
    }

    #[test]
    fn processes_that_are_not_listed_leave_both_searches_undecided() {
        let sight = Sight { hides_processes: true, views: Vec::new() };
        let found = detectors(&Conditions { sight, ..conditions(Reach::Full) });
        let undecided = found.iter().filter(|detector| detector.state == DetectorState::Undecided);
        let names: Vec<&str> = undecided.map(|detector| detector.name).collect();
        assert_eq!(names, ["leaked-pipe", "pinned-listener", "nobody-accepts"]);
    }

    #[test]
    fn every_hazard_has_a_detector_and_what_is_on_request_too() {
        let names: Vec<&str> = states(&conditions(Reach::Full)).iter().map(|(name, _)| *name).collect();
        let expected: Vec<&str> =
            CATALOGUE.iter().copied().map(|hazard| hazard.id.name()).chain(["clone-calls"]).collect();
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
            let limited = Conditions { requested: asked_for(), ..conditions(reach) };
            let found = states(&limited);
            let less = [DetectorState::Limited, DetectorState::Undecided];
            let limited = found.iter().filter(|(_, state)| less.contains(state)).count();
            let undecided: Vec<&str> = found
                .iter()
                .filter(|(_, state)| *state == DetectorState::Undecided)
                .map(|(name, _)| *name)
                .collect();
            assert_eq!(undecided, ["leaked-pipe", "pinned-listener", "nobody-accepts"]);
            assert!(found.iter().all(|(_, state)| *state != DetectorState::Off), "{found:?}");
            assert_eq!(limited == CATALOGUE.len(), reach == Reach::Hidden, "{found:?}");
            assert_eq!(found.last(), Some(&("clone-calls", DetectorState::On)));
        }
    }

    #[test]
    fn what_the_kernel_lacks_switches_off_what_needs_it() {
        let state = |lacking: Option<Probe>, hazard: HazardId| {
            let absent = NoProbe::Absent("tracepoint".to_owned());
            let probes = lacking.map_or_else(Probes::all, |probe| Probes::all().without(probe, absent));
            let conditions = Conditions { probes: Some(probes), ..conditions(Reach::Full) };
            let found = detectors(&conditions);
            found.into_iter().find(|detector| detector.name == hazard.name()).unwrap().state
        };
        let closed = HazardId::new("shared-connection-closed");
        assert_eq!(state(None, closed), DetectorState::On);
        assert_eq!(state(Some(Probe::UnixShutdown), closed), DetectorState::Limited);
        for hazard in [HazardId::new("shared-connection"), closed] {
            assert_eq!(state(Some(Probe::Sockets), hazard), DetectorState::Off);
        }
        let locks = HazardId::new("orphaned-lock");
        assert_eq!(state(Some(Probe::Sockets), locks), DetectorState::On);
        assert_eq!(state(Some(Probe::Sleepers), locks), DetectorState::Limited);
        let killed = HazardId::new("worker-killed-while-stuck");
        assert_eq!(state(Some(Probe::Signals), killed), DetectorState::Off);
        assert_eq!(state(Some(Probe::Families), HazardId::new("crash-loop")), DetectorState::Limited);
    }

    #[test]
    fn what_was_tried_and_came_out_wrong_is_off_with_what_was_seen() {
        let untrue = NoProbe::Untrue("the sender of a signal was reported as 0, and is 7".to_owned());
        let probes = Probes::all().without(Probe::Signals, untrue);
        let conditions = Conditions { probes: Some(probes), ..conditions(Reach::Full) };
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
