//! What is wrong, how sure that is, who is to blame and what to change.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize, Serializer};

use super::{
    child_end::ChildEnd,
    facts::{ConnectionFacts, HeldFacts, HistoryFacts, LeakFacts, LockFacts},
    process::{Comm, ProcessKey, Program},
    resolution::Resolution,
    signals::SignalSet,
    thread::{Occupation, SeenThread},
    time::BootTime,
};

/// What a finding is about, by the id that users see. The catalogue of `detect` has them all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HazardId(&'static str);

impl HazardId {
    /// The hazard with this id.
    pub const fn new(id: &'static str) -> Self {
        Self(id)
    }

    /// The id that users see.
    pub const fn name(self) -> &'static str {
        self.0
    }
}

impl Serialize for HazardId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0)
    }
}

/// Which ids there are, whoever generates the schema adds: see `detect::CATALOGUE`.
impl JsonSchema for HazardId {
    fn schema_name() -> Cow<'static, str> {
        "HazardId".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "description": "What a finding is about." })
    }
}

/// Where a finding stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// The conditions of a fault are there; the fault itself has not been seen.
    Suspected,
    /// The fault has been seen.
    Confirmed,
    /// The fault has been seen, and the process cannot be looked at any more: whether it lasts is not known.
    Unknown,
    /// It is over, in this way.
    Resolved(Resolution),
}

/// How sure a finding is.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Certainty {
    /// A statement of risk; never pages.
    Heuristic,
    /// A legitimate program could look like this, but none is known that does.
    Strong,
    /// It follows from the state of the kernel.
    Certain,
}

/// How much it matters.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// Worth knowing.
    Info,
    /// Something to change.
    Warning,
    /// Something is broken now. Only what is certain or strong can be critical.
    Critical,
}

impl Certainty {
    /// The name that users see.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Heuristic => "heuristic",
            Self::Strong => "strong",
            Self::Certain => "certain",
        }
    }
}

impl Severity {
    /// The name that users see.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

/// What to change, and where that is explained.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Remedy {
    /// One or two sentences.
    pub text: String,
    /// The page that explains it.
    pub link: String,
}

/// Facts behind a finding; what a hazard has no use for is absent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// Other threads of the parent at the fork that were still there later (at most 64); for
    /// `lost-threads` those of them that the child lacks.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub threads: Vec<SeenThread>,
    /// How many there were in all.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub thread_count: Option<u32>,
    /// What those threads are called in their program and do, as far as that is known.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub occupations: Vec<Occupation>,
    /// The signals it is about.
    #[serde(skip_serializing_if = "SignalSet::is_empty_ref", default)]
    pub signals: SignalSet,
    /// Nanoseconds since the fork when this was decided.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub age: Option<u64>,
    /// The lock that it is about.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub lock: Option<Box<LockFacts>>,
    /// The connection that it is about.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub connection: Option<Box<ConnectionFacts>>,
    /// The ends of children that it is about.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub history: Option<Box<HistoryFacts>>,
    /// How the child ended, where that is known.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub end: Option<Box<ChildEnd>>,
    /// The descriptor that it is about.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub leak: Option<Box<LeakFacts>>,
    /// Locks that the child carries, held by threads that it does not have: at most 16.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub held: Vec<HeldFacts>,
    /// Of a summary of repeats, the children that they were about, the first first: at most 256.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub again: Vec<Repeat>,
    /// How many more there were than are named.
    #[serde(skip_serializing_if = "is_zero", default)]
    pub unnamed: u64,
    /// Further facts, each a short phrase for a reader.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub notes: Vec<String>,
}

/// A child to which the same has happened as to another before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Repeat {
    /// Its tgid, and when it started.
    pub child: ProcessKey,
    /// Its comm: at most 15 bytes, of its own choice.
    pub comm: Comm,
    /// When that was decided.
    pub at: BootTime,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's skip_serializing_if passes a reference")]
const fn is_zero(count: &u64) -> bool {
    *count == 0
}

impl SignalSet {
    /// `is_empty` in the shape that serde wants.
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's skip_serializing_if passes a reference")]
    const fn is_empty_ref(&self) -> bool {
        self.is_empty()
    }
}

/// Something found: first report, summary of repeats, or resolution.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// When this was decided.
    pub at: BootTime,
    /// Counts the findings of this run from 1; its resolution bears the same number.
    pub number: u64,
    /// The hazard that it is a case of.
    pub hazard: HazardId,
    /// Whether the fault was seen, or only its conditions, or is over.
    pub state: State,
    /// How sure it is.
    pub certainty: Certainty,
    /// How much it matters.
    pub severity: Severity,
    /// One plain sentence.
    pub summary: String,
    /// The process that forked the child.
    pub parent: ProcessKey,
    /// What runs in it.
    pub program: Program,
    /// The name the program goes by in metrics: `gunicorn`, not `python3.11`.
    pub program_name: String,
    /// The child (for `blocked-signals`: the process that exec'd; where it is about several, the one that
    /// ended last or has waited longest).
    pub child: ProcessKey,
    /// Its comm: at most 15 bytes, of its own choice.
    pub child_comm: Comm,
    /// The child's real uid, where that was looked at: it need not be its forker's.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub child_uid: Option<u32>,
    /// What it rests on.
    pub facts: Facts,
    /// What to change.
    pub remedy: Remedy,
    /// How many times this program did the same since the last report; 0 in the first.
    pub repeats: u64,
}
