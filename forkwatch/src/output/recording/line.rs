//! The shape of a line: `{"event":...}`, `{"evidence":...,"at":...}`, `{"advance":...}` or `{"settings":...}`.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Input;
use crate::model::{event::Event, evidence::Evidence, time::BootTime};

/// What is wrong with a line of another shape.
pub(super) const EXPECTED: &str =
    "it is neither an event, nor evidence with a time, nor an advance of time, nor settings";

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
    #[serde(skip_serializing_if = "Option::is_none")]
    settings: Option<Value>,
}

impl<E, F> Line<E, F> {
    const EMPTY: Self = Self { event: None, evidence: None, at: None, advance: None, settings: None };
}

impl<'a> Line<&'a Event, &'a Evidence> {
    pub(super) const fn event(event: &'a Event) -> Self {
        Self { event: Some(event), ..Self::EMPTY }
    }

    pub(super) const fn evidence(at: BootTime, evidence: &'a Evidence) -> Self {
        Self { evidence: Some(evidence), at: Some(at), ..Self::EMPTY }
    }

    pub(super) const fn advance(to: BootTime) -> Self {
        Self { advance: Some(to), ..Self::EMPTY }
    }

    pub(super) const fn settings(settings: Value) -> Self {
        Self { settings: Some(settings), ..Self::EMPTY }
    }
}

impl Line<Event, Evidence> {
    pub(super) fn into_input(self) -> Option<Input> {
        let Self { event, evidence, at, advance, settings } = self;
        match (event, evidence, at, advance, settings) {
            (Some(event), None, None, None, None) => Some(Input::Event(event)),
            (None, Some(evidence), Some(at), None, None) => Some(Input::Evidence { at, evidence }),
            (None, None, None, Some(to), None) => Some(Input::Advance(to)),
            (None, None, None, None, Some(settings)) => Some(Input::Settings(settings)),
            _ => None,
        }
    }
}
