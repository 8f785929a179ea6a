//! What an own watch has told so far, as far as a screen can show it: in the documents that a daemon would answer with.

use std::{cell::RefCell, collections::VecDeque, io, rc::Rc, sync::Arc};

use serde_json::Value;

use crate::{
    api::{Brief, Kept, KeptState},
    core,
    model::{
        event::{Event, Lost},
        finding::{Finding, State},
        particulars::Particulars,
    },
    output::{Context, Output, json},
};

/// Most findings that are kept: the last ones.
const MOST_FINDINGS: usize = 500;

/// The last findings of a watch of its own.
#[derive(Clone, Debug, Default)]
pub(super) struct Told {
    /// The last findings as they stand now, the latest last, with their reports.
    findings: VecDeque<(Brief, String)>,
    /// The same as they are shown, the latest first, until there is something new.
    shown: Option<Arc<Vec<Brief>>>,
    /// Forks that were told.
    pub(super) forks: u64,
    /// Records that were lost.
    pub(super) lost: u64,
    /// What could not be judged.
    pub(super) undecided: u64,
}

impl Told {
    /// Takes in a finding, or what has become of one.
    pub(super) fn take(&mut self, finding: &Finding, context: &Context) -> io::Result<()> {
        let id = finding.number.to_string();
        let at = format!("{:.3}", context.timestamp(finding.at));
        let now = Brief { id, ..Brief::of(finding, at, |process| context.entity_id(process)) };
        self.shown = None;
        if let Some((known, report)) = self.findings.iter_mut().find(|(known, _)| known.id == now.id) {
            (known.state, known.resolution) = (now.state, now.resolution);
            known.last_seen = now.last_seen;
            // What is said at the end, or of one that cannot be looked at, is no report.
            if !matches!(known.state, KeptState::Resolved | KeptState::Unknown) {
                (known.summary, known.severity, known.certainty) = (now.summary, now.severity, now.certainty);
                *report = document(finding, context)?;
            }
            return Ok(());
        }
        // The end of one that is shown no more.
        if matches!(finding.state, State::Resolved(_)) {
            return Ok(());
        }
        if self.findings.len() >= MOST_FINDINGS {
            self.findings.pop_front();
        }
        self.findings.push_back((now, document(finding, context)?));
        Ok(())
    }

    /// The findings, the latest first.
    pub(super) fn findings(&mut self) -> Arc<Vec<Brief>> {
        let all = || Arc::new(self.findings.iter().rev().map(|(brief, _)| brief.clone()).collect());
        Arc::clone(self.shown.get_or_insert_with(all))
    }

    /// A finding with its report.
    pub(super) fn find(&self, id: &str) -> Option<Kept> {
        let (brief, report) = self.findings.iter().find(|(brief, _)| brief.id == id)?;
        Some(Kept {
            brief: brief.clone(),
            report: serde_json::from_str(report).unwrap_or(Value::Null),
            end: None,
        })
    }
}

fn document(finding: &Finding, context: &Context) -> io::Result<String> {
    Ok(serde_json::to_string(&json::finding(context, 0, finding))?)
}

/// Keeps what it is told.
pub(super) struct Telling(pub(super) Rc<RefCell<Told>>, pub(super) Context);

impl Output for Telling {
    fn event(&mut self, event: &Event, _: &Particulars) -> io::Result<()> {
        self.0.borrow_mut().forks += u64::from(matches!(event, Event::Fork(_)));
        Ok(())
    }

    fn lost(&mut self, lost: &Lost) -> io::Result<()> {
        self.0.borrow_mut().lost += lost.count;
        Ok(())
    }

    fn finding(&mut self, finding: &Finding) -> io::Result<()> {
        self.0.borrow_mut().take(finding, &self.1)
    }

    fn resolution(&mut self, finding: &Finding) -> io::Result<()> {
        self.0.borrow_mut().take(finding, &self.1)
    }

    fn said(&mut self, said: &core::Output) -> io::Result<()> {
        if matches!(said, core::Output::Undecided { .. }) {
            self.0.borrow_mut().undecided += 1;
        }
        Ok(())
    }
}
