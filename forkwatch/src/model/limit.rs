//! Why the kernel refused to create a task.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The limit that made a system call of the clone family fail.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limit {
    /// What limits it.
    pub cause: Cause,
    /// The cgroup that sets it, where one does.
    pub cgroup: Option<String>,
}

/// The limits that there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Cause {
    /// `pids.max` of the caller's cgroup, or of one above it.
    #[serde(rename = "pids.max")]
    PidsMax,
    /// `RLIMIT_NPROC`: the user has as many tasks as the caller lets it have.
    #[serde(rename = "rlimit-nproc")]
    RlimitNproc,
    /// `kernel.pid_max`: no pid is left.
    #[serde(rename = "pid_max")]
    PidMax,
    /// `kernel.threads-max`.
    #[serde(rename = "threads-max")]
    ThreadsMax,
    /// Memory: of a cgroup, of the host, or what the host will commit to.
    #[serde(rename = "memory")]
    Memory,
    /// The pid namespace takes no process any more, because its init has ended (`pid_namespaces(7)`).
    #[serde(rename = "namespace")]
    Namespace,
    /// None that forkwatch knows.
    #[serde(rename = "other")]
    Other,
}

impl Cause {
    /// The name in events and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::PidsMax => "pids.max",
            Self::RlimitNproc => "rlimit-nproc",
            Self::PidMax => "pid_max",
            Self::ThreadsMax => "threads-max",
            Self::Memory => "memory",
            Self::Namespace => "namespace",
            Self::Other => "other",
        }
    }

    /// What has happened, in plain words.
    pub const fn words(self) -> &'static str {
        match self {
            Self::PidsMax => "pids.max reached",
            Self::RlimitNproc => "RLIMIT_NPROC reached",
            Self::PidMax => "kernel.pid_max reached",
            Self::ThreadsMax => "kernel.threads-max reached",
            Self::Memory => "out of memory",
            Self::Namespace => "its pid namespace has ended",
            Self::Other => "no limit that is known",
        }
    }
}

impl From<Cause> for Limit {
    fn from(cause: Cause) -> Self {
        Self { cause, cgroup: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_is_what_events_bear() {
        for cause in [
            Cause::PidsMax,
            Cause::RlimitNproc,
            Cause::PidMax,
            Cause::ThreadsMax,
            Cause::Memory,
            Cause::Namespace,
            Cause::Other,
        ] {
            assert_eq!(serde_json::to_value(cause).unwrap(), cause.name());
        }
    }
}
