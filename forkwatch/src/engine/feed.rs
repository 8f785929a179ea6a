//! What the core and the outputs are fed: by the kernel and the reader, or by a recording of that. A replay says what the
//! live watch said because both feed the same.

use std::{fs::File, io};

use anyhow::{Context as _, Result};

use super::{
    outlet::{Outlet, Word},
    recorder::Recorder,
};
use crate::{
    core::{self, Core, Settings},
    detect,
    model::{
        event::Event, evidence::Evidence, followed::Followed, particulars::Particulars, process::ProcessKey,
        reported::Reported, rescued::Rescued, standing::Standing, time::BootTime,
    },
    output::{Batch, Output, recording::Writer},
};

/// What is said of an output that fails.
const CANNOT_WRITE: &str = "cannot write the output";

/// The core, those who are told what it says, and the recording of what it was fed.
pub(super) struct Feed {
    core: Core,
    outlet: Outlet,
    recorder: Option<Recorder>,
    said: Vec<core::Output>,
    /// What the core asks of the host and of the kernel side, for whoever can do it.
    pub(super) asked: Vec<core::Output>,
}

impl Feed {
    /// Begins with nothing known.
    pub(super) fn new(settings: Settings, recorder: Option<Recorder>) -> Self {
        Self {
            core: Core::new(settings, detect::all()),
            outlet: Outlet::default(),
            recorder,
            said: Vec::new(),
            asked: Vec::new(),
        }
    }

    /// Tells these too.
    pub(super) fn add(&mut self, outputs: Vec<Box<dyn Output>>) {
        self.outlet.add(outputs);
    }

    /// Tells the outputs, once, that the watch has begun.
    pub(super) fn begin(&mut self) -> Result<()> {
        self.outlet.begin().context(CANNOT_WRITE)
    }

    /// Whether somebody has a use for an event's particulars. A recording has: who replays it may ask for another output.
    pub(super) fn wants_particulars(&self, event: &Event) -> bool {
        self.recorder.is_some() || self.outlet.wants_particulars(event)
    }

    /// What the kernel side reported. An event is told to the outputs once the question of this number is answered.
    pub(super) fn reported(&mut self, reported: &Reported, question: Option<u64>) -> Result<()> {
        self.record(|writer| writer.reported(reported, question));
        if let Reported::Event(event) = reported {
            self.outlet.event(event, question).context(CANNOT_WRITE)?;
        }
        self.core.reported(reported, &mut self.said);
        self.pass_on()
    }

    /// The answer to a question about an event.
    pub(super) fn particulars(&mut self, question: u64, particulars: &Particulars) -> Result<()> {
        self.record(|writer| writer.particulars(question, particulars));
        self.outlet.particulars(question, particulars).context(CANNOT_WRITE)
    }

    /// How a process that was named to be watched stands.
    pub(super) fn standing(&mut self, standing: Standing) -> Result<()> {
        self.record(|writer| writer.standing(&standing));
        self.outlet.tell(Word::Standing(Box::new(standing))).context(CANNOT_WRITE)
    }

    /// A lock was released in a child, or that was tried.
    pub(super) fn rescued(&mut self, rescued: Rescued) -> Result<()> {
        self.record(|writer| writer.rescued(&rescued));
        self.outlet.tell(Word::Rescued(Box::new(rescued))).context(CANNOT_WRITE)
    }

    /// An answer to the core.
    pub(super) fn evidence(&mut self, at: BootTime, evidence: &Evidence) -> Result<()> {
        self.record(|writer| writer.evidence(at, evidence));
        self.core.evidence(at, evidence, &mut self.said);
        self.pass_on()
    }

    /// Time has passed.
    pub(super) fn advance(&mut self, now: BootTime) -> Result<()> {
        self.record(|writer| writer.advance(now));
        self.core.advance(now, &mut self.said);
        self.pass_on()
    }

    /// Whether a process is known to live on as a forked child that has not exec'd.
    pub(super) fn lives_on(&self, process: ProcessKey) -> bool {
        self.core.lives_on(process)
    }

    /// The children that live on.
    pub(super) fn followed(&self) -> Vec<Followed> {
        self.core.followed_children()
    }

    /// Other settings from now on.
    pub(super) fn configure(&mut self, settings: Settings) -> Result<()> {
        let recorded = serde_json::to_value(&settings)?;
        self.record(|writer| writer.settings(recorded));
        self.core.configure(settings);
        Ok(())
    }

    /// Nothing more will come: tells what would have waited for a summary or an answer.
    pub(super) fn close(&mut self, now: BootTime) -> Result<()> {
        self.record(|writer| writer.end(now));
        self.core.close(now, &mut self.said);
        self.pass_on()?;
        self.flush_recording();
        self.outlet.tell_all().context(CANNOT_WRITE)
    }

    /// Tells the outputs that a handful of inputs is over.
    pub(super) fn batch(&mut self, batch: Batch) -> Result<()> {
        self.outlet.batch(batch).context(CANNOT_WRITE)
    }

    /// Tells the outputs that nothing more will be told.
    pub(super) fn end(&mut self) -> Result<()> {
        self.outlet.end().context(CANNOT_WRITE)
    }

    /// Whether an output has all that was wanted of it.
    pub(super) fn is_done(&self) -> bool {
        self.outlet.is_done()
    }

    /// When the core has something to do.
    pub(super) fn deadline(&self) -> Option<BootTime> {
        self.core.deadline()
    }

    /// What came of the recording; absent where none was made, or it ended early.
    pub(super) fn recorded(&self) -> Option<String> {
        self.recorder.as_ref().map(Recorder::summary)
    }

    /// Writes out what the recording has in its buffer.
    pub(super) fn flush_recording(&mut self) {
        if let Some(recorder) = &mut self.recorder
            && !recorder.flush()
        {
            self.recorder = None;
        }
    }

    fn pass_on(&mut self) -> Result<()> {
        for said in self.said.drain(..) {
            match said {
                core::Output::Ask(_) | core::Output::Probe(_) => self.asked.push(said),
                said => self.outlet.tell(Word::Said(said)).context(CANNOT_WRITE)?,
            }
        }
        Ok(())
    }

    fn record(&mut self, write: impl FnOnce(&mut Writer<File>) -> io::Result<()>) {
        if let Some(recorder) = &mut self.recorder
            && !recorder.write(write)
        {
            self.recorder = None;
        }
    }
}

#[cfg(test)]
mod tests;
