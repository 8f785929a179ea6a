//! The report of a run as one JSON document.

use schemars::JsonSchema;
use serde::Serialize;

use super::{CommandEnd, Report};
use crate::output::json::{self, document::Document};

/// What was found while a command ran.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "forkwatch.run/1")]
pub struct Run {
    /// Name and version of this schema. A new version is one that could break a reader; new fields are none.
    #[schemars(extend("const" = "forkwatch.run/1"))]
    pub schema: &'static str,
    /// The command with its arguments.
    pub command: Vec<String>,
    /// The code it exited with; absent where a signal killed it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<u8>,
    /// The number of the signal that killed it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
    /// Nanoseconds that it ran.
    pub took_ns: u64,
    /// How many forks of it and its descendants were seen; absent where a daemon watched, which tells of findings alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub forks: Option<u64>,
    /// How many events were lost: where it is not 0, something may have been missed.
    pub lost: u64,
    /// How many hazards could not be judged, because a process was gone or could not be read.
    pub undecided: u64,
    /// How many findings the rules of --suppress accept.
    pub accepted: u64,
    /// How many findings made the run fail.
    pub failures: usize,
    /// How many findings are beyond those that stand here.
    pub left_out: u64,
    /// The findings, each as a document of `forkwatch.event/1`, and after it what has become of it, where it is over.
    pub findings: Vec<Document>,
}

/// The report as a document of `forkwatch.run/1`.
pub fn document(report: &Report<'_>) -> Run {
    let (exit_code, signal) = match report.end {
        CommandEnd::Code(code) => (Some(code), None),
        CommandEnd::Signal(number) => (None, Some(number)),
    };
    let seen = report.seen;
    let all = seen.found.iter().flat_map(|found| [Some(&found.finding), found.end.as_ref()]).flatten();
    let findings = (0..).zip(all).map(|(sequence, finding)| json::finding(report.context, sequence, finding));
    Run {
        schema: "forkwatch.run/1",
        command: report.command.to_vec(),
        exit_code,
        signal,
        took_ns: u64::try_from(report.took.as_nanos()).unwrap_or(u64::MAX),
        forks: seen.forks,
        lost: seen.lost,
        undecided: seen.undecided,
        accepted: seen.accepted,
        failures: report.failures().count(),
        left_out: seen.left_out,
        findings: findings.collect(),
    }
}
