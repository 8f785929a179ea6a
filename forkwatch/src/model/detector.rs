//! How far a detector works.

use serde::{Deserialize, Serialize};

/// How far a detector works on a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DetectorState {
    /// Fully.
    On,
    /// With restrictions: what it says holds, and some things it does not see.
    Limited,
    /// It runs, and can come to no conclusion here, because the host hides what it would have to see.
    Undecided,
    /// Not at all.
    Off,
}

impl DetectorState {
    /// Every state.
    pub const ALL: [Self; 4] = [Self::On, Self::Limited, Self::Undecided, Self::Off];

    /// The name in documents, metrics and messages.
    pub const fn name(self) -> &'static str {
        match self {
            Self::On => "on",
            Self::Limited => "limited",
            Self::Undecided => "undecided",
            Self::Off => "off",
        }
    }

    /// Whether its silence says anything: the value of `forkwatch_detector_enabled`.
    pub const fn works(self) -> bool {
        matches!(self, Self::On | Self::Limited)
    }
}
