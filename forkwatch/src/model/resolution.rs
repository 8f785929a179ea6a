//! How a finding ended.

use serde::{Deserialize, Serialize};

/// How a finding ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Resolution {
    /// The child exec'd after all: the finding is withdrawn.
    Execed,
    /// The child exited with a code, and nobody was seen to have asked it to end shortly before.
    Exited,
    /// The child exited with a code, shortly after its parent had asked it to end.
    AskedByParent,
    /// The child exited with a code, shortly after another process had asked it to end.
    AskedByOther,
    /// A signal killed the child, and it is not known who sent it.
    Killed,
    /// Its parent killed it, by a signal that ended it or whose handler exits.
    KilledByParent,
    /// Another process killed it.
    KilledByOther,
    /// The child goes on after all: a signal, a time limit or somebody unknown has ended its wait.
    Woke,
    /// The child has ended, and it is not known how.
    Ended,
    /// What was found is so no longer.
    Cleared,
}

impl Resolution {
    /// Every way.
    pub const ALL: [Self; 10] = [
        Self::Execed,
        Self::Exited,
        Self::AskedByParent,
        Self::AskedByOther,
        Self::Killed,
        Self::KilledByParent,
        Self::KilledByOther,
        Self::Woke,
        Self::Ended,
        Self::Cleared,
    ];

    /// The name in events and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Execed => "execed",
            Self::Exited => "exited",
            Self::AskedByParent => "asked-by-parent",
            Self::AskedByOther => "asked-by-other",
            Self::Killed => "killed",
            Self::KilledByParent => "killed-by-parent",
            Self::KilledByOther => "killed-by-other",
            Self::Woke => "woke",
            Self::Ended => "ended",
            Self::Cleared => "cleared",
        }
    }

    /// Whether the finding was wrong, or at least premature.
    pub const fn withdraws(self) -> bool {
        matches!(self, Self::Execed | Self::Woke)
    }

    /// What has become of the child, after its name.
    pub const fn words(self) -> &'static str {
        match self {
            Self::Execed => "exec'd after all: the finding is withdrawn",
            Self::Exited => "exited",
            Self::AskedByParent => "exited after its parent had asked it to end",
            Self::AskedByOther => "exited after another process had asked it to end",
            Self::Killed => "was killed by a signal",
            Self::KilledByParent => "was killed by its parent",
            Self::KilledByOther => "was killed by another process",
            Self::Woke => "goes on after all: its wait has ended",
            Self::Ended => "has ended",
            Self::Cleared => "is no longer in that state",
        }
    }
}
