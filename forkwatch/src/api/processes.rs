//! The forked processes that a watch follows.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The forked children that have not exec'd and live on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(title = "forkwatch.processes/1")]
pub struct Processes {
    /// `forkwatch.processes/1`.
    #[schemars(extend("const" = "forkwatch.processes/1"))]
    pub schema: String,
    /// Those that were asked for, by pid.
    pub processes: Vec<ProcessDocument>,
    /// How many more there are.
    pub left_out: u64,
}

/// A forked child that has not exec'd.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ProcessDocument {
    /// Its pid in the host's pid namespace.
    pub pid: u32,
    /// Its comm, escaped for a terminal; absent where it was not looked up.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub name: Option<String>,
    /// Names it on all hosts and for all times, as in events.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub entity_id: Option<String>,
    /// When it was forked.
    #[schemars(extend("format" = "date-time"))]
    pub start: String,
    /// The process that forked it, where that was seen or still lives.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub parent_pid: Option<u32>,
    /// The comm of the thread that forked it, escaped for a terminal.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub forked_by: Option<String>,
    /// How many threads its forker had at the fork.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub forker_threads: Option<u32>,
    /// The real uid that it was forked with.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub uid: Option<u32>,
    /// Whether a detector has proven that it hangs for good.
    pub hangs: bool,
    /// Whether it was seen in a wait that may be endless, but not for long enough yet to say so.
    pub waits: bool,
    /// How many locks it was seen to carry that threads hold which it does not have.
    pub carried_locks: u64,
}
