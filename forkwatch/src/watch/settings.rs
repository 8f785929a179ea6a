//! How the core judges.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{hazard::allow::AllowRule, model::stack::Stacks};

/// Delays below this would have the core turn in circles.
const SHORTEST: Duration = Duration::from_millis(1);

/// How the core judges.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// How long a child may take to exec or exit: 1 s. At least 1 ms.
    pub grace: Duration,
    /// How long after a fork the parent's threads are looked at: 100 ms. At least 1 ms.
    pub recheck: Duration,
    /// How often repeats of one finding are summed up at most: every 60 s. At least 1 ms.
    pub summary_interval: Duration,
    /// Whether each child that hangs is reported when it is found, and not summed up with those of the same program.
    #[serde(default)]
    pub tell_each: bool,
    /// How long a wait must have been seen without a change before it is reported, where the lock names its owner:
    /// 10 s. Other proofs take two or six times as long.
    pub stuck_after: Duration,
    /// How often all processes are looked at for forked children that no event told of; none for never.
    pub sweep_interval: Option<Duration>,
    /// How often a child that lives on is looked at for descriptors left behind, at most: every 30 s. At least 1 ms.
    pub leak_interval: Duration,
    /// How long a child must have slept on a pipe before its holders are looked for: 60 s.
    pub pipe_patience: Duration,
    /// How the stacks of stuck threads may be had.
    pub stacks: Stacks,
    /// What the operator accepts.
    pub allow: Vec<AllowRule>,
    /// Most children that are followed at a time: 65536.
    pub max_children: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            grace: Duration::from_secs(1),
            recheck: Duration::from_millis(100),
            summary_interval: Duration::from_secs(60),
            tell_each: false,
            stuck_after: Duration::from_secs(10),
            sweep_interval: None,
            leak_interval: Duration::from_secs(30),
            pipe_patience: Duration::from_secs(60),
            stacks: Stacks::Light,
            allow: Vec::new(),
            max_children: 1 << 16,
        }
    }
}

impl Settings {
    /// Without delays that are too short.
    pub(super) fn bounded(self) -> Self {
        Self {
            grace: self.grace.max(SHORTEST),
            recheck: self.recheck.max(SHORTEST),
            summary_interval: self.summary_interval.max(SHORTEST),
            stuck_after: self.stuck_after.max(SHORTEST),
            sweep_interval: self.sweep_interval.map(|interval| interval.max(SHORTEST)),
            leak_interval: self.leak_interval.max(SHORTEST),
            ..self
        }
    }
}
