//! A lock that `forkwatch rescue` has released, as a running watch is told of it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::time::BootTime;

/// The watch was told of a rescue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rescued {
    /// When it was told.
    pub at: BootTime,
    /// Who released which lock where, and what came of it.
    pub report: RescueReport,
}

impl Rescued {
    /// What came of it, in one word.
    pub const fn outcome(&self) -> &'static str {
        match (self.report.released, self.report.went_on) {
            (true, true) => "released",
            (true, false) => "stayed",
            (false, _) => "failed",
        }
    }
}

/// A lock was released in a child, or that was tried.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "forkwatch.rescued/1")]
pub struct RescueReport {
    /// The child.
    pub pid: u32,
    /// When it started: nanoseconds since boot, as the kernel counts.
    pub start_ns: u64,
    /// Its comm, escaped for a terminal.
    pub name: String,
    /// Its real uid.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub uid: Option<u32>,
    /// The unit or container that it runs in.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub unit: Option<String>,
    /// Whether the lock was released. If not, `reason` says why.
    pub released: bool,
    /// Whether the thread was seen to go on.
    pub went_on: bool,
    /// What failed.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reason: Option<String>,
    /// What kind of lock it is.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub lock: Option<Value>,
    /// The real uid of whoever asked for it.
    pub by_uid: u32,
}
