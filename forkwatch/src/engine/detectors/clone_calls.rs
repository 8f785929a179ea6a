//! The detector of what happens in the clone family's system calls. It belongs to no hazard, and is off unless asked for.

use super::Detector;
use crate::{
    kernel::{Probe, Probes, Way},
    model::detector::DetectorState,
    output::metrics::RestsOn,
};

/// How far it works. `stopped` says why the kernel side does not run, where it does not; `way` how the calls are watched,
/// or why they are not.
pub(super) fn detector(stopped: Option<&str>, way: Result<&Way, &String>) -> Detector {
    let (state, reason) = match (stopped, way) {
        (Some(why), _) => (DetectorState::Off, why.to_owned()),
        (None, Err(why)) => (DetectorState::Off, why.clone()),
        (None, Ok(way)) => (DetectorState::On, format!("by {}", way.words)),
    };
    Detector { name: "clone-calls", state, reason, rests_on: RestsOn::default(), on_request: true }
}

/// How it is watched, or why it is not.
pub(crate) fn way(probes: &Probes) -> Result<&'static Way, String> {
    probes.way(Probe::CloneCalls).map_err(ToString::to_string)
}

/// What a user who asked for it is told.
pub(crate) fn describe(probes: &Probes) -> Option<String> {
    Some(format!("clone calls are watched by {}", way(probes).ok()?.words))
}
