//! What the watch has told so far, as far as a screen can show it.

use std::{cell::RefCell, collections::VecDeque, io, rc::Rc};

use crate::{
    core,
    model::{
        event::{Event, Lost},
        finding::{Finding, State},
        particulars::Particulars,
    },
    output::Output,
};

/// Most findings that are kept: the last ones.
const MOST_FINDINGS: usize = 500;

/// What was told.
#[derive(Clone, Debug, Default)]
pub(super) struct Told {
    /// The last findings as they stand now, the latest last.
    pub(super) findings: VecDeque<Finding>,
    /// Forks that were told.
    pub(super) forks: u64,
    /// Records that were lost.
    pub(super) lost: u64,
    /// What could not be judged.
    pub(super) undecided: u64,
}

impl Told {
    /// Takes in a finding, or what has become of one.
    pub(super) fn take(&mut self, finding: &Finding) {
        if let Some(known) = self.findings.iter_mut().find(|known| known.number == finding.number) {
            known.clone_from(finding);
            return;
        }
        // The end of one that is shown no more.
        if matches!(finding.state, State::Resolved(_)) {
            return;
        }
        if self.findings.len() >= MOST_FINDINGS {
            self.findings.pop_front();
        }
        self.findings.push_back(finding.clone());
    }
}

/// Keeps what it is told.
pub(super) struct Telling(pub(super) Rc<RefCell<Told>>);

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
        self.0.borrow_mut().take(finding);
        Ok(())
    }

    fn resolution(&mut self, finding: &Finding) -> io::Result<()> {
        self.0.borrow_mut().take(finding);
        Ok(())
    }

    fn said(&mut self, said: &core::Output) -> io::Result<()> {
        if matches!(said, core::Output::Undecided { .. }) {
            self.0.borrow_mut().undecided += 1;
        }
        Ok(())
    }
}
