//! Whether the watch watches, and whether its silence can be trusted.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How the watch is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(title = "forkwatch.health/1")]
pub struct Health {
    /// `forkwatch.health/1`.
    #[schemars(extend("const" = "forkwatch.health/1"))]
    pub schema: String,
    /// forkwatch's version.
    pub version: String,
    /// The host's name.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub host: Option<String>,
    /// When the watch began.
    #[schemars(extend("format" = "date-time"))]
    pub began: String,
    /// When this was asked.
    #[schemars(extend("format" = "date-time"))]
    pub now: String,
    /// Whether every fork of this host is watched now: false while it starts and ends, and where a part hangs.
    pub watching: bool,
    /// Whether silence means safe. If not, `doubts` says about what it says nothing.
    pub silence_is_safe: bool,
    /// Why silence does not mean safe, the gravest first.
    pub doubts: Vec<Doubt>,
    /// The parts of forkwatch.
    pub parts: Vec<PartHealth>,
    /// How far each detector works on this host.
    pub detectors: Vec<DetectorHealth>,
    /// How findings are kept.
    pub store: StoreHealth,
    /// How often something was told of servers and their workers since the start, as `/servers` counts it too: what it
    /// answers changes only with this.
    #[serde(default)]
    pub workers_told: u64,
    /// Forks that this watch has been told of one by one. Harmless ones are only counted in the kernel.
    pub forks: u64,
    /// Forks of hazardous kind, or of children that live on, that could not be judged.
    pub undecided: u64,
    /// Records that were lost before forkwatch read them.
    pub lost: u64,
    /// What was given up, to stay within bounds.
    pub given_up: u64,
    /// Findings that rules of the operator accept.
    pub accepted: u64,
}

/// A reason not to trust silence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Doubt {
    /// Names the sort of reason.
    pub id: String,
    /// In plain words.
    pub what: String,
}

/// A part of forkwatch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PartHealth {
    /// Its name, as in the metric `forkwatch_part_answers`.
    pub name: String,
    /// Whether it did what it was asked to when this was asked.
    pub answers: bool,
    /// Why it does not answer; absent where it does.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub why: Option<String>,
}

/// How far a detector works.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DetectorHealth {
    /// The hazard, or what is watched on request.
    pub name: String,
    /// `on`, `limited`, `undecided` or `off`.
    pub state: String,
    /// Why, and what that means.
    pub reason: String,
    /// Whether it works only where somebody has asked for it, so that it is no fault if it is off.
    #[serde(skip)]
    pub on_request: bool,
}

/// How findings are kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StoreHealth {
    /// The file; absent where they are kept in memory, until this watch ends.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub path: Option<String>,
    /// How many there are.
    pub findings: u64,
    /// How many are kept at most.
    pub most: u64,
    /// For how many seconds they are kept at most.
    pub seconds: u64,
    /// What could not be written since the start, and is lost.
    pub lost: u64,
    /// How often something was said of a finding since the start.
    #[serde(default)]
    pub told: u64,
    /// Records that cannot be read, and are left out.
    #[serde(default)]
    pub unreadable: u64,
    /// Why nothing can be written, or not where it was meant to be.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub trouble: Option<String>,
}
