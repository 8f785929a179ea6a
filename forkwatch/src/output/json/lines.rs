//! A document a line, for each event and finding.

use std::io;

use super::{Document, assessment, event, finding, lost, rescued, text::text, unshown, worker, written};
use crate::{
    core,
    model::{
        event::{Event, Lost},
        finding::Finding,
        particulars::Particulars,
        rescued::Rescued,
        standing::Standing,
        time::BootTime,
        written::{Unshown, WrittenLine},
    },
    output::{Batch, Context, Output, destination::Destination},
};

/// Writes documents, and numbers them.
pub struct JsonLines<D> {
    context: Context,
    destination: D,
    /// The number of the next document. One that is lost has its number too.
    sequence: u64,
    when_lost: Box<dyn FnMut()>,
}

impl<D: Destination> JsonLines<D> {
    /// Writes there, of processes on this host.
    pub fn new(context: &Context, destination: D) -> Self {
        Self { context: context.clone(), destination, sequence: 0, when_lost: Box::new(|| {}) }
    }

    /// Calls this for each document that the destination does not take.
    #[must_use]
    pub fn when_lost(self, when_lost: impl FnMut() + 'static) -> Self {
        Self { when_lost: Box::new(when_lost), ..self }
    }

    fn write(&mut self, document: impl FnOnce(&Context, u64) -> Option<Document>) -> io::Result<()> {
        if !self.destination.is_open() {
            return Ok(());
        }
        let Some(document) = document(&self.context, self.sequence) else { return Ok(()) };
        self.sequence += 1;
        if !self.destination.append(&text(&document)?)? {
            (self.when_lost)();
        }
        Ok(())
    }
}

impl<D: Destination> Output for JsonLines<D> {
    fn wants_particulars(&self, event: &Event) -> bool {
        self.destination.is_open() && Particulars::may_be_of(event)
    }

    fn event(&mut self, seen: &Event, particulars: &Particulars) -> io::Result<()> {
        self.write(|context, sequence| Some(event(context, sequence, seen, particulars)))
    }

    fn lost(&mut self, seen: &Lost) -> io::Result<()> {
        self.write(|context, sequence| Some(lost(context, sequence, seen)))
    }

    fn finding(&mut self, found: &Finding) -> io::Result<()> {
        self.write(|context, sequence| Some(finding(context, sequence, found)))
    }

    fn resolution(&mut self, found: &Finding) -> io::Result<()> {
        self.finding(found)
    }

    fn said(&mut self, said: &core::Output) -> io::Result<()> {
        match said {
            core::Output::Worker(event) => self.write(|context, sequence| worker(context, sequence, event)),
            _ => Ok(()),
        }
    }

    fn standing(&mut self, standing: &Standing) -> io::Result<()> {
        self.write(|context, sequence| Some(assessment(context, sequence, standing)))
    }

    fn rescued(&mut self, seen: &Rescued) -> io::Result<()> {
        self.write(|context, sequence| Some(rescued(context, sequence, seen)))
    }

    fn written(&mut self, line: &WrittenLine) -> io::Result<()> {
        self.write(|context, sequence| written(context, sequence, line))
    }

    fn unshown(&mut self, lacks: &Unshown, since: BootTime, at: BootTime) -> io::Result<()> {
        self.write(|context, sequence| Some(unshown(context, sequence, lacks, since, at)))
    }

    fn batch(&mut self, _: Batch) -> io::Result<()> {
        self.destination.flush()
    }

    fn end(&mut self) -> io::Result<()> {
        self.destination.flush()
    }
}
