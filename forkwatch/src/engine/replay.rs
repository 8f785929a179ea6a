//! A recording through the same core and outputs as a live watch.

use std::io::BufRead;

use anyhow::{Context as _, Result};

use super::feed::Feed;
use crate::{
    core::Settings,
    model::time::BootTime,
    output::{
        Batch, Output,
        recording::{Input, Reader, RecordingError},
    },
};

/// Tells the outputs what they were told when it was recorded, beginning with these settings. One that is cut off is
/// replayed as far as it goes; the error within says so.
pub(crate) fn replay(
    reader: Reader<impl BufRead>,
    settings: Settings,
    outputs: Vec<Box<dyn Output>>,
) -> Result<Result<(), RecordingError>> {
    let mut feed = Feed::new(settings, None);
    feed.add(outputs);
    feed.begin()?;
    let ended = feed_all(&mut feed, reader);
    // What was told is written, whatever came then.
    feed.end()?;
    ended
}

/// The settings that a recording tells, as long as a watch can have had them.
pub(crate) fn settings(told: serde_json::Value) -> Result<Settings> {
    let settings: Settings = serde_json::from_value(told).context("its settings are not this version's")?;
    settings.check().context("its settings were damaged or edited")?;
    Ok(settings)
}

fn feed_all(
    feed: &mut Feed,
    inputs: impl Iterator<Item = Result<Input, RecordingError>>,
) -> Result<Result<(), RecordingError>> {
    let mut last = BootTime::default();
    let mut broken = Ok(());
    for input in inputs {
        let input = match input {
            Ok(input) => input,
            Err(error) => {
                broken = Err(error);
                break;
            }
        };
        last = input.at().map_or(last, |at| last.max(at));
        match input {
            Input::Reported { reported, question } => feed.reported(&reported, question)?,
            Input::Particulars { question, particulars } => feed.particulars(question, &particulars)?,
            Input::Standing(standing) => feed.standing(standing)?,
            Input::Rescued(rescued) => feed.rescued(rescued)?,
            Input::Evidence { at, evidence } => feed.evidence(at, &evidence)?,
            Input::Advance(to) => feed.advance(to)?,
            Input::Settings(changed) => feed.configure(settings(changed)?)?,
            Input::End(at) => {
                last = at;
                break;
            }
        }
        // What the core asks was answered when it was recorded.
        feed.asked.clear();
    }
    feed.close(last)?;
    feed.batch(Batch::default())?;
    Ok(broken)
}
