//! A thread, as ECS has it.

use schemars::JsonSchema;
use serde::Serialize;

/// ECS `process.thread`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Thread {
    /// The kernel's tid.
    pub id: u32,
    /// Its comm.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}
