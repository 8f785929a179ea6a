//! A thread, as ECS has it.

use schemars::JsonSchema;
use serde::Serialize;

use crate::model::stack::Frame;

/// ECS `process.thread`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Thread {
    /// The kernel's tid.
    pub id: u32,
    /// Its comm.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The name that its program gave it, where that is another: CPython's `threading.Thread` has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub own_name: Option<String>,
    /// Where it was: in its script, else in native code outside of the C library.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<Frame>,
}
