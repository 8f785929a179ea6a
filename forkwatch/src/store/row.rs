//! What stands in the database of a finding, and how it takes on what is said later: by the watch that found it, or by a
//! later one that finds the same.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::Change;
use crate::api::{Brief, KeptState};

/// Rows are told from those of a later edition by this.
pub(super) const FORMAT: u32 = 1;
/// Most children that one finding names.
const MOST_MEMBERS: usize = 1025;

/// A row of `briefs`.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Row {
    pub(super) format: u32,
    /// The watch that found it, or has found it again.
    pub(super) watch: String,
    /// When something was last said of it.
    pub(super) last: u64,
    /// How long its report is.
    pub(super) bytes: u64,
    /// Names of the children that it is about, its own first.
    #[serde(default)]
    pub(super) members: Vec<String>,
    pub(super) brief: Brief,
}

/// A row of `reports`.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Report {
    pub(super) report: Box<RawValue>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(super) end: Option<Box<RawValue>>,
}

impl Report {
    /// Of one that cannot be had.
    pub(super) fn none() -> Result<Self, serde_json::Error> {
        Ok(Self { report: serde_json::from_str("null")?, end: None })
    }
}

impl Row {
    /// Of a finding of which nothing is known yet.
    pub(super) fn new(change: &Change, watch: &str, id: String) -> Self {
        let mut row = Self {
            format: FORMAT,
            watch: watch.to_owned(),
            last: change.at,
            bytes: 0,
            members: change.members.clone(),
            brief: Brief { id, ..change.brief.clone() },
        };
        row.members.truncate(MOST_MEMBERS);
        row
    }

    /// What a list of this watch shows. What another watch left open nobody follows any more.
    pub(super) fn shown(self, watch: &str) -> Brief {
        let mut brief = self.brief;
        if self.watch != watch && brief.state.is_open() {
            brief.state = KeptState::Unwatched;
        }
        // As an earlier edition wrote where it did not know the forker.
        brief.parent_pid = brief.parent_pid.filter(|parent| *parent != brief.pid);
        brief
    }

    /// Whether this, of another watch, is what is found again: the same about the same process of the same boot.
    pub(super) fn is_found_again(&self, change: &Change, watch: &str) -> bool {
        let is_member = |child: &String| self.members.contains(child);
        self.watch != watch
            && self.brief.hazard == change.brief.hazard
            && change.members.first().is_some_and(is_member)
    }

    /// What the watch says later that found it: it happens again, it stands otherwise, or it is over.
    pub(super) fn take_on(&mut self, change: &Change, document: Box<RawValue>, report: &mut Report) {
        let (brief, now) = (&mut self.brief, &change.brief);
        self.last = self.last.max(change.at);
        brief.last_seen.clone_from(&now.last_seen);
        if now.state == KeptState::Resolved {
            brief.state = now.state;
            brief.resolution.clone_from(&now.resolution);
            report.end = Some(document);
            return;
        }
        brief.repeats += now.repeats;
        // Who cannot be looked at any more was confirmed before.
        if now.repeats == 0 {
            if now.state != KeptState::Unknown {
                brief.summary.clone_from(&now.summary);
                (brief.severity, brief.certainty) = (now.severity, now.certainty);
                report.report = document;
            }
            brief.state = now.state;
        }
    }

    /// Another watch has found the same again, after a restart: it keeps its id and its first time.
    pub(super) fn adopt(
        &mut self,
        change: &Change,
        watch: &str,
        document: Box<RawValue>,
        report: &mut Report,
    ) {
        let before = &self.brief;
        let mut members = change.members.clone();
        members.extend(self.members.iter().filter(|member| !change.members.contains(member)).cloned());
        members.truncate(MOST_MEMBERS);
        let others = u64::try_from(members.len().saturating_sub(1)).unwrap_or(u64::MAX);
        let now = change.brief.clone();
        self.brief = Brief {
            id: before.id.clone(),
            first_seen: before.first_seen.clone(),
            repeats: before.repeats.max(now.repeats).max(others),
            unnamed: before.unnamed.max(now.unnamed),
            also_pids: members.iter().skip(1).filter_map(|name| pid(name)).collect(),
            ..now
        };
        self.members = members;
        watch.clone_into(&mut self.watch);
        self.last = self.last.max(change.at);
        (report.report, report.end) = (document, None);
    }
}

/// The pid in the name of a process: `BOOT-PID-START`.
fn pid(name: &str) -> Option<u32> {
    name.split('-').nth(1)?.parse().ok()
}
