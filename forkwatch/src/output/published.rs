//! What those are told who ask a running watch: each finding goes to the store, and everything to those who listen.

use std::{io, sync::Arc};

use super::{
    Context, Output,
    json::{self, document::Document},
};
use crate::{
    api::Brief,
    core,
    live::{Bus, Tally, Wants},
    model::{
        event::{Event, Lost},
        finding::Finding,
        particulars::Particulars,
        rescued::Rescued,
        standing::Standing,
    },
    store::{Change, Store},
};

/// Tells the store and the listeners.
pub struct Published {
    context: Context,
    store: Store,
    bus: Bus,
    tally: Arc<Tally>,
    sequence: u64,
}

impl Published {
    /// Makes the output that tells the store and the listeners.
    pub fn new(context: &Context, store: Store, bus: Bus, tally: Arc<Tally>) -> Self {
        Self { context: context.clone(), store, bus, tally, sequence: 0 }
    }

    /// Names of the children that it is about, its own first.
    fn members(&self, finding: &Finding) -> Vec<String> {
        let again = finding.facts.again.iter().map(|repeat| repeat.child);
        let others = again.filter(|child| *child != finding.child);
        std::iter::once(finding.child)
            .chain(others)
            .filter_map(|child| self.context.entity_id(child))
            .collect()
    }

    /// Makes a document for those who want to hear such, where there are any.
    fn tell(&mut self, kind: Wants, make: impl FnOnce(&Context, u64) -> Option<Document>) -> io::Result<()> {
        if self.bus.wanted().is_none_or(|wanted| wanted < kind) {
            return Ok(());
        }
        if let Some(document) = make(&self.context, self.sequence) {
            self.sequence += 1;
            self.bus.tell(kind, &serde_json::to_string(&document)?.into());
        }
        Ok(())
    }
}

impl Output for Published {
    fn event(&mut self, event: &Event, particulars: &Particulars) -> io::Result<()> {
        if matches!(event, Event::Fork(_)) {
            Tally::add(&self.tally.forks, 1);
        }
        self.tell(Wants::All, |context, sequence| Some(json::event(context, sequence, event, particulars)))
    }

    fn lost(&mut self, lost: &Lost) -> io::Result<()> {
        Tally::add(&self.tally.lost, lost.count);
        self.tell(Wants::Notable, |context, sequence| Some(json::lost(context, sequence, lost)))
    }

    fn finding(&mut self, finding: &Finding) -> io::Result<()> {
        let document = serde_json::to_string(&json::finding(&self.context, self.sequence, finding))?;
        self.sequence += 1;
        if self.bus.wanted().is_some() {
            self.bus.tell(Wants::Findings, &document.as_str().into());
        }
        let at = self.context.timestamp(finding.at);
        let change = Change {
            number: finding.number,
            at: u64::try_from(at.as_nanosecond()).unwrap_or_default(),
            brief: Brief::of(finding, format!("{at:.3}"), |process| self.context.entity_id(process)),
            members: self.members(finding),
            document,
        };
        self.store.tell(change);
        Ok(())
    }

    fn resolution(&mut self, finding: &Finding) -> io::Result<()> {
        self.finding(finding)
    }

    fn said(&mut self, said: &core::Output) -> io::Result<()> {
        match said {
            core::Output::Suppressed { .. } => Tally::add(&self.tally.accepted, 1),
            core::Output::Undecided { .. } => Tally::add(&self.tally.undecided, 1),
            core::Output::Dropped(_) => Tally::add(&self.tally.given_up, 1),
            core::Output::Worker(event) => {
                return self.tell(Wants::Notable, |context, sequence| json::worker(context, sequence, event));
            }
            _ => {}
        }
        Ok(())
    }

    fn standing(&mut self, standing: &Standing) -> io::Result<()> {
        self.tell(Wants::Notable, |context, sequence| Some(json::assessment(context, sequence, standing)))
    }

    fn rescued(&mut self, rescued: &Rescued) -> io::Result<()> {
        self.tell(Wants::Notable, |context, sequence| Some(json::rescued(context, sequence, rescued)))
    }

    fn end(&mut self) -> io::Result<()> {
        self.bus.close();
        Ok(())
    }
}
