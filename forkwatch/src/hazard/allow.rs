//! What the operator accepts.

use serde::{Deserialize, Serialize};

use crate::model::finding::HazardId;

/// Silences the findings that meet all its criteria.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AllowRule {
    /// Path of the parent's executable.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exe: Option<String>,
    /// Comm of the parent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub comm: Option<String>,
    /// systemd unit of the parent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// Comm that all the threads bear which the finding names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub thread: Option<String>,
    /// The hazard that is accepted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hazard: Option<HazardId>,
    /// Why it is accepted.
    pub reason: String,
}
