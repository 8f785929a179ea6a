//! How a process stands when a watch of it begins.

use serde::{Deserialize, Serialize};

use super::{
    process::{ProcessKey, Program},
    time::BootTime,
};

/// Whether a fork would be safe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Nothing speaks against it.
    Safe,
    /// It can go well, if the child minds the warnings.
    Risky,
    /// It may leave a child that hangs or misses something, whatever the child does.
    Unsafe,
    /// Nothing unsafe was seen, but not all could be looked at.
    Undecided,
}

impl Verdict {
    /// The name that users see.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Safe => "safe",
            Self::Risky => "risky",
            Self::Unsafe => "unsafe",
            Self::Undecided => "undecided",
        }
    }
}

/// How much a reason weighs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Weight {
    /// It makes the fork unsafe.
    Unsafe,
    /// It makes it risky.
    Warning,
    /// Worth knowing.
    Info,
}

impl Weight {
    /// The name that users see.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unsafe => "unsafe",
            Self::Warning => "warning",
            Self::Info => "info",
        }
    }
}

/// How a process stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// When it was looked at.
    pub at: BootTime,
    /// Which process: its tgid, and when it started.
    pub process: ProcessKey,
    /// What runs in it.
    pub program: Program,
    /// Whether a fork of it would be safe.
    pub verdict: Verdict,
    /// What speaks against a fork, the weightiest first.
    pub reasons: Vec<Reason>,
    /// How many descendants it has that were forked and have not exec'd.
    pub children: u64,
    /// Those of them that wait in a way that proves something.
    pub stuck: Vec<u32>,
    /// How many of them could not be looked into, so that it is not known whether they hang.
    #[serde(default)]
    pub unseen: u64,
}

/// Something that speaks against a fork, or is worth knowing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reason {
    /// Names the sort of reason, as `check` does.
    pub id: String,
    /// How much it weighs.
    pub weight: Weight,
    /// What was seen, in words.
    pub what: String,
}
