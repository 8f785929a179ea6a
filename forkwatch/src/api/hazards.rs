//! What there is to be found, explained.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::finding::{Certainty, Severity};

/// Every hazard.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(title = "forkwatch.hazards/1")]
pub struct Hazards {
    /// `forkwatch.hazards/1`.
    #[schemars(extend("const" = "forkwatch.hazards/1"))]
    pub schema: String,
    /// In the order of the reference.
    pub hazards: Vec<HazardDocument>,
}

/// A hazard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HazardDocument {
    /// Its id, as in findings and in rules: `orphaned-lock`.
    pub id: String,
    /// A few words.
    pub title: String,
    /// What goes wrong.
    pub what: String,
    /// What forkwatch looks at to find it, and what it takes to report it.
    pub detection: String,
    /// How sure a finding is at most.
    pub certainty: Certainty,
    /// Why it is that sure and no surer.
    pub certainty_reason: String,
    /// How much it matters, where nothing speaks against it.
    pub severity: Severity,
    /// What looks alike and stays silent, or is toned down.
    pub look_alikes: Vec<String>,
    /// What to change.
    pub remedies: Vec<RemedyDocument>,
    /// Further reading.
    pub links: Vec<String>,
}

/// What to change, for some software.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RemedyDocument {
    /// For whom.
    pub who: String,
    /// What to change.
    pub text: String,
    /// Where that is explained.
    pub link: String,
}
