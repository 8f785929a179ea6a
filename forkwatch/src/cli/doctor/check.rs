//! One thing that was looked at.

use serde::Serialize;

/// What a check comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Status {
    /// As forkwatch needs it.
    Ok,
    /// forkwatch works, and does less than it could.
    Limited,
    /// forkwatch cannot work without it.
    Missing,
    /// It could not be found out.
    Unknown,
}

impl Status {
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Limited => "limited",
            Self::Missing => "missing",
            Self::Unknown => "unknown",
        }
    }
}

/// What was looked at, and what was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Check {
    /// For programs; never changes.
    pub(super) id: &'static str,
    /// For readers.
    pub(super) title: &'static str,
    /// What it comes to.
    pub(super) status: Status,
    /// What was found, and what that means.
    pub(super) found: String,
    /// What to do; absent where there is nothing to be done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) advice: Option<String>,
}

impl Check {
    pub(super) fn ok(id: &'static str, title: &'static str, found: impl Into<String>) -> Self {
        Self { id, title, status: Status::Ok, found: found.into(), advice: None }
    }

    pub(super) fn limited(
        id: &'static str,
        title: &'static str,
        found: impl Into<String>,
        advice: impl Into<String>,
    ) -> Self {
        Self { status: Status::Limited, advice: Some(advice.into()), ..Self::ok(id, title, found) }
    }

    pub(super) fn missing(
        id: &'static str,
        title: &'static str,
        found: impl Into<String>,
        advice: impl Into<String>,
    ) -> Self {
        Self { status: Status::Missing, advice: Some(advice.into()), ..Self::ok(id, title, found) }
    }

    pub(super) fn unknown(id: &'static str, title: &'static str, found: impl Into<String>) -> Self {
        Self { status: Status::Unknown, ..Self::ok(id, title, found) }
    }
}
