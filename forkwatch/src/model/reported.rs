//! What a record of the kernel side holds.

use serde::{Deserialize, Serialize};

use super::{event::Event, observation::Observation, time::BootTime};

/// An event, or an observation. In a recording nothing but its name says which it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Reported {
    /// Something that happened.
    Event(Event),
    /// Something that was seen for the core.
    Observation(Observation),
}

impl Reported {
    /// When it happened.
    pub const fn at(&self) -> BootTime {
        match self {
            Self::Event(event) => event.at(),
            Self::Observation(seen) => seen.at(),
        }
    }
}

impl From<Event> for Reported {
    fn from(event: Event) -> Self {
        Self::Event(event)
    }
}

impl From<Observation> for Reported {
    fn from(seen: Observation) -> Self {
        Self::Observation(seen)
    }
}
