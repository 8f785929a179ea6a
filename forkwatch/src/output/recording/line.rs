//! The shape of a line: `{"event":...}`, `{"event":...,"question":...}`, `{"particulars":...,"question":...}`,
//! `{"standing":...}`, `{"rescued":...}`, `{"evidence":...,"at":...}`, `{"advance":...}`, `{"settings":...}` or `{"end":...}`.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Input;
use crate::model::{
    evidence::Evidence, particulars::Particulars, reported::Reported, rescued::Rescued, standing::Standing,
    time::BootTime,
};

/// What is wrong with a line of another shape.
pub(super) const EXPECTED: &str = "it is neither an event, nor its particulars, nor how a process stood, nor a rescue, nor evidence \
                                   with a time, nor an advance of time, nor settings, nor the end";

/// A line; generic so that writing borrows what reading owns.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Line<E, P, S, F, R> {
    #[serde(skip_serializing_if = "Option::is_none")]
    event: Option<E>,
    #[serde(skip_serializing_if = "Option::is_none")]
    particulars: Option<P>,
    #[serde(skip_serializing_if = "Option::is_none")]
    question: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    standing: Option<S>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rescued: Option<R>,
    #[serde(skip_serializing_if = "Option::is_none")]
    evidence: Option<F>,
    #[serde(skip_serializing_if = "Option::is_none")]
    at: Option<BootTime>,
    #[serde(skip_serializing_if = "Option::is_none")]
    advance: Option<BootTime>,
    #[serde(skip_serializing_if = "Option::is_none")]
    settings: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    end: Option<BootTime>,
}

/// A line that was read.
pub(super) type Owned = Line<Reported, Particulars, Standing, Evidence, Rescued>;
/// A line that is to be written.
type Borrowed<'a> = Line<&'a Reported, &'a Particulars, &'a Standing, &'a Evidence, &'a Rescued>;

impl<E, P, S, F, R> Line<E, P, S, F, R> {
    const EMPTY: Self = Self {
        event: None,
        particulars: None,
        question: None,
        standing: None,
        rescued: None,
        evidence: None,
        at: None,
        advance: None,
        settings: None,
        end: None,
    };
}

impl<'a> Borrowed<'a> {
    pub(super) const fn reported(reported: &'a Reported, question: Option<u64>) -> Self {
        Self { event: Some(reported), question, ..Self::EMPTY }
    }

    pub(super) const fn particulars(question: u64, particulars: &'a Particulars) -> Self {
        Self { particulars: Some(particulars), question: Some(question), ..Self::EMPTY }
    }

    pub(super) const fn standing(standing: &'a Standing) -> Self {
        Self { standing: Some(standing), ..Self::EMPTY }
    }

    pub(super) const fn rescued(rescued: &'a Rescued) -> Self {
        Self { rescued: Some(rescued), ..Self::EMPTY }
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

    pub(super) const fn end(at: BootTime) -> Self {
        Self { end: Some(at), ..Self::EMPTY }
    }
}

impl Owned {
    /// What it holds; nothing where it has none of the shapes.
    pub(super) fn into_input(self) -> Option<Input> {
        let Self { event, particulars, question, standing, rescued, evidence, at, advance, settings, end } =
            self;
        let is_asked = particulars.is_some() || event.is_some() && question.is_some();
        if question.is_some() != is_asked || at.is_some() != evidence.is_some() {
            return None;
        }
        let event = event.map(|reported| Input::Reported { reported, question });
        let particulars = particulars.zip(question);
        let mut inputs = event
            .into_iter()
            .chain(particulars.map(|(particulars, question)| Input::Particulars { question, particulars }))
            .chain(standing.map(Input::Standing))
            .chain(rescued.map(Input::Rescued))
            .chain(evidence.zip(at).map(|(evidence, at)| Input::Evidence { at, evidence }))
            .chain(advance.map(Input::Advance))
            .chain(settings.map(Input::Settings))
            .chain(end.map(Input::End));
        let input = inputs.next()?;
        inputs.next().is_none().then_some(input)
    }
}
