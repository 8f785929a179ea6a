//! The shape of a line: `{"event":...}`, `{"evidence":...,"at":...}` or `{"advance":...}`.

use serde::{Deserialize, Serialize};

use super::Input;
use crate::model::{event::Event, evidence::Evidence, time::BootTime};

/// What is wrong with a line of another shape.
pub(super) const EXPECTED: &str = "it is neither an event, nor evidence with a time, nor an advance of time";

/// A line; generic so that writing borrows what reading owns.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Line<E, F> {
    #[serde(skip_serializing_if = "Option::is_none")]
    event: Option<E>,
    #[serde(skip_serializing_if = "Option::is_none")]
    evidence: Option<F>,
    #[serde(skip_serializing_if = "Option::is_none")]
    at: Option<BootTime>,
    #[serde(skip_serializing_if = "Option::is_none")]
    advance: Option<BootTime>,
}

impl<'a> Line<&'a Event, &'a Evidence> {
    pub(super) const fn event(event: &'a Event) -> Self {
        Self { event: Some(event), evidence: None, at: None, advance: None }
    }

    pub(super) const fn evidence(at: BootTime, evidence: &'a Evidence) -> Self {
        Self { event: None, evidence: Some(evidence), at: Some(at), advance: None }
    }

    pub(super) const fn advance(to: BootTime) -> Self {
        Self { event: None, evidence: None, at: None, advance: Some(to) }
    }
}

impl Line<Event, Evidence> {
    pub(super) fn into_input(self) -> Option<Input> {
        match self {
            Self { event: Some(event), evidence: None, at: None, advance: None } => Some(Input::Event(event)),
            Self { event: None, evidence: Some(evidence), at: Some(at), advance: None } => {
                Some(Input::Evidence { at, evidence })
            }
            Self { event: None, evidence: None, at: None, advance: Some(to) } => Some(Input::Advance(to)),
            _ => None,
        }
    }
}
